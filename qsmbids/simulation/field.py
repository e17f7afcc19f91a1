"""The field that an object makes on a fine grid, without a fine grid of everything around it.

A Gaussian splits the dipole kernel in two. What it leaves of the kernel is smooth: a coarse grid holds it, over the
object and the padding. The rest ends after a few SD, because a dipole's field is harmonic outside its source and so
equal to its mean over any sphere: the fine grid needs no more than that around the field of view, and no padding. The
idea is Ewald's [1]_. On the coarse grid the kernel can be cut off where no source acts any more, so that the field is
that of one object in an endless surround: a transform of twice the size leaves 1 to 2 % of its periodic images.

References
----------
.. [1] Ewald PP. Die Berechnung optischer und elektrostatischer Gitterpotentiale. Ann Phys 1921;369:253-287.
"""

import numba
import numpy as np
from scipy.ndimage import spline_filter1d

from qsmbids.core.dipole import dipole_kernel, voxel_size_of
from qsmbids.core.fourier import fast_size, frequencies, irfftn, rfftn
from qsmbids.core.threads import over_slabs

COARSENING = 4              # coarse voxel over the shortest side of the fine one
SMOOTHING = 2.0             # SD of the Gaussian over the longest side of the coarse voxel
REACH = 3.5                 # SD after which the near part of the kernel is nothing


