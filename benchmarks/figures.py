"""Every picture and every output that the documentation shows, and the command that makes it.

    python benchmarks/figures.py [NAME ...]

makes those of the names given (such as images/chi.png), or all. Names are relative to docs/, commands are run in the
root of the repository.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What commands name: data that cannot be given away, and the page of the head that images/chi.png shows. Where they are
# not there, what needs them stays as it is.
PLACES = {'FOLDER': os.environ.get('QSM_CHALLENGE_2016', 'local/challenge2016'),
          'PAGE': str(Path(tempfile.gettempdir()) / 'qsmbids-benchmark/160x160x160/pictures/sub-01.html')}
BUILD = 'build/examples'
EXAMPLES = ('first_map', 'own_mask', 'compare_methods', 'train', 'cohort_statistics')
SCENES = ('quickstart', 'tree', 'dryrun')

COMMANDS = {
    **{f'images/{name}.png': f'python benchmarks/pictures.py {name} docs/images/{name}.png'
       for name in ('chi', 'outputs', 'backgrounds')},
    'images/inversions.png': 'python benchmarks/chain.py --voxel 2 --starts noisy --backgrounds pdf --inversions '
                             'tv nltv whqsm medi star hdqsm tgv rts ilsqr ndi tikhonov tkd tsvd '
                             '--picture docs/images/inversions.png',
    'images/challenge2016.png': 'python benchmarks/challenge2016.py FOLDER --once '
                                '--picture docs/images/challenge2016.png',
    'images/viewer.png': 'python benchmarks/reports.py --page PAGE --pictures docs/images',
    'images/group.png': 'python benchmarks/reports.py --pictures docs/images',
    **{f'output/{name}.txt': f'python benchmarks/transcript.py {name}' for name in SCENES},
    **{f'output/{name}.txt': f'python examples/{name}.py {BUILD}' for name in EXAMPLES},
    **{f'images/{name}.png': f'python examples/{name}.py {BUILD}' for name in EXAMPLES if name != 'train'},
}


def make(name):
    """Make a picture or an output again."""
    command, target = COMMANDS[name], ROOT / 'docs' / name
    for word, place in PLACES.items():
        if word in command.split() and not (ROOT / place).exists():
            print(f'{name}: stays as it is, {place} is not there', file=sys.stderr)
            return
        command = command.replace(f' {word} ', f' {place} ')
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
