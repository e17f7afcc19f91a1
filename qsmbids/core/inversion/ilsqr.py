"""Inversion by weighted least squares whose streaks are estimated and taken away."""

import numpy as np
from scipy import ndimage

from qsmbids.core.checks import check_mask, check_positive, check_volume, check_voxel_size, check_weight
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import convolve, frequencies, irfftn, rfftn
from qsmbids.core.grid import add_weighted_laplacian, bounding_box, embed, padded_size, place, squared_gradient
from qsmbids.core.inversion.direct import sign
from qsmbids.core.inversion.lsqr import least_squares
from qsmbids.core.krylov import conjugate_gradients

# Between these percentiles of the field's Laplacian, the data weight falls from one to zero.
_LAPLACIAN_PERCENTILES = 60, 99.9
# Between these of the gradient of a first map, it turns from what streaks make to what edges make.
_GRADIENT_PERCENTILES = 50, 70
# Of the quick map: between these magnitudes of D, about their 1st and 30th percentile, the smoothing fades.
_FAST_KERNEL, _FAST_RADIUS_MM = (0.006, 0.17), 3.


def invert_ilsqr(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, cone=0.1, tol=0.01, max_iterations=50,
                 streak_iterations=20):
    """Invert a local field by least squares, and remove the streaks (iLSQR).

    Weighted least squares gives a map with streaks. These are what, within the part of k-space where ``|D| < cone``,
    explains best the gradients of that map wherever a quick and streak-free estimate has no edges.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
        Local field in ppm. Values outside the mask are not used.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the field is known.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float, default (0, 0, 1)
        Unit vector of the main field in voxel axes.
    weight : ndarray, shape (nx, ny, nz), optional
        W inside the mask, 0 to 1: the field's reliability. By default it falls from 1 to 0 between the 60th and the
        99.9th percentile of the magnitude of the field's Laplacian.
    cone : float, default 0.1
        Below it, D is too small to tell the map from streaks.
    tol : float, default 0.01
        Stop either step when its gradient is below this part of the first.
    max_iterations, streak_iterations : int, default 50 and 20
        Of the first step and of the second, most.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Susceptibility in ppm; zero outside the mask.

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, the field is not finite inside the mask, the weight is not within 0 to 1
        there, or a parameter is not positive.

    Notes
    -----
    One pair of Fourier transforms per iteration of either step.

    References
    ----------
    Li W, Wang N, Yu F, et al. NeuroImage 2015;108:111-122.
    """
    mask = check_mask(mask)
    field = check_volume('field', field, mask)
    voxel_size = check_voxel_size(voxel_size)
    check_positive(cone=cone, tol=tol, max_iterations=max_iterations, streak_iterations=streak_iterations)
    if weight is not None:
        weight = check_weight(weight, mask)
    if not field[mask].any():
        return np.zeros_like(field)

    box = bounding_box(mask)
    size = padded_size(mask[box].shape)
    data, inside = embed(field, mask, box, size), embed(mask, mask, box, size)
    kernel = dipole_kernel(size, voxel_size, b0_dir)
    weight = (_smoothness_weight(data, inside, voxel_size) if weight is None else embed(weight, mask, box, size))
    first = least_squares(data, weight, kernel, max_iterations, tol)
    first *= inside
    flat = _flatness(_fast_map(data, inside, kernel, voxel_size), inside, voxel_size)
    del data, weight
    first -= _streaks(first, flat, np.abs(kernel) < cone, voxel_size, tol, streak_iterations)
    return place(first, mask, box)


def _smoothness_weight(data, inside, voxel_size):
    """Return the data weight: small where the field bends much, and 1 at the edge, where that is not known."""
    inner = ndimage.binary_erosion(inside)
    bend = np.abs(convolve(data, squared_gradient(data.shape, voxel_size)))
    return inside * np.where(inner, _falling(bend, _LAPLACIAN_PERCENTILES, inner), np.float32(1))


def _falling(values, percentiles, where):
    """Return what falls from 1 to 0 between two percentiles of `values`, taken over some voxels."""
    low, high = np.percentile(values[where], percentiles) if where.any() else (0, 0)
    return np.clip((high - values) / max(high - low, np.finfo(np.float32).tiny), 0, 1, dtype=np.float32)


def _fast_map(data, inside, kernel, voxel_size):
    """Return a quick estimate without streaks: k-space over the sign of D, smoothed the more the smaller D is."""
    size = data.shape
    magnitude = np.abs(kernel)
    magnitude[0, 0, 0] = _FAST_KERNEL[0]
    low, high = np.log(_FAST_KERNEL)
    spectrum = rfftn(data, size)
    spectrum *= sign(kernel)
    share = np.clip((np.log(np.maximum(magnitude, _FAST_KERNEL[0])) - low) / (high - low), 0, 1)
    # What a mean over a ball leaves of each frequency.
    phase = 2 * np.pi * _FAST_RADIUS_MM * np.sqrt(sum(np.square(k) for k in frequencies(size, voxel_size)))
    phase[0, 0, 0] = 1
    ball = 3 * (np.sin(phase) - phase * np.cos(phase)) / phase ** 3
    ball[0, 0, 0] = 1
    spectrum *= share + (1 - share) * ball
    return irfftn(spectrum, size) * inside


def _flatness(volume, inside, voxel_size):
    """Return the weight of each component of the gradient, shape (3, nx, ny, nz): 0 at edges and outside the mask."""
    weights = np.empty((3, *volume.shape), np.float32)
    within = inside > 0
    for axis, step in enumerate(voxel_size):
        both = within & np.roll(within, -1, axis)
        change = np.abs(np.roll(volume, -1, axis) - volume) / np.float32(step)
        weights[axis] = both * _falling(change, _GRADIENT_PERCENTILES, both)
    return weights


def _streaks(volume, flat, cone, voxel_size, tol, max_iterations):
    """Return what has the weighted gradients of `volume` and lies in the cone."""
    weight = np.square(flat)
    weight *= np.divide(1, np.square(voxel_size)).astype(np.float32)[:, None, None, None]

    def bend(x):
        curvature = np.zeros_like(x)
        add_weighted_laplacian(x, weight, curvature)
        return convolve(curvature, cone)
    return conjugate_gradients(bend, bend(volume), tol, max_iterations)
