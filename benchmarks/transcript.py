"""What the terminal shows in the quick start: the commands are run, and their output is printed below them.

    python benchmarks/transcript.py {quickstart,tree,dryrun}

quickstart: both levels on data/testbids into an empty build/demo. tree: the files that lie there afterwards, those of
one participant. dryrun: what a run would take.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIDS, OUT, WORK = 'data/testbids', 'build/demo', 'build/work'
RUN = [BIDS, OUT, 'participant', '--participant-label', '01', '02', '03', '-w', WORK]


def call(*arguments):
    """Print a command and what it says."""
    print('$ qsmbids', *arguments)
    done = subprocess.run([sys.executable, '-m', 'qsmbids', *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    print(done.stdout)


def quickstart():
    for folder in (OUT, WORK):
        shutil.rmtree(ROOT / folder, ignore_errors=True)
    call(*RUN)
    call(BIDS, OUT, 'group')


def tree():
    if not (ROOT / OUT).is_dir():
        sys.exit(f'{OUT} is not there: run quickstart first')
    print(f'{OUT}/')
    print_folder(ROOT / OUT, 1)


def print_folder(folder, depth):
    """Print what a folder holds; of the participants, one session of the first is shown."""
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        print('    ' * depth + path.name + ('/' if path.is_dir() else ''))
        if path.is_dir() and path.name not in ('sub-02', 'sub-03', 'ses-followup', 'logs', 'figures'):
            print_folder(path, depth + 1)


def dryrun():
    call(*RUN, '--dry-run')


def main():
    scenes = {'quickstart': quickstart, 'tree': tree, 'dryrun': dryrun}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('scene', choices=tuple(scenes))
    scenes[parser.parse_args().scene]()


if __name__ == '__main__':
    main()
