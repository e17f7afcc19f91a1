"""Brain masks of magnitudes of simulated heads that no network was trained with, and of what makes masks fail.

    python benchmarks/masking.py simulated DATA [--weights FILE] [--folder DIR] [--only NAME ...] [--picture PNG]
    python benchmarks/masking.py speed [--weights FILE] [--threads 2]
    python benchmarks/masking.py look MAGNITUDE [--weights FILE] [--picture PNG]

The network-free mask, and the network's beside it: the weights that come along, or those of --weights.

DATA holds anatomies/head_11.nii.gz and head_12.nii.gz (SynthSeg's label maps; 1 to 10 were trained with) and
headphantom/labels.nii.gz, the head of the QSM reconstruction challenge 2.0. Each gets an age, a shape and a pose; its
field dephases the voxels and takes part in three echoes of a spoiled sequence with coils and noise, as
`simulation.signal` has it, unlike what the network was trained with. The true brain is tissue and the fluid of sulci
and ventricles with all that it encloses and what lies between its parts, above the lowest slice of the cerebellum.
Printed are the Dice overlap and the 95th percentile of the distance between the surfaces, mm, of each method.

`speed` times a volume of 256 x 256 x 128 voxels of 1 mm, three times, and says the peak of memory of a process that
does nothing else.
"""

import argparse
import multiprocessing
import resource
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from qsmbids.core.dipole import forward_field
from qsmbids.core.masks import brain_mask
from qsmbids.core.methods import MASKING
from qsmbids.core.metrics import dice, surface_distance
from qsmbids.core.threads import use_threads
from qsmbids.simulation.signal import Sequence, acquire, rotation

MIDDLE = (0., -25., -8.)    # of the fields of view in head coordinates, mm
EXTENT = (190., 230., 200.)
ECHO_TIMES = (.005, .013, .021)
FINE = 1.                   # voxels on which the truth is made, mm
SEED = 40_000


@dataclass(frozen=True)
class Scan:
    """What is scanned, and how.

    Attributes
    ----------
    head : str
        '11' or '12', or 'challenge'.
    age : float
        Years.
    voxel : tuple of float
        mm.
    tilt : float
        Degrees about the axis to the right, and half as many about that to the front.
    low, high : tuple of float
        Shares of the field of view along each axis that are cut off.
    shading : float
        The brightness grows by e to the power of this along each axis.
    widened : float
        How much the ventricles swell.
    lesion : float
        Radius of a bright lesion and of a dark one at the brain's surface, mm.
    snr : float
    stripped : bool
        Whether all but the brain is zero.
    """

    head: str
    age: float
    voxel: tuple = (1., 1., 1.)
    tilt: float = 0.
    low: tuple = (0., 0., 0.)
    high: tuple = (0., 0., 0.)
    shading: float = 0.
    widened: float = 0.
    lesion: float = 0.
    snr: float = 40.
    stripped: bool = False


ADULT, OTHER, INFANT = Scan('11', 30), Scan('12', 50), Scan('12', .5)
SCANS = {
    'adult 11': ADULT,
    'adult 12, 0.9 x 0.9 x 2 mm': replace(OTHER, voxel=(.9, .9, 2.)),
    'adult, challenge': Scan('challenge', 40),
    'adult 12, tilt 30': replace(OTHER, tilt=30),
    'old 11, 84 years': Scan('11', 84),
    'child 11, 5 years': Scan('11', 5),
    'infant 12, 6 months': INFANT,
    'infant 11, 18 months, tilt 40': Scan('11', 1.5, tilt=40),
    'neonate 11': Scan('11', .02),
    'neonate 12, tilt 40': Scan('12', .02, tilt=40),
    'slab of 50 mm': replace(ADULT, low=(0, 0, .45), high=(0, 0, .3)),
    'top of the head cut off': replace(OTHER, high=(0, 0, .35)),
    'sides cut off': replace(ADULT, low=(.25, 0, 0), high=(0, .25, 0)),
    'infant, slab of 40 mm': replace(INFANT, low=(0, 0, .45), high=(0, 0, .35)),
    'strong shading': replace(ADULT, shading=1.84),
    'infant, strong shading': replace(INFANT, shading=1.6),
    'lesions of 20 mm': replace(OTHER, lesion=20),
    'big ventricles': replace(ADULT, age=80, widened=.8),
    'infant, big ventricles': replace(INFANT, widened=1.),
    '4 mm': replace(ADULT, voxel=(4., 4., 4.)),
    'infant, 4 mm': replace(INFANT, voxel=(4., 4., 4.)),
    '1 x 1 x 4 mm': replace(OTHER, voxel=(1., 1., 4.)),
    'SNR 6': replace(ADULT, snr=6),
    'nothing but the brain': replace(ADULT, stripped=True),
}


