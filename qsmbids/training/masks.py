"""Magnitudes made up of label maps, to learn brain masks from.

A head, one of many shapes and ages that an anatomy gives, is kept as its tissues on voxels of `FINE`. Each sample of it
has a pose, a contrast, a field of view and artefacts of its own, in the manner of SynthSeg [1]_: what the network has
seen vary it does not rely on. The brain is what the simulator calls so, tissue and the fluid of sulci and ventricles,
and all that it encloses; the cord below the cerebellum is not part of it, and neither is the fluid around the brain.

References
----------
.. [1] Billot B, et al. SynthSeg: Segmentation of brain MRI scans of any contrast and resolution without retraining. Med
   Image Anal 2023;86:102789.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numba
import numpy as np
from scipy import ndimage

from qsmbids.core.dipole import forward_field
from qsmbids.core.fourier import frequencies
from qsmbids.core.grid import bounding_box
from qsmbids.core.masks import brain_mask, component, fill_holes
from qsmbids.core.metrics import dice
from qsmbids.files import write_atomically
from qsmbids.networks.segmenter import along_axes, resampling
from qsmbids.networks.unetr import STEP, WINDOW, cut_window, window_around
from qsmbids.simulation.age import tissues_at
from qsmbids.simulation.anatomy import head_from_labels, load_labels
from qsmbids.simulation.field import block_mean
from qsmbids.simulation.head import digital_head
from qsmbids.simulation.signal import rotation
from qsmbids.simulation.tissues import LABELS, TISSUES
from qsmbids.training.heads import without_holes

FINE = STEP / 2                      # voxels of the heads, mm
LOWEST, SIDES = (-113., -135., -150.), (225., 270., 260.)    # corner and extent of the heads, mm
SIZE = (80, 96, 80)                  # of a magnitude, voxels of STEP
STRICT = .5, .65                     # fractions that the first mask is found with
SHIFT = 3                            # most voxels that a window is off
LOST = .6                            # overlap of a first mask that is beyond correction
# Years; how often.
AGES = (((0, .3), .2), ((.3, 2), .15), ((2, 15), .15), ((15, 60), .3), ((60, 95), .2))
BRAIN = 128                          # added to the tissues of the brain
PLAUSIBLE = .85                      # share of contrasts that a spoiled sequence can have
SLIT = 4.                            # half the width of what lies between parts of the brain and is filled, mm
DEPHASED = 8.                        # most cycles that a slope of 1 ppm/mm makes over a voxel
SOFT = tuple(LABELS[name] for name in ('fat', 'muscle', 'bone', 'dural_sinus'))


@dataclass(frozen=True)
class MaskHead:
    """A head to make magnitudes of.

    Attributes
    ----------
    voxels : ndarray, uint8, shape (nx, ny, nz)
        Tissues, and `BRAIN` more where the brain is, on voxels of `FINE`; axes to the right, front and top.
    slope : ndarray, float32, shape (nx / 2, ny / 2, nz / 2)
        Gradient of the field, ppm/mm.
    middle, ventricles : ndarray, shape (3,)
        Middle of the brain and of its ventricles, voxels.
    age : float
        Years.
    """

    voxels: np.ndarray
    slope: np.ndarray
    middle: np.ndarray
    ventricles: np.ndarray
    age: float


@lru_cache(maxsize=None)
def mask_head(path, seed, cache=None, age=None):
    """Return a `MaskHead`, another for each seed (ints) of a label map; of the parametric head without a path.

    The age is random unless it is given (years). Where `cache` is given, a head that was made before is read from there
    and a new one kept.
    """
    name = '_'.join(map(str, (Path(path or 'parametric').name.split('.')[0], *seed)))
    kept = Path(cache, f'{name}.npz') if cache else None
    if kept and kept.exists():
        with np.load(kept) as arrays:
            return MaskHead(*(arrays[key][()] for key in ('voxels', 'slope', 'middle', 'ventricles', 'age')))
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn = rng.uniform(*AGES[rng.choice(len(AGES), p=[share for _, share in AGES])][0])
    head = head_at(path, drawn if age is None else age, rng)
    if kept:
        write_atomically(kept, lambda temporary: np.savez(temporary, **vars(head)))
    return head


def head_at(path, age, rng):
    """Return a `MaskHead` of an age in years, its shape random."""
    affine = np.diag([FINE, FINE, FINE, 1.])
    affine[:3, 3] = LOWEST
    shape = tuple(2 * int(side / FINE / 2) for side in SIDES)
    options = {'seed': int(rng.integers(2 ** 31)), 'variation': rng.uniform(.5, 3.5), 'age': age}
    head = _sampler(path)(shape, affine, **options) if path else digital_head(shape, affine, fine=True, **options)
    return whole_head(head, age)


def whole_head(head, age):
    """Return the `MaskHead` of a digital head on voxels of `FINE`."""
    head, tissue = without_holes(head)
    brain = brain_of(head.labels, tissue)
    chi = block_mean(head.chi - np.float32(head.chi_outside), 2)
    slope = np.sqrt(sum(part ** 2 for part in np.gradient(forward_field(chi, (STEP,) * 3, margin=24), STEP)))
    ventricles = head.labels == LABELS['ventricle']
    middle, inner = (np.array(ndimage.center_of_mass(part[::4, ::4, ::4])) * 4 for part in (brain, ventricles))
    return MaskHead(head.labels + np.uint8(BRAIN) * brain, slope, middle, inner, float(age))


def brain_of(labels, tissue, step=FINE):
    """Return the brain that a mask is to cover.

    Parameters
    ----------
    labels : ndarray, uint8, shape (nx, ny, nz)
        Tissues of a head; axes to the right, front and top.
    tissue : ndarray of bool, shape (nx, ny, nz)
        Which of them are brain.
    step : float
        Voxel size, mm.

    Returns
    -------
    ndarray of bool, shape (nx, ny, nz)
        With the fluid between its parts, without the cord below the cerebellum.
    """
    fluid = np.isin(labels, [LABELS[name] for name in ('csf', 'dural_sinus')])
    wide = ndimage.distance_transform_edt(~tissue[::2, ::2, ::2]) * 2 * step <= SLIT
    # Two voxels more: what is closed must not reach beyond an even surface.
    closed = ndimage.distance_transform_edt(wide) * 2 * step > SLIT + 2 * step
    closed = closed.repeat(2, 0).repeat(2, 1).repeat(2, 2)[tuple(slice(n) for n in labels.shape)]
    brain = tissue | fluid & closed
    cerebellum = np.isin(labels, [LABELS[name] for name in ('cerebellar_cortex', 'cerebellar_white_matter')])
    lowest = np.flatnonzero(cerebellum.any(axis=(0, 1)))
    brain[:, :, :lowest[0] if lowest.size else 0] = False
    return component(fill_holes(brain))


@lru_cache(maxsize=1)
def _sampler(path):
    return head_from_labels(*load_labels(path))


def mask_sample(head, rng, size=SIZE):
    """Return a magnitude of a head with everything random.

    Returns
    -------
    dict of ndarray
        Of shape `size`, voxels of `STEP`: magnitude, float16; share of brain, float16; seen, bool, the field of view.
    """
    matrix, offset, bulges = _placed(head, size, rng)
    fine = tuple(2 * n for n in size)
    tissues, brain, slope = _look_up(head.voxels, head.slope, matrix, offset, bulges, fine)
    share = along_axes(brain, [resampling(2 * n, FINE, n, STEP) for n in size])
    water, echoes = _contrast(head.age, rng)
    steps = _native_steps(rng)
    # What the gradient of the field takes away grows with the echo time and the longest side of a voxel.
    loss = np.abs(np.sinc(slope * np.float32(min(echoes * max(steps), DEPHASED))))
    ways = [_way(2 * n, step, n, rng.random() < .5) for n, step in zip(size, steps)]
    image = np.maximum(along_axes(water[tissues], ways), 0) * np.maximum(loss, np.float32(.02))
    near = tissues[::2, ::2, ::2]
    image *= 1 + _FLESH[near] * (_smooth(size, rng.uniform(2, 8), rng.uniform(0, .5), rng) - 1)
    level = np.float32(image[share > .5].mean() if (share > .5).any() else image.mean())
    level = max(level, np.float32(1e-3))
    _paint_lesions(image, share, level, rng)
    image *= 1 + np.float32(rng.uniform(0, .08)) * rng.standard_normal(size, dtype=np.float32)
    image *= _shading(size, rng)
    seen = _field_of_view(share, rng)
    image *= _slab_profile(seen, rng)
    image = _noisy(image, level, rng)
    _take_off(image, share, near > 0, rng)
    image[~seen] = 0
    return {'magnitude': (image / level).astype(np.float16), 'share': share.astype(np.float16), 'seen': seen}


def mask_window(sample, rng, size=WINDOW):
    """Return the window of a sample that the network is to see, with the first mask it is told of, or None if it is lost.

    Returns
    -------
    dict of ndarray
        Of shape `size`: what `mask_sample` returns, and surface, bool.
    """
    box = bounding_box(sample['seen'])
    surface = np.zeros(sample['seen'].shape, bool)
    try:
        surface[box] = brain_mask(sample['magnitude'][box], (STEP,) * 3, fraction=rng.uniform(*STRICT))
    except ValueError:
        return None
    if dice(surface, (sample['share'] > .5) & sample['seen']) < LOST:
        return None
    first, whole = window_around(surface, size)
    # A part of a window that would be larger.
    first = first + (whole - size) // 2 + rng.integers(-SHIFT, SHIFT + 1, 3)
    return {name: cut_window(volume, first, size) for name, volume in (sample | {'surface': surface}).items()}


_FLESH = np.array([number in SOFT for number in range(len(TISSUES))], np.float32)


def _placed(head, size, rng):
    """Return matrix and offset from fine voxels of a sample to those of its head, and what swells in it."""
    often = rng.random() < .35
    angles = rng.uniform(-40, 40, 3) if often else rng.normal(0, (10, 5, 5))
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        matrix = matrix @ rotation(np.eye(3)[axis], angle)
    matrix = matrix @ np.diag(rng.uniform(.9, 1.12) * np.clip(rng.normal(1, .04, 3), .9, 1.1))
    matrix[0] *= rng.choice([-1, 1])
    if rng.random() < .05:
        # Headers are wrong now and then.
        matrix = matrix[:, rng.permutation(3)] * rng.choice([-1, 1], 3)
    away = np.clip(rng.normal(0, 16, 3), -40, 40) / FINE
    offset = head.middle - matrix @ (np.array(size) - .5 + away)
    bulges = []
    if rng.random() < .3:
        at = head.ventricles + rng.normal(0, 5, 3)
        bulges.append((*at, rng.uniform(30, 55) / FINE, rng.uniform(.1, 1.1)))
    for _ in range(rng.integers(0, 3)):
        at = head.middle + rng.normal(0, 35, 3) / FINE
        bulges.append((*at, rng.uniform(25, 60) / FINE, rng.uniform(-.2, .3)))
    return matrix.astype(np.float32), offset.astype(np.float32), np.array(bulges, np.float32).reshape(-1, 5)


@numba.njit(cache=True)
def _look_up(voxels, slope, matrix, offset, bulges, size):
    """Return tissue and brain on a fine grid, and the slope of the field on one of half its size.

    Beyond the head there is air, but its lowest slice goes on below.
    """
    found = np.zeros(size, np.uint8)
    inside = np.zeros(size, np.float32)
    slopes = np.zeros((size[0] // 2, size[1] // 2, size[2] // 2), np.float32)
    at = np.empty(3, np.float32)
    for i in range(size[0]):
        for j in range(size[1]):
            for k in range(size[2]):
                for axis in range(3):
                    at[axis] = offset[axis] + matrix[axis, 0] * i + matrix[axis, 1] * j + matrix[axis, 2] * k
                for n in range(bulges.shape[0]):
                    x, y, z = at[0] - bulges[n, 0], at[1] - bulges[n, 1], at[2] - bulges[n, 2]
                    squared = (x * x + y * y + z * z) / (bulges[n, 3] * bulges[n, 3])
                    if squared < 1:
                        # What lies in the middle grows, nothing is torn, and the rim stays.
                        factor = 1 - bulges[n, 4] * (1 - squared) ** 2 / (1 + bulges[n, 4])
                        at[0] = bulges[n, 0] + factor * x
                        at[1] = bulges[n, 1] + factor * y
                        at[2] = bulges[n, 2] + factor * z
                a, b, c = int(np.rint(at[0])), int(np.rint(at[1])), int(np.rint(at[2]))
                if 0 <= a < voxels.shape[0] and 0 <= b < voxels.shape[1] and c < voxels.shape[2]:
                    c = max(c, 0)
                    voxel = voxels[a, b, c]
                    found[i, j, k] = voxel & (BRAIN - 1)
                    inside[i, j, k] = voxel >= BRAIN
                    if i % 2 == 0 and j % 2 == 0 and k % 2 == 0:
                        slopes[i // 2, j // 2, k // 2] = slope[a // 2, b // 2, c // 2]
    return found, inside, slopes


def _contrast(age, rng):
    """Return what each tissue sends, float32, and the cycles that a slope of 1 ppm/mm makes over 1 mm."""
    table = tissues_at(age).values()
    tesla = rng.choice([1.5, 3, 7])
    first, spacing = rng.uniform(.002, .015), rng.uniform(.003, .008)
    times = first + spacing * np.arange(rng.integers(1, 9))
    if rng.random() < PLAUSIBLE:
        repetition, flip = rng.uniform(.02, .06), np.deg2rad(rng.uniform(5, 35))
        values = []
        for tissue in table:
            recovery = np.exp(-repetition / tissue.t1)
            decay = np.sqrt(np.mean(np.exp(-2 * times * tissue.r2star * tesla / 3)))
            values.append(tissue.m0 * (1 - recovery) / (1 - np.cos(flip) * recovery) * np.sin(flip) * decay)
        values = np.array(values) * np.exp(rng.uniform(0, .25) * rng.standard_normal(len(values)))
        values /= values[LABELS['white_matter']]
    else:
        values = rng.uniform(.1, 1.2, len(TISSUES))
        if rng.random() < .6:
            solid = [n for n, tissue in enumerate(TISSUES.values()) if tissue.brain and tissue.t1 < 4]
            values[solid] = .8 + rng.uniform(0, .3) * (values[solid] - .6)
    # Opposed or not to water, marrow or not, flowing in or not.
    values[LABELS['fat']] *= rng.uniform(.1, 1.6)
    values[LABELS['bone']] = rng.uniform(0, .5) if rng.random() < .4 else rng.uniform(0, .08)
    values[LABELS['air']] = 0
    for name in ('dural_sinus', 'vein'):
        values[LABELS[name]] *= rng.uniform(.2, 2)
    if rng.random() < .5:
        values[LABELS['csf']] = values[LABELS['sulcus']]
    cycles = 42.577 * tesla * times[-1 if rng.random() < .3 else 0] if rng.random() < .85 else 0
    return values.astype(np.float32), cycles


def _native_steps(rng):
    """Return the voxel size of the scan, mm."""
    steps = np.full(3, rng.uniform(.5, 2.) if rng.random() < .75 else rng.uniform(2, 4))
    if rng.random() < .4:
        steps[rng.choice(3, p=(.15, .15, .7))] = rng.uniform(1.5, 4)
    return steps


@lru_cache(maxsize=256)
def _lines(fine, native):
    """Return the matrix from fine voxels to fewer over the same length that share their lowest frequencies."""
    index = 2 * np.pi * np.rint(native * frequencies((native, 1, 1), (1., 1., 1.))[0].ravel())
    here, there = (np.outer((np.arange(n) + .5) / n, index) for n in (fine, native))
    return ((np.cos(there) @ np.cos(here).T + np.sin(there) @ np.sin(here).T) / fine).astype(np.float32)


def _way(fine, step, size, rings):
    """Return the matrix from fine voxels through those of a scan to a sample's along an axis."""
    if step <= FINE:
        return resampling(fine, FINE, size, STEP)
    native = int(round(fine * FINE / step))
    step = fine * FINE / native
    return resampling(native, step, size, STEP) @ (_lines(fine, native) if rings
                                                   else resampling(fine, FINE, native, step))


