"""Inversion by networks beside classical inversion, on heads that no training has seen.

    python benchmarks/networks.py --labels FILE [FILE ...] [--methods tv tikhonov pocsnet2 ...] [--noise 1]

Every head is simulated twice as fine as it is looked at (below .8 mm as fine); its local field is that of the sources
in the brain, with the errors of qsmbids.training.heads (noise, and parts that follow the tissue) at the given level.
Prints the error of every method inside the mask, the bias of the deep nuclei relative to the whole brain, and seconds;
for methods named behind --robustness, what becomes of a field of another scale, of a haemorrhage, of another tilt and
of other voxels.
"""

import argparse
import time

import numpy as np
from scipy.ndimage import binary_erosion

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
NETWORKS = tuple(name for name, method in INVERSION.items() if method.weights)


def scene(sample, seed, *, voxel_size=(1., 1., 1.), tilt=0., noise=1., bleed=0.):
    """Return chi, labels, mask and local field of a head, ppm; `bleed` is the susceptibility of a ball of 6 mm."""
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
    chi, labels, mask = head.chi[box] * mask[box], head.labels[box], mask[box]
    if bleed:
        middle = np.argwhere(mask & (labels == LABELS['white_matter']))[::997].mean(axis=0) + 20 / fine * (1, 0, 0)
        grids = np.meshgrid(*((np.arange(n) - m) * step for n, m, step in zip(chi.shape, middle, fine)),
                            indexing='ij', sparse=True)
        chi[sum(g * g for g in grids) < 36] = bleed
    angle = np.deg2rad(tilt)
    b0_dir = 0., float(np.sin(angle)), float(np.cos(angle))
    mean = chi[mask].mean()
    local = block_mean(forward_field((chi - mean) * mask, fine, b0_dir, margin=48), ratio)
    chi, mask = block_mean(chi - mean, ratio), block_mean(mask.astype(np.float32), ratio) > .5
    labels = labels[::ratio, ::ratio, ::ratio]
    chi *= mask
    rng = np.random.Generator(np.random.PCG64([seed, 7]))
    field = (local + np.float32(noise) * field_errors(chi, local, mask, voxel_size, rng)) * mask
    return chi, labels, mask, field, b0_dir


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
    chi, _, mask, field, b0_dir = scene
    began = time.perf_counter()
    found = solve(method, field, mask, voxel_size, b0_dir=b0_dir).chi
    return found, time.perf_counter() - began


def table(samples, methods, noise):
    print(f'{"method":12s} NRMSE %  HFEN %   XSIM  slope  nuclei: bias %    s')
    scenes = [scene(sample, 30_000 + n, noise=noise, tilt=10. * n) for n, sample in enumerate(samples)]
    for method in methods:
        rows = []
        for one in scenes:
            chi, labels, mask, *_ = one
            found, seconds = run(method, one, (1., 1., 1.))
            rows.append([nrmse(found, chi, mask), hfen(found, chi, mask), xsim(found, chi, mask),
                         np.polyfit(chi[mask], found[mask], 1)[0], bias(found, chi, labels, mask), seconds])
        print('{:12s} {:7.1f} {:7.1f} {:6.3f} {:6.2f} {:15.1f} {:4.0f}'.format(method, *np.mean(rows, axis=0)))


def robustness(sample, method):
    base = scene(sample, 31_000, noise=.5)
    chi, _, mask, field, b0_dir = base
    one = run(method, base, (1., 1., 1.))[0]
    for scale in (.1, 10.):
        other = solve(method, scale * field, mask, (1., 1., 1.), b0_dir=b0_dir).chi
        off = 100 * np.abs(other / scale - one).max() / np.abs(one).max()
        print(f'{method}: field x {scale:g}: map off by {off:.3f} %')
    for bleed in (-.5, .5, 1.4):
        wounded = scene(sample, 31_000, noise=.5, bleed=bleed)
        found = run(method, wounded, (1., 1., 1.))[0]
        inside = binary_erosion(np.abs(wounded[0] - chi) > .5 * abs(bleed))
        slope = (found - one)[inside].mean() / (wounded[0] - chi)[inside].mean()
        print(f'{method}: ball of {bleed:+.1f} ppm: {slope:.3f} of it found')
    for tilt in (0, 20, 40, 90):
        tilted = scene(sample, 31_000, noise=.5, tilt=tilt)
        print(f'{method}: tilt {tilt}: NRMSE {nrmse(run(method, tilted, (1., 1., 1.))[0], tilted[0], tilted[2]):.1f} %')
    for voxel_size in ((1., 1., 2.), (2., 2., 2.), (3., 3., 3.), (.7, .7, .7)):
        other = scene(sample, 31_000, noise=.5, voxel_size=voxel_size)
        scores = ' '.join(f'{name} {nrmse(run(name, other, voxel_size)[0], other[0], other[2]):.1f} %'
                          for name in (method, *CLASSICAL))
        print(f'{method}: voxels {voxel_size} mm: NRMSE {scores}')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--labels', nargs='+', default=[])
    parser.add_argument('--methods', nargs='+', default=[*CLASSICAL, *NETWORKS])
    parser.add_argument('--noise', type=float, default=1.)
    parser.add_argument('--robustness', nargs='*', default=[], metavar='METHOD')
    options = parser.parse_args()
    samples = [head_from_labels(*load_labels(path)) for path in options.labels] or [digital_head]
    table(samples, options.methods, options.noise)
    for method in options.robustness:
        robustness(samples[0], method)


if __name__ == '__main__':
    main()
