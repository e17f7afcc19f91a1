"""Inversion by networks beside classical inversion, on heads that no training has seen.

    python benchmarks/networks.py --labels FILE [FILE ...] [--methods tv 'tv, tuned' pocsnet2 ...] [--noise 1]
        [--robustness METHOD ...] [--voxel-sizes .7 1x1x3 2 3]

Every head is simulated twice as fine as it is looked at (below .8 mm as fine); its local field is that of the sources
in the brain, with the errors of qsmbids.training.heads (noise, and parts that follow the tissue) at the given level. A
method that takes the total field gets it with that of all other sources.
Prints the error of every method inside the mask, the bias of the deep nuclei relative to the whole brain, and seconds;
for methods named behind --robustness, what becomes of a field of another scale and of a haemorrhage, and the error at
other tilts and with other voxels beside that of the aligned head of 1 mm. Whole heads of .5 mm take some gigabytes and
minutes: they are computed if they are asked for (--voxel-sizes).
"""

import argparse
import time
from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter

from qsmbids.core.dipole import forward_field
from qsmbids.core.grid import bounding_box
from qsmbids.core.inversion.solve import solve
from qsmbids.core.metrics import hfen, nrmse, xsim
from qsmbids.core.methods import INVERSION
from qsmbids.simulation.anatomy import head_from_labels, load_labels
from qsmbids.simulation.field import block_mean
from qsmbids.simulation.head import digital_head
from qsmbids.simulation.tissues import LABELS, NUCLEI
from qsmbids.training.heads import FIELD_OF_VIEW, LOWEST, field_errors, without_holes

CLASSICAL = 'tikhonov', 'tv'
TUNED = 'tv, tuned'
"""Total variation with the strength that makes the error least, which needs the truth: times the automatic one."""
FACTORS = .25, .4, .6, 1., 1.6
NETWORKS = tuple(name for name, method in INVERSION.items() if method.weights)


class Scene(NamedTuple):
    """Maps of one head, ppm."""

    chi: np.ndarray
    labels: np.ndarray
    mask: np.ndarray
    local: np.ndarray
    total: np.ndarray
    b0_dir: tuple


