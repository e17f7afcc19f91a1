"""Inversion in closed form: one division in k-space."""

import numpy as np

from qsmbids.core.checks import check_mask, check_positive, check_volume, check_voxel_size
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import irfftn, rfftn
from qsmbids.core.grid import bounding_box, embed, padded_size, place, squared_gradient

REGULARIZATIONS = ('identity', 'gradient')


def invert_tikhonov(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), regularization='identity', lambda_=0.01):
    """Invert a local field by Tikhonov regularisation.

    Minimises ``|d * chi - field|^2 + lambda_ |G chi|^2`` by ``chi(k) = D f / (D^2 + lambda_ |G|^2)``, where G is the
    identity or the gradient per mm.

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
    regularization : {'identity', 'gradient'}
        What is kept small: chi or its gradient.
    lambda_ : float, default 0.01
        Weight of the regularisation; no unit for 'identity', mm^2 for 'gradient'.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Susceptibility in ppm; zero outside the mask.

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, the field is not finite inside the mask, or a parameter is out of range.

    References
    ----------
    Bilgic B et al. J Magn Reson Imaging 2014;40:181-191 (the closed form of the gradient's).
    """
    mask = check_mask(mask)
    field = check_volume('field', field, mask)
    voxel_size = check_voxel_size(voxel_size)
    check_positive(lambda_=lambda_)
    if regularization not in REGULARIZATIONS:
        raise ValueError(f'regularization is {regularization!r}, must be one of {", ".join(REGULARIZATIONS)}')

    box = bounding_box(mask)
    size = padded_size(mask[box].shape)
    kernel = dipole_kernel(size, voxel_size, b0_dir)
    denominator = np.square(kernel)
    denominator += np.float32(lambda_) * (1 if regularization == 'identity' else squared_gradient(size, voxel_size))
    # A constant makes no field: D(0) = 0 leaves it zero whatever the denominator there.
    denominator[0, 0, 0] = 1
    spectrum = rfftn(embed(field, mask, box, size), size)
    spectrum *= np.divide(kernel, denominator, out=denominator)
    return place(irfftn(spectrum, size), mask, box)
