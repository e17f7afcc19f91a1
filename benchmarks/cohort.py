"""A cohort of small participants on a local SLURM and with MultiProc, of which some jobs are killed.

    python benchmarks/cohort.py [--participants 200] [--kill 0.05] [--how multiproc slurm] [--nprocs 2]

Every participant is sub-03 of data/testbids with noise of its own. First all of them are processed undisturbed by one
command. Then, multiproc: the same with workers killed at random, and the command repeated until it ends with 0; slurm:
`qsmbids-slurm` on a SLURM that tests/slurm.sh starts (needs slurm-wlm), a part of the jobs killed at a random moment of
their first run, and the same call repeated until nothing is left to submit. All outputs must be those of the undisturbed
run (SHA-256 of voxels and sidecars), none may be lost, and no participant may run again after it was complete.
"""

import argparse
import hashlib
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import psutil

from qsmbids.reports.status import latest_states

ROOT = Path(__file__).parents[1]
FLAGS = ['--level', 'minimal', '--inversion', 'tkd', '--subcortical', 'none']
# Runs qsmbids; the first time for a participant of the list, kills it after a moment. Keeps a diary.
WRAPPER = """#!/bin/bash
echo "$5" >> {folder}/diary
if grep -qx "$5" {folder}/doomed && [ ! -e {folder}/killed-$5 ]; then
  touch {folder}/killed-$5
  {python} -m qsmbids "$@" &
  sleep $(awk -v seed="$5" 'BEGIN {{srand(seed); print 1 + {moment} * rand()}}')
  kill -9 $! 2> /dev/null && exit 137
  wait $!; exit $?
fi
exec {python} -m qsmbids "$@"
"""


def build(root, count):
    source, rng = ROOT / 'data' / 'testbids', np.random.default_rng(0)
    root.mkdir()
    shutil.copy(source / 'dataset_description.json', root)
    for number in range(1, count + 1):
        folder = root / f'sub-{number:03d}' / 'anat'
        folder.mkdir(parents=True)
        for path in (source / 'sub-03' / 'anat').iterdir():
            target = folder / path.name.replace('sub-03', f'sub-{number:03d}')
            if path.suffix == '.json':
                shutil.copy(path, target)
                continue
            image = nibabel.load(path)
            voxels = np.asanyarray(image.dataobj)
            nibabel.save(nibabel.Nifti1Image(voxels + rng.integers(0, 2, voxels.shape).astype(voxels.dtype),
                                             image.affine, image.header), target)


def hashes(out):
    """Return the SHA-256 of each image's voxels and of each sidecar, by name."""
    found = {}
    for path in sorted(out.glob('sub-*/**/anat/*')):
        content = np.asanyarray(nibabel.load(path).dataobj).tobytes() if path.name.endswith('.nii.gz') \
            else path.read_bytes()
        found[path.name] = hashlib.sha256(content).hexdigest()
    return found


def run(root, out, work, nprocs):
    return subprocess.Popen([sys.executable, '-m', 'qsmbids', root, out, 'participant', '-w', work, '--nprocs',
                             str(nprocs), *FLAGS], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def multiproc(root, folder, options):
    """Repeat the run, with workers killed, until it is complete; return the output and a report."""
    chance, killed, calls = random.Random(0), 0, 0
    wanted = max(1, round(options.kill * options.participants))
    while True:
        calls += 1
        process = run(root, folder / 'out', folder / 'work', options.nprocs)
        while process.poll() is None:
            time.sleep(chance.uniform(1, 4))
            try:
                workers = [child for child in psutil.Process(process.pid).children(recursive=True)
                           if 'forkserver' in ' '.join(child.cmdline()) and child.cpu_times().user > 0.5]
                if killed < wanted and workers:
                    chance.choice(workers).kill()
                    killed += 1
            except psutil.Error:
                pass
        if process.returncode == 0:
            return f'{killed} workers killed, {calls} calls'
        if calls > 20:
            sys.exit('multiproc: it does not become complete')


def slurm(root, folder, options):
    """Submit until nothing is left; return a report."""
    doomed = random.Random(0).sample([p.name[4:] for p in sorted(root.glob('sub-*'))],
                                     max(1, round(options.kill * options.participants)))
    (folder / 'doomed').write_text('\n'.join(doomed) + '\n')
    (folder / 'diary').touch()
    wrapper = folder / 'wrapper.sh'
    wrapper.write_text(WRAPPER.format(folder=folder, python=shlex.quote(sys.executable), moment=options.moment))
    wrapper.chmod(0o755)
    up = subprocess.run([ROOT / 'tests' / 'slurm.sh', 'up', folder / 'slurm'], capture_output=True, text=True,
                        check=True)
    os.environ['SLURM_CONF'] = up.stdout.strip()
    calls = 0
    try:
        while True:
            said = subprocess.run(
                [sys.executable, '-m', 'qsmbids.cli.slurm', root, folder / 'out', '-w', folder / 'work', '--cpus', '1',
                 '--mem', '1', '--minutes', '60', '--command', str(wrapper), '--', *FLAGS],
                capture_output=True, text=True, check=True).stdout
            if 'nothing to submit' in said:
                break
            calls += 1
            while subprocess.run(['squeue', '--noheader'], capture_output=True, text=True, check=True).stdout.strip():
                time.sleep(1)
            if calls > 20:
                sys.exit('slurm: it does not become complete')
    finally:
        subprocess.run([ROOT / 'tests' / 'slurm.sh', 'down', folder / 'slurm'], check=True)
    runs = Counter((folder / 'diary').read_text().split())
    killed = {p.name.removeprefix('killed-') for p in folder.glob('killed-*')}
    twice = [label for label, times in runs.items() if times > 1 + (label in killed)]
    return f'{len(killed)} jobs killed, {calls} submissions, run again without need: {twice or "none"}'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--participants', type=int, default=200)
    parser.add_argument('--kill', type=float, default=0.05, help='part of the jobs')
    parser.add_argument('--moment', type=float, default=8, help='latest second of a job at which it is killed')
    parser.add_argument('--how', nargs='+', choices=('multiproc', 'slurm'), default=('multiproc', 'slurm'))
    parser.add_argument('--nprocs', type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='qsmbids-cohort-') as folder:
        folder = Path(folder)
        root = folder / 'bids'
        build(root, options.participants)
        start = time.perf_counter()
        if run(root, folder / 'out', folder / 'work', options.nprocs).wait():
            sys.exit('the undisturbed run failed')
        expected = hashes(folder / 'out')
        print(f'{options.participants} participants undisturbed: {time.perf_counter() - start:.0f} s, '
              f'{len(expected)} files', flush=True)
        for how in options.how:
            place = folder / how
            place.mkdir()
            start = time.perf_counter()
            report = {'multiproc': multiproc, 'slurm': slurm}[how](root, place, options)
            found, states = hashes(place / 'out'), Counter(row['state'] for row in latest_states(place / 'out'))
            wrong = [name for name in expected if found.get(name) != expected[name]]
            print(f'{how}: {time.perf_counter() - start:.0f} s, {report}; states {json.dumps(states)}; '
                  f'{len(expected) - len(wrong)} of {len(expected)} files equal, {len(set(found) - set(expected))} more',
                  flush=True)
            if wrong or set(found) - set(expected):
                sys.exit(f'different: {wrong[:5]}')


if __name__ == '__main__':
    main()