def scene(sample, seed, *, voxel_size=(1., 1., 1.), tilt=0., noise=1., bleed=0.):
    """Make a head with its fields; `bleed` is the susceptibility of a ball of 6 mm in ppm."""
    shape = [int(side / step) for side, step in zip(FIELD_OF_VIEW, voxel_size)]
    ratio = 2 if min(voxel_size) >= .8 else 1
    fine = np.array(voxel_size) / ratio
    affine = np.diag([*fine, 1.])
    affine[:3, 3] = LOWEST
    head = sample(tuple(ratio * n for n in shape), affine, seed=seed)
    head, brain = without_holes(head)
    mask = binary_erosion(brain, iterations=max(1, int(round(1.5 / np.mean(fine)))))
    box = bounding_box(mask)
    # Even sides, so that voxels of the coarse grid are whole.
    box = tuple(slice(side.start // 2 * 2, side.start // 2 * 2 + (side.stop - side.start) // 2 * 2) for side in box)
    everything, chi, labels, inside = head.chi, head.chi[box] * mask[box], head.labels[box], mask
    mask = mask[box]
    if bleed:
        middle = np.argwhere(mask & (labels == LABELS['white_matter']))[::997].mean(axis=0) + 20 / fine * (1, 0, 0)
        grids = np.meshgrid(*((np.arange(n) - m) * step for n, m, step in zip(chi.shape, middle, fine)),
                            indexing='ij', sparse=True)
        chi[sum(g * g for g in grids) < 36] = bleed
    angle = np.deg2rad(tilt)
    b0_dir = 0., float(np.sin(angle)), float(np.cos(angle))
    mean = chi[mask].mean()
    background = _background(everything, inside, mean, head.chi_outside, ratio, voxel_size, b0_dir)[
        tuple(slice(side.start // ratio, side.stop // ratio) for side in box)]
    local = block_mean(forward_field((chi - mean) * mask, fine, b0_dir, margin=48), ratio)
    chi, mask = block_mean(chi - mean, ratio), block_mean(mask.astype(np.float32), ratio) > .5
    labels = labels[::ratio, ::ratio, ::ratio]
    chi *= mask
    rng = np.random.Generator(np.random.PCG64([seed, 7]))
    field = (local + np.float32(noise) * field_errors(chi, local, mask, voxel_size, rng)) * mask
    return Scene(chi, labels, mask, field, (field + background) * mask, b0_dir)


def _background(chi, inside, mean, outside, ratio, voxel_size, b0_dir):
    """Return the field of all that the local field is not of, on the coarse grid."""
    sources = np.where(inside, mean, chi) - np.float32(outside)
    # Edges of air that are sharper than a voxel ring all over the field.
    sources = gaussian_filter(block_mean(sources.astype(np.float32), ratio), 1.)
    return forward_field(sources, voxel_size, b0_dir, margin=48)


def bias(estimate, chi, labels, mask):
    """Return the mean over the deep nuclei of the relative error of what they have more than the whole brain, %."""
    errors = []
    for name in NUCLEI:
        inside = (labels == LABELS[name]) & mask
        if inside.sum() > 20:
            true, found = (volume[inside].mean() - volume[mask].mean() for volume in (chi, estimate))
            errors.append(100 * (found - true) / true)
    return float(np.mean(errors))


def run(method, scene, voxel_size):
    began = time.perf_counter()
    if method == TUNED:
        first = solve('tv', scene.local, scene.mask, voxel_size, b0_dir=scene.b0_dir)
        maps = [first.chi if factor == 1 else solve(
            'tv', scene.local, scene.mask, voxel_size, b0_dir=scene.b0_dir,
            parameters={'lambda': factor * first.parameters['lambda']}).chi for factor in FACTORS]
        found = min(maps, key=lambda chi: nrmse(chi, scene.chi, scene.mask))
    else:
        field = scene.total if INVERSION[method].takes_total else scene.local
        found = solve(method, field, scene.mask, voxel_size, b0_dir=scene.b0_dir).chi
    return found, time.perf_counter() - began


def table(samples, methods, noise):
    print(f'{"method":12s} NRMSE %  HFEN %   XSIM  slope  nuclei: bias %    s')
    scenes = [scene(sample, 30_000 + n, noise=noise, tilt=10. * n) for n, sample in enumerate(samples)]
    for method in methods:
        rows = []
        for one in scenes:
            chi, labels, mask = one[:3]
            found, seconds = run(method, one, (1., 1., 1.))
            rows.append([nrmse(found, chi, mask), hfen(found, chi, mask), xsim(found, chi, mask),
                         np.polyfit(chi[mask], found[mask], 1)[0], bias(found, chi, labels, mask), seconds])
        print('{:12s} {:7.1f} {:7.1f} {:6.3f} {:6.2f} {:15.1f} {:4.0f}'.format(method, *np.mean(rows, axis=0)))


def robustness(sample, method, voxel_sizes):
    base = scene(sample, 31_000, noise=.5)
    chi, mask = base.chi, base.mask
    one = run(method, base, (1., 1., 1.))[0]
    for scale in (.1, 10.):
        scaled = base._replace(local=scale * base.local, total=scale * base.total)
        other = run(method, scaled, (1., 1., 1.))[0]
        off = 100 * np.abs(other / scale - one).max() / np.abs(one).max()
        print(f'{method}: field x {scale:g}: map off by {off:.3f} %')
    for bleed in (-.5, .5, 1.4):
        wounded = scene(sample, 31_000, noise=.5, bleed=bleed)
        found = run(method, wounded, (1., 1., 1.))[0]
        inside = binary_erosion(np.abs(wounded.chi - chi) > .5 * abs(bleed))
        slope = (found - one)[inside].mean() / (wounded.chi - chi)[inside].mean()
        print(f'{method}: ball of {bleed:+.1f} ppm: {slope:.3f} of it found')
    names = dict.fromkeys((method, *CLASSICAL))
    aligned = {name: nrmse(run(name, base, (1., 1., 1.))[0], chi, mask) for name in names}
    print(f'{method}: aligned, 1 mm: NRMSE ' + ', '.join(f'{name} {value:.1f} %' for name, value in aligned.items()))
    cases = {f'tilt {tilt}': ({'tilt': tilt}, (1., 1., 1.)) for tilt in (20, 40, 90)}
    cases |= {f'voxels {"x".join(f"{step:g}" for step in size)} mm': ({'voxel_size': size}, size)
              for size in voxel_sizes}
    for case, (options, voxel_size) in cases.items():
        other = scene(sample, 31_000, noise=.5, **options)
        errors = {name: nrmse(run(name, other, voxel_size)[0], other.chi, other.mask) for name in names}
        print(f'{method}: {case}: NRMSE ' + ', '.join(
            f'{name} {value:.1f} % ({100 * (value / aligned[name] - 1):+.0f} %)' for name, value in errors.items()),
            flush=True)


def three_sizes(text):
    """Return '1x1x3' or '2' as three sizes."""
    sizes = [float(part) for part in text.split('x')]
    return tuple(sizes * 3 if len(sizes) == 1 else sizes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--labels', nargs='+', default=[])
    parser.add_argument('--methods', nargs='+', default=[*CLASSICAL, TUNED, *NETWORKS])
    parser.add_argument('--noise', type=float, default=1.)
    parser.add_argument('--robustness', nargs='*', default=[], metavar='METHOD')
    parser.add_argument('--voxel-sizes', nargs='*', type=three_sizes, metavar='MM',
                        default=[three_sizes(text) for text in ('.7', '1x1x3', '2', '3')])
    options = parser.parse_args()
    samples = [head_from_labels(*load_labels(path)) for path in options.labels] or [digital_head]
    table(samples, options.methods, options.noise)
    for method in options.robustness:
        robustness(samples[0], method, options.voxel_sizes)


if __name__ == '__main__':
    main()