def methods(weights, affine=None):
    """Return the functions that are compared, by name."""
    return {'surface': brain_mask,
            'network': partial(MASKING['network'].load(), weights=weights, affine=affine)}


def sampler(data, head):
    """Return what samples a head on a grid."""
    if head == 'challenge':
        from chain import phantom_sampler
        return phantom_sampler(data / 'headphantom', 3.)
    from qsmbids.simulation.anatomy import head_from_labels, load_labels
    return head_from_labels(*load_labels(data / 'anatomies' / f'head_{head}.nii.gz'))


def simulate(data, scan, seed):
    """Return magnitudes (nx, ny, nz, 3) and the true brain of a scan."""
    from qsmbids.training.heads import without_holes
    from qsmbids.training.masks import brain_of
    rng = np.random.Generator(np.random.PCG64([SEED, seed]))
    options = {} if scan.head == 'challenge' else {'seed': seed, 'variation': 2.5, 'age': scan.age}
    shape = tuple(int(side / FINE) for side in EXTENT)
    upright = np.diag([FINE, FINE, FINE, 1.])
    upright[:3, 3] = np.array(MIDDLE) - FINE * (np.array(shape) - 1) / 2
    head = sampler(data, scan.head)(shape, upright, **options)
    head, tissue = without_holes(head)
    brain = brain_of(head.labels, tissue, FINE)
    # The field of the head as it lies in the scanner; a tilt turns it there, the scan stays upright.
    pose = rotation((1, 0, 0), scan.tilt) @ rotation((0, 1, 0), scan.tilt / 2)
    size = [int(side / step) for side, step in zip(EXTENT, scan.voxel)]
    finest = [max(int(round(step / FINE)), 1) for step in scan.voxel]
    axes = [np.arange(n * factor) for n, factor in zip(size, finest)]
    steps = [step / factor for step, factor in zip(scan.voxel, finest)]
    places = np.stack(np.meshgrid(*[(at - (at.size - 1) / 2) * step for at, step in zip(axes, steps)], indexing='ij'))
    points = np.einsum('ij,jxyz->ixyz', pose.T, places)
    if scan.widened:
        points = _swollen(points, head, scan.widened)
    at = [part / FINE + (n - 1) / 2 for part, n in zip(points, shape)]
    labels = ndimage.map_coordinates(head.labels, at, order=0, mode='nearest')
    share = ndimage.map_coordinates(brain.astype(np.float32), at, order=1, mode='nearest')
    turned = replace(head, labels=labels, chi=np.array([t.chi for t in head.tissues], np.float32)[labels], spots=None)
    magnitude, share = _scanned(turned, share, scan, size, steps, finest, seed, rng)
    box = tuple(slice(int(round(a * n)), n - int(round(b * n))) for a, b, n in zip(scan.low, scan.high, size))
    return magnitude[box].astype(np.float32), share[box] > .5


