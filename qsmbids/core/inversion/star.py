"""Inversion in two levels: strong sources first, so that their streaks do not cover the weak ones."""

import numpy as np

from qsmbids.core.checks import check_mask, check_positive, check_volume, check_voxel_size, check_weight
from qsmbids.core.dipole import forward_field
from qsmbids.core.grid import MARGIN, bounding_box
from qsmbids.core.inversion.strength import automatic_strength
from qsmbids.core.inversion.variational import invert_tv


def invert_star(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, lambda_=None, strong=8., tol=2e-3,
                max_iterations=100):
    """Invert a local field by streaking artifact reduction (STAR-QSM).

    Total variation of a strong weight finds the large and strong sources. Their field is taken away, and the rest is
    inverted with the weight that suits the noise; the map is the sum.

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
    weight, lambda_, tol, max_iterations
        As for :func:`~qsmbids.core.inversion.variational.invert_tv`; the second level's weight is `lambda_`.
    strong : float, default 8
        The first level's weight over the second's.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Susceptibility in ppm; zero outside the mask.

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, the field is not finite inside the mask, the weight is not within 0 to 1
        there, or a parameter is not positive.

    References
    ----------
    Wei H, Dibb R, Zhou Y, et al. NMR Biomed 2015;28:1294-1303.
    """
    mask = check_mask(mask)
    field = check_volume('field', field, mask)
    voxel_size = check_voxel_size(voxel_size)
    check_positive(strong=strong, tol=tol, max_iterations=max_iterations)
    if weight is not None:
        weight = check_weight(weight, mask)
    if not field[mask].any():
        return np.zeros_like(field)
    if lambda_ is None:
        lambda_ = automatic_strength(field, mask, voxel_size, b0_dir=b0_dir, weight=weight)
    check_positive(lambda_=lambda_)

    box = bounding_box(mask)
    field, mask_in_box = np.where(mask[box], field[box], np.float32(0)), mask[box]
    weight = None if weight is None else weight[box]

    def invert(data, weight_of_tv):
        return invert_tv(data, mask_in_box, voxel_size, b0_dir=b0_dir, weight=weight, lambda_=weight_of_tv, tol=tol,
                         max_iterations=max_iterations)

    chi = invert(field, strong * lambda_)
    chi += invert(field - forward_field(chi, voxel_size, b0_dir, MARGIN), lambda_)
    found = np.zeros(mask.shape, np.float32)
    found[box] = chi
    return found