def object_field(sample, affine, shape, b0_dir, surround_mm):
    """Return an object on a grid and the field that it makes there, with what lies around the grid.

    Parameters
    ----------
    sample : callable
        ``sample(shape, affine) -> Head``.
    affine : ndarray, shape (4, 4)
        Voxel to scanner, mm.
    shape : tuple of int
    b0_dir : sequence of float
        Unit vector of the main field in voxel axes.
    surround_mm : float
        The object is cut off so far beyond the grid.

    Returns
    -------
    head : Head
    field : ndarray, float32
        ppm. The susceptibility ``head.chi_outside`` goes on for ever: only the difference to it makes field.

    Notes
    -----
    Beyond the reach of the near field, 7 coarse voxels, the object is looked at on the coarse grid only. Where the
    main field is tilted no grid tells the field of a dipole at its Nyquist frequencies: single fine voxels ring at
    sharp edges, means over two of them along each axis do not.
    """
    shape = np.array(shape)
    voxel_size = np.array(voxel_size_of(affine))
    ratio, _, reach = _scales(voxel_size)
    cells = -(-shape // ratio)
    below, above = (-(-side // ratio) for side in _surround(sample, affine, shape, surround_mm))
    # Only as far as there is something.
    before, behind = np.minimum(reach, below), np.minimum(reach, above)
    head = _sample(sample, affine, -before * ratio, (before + cells + behind) * ratio)
    chi = head.chi - np.float32(head.chi_outside)
    wide_before, wide_behind = np.maximum(reach, below), np.maximum(reach, above)
    coarse = np.zeros(wide_before + cells + wide_behind, np.float32)
    near, all_of_it = ([slice(int(w - a), int(w + n + b)) for w, a, n, b in zip(wide_before, first, cells, last)]
                       for first, last in ((before, behind), (below, above)))
    coarse[tuple(near)] = block_mean(chi, ratio)
    _add_surround(coarse, sample, affine, wide_before, near, all_of_it)
    field = _near_field(chi, before * ratio, shape, voxel_size, b0_dir)
    field += _far_field(coarse, wide_before, shape, voxel_size, b0_dir)
    view = tuple(slice(int(b), int(b + n)) for b, n in zip(before * ratio, shape))
    return head[view], field


def enclosed_field(chi, voxel_size, b0_dir):
    """Return the field of a susceptibility map that is zero beyond its array, ppm."""
    shape = np.array(chi.shape)
    ratio, _, reach = _scales(voxel_size)
    cells = -(-shape // ratio)
    whole = np.pad(chi, [(0, int(n)) for n in cells * ratio - shape])
    coarse = np.pad(block_mean(whole, ratio), [(int(n), int(n)) for n in reach])
    field = _near_field(whole, np.zeros(3, int), shape, voxel_size, b0_dir)
    field += _far_field(coarse, reach, shape, voxel_size, b0_dir)
    return field


def coarse_affine(affine, ratio):
    """Return the affine of the grid whose voxels hold `ratio` voxels of another one along each axis."""
    ratio = np.broadcast_to(ratio, 3)
    coarse = np.array(affine, float)
    coarse[:3, 3] += coarse[:3, :3] @ ((ratio - 1) / 2)
    coarse[:3, :3] *= ratio
    return coarse


def block_mean(volume, ratio):
    """Return the float32 means of whole blocks of `ratio` voxels (one number, or one per axis)."""
    ratio = tuple(int(r) for r in np.broadcast_to(ratio, 3))
    means = np.empty([size // r for size, r in zip(volume.shape, ratio)], np.float32)
    _block_mean(volume, ratio, means)
    return means


@numba.njit(cache=True, nogil=True)
def _block_mean(volume, ratio, means):
    """Sum in double precision, line by line."""
    line = np.empty(means.shape[2])
    for i in range(means.shape[0]):
        for j in range(means.shape[1]):
            line[:] = 0
            for a in range(i * ratio[0], (i + 1) * ratio[0]):
                for b in range(j * ratio[1], (j + 1) * ratio[1]):
                    for k in range(line.size):
                        for c in range(k * ratio[2], (k + 1) * ratio[2]):
                            line[k] += volume[a, b, c]
            for k in range(line.size):
                means[i, j, k] = line[k] / (ratio[0] * ratio[1] * ratio[2])


def _scales(voxel_size):
    """Return fine voxels per coarse voxel, the SD of the Gaussian in mm and its reach in coarse voxels."""
    voxel_size = np.asarray(voxel_size)
    ratio = np.maximum(np.rint(COARSENING * voxel_size.min() / voxel_size), 1).astype(int)
    coarse = ratio * voxel_size
    sd = SMOOTHING * coarse.max()
    return ratio, sd, np.ceil(REACH * sd / coarse).astype(int)


def _sample(sample, affine, first, shape):
    """Look at the object on `shape` voxels of a grid from index `first` on."""
    moved = np.array(affine, float)
    moved[:3, 3] += moved[:3, :3] @ first
    return sample(tuple(int(n) for n in shape), moved)


def _add_surround(coarse, sample, affine, origin, near, all_of_it):
    """Fill in the means over coarse voxels within `all_of_it` but not `near`, three slices each, as seen at half steps.

    Fine voxel 0 is the first of coarse voxel `origin`.
    """
    ratio = _scales(voxel_size_of(affine))[0]
    half = np.maximum(ratio // 2, 1)
    parts = ratio // half
    box = list(all_of_it)
    for axis in range(3):
        for side in (slice(all_of_it[axis].start, near[axis].start), slice(near[axis].stop, all_of_it[axis].stop)):
            box[axis] = side
            first, size = (np.array(n) for n in zip(*((s.start, s.stop - s.start) for s in box)))
            if size.min() > 0:
                head = _sample(sample, coarse_affine(affine, half), (first - origin) * parts, size * parts)
                coarse[tuple(box)] = block_mean(head.chi - np.float32(head.chi_outside), parts)
        box[axis] = near[axis]


def _near_field(chi, before, shape, voxel_size, b0_dir):
    """Return the field of the kernel without its smooth part, on `shape` voxels from index `before` on."""
    ratio, sd, reach = _scales(voxel_size)
    behind = chi.shape - before - shape
    size = fast_size(chi.shape, np.maximum(reach * ratio - np.minimum(before, behind), 0))
    spectrum = rfftn(chi, size)
    kernel = dipole_kernel(size, voxel_size, b0_dir)
    smooth = _gaussian(size, voxel_size, sd)
    smooth_plane = smooth[1][0] * smooth[2][0]

    def weight(planes):
        for plane in range(planes.start, planes.stop):
            _scale(spectrum[plane], kernel[plane] * (1 - smooth[0][plane] * smooth_plane))

    over_slabs(weight, size[0], 16)
    return irfftn(spectrum, size)[tuple(slice(int(b), int(b + n)) for b, n in zip(before, shape))].copy()


def _scale(spectrum, factor):
    """Multiply a spectrum by real numbers, in place; unlike complex products these round alike on every processor."""
    spectrum.real *= factor
    spectrum.imag *= factor


def _far_field(coarse, before, shape, voxel_size, b0_dir):
    """Return the field of the smooth part of the kernel on `shape` fine voxels, from coarse voxel `before` on."""
    ratio, sd, _ = _scales(voxel_size)
    # Cut where no source has a voxel to act on any more, the kernel does not see the periodic images of the object.
    radius = np.sqrt(((coarse.shape * ratio * voxel_size) ** 2).sum()) + REACH * sd
    size = fast_size(coarse.shape, np.ceil((radius + REACH * sd) / (ratio * voxel_size)))
    spectrum = rfftn(coarse, size)
    _scale(spectrum, _cut_kernel(size, ratio * voxel_size, b0_dir, radius))
    for k, smooth, r, fine in zip(frequencies(size, ratio * voxel_size), _gaussian(size, ratio * voxel_size, sd),
                                  ratio, voxel_size):
        # The means over coarse voxels have lost this share already.
        _scale(spectrum, smooth * (np.sinc(k * fine) / np.sinc(k * fine * r)).astype(np.float32))
    field = irfftn(spectrum, size, coarse.shape)
    for axis in range(3):
        field = _refine(field, axis, ratio[axis], before[axis], shape[axis])
    return np.ascontiguousarray(field)


def _cut_kernel(size, voxel_size, b0_dir, radius):
    """Return the dipole kernel without what lies beyond a radius in mm.

    That is the kernel less its mean over a ball: outside of the ball both are equal, inside it the mean is zero.
    """
    kernel = dipole_kernel(size, voxel_size, b0_dir)
    grids = frequencies(size, voxel_size)
    for plane, values in enumerate(kernel):
        squared = grids[0][plane].astype(float) ** 2 + (grids[1] ** 2 + grids[2] ** 2)[0]
        q = np.maximum(2 * np.pi * radius * np.sqrt(squared), 1e-2)  # below it the mean is one to within rounding
        values *= (1 - 3 * (np.sin(q) - q * np.cos(q)) / q ** 3).astype(np.float32)
    return kernel


def _gaussian(size, voxel_size, sd):
    """Return the transform of a Gaussian as one factor per axis, float32 rounded from double precision."""
    return [np.exp(-2 * (np.pi * sd * k.astype(float)) ** 2).astype(np.float32) for k in frequencies(size, voxel_size)]


def _refine(volume, axis, ratio, first, count):
    """Interpolate along an axis with cubic B-splines: `count` fine voxels from the coarse voxel `first` on."""
    volume = np.moveaxis(volume, axis, 0)
    if ratio == 1:
        return np.moveaxis(volume[first:first + count], 0, axis)
    weights = spline_filter1d(volume, 3, axis=0, output=np.float32, mode='mirror')
    cells = -(-int(count) // int(ratio))
    fine = np.empty((cells * ratio, *volume.shape[1:]), np.float32)
    for phase in range(ratio):
        position = (phase - (ratio - 1) / 2) / ratio
        start = int(np.floor(position))
        t = position - start
        basis = ((1 - t) ** 3 / 6, (4 - 6 * t * t + 3 * t ** 3) / 6, (1 + 3 * t + 3 * t * t - 3 * t ** 3) / 6,
                 t ** 3 / 6)
        fine[phase::ratio] = sum(np.float32(b) * weights[first + start + i - 1:first + start + i - 1 + cells]
                                 for i, b in enumerate(basis))
    return np.moveaxis(fine[:count], 0, axis)


def _surround(sample, affine, shape, reach):
    """Return how many voxels the object goes beyond a grid before and behind each axis, `reach` mm at most.

    A coarse look at the object finds where nothing but the surrounding air is left.
    """
    stride = np.maximum(np.rint(8 / np.array(voxel_size_of(affine))), 1).astype(int)
    coarse = affine.copy()
    coarse[:3, :3] *= stride
    # Rounding errors of the affine are no reason to look further.
    margin = np.ceil(reach / np.array(voxel_size_of(coarse)) - 1e-6).astype(int)
    coarse[:3, 3] -= coarse[:3, :3] @ margin
    look = sample(tuple(int(n) for n in 2 * margin + -(-shape // stride)), coarse)
    occupied = np.argwhere(look.chi != np.float32(look.chi_outside))
    if not occupied.size:
        return np.zeros(3, int), np.zeros(3, int)
    # One coarse voxel more: the edge lies between two of them.
    first, last = occupied.min(axis=0) - 1 - margin, occupied.max(axis=0) + 1 - margin
    return (np.clip(-first, 0, margin) * stride,
            np.clip(last * stride - shape + 1, 0, margin * stride))