def _scanned(head, share, scan, size, steps, finest, seed, rng):
    """Return the magnitude of three echoes and the share of brain on the grid of the scan."""
    from qsmbids.simulation.field import block_mean
    field = forward_field(head.chi - np.float32(head.chi_outside), steps, margin=24)
    affine = np.diag([*steps, 1.])
    sequence = Sequence(field.shape, affine, ECHO_TIMES, snr=None, supersampling=1, coil=True)
    if scan.lesion:
        head = _with_lesions(head, share, scan.lesion, steps, rng)
    signal, _ = acquire(head, field, sequence, seed)
    if max(finest) > 1:
        parts = signal.reshape(size[0], finest[0], size[1], finest[1], size[2], finest[2], -1)
        signal, share = parts.mean(axis=(1, 3, 5)), block_mean(share, finest)
    else:
        slopes = np.gradient(field, *steps)
        for echo, time in enumerate(ECHO_TIMES):
            for slope, step in zip(slopes, steps):
                signal[..., echo] *= np.sinc(slope * np.float32(step * time * 127.73))
    if scan.shading:
        along = sum(np.linspace(-.5, .5, n).reshape([-1 if a == b else 1 for b in range(3)])
                    for a, n in enumerate(size))
        signal *= np.exp(scan.shading * along.astype(np.float32))[..., None]
    if scan.stripped:
        signal *= (share > .5)[..., None]
    noise = np.abs(signal[share > .5, 0]).mean() / scan.snr
    if not scan.stripped:
        signal = signal + noise * (rng.standard_normal(signal.shape) + 1j * rng.standard_normal(signal.shape))
    return np.abs(signal), share


def _swollen(points, head, amount):
    """Return where points come from when the ventricles swell, mm from the middle."""
    from qsmbids.simulation.tissues import LABELS
    at = np.argwhere(head.labels[::2, ::2, ::2] == LABELS['ventricle']).mean(axis=0) * 2
    middle = (at - (np.array(head.labels.shape) - 1) / 2) * FINE
    size = np.cbrt(np.sum(head.map('brain')) * FINE ** 3 / 1.4e6)
    away = points - middle[:, None, None, None]
    squared = np.sum(away ** 2, axis=0) / (52 * size) ** 2
    factor = np.where(squared < 1, 1 - amount * (1 - squared) ** 2 / (1 + amount), 1)
    return middle[:, None, None, None] + factor * away


def _with_lesions(head, share, radius, steps, rng):
    """Return a head with a ball of fluid inside the brain and one of blood at its surface."""
    from qsmbids.simulation.tissues import LABELS
    labels = head.labels.copy()
    inside = share > .5
    depth = ndimage.distance_transform_edt(inside[::2, ::2, ::2]) * 2 * steps[0]
    grid = np.meshgrid(*[np.arange(n) * step for n, step in zip(labels.shape, steps)], indexing='ij', sparse=True)
    for name, deep in (('ventricle', (radius, 1e3)), ('vein', (radius / 3, radius / 2))):
        places = 2 * np.argwhere((depth > deep[0]) & (depth < deep[1]))
        place = places[rng.integers(len(places))] * np.array(steps)
        labels[inside & (sum((g - p) ** 2 for g, p in zip(grid, place)) < radius ** 2)] = LABELS[name]
    return replace(head, labels=labels)


def run_simulated(options):
    compared, rows, drawn = methods(options.weights), [], []
    print(f'{"scan":34}' + ''.join(f'{name + ": Dice":>16}{"HD95, mm":>10}{"volume":>8}{"s":>7}' for name in compared))
    for number, (name, scan) in enumerate(SCANS.items()):
        if options.only and name not in options.only:
            continue
        kept = options.folder and options.folder / f'{name.replace(" ", "_")}.npz'
        if kept and kept.exists():
            with np.load(kept) as arrays:
                magnitude, truth = arrays['magnitude'], arrays['truth']
        else:
            magnitude, truth = simulate(options.data, scan, number)
            if kept:
                np.savez(kept, magnitude=magnitude, truth=truth)
        found, row = {}, []
        for method, find in compared.items():
            began = time.perf_counter()
            found[method] = mask = find(magnitude, scan.voxel)
            seconds = time.perf_counter() - began
            row.append((dice(mask, truth), surface_distance(mask, truth, scan.voxel).hausdorff95,
                        mask.sum() / truth.sum(), seconds))
        rows.append(row)
        drawn.append((name, magnitude[..., 0], truth, found, scan.voxel))
        print_row(name, row)
    print_row('mean', np.mean(rows, axis=0))
    if options.picture:
        draw(drawn, options.picture)


