"""Time and memory of the main job: one participant, 160 x 160 x 160 voxels of 1 mm, 4 echoes, one inversion.

    python benchmarks/pipeline.py [--nprocs 2] [--shape 160 160 160] [--folder DIR]

A head is simulated (once: it stays in the folder) and `qsmbids` is run on it from an empty work directory, three times.
The first run may compile; nipype's resource monitor, which slows it down, gives the peak memory of each node. In the
second, nodes run one at a time in one process, so that their seconds add up; the rest is told apart into nipype's share
and what comes before the first and after the last node. The third, with worker processes, is what a user sees: its
memory is that of all processes together. The accuracy against the simulated truth stands below.
"""

import argparse
import gzip
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

import nibabel
import numpy as np
import psutil

ECHO_TIMES = (0.004, 0.012, 0.020, 0.028)


def simulate(folder, shape):
    from qsmbids.simulation.bids import write_description, write_scan
    from qsmbids.simulation.head import digital_head
    from qsmbids.simulation.signal import Sequence
    from qsmbids.simulation.signal import simulate as scan_head
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = np.array([0, -17, 12]) - (np.array(shape) - 1) / 2
    scan = scan_head(lambda size, grid: digital_head(size, grid, seed=5),
                     Sequence(tuple(shape), affine, ECHO_TIMES, snr=40, supersampling=1), seed=6, surround_mm=40)
    write_description(folder, 'benchmark')
    write_scan(folder, scan, {'sub': '01'}, vendor='siemens_levels')
    np.savez(folder.parent / 'truth.npz', chi=scan.chi, mask=scan.mask, local=scan.local_field, field=scan.field)


def run(folder, out, work, *flags):
    """Run qsmbids; return seconds and the peak memory of all its processes together in GB."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, '-m', 'qsmbids', folder, out, 'participant', '-w', work, *flags])
    peak, done = [0.0], threading.Event()

    def watch():
        while not done.is_set():
            try:
                family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
                peak[0] = max(peak[0], sum(p.memory_full_info().pss for p in family) / 1e9)
            except psutil.Error:
                pass
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    if code:
        sys.exit(f'qsmbids ended with {code}')
    return seconds, peak[0]


def node_times(work):
    """Return (name, seconds, peak GB) of each node, longest first, and the seconds from first start to last end."""
    rows, starts, ends = [], [], []
    for path in Path(work).rglob('result_*.pklz'):
        with gzip.open(path) as file:
            # Written a moment ago by the run above.
            runtime = pickle.load(file).runtime
        rows.append((path.parent.name, runtime.duration, getattr(runtime, 'mem_peak_gb', None)))
        starts.append(datetime.fromisoformat(runtime.startTime))
        ends.append(datetime.fromisoformat(runtime.endTime))
    return sorted(rows, key=lambda row: -row[1]), (max(ends) - min(starts)).total_seconds()


def accuracy(folder, out):
    truth = np.load(folder.parent / 'truth.npz')

    def volume(name):
        return nibabel.load(next(Path(out).rglob(f'*_{name}.nii.gz'))).get_fdata(dtype=np.float32)

    brain, known = volume('desc-brain_mask') > 0, (volume('desc-qsm_mask') > 0) & truth['mask']
    chi = volume('desc-tv_Chimap')[known]
    true = truth['chi'][known] - truth['chi'][known].mean()
    print(f'\nbrain mask: Dice {2 * (brain & truth["mask"]).sum() / (brain.sum() + truth["mask"].sum()):.3f}')
    print(f'QSM mask covers {known.sum() / truth["mask"].sum():.1%} of the brain; in it NRMSE '
          f'{100 * np.linalg.norm(chi - chi.mean() - true) / np.linalg.norm(true):.1f} %, '
          f'correlation {np.corrcoef(chi, true)[0, 1]:.3f}')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--nprocs', default='2')
    parser.add_argument('--shape', type=int, nargs=3, default=(160, 160, 160))
    parser.add_argument('--folder', type=Path, default=Path(tempfile.gettempdir()) / 'qsmbids-benchmark')
    options = parser.parse_args()
    folder = options.folder / 'x'.join(map(str, options.shape)) / 'bids'
    if not (folder / 'sub-01').exists():
        simulate(folder, options.shape)
    out, work = folder.parent / 'out', folder.parent / 'work'

    def fresh(*flags):
        for path in (out, work):
            shutil.rmtree(path, ignore_errors=True)
        return run(folder, out, work, '--nprocs', options.nprocs, *flags)

    fresh('--low-mem', '--resource-monitor')
    peaks = {name: peak for name, _, peak in node_times(work)[0]}
    serial, serial_peak = fresh('--low-mem')
    print(f'{"node":28s} {"s":>7s} {"GB":>6s}')
    rows, span = node_times(work)
    total = sum(seconds for _, seconds, _ in rows)
    for name, seconds, _ in rows:
        print(f'{name:28s} {seconds:7.2f} {peaks[name] or float("nan"):6.2f}')
    print(f'{"sum of nodes":28s} {total:7.2f}\n{"one at a time, whole run":28s} {serial:7.2f} {serial_peak:6.2f}')
    print(f'nipype between the nodes: {span - total:.2f} s, {100 * (span - total) / serial:.1f} % of the run; '
          f'start of the interpreter, imports, discovery, page: {serial - span:.2f} s')
    seconds, peak = fresh()
    print(f'{"worker processes, whole run":28s} {seconds:7.2f} {peak:6.2f}')
    accuracy(folder, out)


if __name__ == '__main__':
    main()
