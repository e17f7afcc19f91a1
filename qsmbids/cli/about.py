"""What every command says of itself: its version with that of the weights, and how a shell completes it."""

import argparse
from pathlib import Path

from qsmbids import __version__

SHELLS = ('bash', 'zsh', 'tcsh')


def add_about(parser):
    """Add ``--version`` and ``--print-completion`` to the parser of a command."""
    parser.add_argument('--version', action=_Version, nargs=0, default=argparse.SUPPRESS,
                        help='print the version, and those of the weights that come along')
    parser.add_argument('--print-completion', action=_Completion, choices=SHELLS, default=argparse.SUPPRESS,
                        metavar='SHELL', help=f'print what completes this command in a shell: {", ".join(SHELLS)}')


def version_text():
    """Return the version of qsmbids, and the first digits of the SHA-256 of each file of weights, line by line."""
    from qsmbids.networks.shipped import short_hashes
    return '\n'.join([f'qsmbids {__version__}', *(f'weights {name} {digits}'
                                                  for name, digits in short_hashes().items())])


class _Version(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        print(version_text())
        parser.exit()


class _Completion(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        import shtab
        _mark_paths(parser, shtab)
        print(shtab.complete(parser, values))
        parser.exit()


def _mark_paths(parser, shtab):
    """Say which arguments are completed by the names of files or folders."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _mark_paths(command, shtab)
        elif action.type is Path:
            folder = action.metavar == 'DIR' or action.dest.endswith('_dir')
            action.complete = shtab.DIRECTORY if folder else shtab.FILE
