"""Inversion with total variation of data that are compared by their absolute errors first, then by their squares."""

import numpy as np
from numba import njit, prange

from qsmbids.core.checks import check_positive, check_weighted_field
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import convolve
from qsmbids.core.grid import bounding_box, embed, embed_mask, padded_size, place, squared_gradient
from qsmbids.core.inversion.strength import automatic_strength
from qsmbids.core.inversion.variational import (RELAXATION, field_split_update, gradient_scale,
                                                least_squares_update, minimize_tv)

# Largest multiplier of the first stage over the field's median magnitude. A good voxel needs less than that, a bad one
# gets no more.
_BOUND = 3.


def invert_hdqsm(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, lambda_=None, l1_iterations=20, tol=2e-3,
                 max_iterations=80):
    """Invert a local field with total variation and hybrid data fidelity (HD-QSM).

    A few iterations on ``sum W |d * chi - field|``, which single bad voxels do not lead astray, find the map that the
    minimisation of ``1/2 |W (d * chi - field)|^2 + lambda_ sum |grad chi|`` starts from.

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
    weight, lambda_, tol
        As for :func:`~qsmbids.core.inversion.variational.invert_tv`. The first stage takes the total variation by
        `lambda_` over three times the median magnitude of the field.
    l1_iterations : int, default 20
        Of the first stage.
    max_iterations : int, default 80
        Of the second stage.

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
    Two pairs of Fourier transforms per iteration.

    References
    ----------
    Lambert M, Tejos C, Langkammer C, Milovic C. Magn Reson Med 2022;88:962-972.
    """
    field, mask, voxel_size, weight = check_weighted_field(field, mask, voxel_size, weight)
    check_positive(l1_iterations=l1_iterations, tol=tol, max_iterations=max_iterations)
    if not field[mask].any():
        return np.zeros_like(field)
    if lambda_ is None:
        lambda_ = automatic_strength(field, mask, voxel_size, b0_dir=b0_dir, weight=weight)
    check_positive(lambda_=lambda_)

    box = bounding_box(mask)
    size = padded_size(mask[box].shape)
    shape = mask[box].shape
    threshold = gradient_scale(field, mask)
    kernel = dipole_kernel(size, voxel_size, b0_dir)
    region = embed_mask(mask, box, size)
    data = embed(field, mask, box, size)
    bound = embed(weight, mask, box, size)
    bound *= np.float32(_BOUND * np.median(np.abs(field[mask])))
    update = _absolute_update(data, bound, kernel, squared_gradient(size, voxel_size), lambda_ / threshold)
    first = minimize_tv(update, size, voxel_size, threshold, shape, 0., l1_iterations, region=region)
    del update, bound
    update = least_squares_update(data, embed(np.square(weight), mask, box, size), kernel,
                                  squared_gradient(size, voxel_size), lambda_ / threshold, convolve(first, kernel))
    chi = minimize_tv(update, size, voxel_size, threshold, shape, tol, max_iterations, start=first,
                      region=region)
    return place(chi, mask, box)


def _absolute_update(data, bound, kernel, squared_gradient, penalty):
    """Return the step of `minimize_tv` for absolute errors, whose multiplier never exceeds `bound`."""
    def relax(induced, state, target):
        _relax_absolute(induced, data, bound, state, target, np.float32(RELAXATION))
    return field_split_update(data.copy(), kernel, squared_gradient, penalty, relax)


@njit(cache=True, parallel=True)
def _relax_absolute(induced, data, bound, state, target, relaxation):
    for i in prange(data.shape[0]):
        for j in range(data.shape[1]):
            for k in range(data.shape[2]):
                most = bound[i, j, k]
                excess = min(max(state[i, j, k] - data[i, j, k], -most), most)
                split = state[i, j, k] - excess
                state[i, j, k] = split + excess + relaxation * (induced[i, j, k] - split)
                target[i, j, k] = state[i, j, k] - 2 * min(max(state[i, j, k] - data[i, j, k], -most), most)
