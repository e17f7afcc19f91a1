"""What the simulator is worth: its field against a formula and against another program, its time and its memory.

    python -m venv /tmp/venv-qsmforward && /tmp/venv-qsmforward/bin/pip install qsm-forward
    python benchmarks/simulator.py [--peer /tmp/venv-qsmforward/bin/python] [--participant]

Prints

1. the field of a sphere of bone in air, in voxels that hold fine ones of sharp edges, against the analytic one: norm of
   the difference over that of the field, outside a rim of one voxel, and the highest difference beyond two voxels over
   the highest field;
2. the local field and the decay of the magnitude against `qsm-forward` (GPL: it is no dependency, and runs in its own
   interpreter), fed the same susceptibility, R2*, M0 and T1 of a head;
3. the time of a training sample of random shapes;
4. with `--participant`, what `qsmbids-simulate` takes for one participant by default (1 mm, 4 echoes), all in all.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from qsmbids.core.dipole import b0_direction
from qsmbids.core.threads import use_threads
from qsmbids.simulation.field import block_mean, enclosed_field, object_field
from qsmbids.simulation.head import Head, digital_head
from qsmbids.simulation.shapes import STYLES, random_shapes
from qsmbids.simulation.signal import Sequence, acquire, centred_affine, rotation
from qsmbids.simulation.tissues import Tissue

AIR, BONE = 9.2, -9.
RADIUS, CENTRE, SIDE = 16., (.3, -.2, .4), 48  # mm
SPHERES = [((1, 1, 1), 0, 2), ((1, 1, 1), 45, 2), ((1, 1, 1), 45, 3), ((1, 1, 2), 25, 2), ((.8, .8, 2.4), -35, 3),
           ((2, 2, 2), 54.7, 2)]
ECHO_TIMES = (.004, .012, .020, .028)
SHAPE = (176, 208, 160)
PEER = """
import sys
import numpy as np
import qsm_forward.qsm_forward as peer
head = np.load(sys.argv[1])
field = peer.generate_field(head['chi'], voxel_size=[1, 1, 1], B0_dir=head['b0_dir'])
magnitude = [np.abs(peer.generate_signal(field, B0=3, TR=.05, TE=te, flip_angle=15, R1=1 / head['t1'],
                                         R2star=head['r2star'], M0=head['m0'])) for te in head['echo_times']]
