"""Scans with lesions through the whole chain: what a census is given, and what is truly there.

Everything a scan differs by is random: voxels, field strength, echoes, noise, brain mask, background removal and
inversion. A scan gives a map of each of several inversions of one field.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from qsmbids.core.inversion.solve import solve
from qsmbids.core.reconstruct import reconstruct
from qsmbids.simulation.disease import draw_lesions
from qsmbids.simulation.lesions import lesion_table, with_lesions
from qsmbids.simulation.signal import Sequence, centred_affine, simulate

FIELD_OF_VIEW, MIDDLE = (156., 192., 160.), (0, -17, 6)   # mm; holds the brain of any of the heads
STEP = 1.                                                 # mm, of the grid that lesions are drawn on
COUNTS = {'cmb': 45, 'calcification': 20, 'vessel': 25, 'deep_iron': 8, 'haemorrhage': 1, 'pvs': 12}
EMPTY = .2             # share of the scans that have no microbleed
GIVEN_MASK = .5        # share of the scans whose brain mask is the true one
FINE = .2              # share of the scans with dephasing within voxels
PATTERNS = 'mixed', 'mixed', 'lobar', 'deep'
# How probable each method is. What is not here is never seen in training.
BACKGROUNDS = {'pdf': .3, 'vsharp': .4, 'lbv': .1, 'resharp': .1, 'sharp': .1}
INVERSIONS = {'tv': .35, 'tikhonov': .2, 'tkd': .15, 'rts': .1, 'ndi': .1, 'pocsnet2': .1}


@dataclass(frozen=True)
class LesionScan:
    """One scan; volumes of shape (nx, ny, nz).

    Attributes
    ----------
    maps : dict of ndarray, float32
        Susceptibility by inversion, ppm, zero where it is not known.
    mask : ndarray of bool
        Brain.
    r2star : ndarray, float32
        1/s.
    affine : ndarray, shape (4, 4)
    truth : list of dict
        Rows of `simulation.lesions.LESION_COLUMNS`.
    """

    maps: dict
    mask: np.ndarray
    r2star: np.ndarray
    affine: np.ndarray
    truth: list


def lesion_scan(sample, seed, inversions=2, field_of_view=FIELD_OF_VIEW):
    """Make one scan with everything random.

    Parameters
    ----------
    sample : callable
        Of `simulation.anatomy.head_from_labels`, or `simulation.head.digital_head` with `fine` set.
    seed : sequence of int
    inversions : int, default 2
        How many maps.
    field_of_view : sequence of float
        mm, about `MIDDLE`.

    Returns
    -------
    LesionScan
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    voxel_size, tesla = _voxel_size(rng), float(rng.choice([1.5, 3., 7.], p=[.15, .6, .25]))
    shape, affine = grid(voxel_size, field_of_view)
    sample = partial(sample, seed=int(rng.integers(2 ** 31)), variation=rng.uniform(.5, 3.), b0_tesla=tesla)
    coarse, coarse_affine = grid((STEP,) * 3, field_of_view)
    counts = {kind: int(rng.integers(count // 2, count + 1)) for kind, count in COUNTS.items()}
    if rng.random() < EMPTY:
        counts['cmb'] = counts['haemorrhage'] = 0
    lesions = draw_lesions(sample(coarse, coarse_affine), coarse_affine, counts, int(rng.integers(2 ** 31)),
                           pattern=rng.choice(PATTERNS), view=(shape, affine))
    sequence = Sequence(shape, affine, _echo_times(tesla, rng), b0_tesla=tesla,
                        snr=float(np.exp(rng.uniform(np.log(15), np.log(80)))),
                        supersampling=2 if rng.random() < FINE else 1)
    scan = simulate(with_lesions(sample, lesions, tesla), sequence, int(rng.integers(2 ** 31)))
    return _reconstructed(scan, lesions, inversions, rng)


def grid(voxel_size, field_of_view=FIELD_OF_VIEW):
    """Return shape and affine of the grid of a scan."""
    shape = tuple(round(side / step) for side, step in zip(field_of_view, voxel_size))
    return shape, centred_affine(np.eye(3), voxel_size, shape, MIDDLE)


def _voxel_size(rng):
    if rng.random() < .65:
        return (float(rng.uniform(.9, 1.2)),) * 3
    step = float(rng.uniform(.75, 1.))
    return step, step, float(rng.uniform(1.2, 2.2))


def _echo_times(tesla, rng):
    """Return echo times in s, shorter where the field is stronger."""
    first, step = rng.uniform(3, 6), rng.uniform(4, 8)
    return tuple(float(t) for t in np.sqrt(3 / tesla) * 1e-3 * (first + step * np.arange(rng.integers(3, 6))))


def _reconstructed(scan, lesions, inversions, rng):
    sequence = scan.sequence
    first, *others = rng.choice(list(INVERSIONS), inversions, replace=False, p=list(INVERSIONS.values()))
    made = reconstruct(np.angle(scan.signal), np.abs(scan.signal), sequence.echo_times, b0_tesla=sequence.b0_tesla,
                       affine=sequence.affine, mask=scan.mask if rng.random() < GIVEN_MASK else None,
                       echo_fit='linear', erosion=bool(rng.random() < .2), inversion=first,
                       background=rng.choice(list(BACKGROUNDS), p=list(BACKGROUNDS.values())), threads=1)
    maps = {first: made.chi}
    for name in others:
        chi = solve(name, made.local_field, made.qsm_mask, sequence.voxel_size, b0_dir=sequence.b0_dir).chi
        maps[name] = (chi - chi[made.qsm_mask].mean()) * made.qsm_mask
    return LesionScan(maps, made.brain_mask, made.relaxation.r2star, sequence.affine, lesion_table(lesions))
