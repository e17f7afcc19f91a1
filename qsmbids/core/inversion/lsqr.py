"""Inversion in two steps: least squares where the dipole kernel is well conditioned, total variation elsewhere."""

import numpy as np

from qsmbids.core.checks import check_positive, check_weighted_field
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import convolve, irfftn, rfftn
from qsmbids.core.grid import bounding_box, embed, padded_size, place, squared_gradient
from qsmbids.core.inversion.strength import automatic_strength
from qsmbids.core.inversion.variational import gradient_scale, minimize_tv
from qsmbids.core.krylov import image_least_squares


def invert_rts(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, delta=0.15, lsqr_iterations=None,
               tv_iterations=20):
    """Invert a local field by rapid two-step dipole inversion.

    Few iterations of weighted least squares find the part of the map where ``|D(k)| > delta``; stopped early, they
    amplify no noise. The rest of k-space is filled with what gives the map the least total variation.

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
        W inside the mask, 0 to 1: the field's reliability, 1 / its standard deviation up to a factor. By default 1.
    delta : float, default 0.15
        Where the kernel's magnitude exceeds this, the first step is kept.
    lsqr_iterations : int, optional
        Iterations of the first step. By default :func:`~qsmbids.core.inversion.strength.automatic_strength`.
    tv_iterations : int, default 20
        Iterations of the second step.

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
    One pair of Fourier transforms per iteration of either step. Peak memory is about 12 volumes of the mask's bounding
    box with a margin. The well-conditioned part is held fixed in the second step, which is the limit of a heavy penalty
    on its change.

    References
    ----------
    Kames C, Wiggermann V, Rauscher A. NeuroImage 2018;167:276-283.

    Examples
    --------
    >>> import numpy as np
    >>> from qsmbids.core.dipole import forward_field
    >>> chi = np.zeros((32, 32, 32), np.float32)
    >>> chi[12:20, 12:20, 12:20] = .1
    >>> mask = np.ones(chi.shape, bool)
    >>> field = forward_field(chi, (1, 1, 1))
    >>> found = invert_rts(field, mask, (1, 1, 1))
    >>> round(float(found[12:20, 12:20, 12:20].mean()), 2)
    0.09
    """
    field, mask, voxel_size, weight = check_weighted_field(field, mask, voxel_size, weight)
    check_positive(delta=delta, tv_iterations=tv_iterations)
    if not field[mask].any():
        return np.zeros_like(field)
    if lsqr_iterations is None:
        lsqr_iterations = automatic_strength(field, mask, voxel_size, b0_dir=b0_dir, weight=weight, penalty='lsqr')
    check_positive(lsqr_iterations=lsqr_iterations)

    box = bounding_box(mask)
    size = padded_size(mask[box].shape)
    kernel = dipole_kernel(size, voxel_size, b0_dir)
    known = least_squares(embed(field, mask, box, size), embed(weight, mask, box, size), kernel, lsqr_iterations)
    update = _filling_update(known, np.abs(kernel) > delta, squared_gradient(size, voxel_size))
    chi = minimize_tv(update, size, voxel_size, gradient_scale(field, mask), mask[box].shape, 0., tv_iterations)
    return place(chi, mask, box)


def least_squares(data, weight, kernel, iterations, tol=0.):
    """Return chi after some iterations of LSQR on ``|weight (d * chi - data)|``, one pair of Fourier transforms each.

    It ends early when the gradient is below `tol` of the first one. Volumes are periodic, the kernel is a half
    spectrum.
    """
    square = np.square(kernel)

    def gram(volume):
        volume = convolve(weight * volume, square)
        volume *= weight
        return volume

    volume = image_least_squares(gram, weight * data, tol, iterations)
    volume *= weight
    return convolve(volume, kernel)


def _filling_update(known, well_conditioned, squared_gradient):
    """Return the step of `minimize_tv` that moves only the part of `known` that is not well conditioned."""
    size = known.shape
    spectrum = rfftn(known, size)
    spectrum *= well_conditioned
    known = irfftn(spectrum, size)
    squared_gradient[0, 0, 0] = 1
    gain = np.divide(1, squared_gradient, out=np.zeros_like(squared_gradient), where=~well_conditioned)

    def update(divergence):
        if divergence is None:
            return known.copy()
        chi = convolve(divergence, gain)
        chi += known
        return chi
    return update