def _smooth(size, nodes, strength, rng):
    """Return a random positive field around 1 with about so many nodes along each axis, of an SD of its logarithm."""
    lattice = rng.standard_normal([max(int(round(nodes * n / 96)), 2) for n in size]).astype(np.float32)
    ways = [ndimage.zoom(np.eye(m, dtype=np.float32), (n / m, 1), order=1, grid_mode=True, mode='nearest')
            for n, m in zip(size, lattice.shape)]
    return np.exp(np.float32(strength) * along_axes(lattice, ways))


def _shading(size, rng):
    """Return what coils and transmission make of the brightness."""
    shading = _smooth(size, rng.uniform(2, 5), abs(rng.normal(0, .3)), rng)
    if rng.random() < .35:
        slope = rng.standard_normal(3)
        slope *= rng.uniform(0, 1.4) / np.linalg.norm(slope)
        for axis, part in enumerate(slope):
            along = np.exp(np.linspace(-part, part, size[axis], dtype=np.float32))
            shading *= along.reshape([-1 if axis == other else 1 for other in range(3)])
    return shading


def _paint_lesions(image, share, level, rng):
    """Put bright and dark blobs into the brain, in place: from bleeds to tumours and cavities."""
    at = np.argwhere(share > .5)
    if not len(at) or rng.random() < .5:
        return
    for _ in range(rng.integers(1, 6)):
        middle, radius = at[rng.integers(len(at))], rng.uniform(1, 3.2) ** 2.6 / STEP
        axes = radius * rng.uniform(.6, 1.4, 3)
        box = tuple(slice(max(int(m - 2 * a), 0), int(m + 2 * a) + 2) for m, a in zip(middle, axes))
        grid = np.ogrid[box]
        depth = 1 - np.sqrt(sum(((g - m) / a) ** 2 for g, m, a in zip(grid, middle, axes)))
        part = image[box]
        depth = depth[tuple(slice(n) for n in part.shape)]
        blend = np.clip(.5 + depth * radius, 0, 1) * np.clip(2 * share[box], 0, 1) * rng.uniform(.5, 1)
        part += (blend * (level * rng.uniform(0, 1.8) - part)).astype(np.float32)


