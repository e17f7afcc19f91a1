"""How soon a run starts on a large data set, and what the group level takes over all of it.

    python benchmarks/startup.py [--participants 5000] [--what start group]

Data: all participants but two are empty files. Start: seconds from the command to the first node, for one participant
asked for and for all of them; the first node is seen by the folder that nipype makes for it in the work directory.
Group: an output directory with the status table, the quality file and the regions of each participant; seconds and peak
memory. Beside the clock stands the processor's time, which counts where other work shares the cores.
"""

import argparse
import json
import os
import resource
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
                stem = f'{folder}/sub-{number:04d}_echo-{echo}_part-{part}_MEGRE'
                for ending in ('.nii.gz', '.json'):
                    os.close(os.open(stem + ending, os.O_CREAT | os.O_WRONLY))
    image = nibabel.Nifti1Image(np.random.default_rng(0).uniform(1, 3, (16, 16, 16)).astype(np.float32), np.eye(4))
    for number in (0, count // 2):
        for path in (root / f'sub-{number:04d}' / 'anat').glob('*.nii.gz'):
            nibabel.save(image, path)
            echo = int(path.name.split('echo-')[1][0])
            path.with_name(path.name.replace('.nii.gz', '.json')).write_text(
                json.dumps({'EchoTime': 0.006 * echo, 'MagneticFieldStrength': 3, 'Units': 'rad'}))


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds_to_first_node(root, folder, *flags):
    """Return seconds by the clock and of the processor."""
    work, before = folder / 'work', children_seconds()
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, '-m', 'qsmbids', root, folder / 'out', 'participant', '-w', work,
                                '--nprocs', '1', *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(work.glob('qsmbids_*_wf/*/prepare')):
        time.sleep(0.02)
    seconds = time.perf_counter() - start
    started = process.poll() is None
    process.kill()
    process.wait()
    return (seconds, children_seconds() - before) if started else (float('nan'), float('nan'))


def build_outputs(root, count):
    """Write what the participant level leaves of each participant that `group` reads: two maps, seven nuclei."""
    from qsmbids.core.statistics import COLUMNS
    from qsmbids.files import write_json, write_tsv
    from qsmbids.reports.status import write_status
    rng = np.random.default_rng(0)
    metrics = {f'chi_tv_{name}': 0.5 for name in (
        'sd_ppm', 'p1_ppm', 'p99_ppm', 'kernel_gain', 'kernel_offset', 'kernel_rms', 'kernel_coherence', 'flag')}
    own = {'participant': 'LABEL', 'acquisition': 'LABEL', 'session': 'n/a', 'run': 'n/a'}
    rows = [own | dict(zip(COLUMNS, rng.normal(size=len(COLUMNS)))) | {
        'roi': roi, 'hemi': hemi, 'metric': metric, 'map': name, 'ref': 'wholebrain', 'erosion_mm': erosion,
        'unit': 'ppm', 'seg_source': 'network', 'atlas': 'dgm', 'qc': 'pass'}
        for metric, name in (('chi', 'tv'), ('R2star', 'arlo'))
        for roi in ('caudate', 'putamen', 'pallidum', 'thalamus', 'rednucleus', 'nigra', 'dentate')
        for hemi in 'LRB' for erosion in (0.0, 1.0)]
    template = root.parent / 'template.tsv'
    write_tsv(template, rows, ['participant', 'session', 'run', 'acquisition', 'seg_source', 'atlas', *COLUMNS])
    table = template.read_text()
    for number in range(count):
        label = f'sub-{number:04d}'
        write_status(root, f'20260101-{number:06d}-x', [
            own | {'participant': label, 'acquisition': label, 'state': 'complete'}])
        stem = root / label / 'anat' / label
        write_json(f'{stem}_desc-qsm_qc.json', {'metrics': metrics, 'warnings': []})
        Path(f'{stem}_seg-subcortical_desc-dgm_stats.tsv').write_text(table.replace('LABEL', label))


def time_group(root):
    """Return seconds by the clock, of the processor, and the peak memory in GB of the group level."""
    start, before = time.perf_counter(), children_seconds()
    subprocess.run([sys.executable, '-m', 'qsmbids', 'nowhere', root, 'group'], stdout=subprocess.DEVNULL, check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    return time.perf_counter() - start, children_seconds() - before, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--participants', type=int, default=5000)
    parser.add_argument('--what', nargs='+', choices=('start', 'group'), default=('start', 'group'))
    parser.add_argument('--repeats', type=int, default=3)
    options = parser.parse_args()
    print(f'{options.participants} participants; seconds by the clock (of the processor), best of {options.repeats}')
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if 'group' in options.what:
            out = folder / 'out'
            build_outputs(out, options.participants)
            seconds, own, peak = time_group(out)
            print(f'group            {seconds:.1f} s ({own:.1f} s), {peak:.2f} GB', flush=True)
        if 'start' in options.what:
            root = folder / 'bids'
            root.mkdir()
            build(root, options.participants)
            middle = f'{options.participants // 2:04d}'
            for name, flags in (('one asked for', ['--participant-label', middle]), ('all', [])):
                taken = [seconds_to_first_node(root, Path(tempfile.mkdtemp(dir=folder)), *flags)
                         for _ in range(options.repeats)]
                clock, own = (min(column) for column in zip(*taken))
                print(f'{name:16s} first node after {clock:.2f} s ({own:.2f} s)', flush=True)
    start = time.perf_counter()
    subprocess.run([sys.executable, '-m', 'qsmbids', '--help'], stdout=subprocess.DEVNULL, check=True)
    print(f'qsmbids --help   {time.perf_counter() - start:.2f} s')


if __name__ == '__main__':
    main()