np.savez(sys.argv[2], field=field, magnitude=magnitude)
"""


def ball(shape, affine):
    inside = _distance(shape, affine)[0] < RADIUS
    return Head(inside.astype(np.uint8), np.where(inside, np.float32(BONE), np.float32(AIR)),
                (Tissue(AIR, 0, 0, 1), Tissue(BONE, 0, 0, 1)), AIR)


def _distance(shape, affine):
    """Return how far voxels are from the middle of the sphere, and how high above it."""
    x, y, z = np.tensordot(affine[:3, :3], np.indices(shape), 1) + np.reshape(affine[:3, 3] - CENTRE, (3, 1, 1, 1))
    return np.sqrt(x * x + y * y + z * z), z


def sphere(voxel_size, degrees, factor):
    """Return the relative errors of the field of a sphere, %: norm outside the rim, and highest."""
    shape = factor * np.rint(SIDE / np.array(voxel_size)).astype(int)
    affine = centred_affine(rotation((1, .4, .2), degrees), np.array(voxel_size) / factor, shape, (0, 0, 0))
    field = object_field(ball, affine, shape, b0_direction(affine), 80.)[1]
    distance, height = _distance(shape, affine)
    truth = np.where(distance < RADIUS, 0,
                     (BONE - AIR) / 3 * RADIUS ** 3 * (3 * (height / distance) ** 2 - 1) / distance ** 3)
    field, truth, distance = (block_mean(volume, factor) for volume in (field, truth, distance))
    away = np.abs(distance - RADIUS)
    rim, far = away > max(voxel_size), away > 2 * max(voxel_size)
    error = field - truth
    return (100 * np.linalg.norm(error[rim]) / np.linalg.norm(truth[rim]),
            100 * np.abs(error[far]).max() / np.abs(truth).max())


def compare(python, degrees):
    """Print how a head's local field and decay differ from those of the other program."""
    affine = centred_affine(rotation((1, 0, 0), degrees), (1, 1, 1), SHAPE, (0, -17, 8))
    sequence = Sequence(SHAPE, affine, ECHO_TIMES, snr=None, supersampling=1, shim_order=None, coil=False)
    head = digital_head(SHAPE, affine, seed=1, fine=True)
    mask = head.map('brain')
    chi = head.chi * mask
    start = time.perf_counter()
    field = enclosed_field(chi, np.ones(3), sequence.b0_dir)
    seconds = time.perf_counter() - start
    magnitude = np.moveaxis(np.abs(acquire(head, field, sequence)[0]), -1, 0)
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / 'given.npz', Path(folder) / 'made.npz'
        np.savez(given, chi=chi, b0_dir=sequence.b0_dir, echo_times=ECHO_TIMES,
                 **{name: head.map(name) for name in ('t1', 'r2star', 'm0')})
        subprocess.run([python, '-c', PEER, given, made], check=True, stdout=subprocess.DEVNULL)
        peer = np.load(made)
        other, other_magnitude = peer['field'], peer['magnitude']
    error = field - other
    print(f'{degrees:4} degrees: local field {100 * np.linalg.norm(error[mask]) / np.linalg.norm(other[mask]):.3f} % '
          f'in the brain, {100 * np.linalg.norm(_means(error)) / np.linalg.norm(_means(other)):.3f} % in means over '
          f'2 x 2 x 2 voxels of the whole grid; ours took {seconds:.1f} s')
    # Of each echo to the one before: neither program's scale counts.
    ours, theirs = (m[1:, mask] / m[:-1, mask] for m in (magnitude, other_magnitude))
    scale = magnitude[0, mask].sum() / other_magnitude[0, mask].sum()
    print(f'              decay from echo to echo differs by {np.abs(ours / theirs - 1).max():.1e} at most, the first '
          f'echo by a factor of {scale:.6f} (spread {np.std(magnitude[0, mask] / other_magnitude[0, mask]):.1e})')


def _means(volume):
    return block_mean(volume[tuple(slice(n // 2 * 2) for n in volume.shape)], 2)


def time_samples():
    for style in STYLES:
        random_shapes(seed=0, style=style)
        times = []
        for seed in range(1, 11):
            start = time.perf_counter(), time.process_time()
            random_shapes(seed=seed, style=style)
            times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
        print(f'{style:8} {min(times)[0]:.3f} s (best of 10), {np.median(times, axis=0)[1]:.3f} s of processor time '
              '(median)')


def time_participant(threads):
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([sys.executable, '-m', 'qsmbids.cli.simulate', f'{folder}/bids', '--participants', '1',
                        '--nprocs', str(threads)], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f'{seconds:.1f} s at a load of {os.getloadavg()[0]:.1f}, {used.ru_utime + used.ru_stime:.1f} s of processor '
          f'time, {used.ru_maxrss / 2 ** 20:.2f} GB')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--peer', type=Path, metavar='PYTHON', help='interpreter that has qsm-forward')
    parser.add_argument('--participant', action='store_true')
    parser.add_argument('--threads', type=int, default=2)
    options = parser.parse_args()
    if options.participant:
        # First, so that no other child counts.
        print('one participant of 1 mm, 4 echoes')
        time_participant(options.threads)
    with use_threads(options.threads):
        print('\nsphere in air: voxel, tilt, fine voxels per axis, norm %, highest %')
        for voxel_size, degrees, factor in SPHERES:
            norm, highest = sphere(voxel_size, degrees, factor)
            print(f'{" x ".join(map(str, voxel_size)):16} {degrees:5} {factor} {norm:6.2f} {highest:6.2f}')
        print('\ntraining sample, 64 x 64 x 64')
        time_samples()
        if options.peer:
            print('\nagainst qsm-forward')
            for degrees in (0, 25):
                compare(options.peer, degrees)


if __name__ == '__main__':
    main()
