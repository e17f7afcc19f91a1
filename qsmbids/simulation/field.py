"""The field that an object makes on a fine grid, without a fine grid of everything around it.

A Gaussian splits the dipole kernel in two. What it leaves of the kernel is smooth: a coarse grid holds it, over the
object and the padding. The rest ends after a few SD, because a dipole's field is harmonic outside its source and so
equal to its mean over any sphere: the fine grid needs no more than that around the field of view, and no padding. The
idea is Ewald's [1]_.

References
----------
.. [1] Ewald PP. Die Berechnung optischer und elektrostatischer Gitterpotentiale. Ann Phys 1921;369:253-287.
"""

import numpy as np
from scipy.ndimage import spline_filter1d

from qsmbids.core.dipole import dipole_kernel, forward_field, voxel_size_of
from qsmbids.core.fourier import fast_size, frequencies, irfftn, rfftn

DIRECT_VOXELS = 50_000_000  # of the padded grid: a smaller one is computed as a whole
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
    A padded grid of more than `DIRECT_VOXELS` is split in near and far field: then the object beyond the reach of the
    near field is looked at on the coarse grid only.
    """
    shape = np.array(shape)
    voxel_size = np.array(voxel_size_of(affine))
    below, above = _surround(sample, affine, shape, surround_mm)
    if _padded(below + shape + above) <= DIRECT_VOXELS:
        head = _sample(sample, affine, -below, below + shape + above)
        view = tuple(slice(int(m), int(m + n)) for m, n in zip(below, shape))
        field = forward_field(head.chi - np.float32(head.chi_outside), voxel_size, b0_dir)[view].copy()
        return head[view], field
    ratio, _, reach = _scales(voxel_size)
    cells = -(-shape // ratio)
    # Only as far as there is something.
    before, behind = (np.minimum(reach, -(-side // ratio)) for side in (below, above))
    head = _sample(sample, affine, -before * ratio, (before + cells + behind) * ratio)
    wide_before, wide_behind = (np.maximum(reach, -(-side // ratio)) for side in (below, above))
    # Half the coarse steps, so that a coarse voxel knows of the tissues that share it.
    half = np.maximum(ratio // 2, 1)
    parts = ratio // half
    wide = _sample(sample, coarse_affine(affine, half), -wide_before * parts,
                   (wide_before + cells + wide_behind) * parts)
    coarse = block_mean(wide.chi - np.float32(wide.chi_outside), parts)
    chi = head.chi - np.float32(head.chi_outside)
    inner = tuple(slice(int(a - b), int(a + n + c)) for a, b, n, c in zip(wide_before, before, cells, behind))
    coarse[inner] = block_mean(chi, ratio)
    field = _near_field(chi, before * ratio, shape, voxel_size, b0_dir)
    field += _far_field(coarse, wide_before, shape, voxel_size, b0_dir)
    view = tuple(slice(int(b), int(b + n)) for b, n in zip(before * ratio, shape))
    return head[view], field


def enclosed_field(chi, voxel_size, b0_dir):
    """Return the field of a susceptibility map that is zero beyond its array, ppm."""
    shape = np.array(chi.shape)
    if _padded(shape) <= DIRECT_VOXELS:
        return forward_field(chi, voxel_size, b0_dir)
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
    """Return the float32 means of blocks of `ratio` voxels (one number, or one per axis)."""
    shape = [n for size, r in zip(volume.shape, np.broadcast_to(ratio, 3)) for n in (size // r, int(r))]
    return volume.reshape(shape).mean(axis=(1, 3, 5), dtype=np.float64).astype(np.float32)


def _scales(voxel_size):
    """Return fine voxels per coarse voxel, the SD of the Gaussian in mm and its reach in coarse voxels."""
    voxel_size = np.asarray(voxel_size)
    ratio = np.maximum(np.rint(COARSENING * voxel_size.min() / voxel_size), 1).astype(int)
    coarse = ratio * voxel_size
    sd = SMOOTHING * coarse.max()
    return ratio, sd, np.ceil(REACH * sd / coarse).astype(int)


def _padded(shape):
    shape = tuple(int(n) for n in shape)
    return np.prod(fast_size(shape, shape), dtype=float)


def _sample(sample, affine, first, shape):
    """Look at the object on `shape` voxels of a grid from index `first` on."""
    moved = np.array(affine, float)
    moved[:3, 3] += moved[:3, :3] @ first
    return sample(tuple(int(n) for n in shape), moved)


def _near_field(chi, before, shape, voxel_size, b0_dir):
    """Return the field of the kernel without its smooth part, on `shape` voxels from index `before` on."""
    ratio, sd, reach = _scales(voxel_size)
    behind = chi.shape - before - shape
    size = fast_size(chi.shape, np.maximum(reach * ratio - np.minimum(before, behind), 0))
    spectrum = rfftn(chi, size)
    kernel = dipole_kernel(size, voxel_size, b0_dir)
    smooth = _gaussian(size, voxel_size, sd)
    for plane, values in enumerate(kernel):
        values *= 1 - smooth[0][plane] * (smooth[1][0] * smooth[2][0])
    spectrum *= kernel
    del kernel
    return irfftn(spectrum, size)[tuple(slice(int(b), int(b + n)) for b, n in zip(before, shape))].copy()


def _far_field(coarse, before, shape, voxel_size, b0_dir):
    """Return the field of the smooth part of the kernel on `shape` fine voxels, from coarse voxel `before` on."""
    ratio, sd, _ = _scales(voxel_size)
    # Cut where no source has a voxel to act on any more, the kernel does not see the periodic images of the object.
    radius = np.sqrt(((coarse.shape * ratio * voxel_size) ** 2).sum()) + REACH * sd
    size = fast_size(coarse.shape, np.ceil((radius + REACH * sd) / (ratio * voxel_size)))
    spectrum = rfftn(coarse, size)
    spectrum *= _cut_kernel(size, ratio * voxel_size, b0_dir, radius)
    for k, smooth, r, fine in zip(frequencies(size, ratio * voxel_size), _gaussian(size, ratio * voxel_size, sd),
                                  ratio, voxel_size):
        # The means over coarse voxels have lost this share already.
        spectrum *= smooth * np.sinc(k * fine) / np.sinc(k * fine * r)
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
        q = 2 * np.pi * radius * np.sqrt(grids[0][plane] ** 2 + (grids[1] ** 2 + grids[2] ** 2)[0])
        q = np.maximum(q, np.float32(1e-2))  # where the mean is one to within rounding
        values *= 1 - 3 * (np.sin(q) - q * np.cos(q)) / q ** 3
    return kernel


def _gaussian(size, voxel_size, sd):
    """Return the transform of a Gaussian as one factor per axis."""
    return [np.exp(-2 * (np.pi * sd * k) ** 2) for k in frequencies(size, voxel_size)]


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
    margin = np.ceil(reach / np.array(voxel_size_of(coarse))).astype(int)
    coarse[:3, 3] -= coarse[:3, :3] @ margin
    look = sample(tuple(int(n) for n in 2 * margin + -(-shape // stride)), coarse)
    occupied = np.argwhere(look.chi != np.float32(look.chi_outside))
    if not occupied.size:
        return np.zeros(3, int), np.zeros(3, int)
    # One coarse voxel more: the edge lies between two of them.
    first, last = occupied.min(axis=0) - 1 - margin, occupied.max(axis=0) + 1 - margin
    return (np.clip(-first, 0, margin) * stride,
            np.clip(last * stride - shape + 1, 0, margin * stride))
