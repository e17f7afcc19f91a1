"""Every picture and every output that the documentation shows, and the command that makes it.

    python benchmarks/figures.py [NAME ...]

makes those of the names given (such as images/chi.png), or all. Names are relative to docs/, commands are run in the root
of the repository.
"""

import argparse
import os
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Data that cannot be given away; without them what needs them stays as it is.
CHALLENGE = os.environ.get('QSM_CHALLENGE_2016', 'local/challenge2016')
BUILD = 'build/examples'
EXAMPLES = ('first_map', 'own_mask', 'compare_methods', 'train', 'cohort_statistics')
SCENES = ('quickstart', 'tree', 'dryrun')

COMMANDS = {
    **{f'images/{name}.png': f'python benchmarks/pictures.py {name} docs/images/{name}.png'
       for name in ('chi', 'outputs', 'backgrounds')},
    'images/inversions.png': 'python benchmarks/chain.py --starts noisy --backgrounds pdf '
                             '--picture docs/images/inversions.png',
    'images/challenge2016.png': 'python benchmarks/challenge2016.py FOLDER --once '
                                '--picture docs/images/challenge2016.png',
    **{f'output/{name}.txt': f'python benchmarks/transcript.py {name}' for name in SCENES},
    **{f'output/{name}.txt': f'python examples/{name}.py {BUILD}' for name in EXAMPLES},
    **{f'images/{name}.png': f'python examples/{name}.py {BUILD}' for name in EXAMPLES if name != 'train'},
}


def make(name):
    """Make a picture or an output again."""
    command, target = COMMANDS[name], ROOT / 'docs' / name
    if 'FOLDER' in command:
        command = command.replace('FOLDER', CHALLENGE)
        if not (ROOT / CHALLENGE).is_dir():
            print(f'{name}: stays as it is, {CHALLENGE} is not there (set QSM_CHALLENGE_2016)', file=sys.stderr)
            return
    said = run(command)
    if target.suffix == '.txt':
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text('\n'.join(line.rstrip() for line in said.replace(f'{ROOT}/', '').splitlines()) + '\n')
    elif BUILD in command:
        target.write_bytes((ROOT / BUILD / target.name).read_bytes())


@cache
def run(command):
    """Run a command, once for all that it makes, and return what it printed."""
    print(f'$ {command}', file=sys.stderr, flush=True)
    return subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=ROOT, check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', metavar='NAME', help='such as images/chi.png; all by default')
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(COMMANDS))
    if unknown:
        parser.error(f'{unknown[0]} is not known; there are {", ".join(COMMANDS)}')
    for name in options.names or COMMANDS:
        make(name)


if __name__ == '__main__':
    main()