def _field_of_view(share, rng):
    """Return which voxels the scan covers: a box, often a slab, sometimes one that cuts into the brain."""
    seen = np.zeros(share.shape, bool)
    brain = np.argwhere(share[::2, ::2, ::2] > .5) * 2
    first, last = (brain.min(axis=0), brain.max(axis=0)) if len(brain) else (np.zeros(3), np.array(share.shape))
    box = []
    for axis, cut in enumerate((.12, .12, .4)):
        if rng.random() < cut:
            length = rng.uniform(.5 if axis < 2 else .2, 1.) * (last[axis] - first[axis])
            begin = rng.uniform(first[axis] - .1 * length, last[axis] - .9 * length)
            box.append(slice(max(int(begin), 0), max(int(begin + length), 8)))
        else:
            beyond = rng.uniform(1, 30, 2)
            box.append(slice(max(int(first[axis] - beyond[0]), 0), int(last[axis] + beyond[1]) + 1))
    seen[tuple(box)] = True
    return seen


def _slab_profile(seen, rng):
    """Return the brightness along the slices of a slab, which may fall towards its ends."""
    profile = np.ones((1, 1, seen.shape[2]), np.float32)
    there = np.flatnonzero(seen.any(axis=(0, 1)))
    if rng.random() < .3 and len(there) > 8:
        width = rng.uniform(1, 6)
        ends = np.minimum(there - there[0], there[-1] - there) + rng.uniform(.3, 1)
        profile[0, 0, there] = np.minimum(ends / width, 1)
    return profile


def _noisy(image, level, rng):
    """Return a magnitude with noise, its floor, and sometimes a ghost."""
    if rng.random() < .1:
        image = image + np.float32(rng.uniform(.02, .12)) * np.roll(image, rng.integers(15, 60), rng.integers(0, 3))
    noise = level * np.float32(rng.uniform(0, .25) ** 1.5)
    real = image + noise * rng.standard_normal(image.shape, dtype=np.float32)
    # Finer voxels than those of a sample have the floor without the fluctuation.
    floor = noise * np.float32(rng.uniform(.7, 2))
    return np.sqrt(real ** 2 + floor ** 2 * (1 + np.float32(.3) * rng.standard_normal(image.shape, dtype=np.float32))
                   .clip(0))


def _take_off(image, share, head, rng):
    """Zero what lies outside of the head or of the brain, as scanners and other tools do, in place."""
    kind = rng.random()
    if kind < .2:
        image[ndimage.gaussian_filter(head.astype(np.float32), rng.uniform(.3, 1)) < rng.uniform(.1, .6)] = 0
    elif kind < .32:
        image[ndimage.gaussian_filter(share, rng.uniform(.3, 2)) < rng.uniform(.1, .6)] = 0