def print_row(name, row):
    print(f'{name:34}' + ''.join(f'{a:16.4f}{b:10.2f}{c:8.3f}{d:7.1f}' for a, b, c, d in row), flush=True)


def draw(scans, path):
    """Draw three slices through the middle of each scan with its masks: the truth green, the methods red and blue."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(3, len(scans), figsize=(2.4 * len(scans), 7.4), squeeze=False)
    for column, (name, magnitude, truth, found, steps) in enumerate(scans):
        shown = truth if truth is not None else next(iter(found.values()))
        middle = [int(round(m)) for m in ndimage.center_of_mass(shown)]
        for axis in range(3):
            panel, others = axes[axis, column], [a for a in range(3) if a != axis]
            cut = tuple(middle[axis] if a == axis else slice(None) for a in range(3))
            panel.imshow(magnitude[cut].T, origin='lower', cmap='gray', vmax=np.percentile(magnitude[cut], 99.5),
                         aspect=steps[others[1]] / steps[others[0]])
            masks = [(truth, 'lime')] if truth is not None else []
            for mask, colour in masks + list(zip(found.values(), ('deepskyblue', 'red'))):
                if mask[cut].any():
                    panel.contour(mask[cut].T, [.5], colors=colour, linewidths=.8)
            panel.axis('off')
        axes[0, column].set_title(name, fontsize=7)
    figure.tight_layout(pad=.3)
    figure.savefig(path, dpi=80)


def run_look(options):
    """Draw what the methods find in a measured magnitude."""
    from qsmbids.core.dipole import voxel_size_of
    from qsmbids.headers import load_image
    image = load_image(options.magnitude)
    magnitude = np.asarray(image.dataobj, np.float32)
    steps, found = voxel_size_of(image.affine), {}
    for method, find in methods(options.weights, image.affine).items():
        began = time.perf_counter()
        found[method] = find(magnitude, steps)
        print(f'{method}: {found[method].sum() * np.prod(steps) / 1000:.0f} mL, {time.perf_counter() - began:.1f} s')
    if options.picture:
        first = magnitude[..., 0] if magnitude.ndim == 4 else magnitude
        draw([(options.magnitude.name, first, None, found, steps)], options.picture)
    print(f'Dice of both {dice(*found.values()):.4f}')


def run_speed(options):
    """Print seconds and memory of a large volume."""
    from qsmbids.simulation.head import digital_head
    affine = np.diag([1., 1., 1., 1.])
    affine[:3, 3] = -127, -145, -64
    head = digital_head((256, 256, 128), affine, seed=1)
    magnitude = (head.map('m0') * np.exp(-.01 * head.map('r2star'))).astype(np.float32)
    for method in methods(options.weights):
        # A process for each, so that memory is its own.
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            seconds, peak = pool.apply(measure, (method, magnitude, options.threads, options.weights))
        print(f'{method}: {" ".join(f"{s:.1f}" for s in seconds)} s, the first with imports; peak {peak:.2f} GB, '
              f'{options.threads} threads')


def measure(method, magnitude, threads, weights):
    """Return the seconds of three runs and the peak of memory of this process, GB."""
    find, seconds = methods(weights)[method], []
    with use_threads(threads):
        for _ in range(3):
            began = time.perf_counter()
            find(magnitude, (1., 1., 1.))
            seconds.append(time.perf_counter() - began)
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest='kind', required=True)
    for kind, run in (('simulated', run_simulated), ('speed', run_speed), ('look', run_look)):
        step = kinds.add_parser(kind)
        step.set_defaults(run=run)
        step.add_argument('--weights', default=MASKING['network'].weights, help='of the network [%(default)s]')
        step.add_argument('--threads', type=int, default=2)
        step.add_argument('--picture', type=Path)
        if kind == 'simulated':
            step.add_argument('data', type=Path)
            step.add_argument('--folder', type=Path, help='keep scans here')
            step.add_argument('--only', nargs='+')
        if kind == 'look':
            step.add_argument('magnitude', type=Path)
    options = parser.parse_args()
    with use_threads(options.threads):
        options.run(options)


if __name__ == '__main__':
    main()
