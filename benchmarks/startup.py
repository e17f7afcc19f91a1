"""How soon a run starts on a large data set: 2000 participants, all but one of them empty files.

    python benchmarks/startup.py [--participants 2000]

Prints the seconds from the command to the first node, for one participant asked for and for all of them, and the
seconds that `qsmbids --help` takes. The first node is seen by the folder that nipype makes for it in the work
directory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np


def build(root, count):
    (root / 'dataset_description.json').write_text('{"Name": "skeleton", "BIDSVersion": "1.10.0"}')
    for number in range(count):
        folder = root / f'sub-{number:04d}' / 'anat'
        folder.mkdir(parents=True)
        for echo in (1, 2, 3):
            for part in ('mag', 'phase'):
                stem = folder / f'sub-{number:04d}_echo-{echo}_part-{part}_MEGRE'
                stem.with_suffix('.nii.gz').touch()
                stem.with_suffix('.json').write_text('{}')
    image = nibabel.Nifti1Image(np.random.default_rng(0).uniform(1, 3, (16, 16, 16)).astype(np.float32), np.eye(4))
    for number in (0, count // 2):
        for path in (root / f'sub-{number:04d}' / 'anat').glob('*.nii.gz'):
            nibabel.save(image, path)
            echo = int(path.name.split('echo-')[1][0])
            path.with_name(path.name.replace('.nii.gz', '.json')).write_text(
                json.dumps({'EchoTime': 0.006 * echo, 'MagneticFieldStrength': 3, 'Units': 'rad'}))


def seconds_to_first_node(root, folder, *flags):
    work = folder / 'work'
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, '-m', 'qsmbids', root, folder / 'out', 'participant', '-w', work,
                                *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(work.glob('qsmbids_*_wf/*/prepare')):
        time.sleep(0.02)
    seconds = time.perf_counter() - start
    started = process.poll() is None
    process.kill()
    process.wait()
    return seconds if started else float('nan')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--participants', type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        root = folder / 'bids'
        root.mkdir()
        build(root, options.participants)
        middle = f'{options.participants // 2:04d}'
        print(f'{options.participants} participants')
        for name, flags in (('one asked for', ['--participant-label', middle]), ('all', [])):
            seconds = [seconds_to_first_node(root, Path(tempfile.mkdtemp(dir=folder)), *flags) for _ in range(3)]
            print(f'{name:16s} first node after {min(seconds):.2f} s (best of 3; worst {max(seconds):.2f} s)')
    start = time.perf_counter()
    subprocess.run([sys.executable, '-m', 'qsmbids', '--help'], stdout=subprocess.DEVNULL, check=True)
    print(f'qsmbids --help   {time.perf_counter() - start:.2f} s')


if __name__ == '__main__':
    main()
