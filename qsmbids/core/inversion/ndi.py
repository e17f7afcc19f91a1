"""Inversion of the phase itself by gradient descent that stops in time."""

import numpy as np
from numba import njit, prange

from qsmbids.core.checks import check_positive, check_weighted_field
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import convolve
from qsmbids.core.grid import bounding_box, embed, padded_size, place
from qsmbids.core.inversion.nonlinear import PHASE_SCALE
from qsmbids.core.inversion.strength import DESCENT_STEP, automatic_strength


def invert_ndi(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, phase_scale=PHASE_SCALE,
               lambda_=1e-4, iterations=None):
    """Invert a local field by nonlinear dipole inversion (NDI).

    Gradient descent on ``1/2 |W (exp(i p d * chi) - exp(i p field))|^2 / p^2 + lambda_ / 2 |chi|^2``, with p the
    `phase_scale`. Its early end is the regularisation.

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
        W inside the mask, 0 to 1: the field's reliability, such as the magnitude over its maximum. By default 1.
    phase_scale : float, default 20
        Phase in rad that 1 ppm makes: 20 at 3 T and an echo time of 25 ms.
    lambda_ : float, default 1e-4
        Weight of the map's energy.
    iterations : int, optional
        Steps of size 2. By default :func:`~qsmbids.core.inversion.strength.automatic_strength`.

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
    Polak D, Chatnuntawech I, Yoon J, et al. NMR Biomed 2020;33:e4271, eqs. 4 and 5.
    """
    field, mask, voxel_size, weight = check_weighted_field(field, mask, voxel_size, weight)
    check_positive(phase_scale=phase_scale, lambda_=lambda_)
    if not field[mask].any():
        return np.zeros_like(field)
    if iterations is None:
        iterations = automatic_strength(field, mask, voxel_size, b0_dir=b0_dir, weight=weight, penalty='descent')
    check_positive(iterations=iterations)

    box = bounding_box(mask)
    size = padded_size(mask[box].shape)
    kernel = dipole_kernel(size, voxel_size, b0_dir)
    data, squared = embed(field, mask, box, size), embed(np.square(weight), mask, box, size)
    chi = np.zeros(size, np.float32)
    for _ in range(iterations):
        slope = convolve(chi, kernel)
        _phase_misfit(slope, data, squared, np.float32(phase_scale))
        slope = convolve(slope, kernel)
        chi *= np.float32(1 - DESCENT_STEP * lambda_)
        slope *= np.float32(DESCENT_STEP)
        chi -= slope
    return place(chi, mask, box)


@njit(cache=True, parallel=True)
def _phase_misfit(induced, data, squared, scale):
    """Turn the field of the map into the derivative of the data term by it."""
    for i in prange(induced.shape[0]):
        for j in range(induced.shape[1]):
            for k in range(induced.shape[2]):
                turned = np.sin(scale * (induced[i, j, k] - data[i, j, k]))
                induced[i, j, k] = squared[i, j, k] * turned / scale
