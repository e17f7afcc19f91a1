"""``qsmbids`` and ``python -m qsmbids``."""

import sys


def main(arguments=None):
    """Run the command line and return its exit code."""
    from qsmbids.cli.parser import parse
    config = parse(arguments)
    if config.analysis_level == 'group':
        from qsmbids.cli.group import run
    elif config.dry_run:
        from qsmbids.cli.plan import run
    else:
        from qsmbids.cli.participant import run
    return run(config)


if __name__ == '__main__':
    sys.exit(main())
