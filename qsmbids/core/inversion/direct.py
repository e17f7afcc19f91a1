"""Inversion in closed form: one division in k-space."""

import numpy as np

from qsmbids.core.checks import check_mask, check_positive, check_volume, check_voxel_size
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import irfftn, rfftn
from qsmbids.core.grid import bounding_box, embed, padded_size, place, squared_gradient
from qsmbids.core.inversion.strength import automatic_strength

REGULARIZATIONS = ('identity', 'gradient')


def invert_tikhonov(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), regularization='identity', lambda_=None):
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
    lambda_ : float, optional
        Weight of the regularisation; no unit for 'identity', mm^2 for 'gradient'. By default
        :func:`~qsmbids.core.inversion.strength.automatic_strength`.

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
    if regularization not in REGULARIZATIONS:
        raise ValueError(f'regularization is {regularization!r}, must be one of {", ".join(REGULARIZATIONS)}')
    if not field[mask].any():
        return np.zeros_like(field)
    if lambda_ is None:
        lambda_ = automatic_strength(field, mask, voxel_size, b0_dir=b0_dir, penalty=regularization)
    check_positive(lambda_=lambda_)

    def inverse(kernel):
        denominator = np.square(kernel)
        denominator += np.float32(lambda_) * (1 if regularization == 'identity' else
                                              squared_gradient(_padded(mask), voxel_size))
        # A constant makes no field: D(0) = 0 leaves it zero whatever the denominator there.
        denominator[0, 0, 0] = 1
        return np.divide(kernel, denominator, out=denominator)
    return _filter(field, mask, voxel_size, b0_dir, inverse)


def invert_tkd(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), threshold=0.2, rescale=True):
    """Invert a local field by thresholded k-space division.

    Divides by D, or by the threshold with the sign of D where that is smaller.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir
        As for :func:`invert_tikhonov`.
    threshold : float, default 0.2
        Smallest magnitude of D to divide by, up to 2/3.
    rescale : bool, default True
        Whether the map is divided by the peak of its point spread function, by which it is too small otherwise.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Susceptibility in ppm; zero outside the mask.

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, the field is not finite inside the mask, or the threshold is not between 0
        and 2/3.

    References
    ----------
    Shmueli K et al. Magn Reson Med 2009;62:1510-1522, eq. 7. Schweser F, Deistung A, Sommer K, Reichenbach JR. Magn
    Reson Med 2013;69:1582-1594 (the rescaling).

    Examples
    --------
    >>> import numpy as np
    >>> from qsmbids.core.dipole import forward_field
    >>> chi = np.zeros((32, 32, 32), np.float32)
    >>> chi[12:20, 12:20, 12:20] = .1
    >>> mask = np.ones(chi.shape, bool)
    >>> field = forward_field(chi, (1, 1, 1))
    >>> found = invert_tkd(field, mask, (1, 1, 1))
    >>> round(float(found[12:20, 12:20, 12:20].mean()), 2)
    0.11
    """
    return _thresholded(field, mask, voxel_size, b0_dir, threshold, rescale, lambda kernel: sign(kernel) / threshold)


def invert_tsvd(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), threshold=0.15, rescale=False):
    """Invert a local field by truncated singular value decomposition.

    Divides by D, and leaves the frequencies out where its magnitude is below the threshold.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir
        As for :func:`invert_tikhonov`.
    threshold : float, default 0.15
        Smallest magnitude of D to divide by, up to 2/3.
    rescale : bool, default False
        As for :func:`invert_tkd`.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Susceptibility in ppm; zero outside the mask.

    Raises
    ------
    ValueError
        As :func:`invert_tkd`.

    References
    ----------
    Wharton S, Schafer A, Bowtell R. Magn Reson Med 2010;63:1292-1304, eq. 6.
    """
    return _thresholded(field, mask, voxel_size, b0_dir, threshold, rescale, np.zeros_like)


def sign(kernel):
    """Return the sign of a dipole kernel, 0 where it is zero but for rounding."""
    return np.where(np.abs(kernel) > 1e-6, np.sign(kernel), np.float32(0))


def _thresholded(field, mask, voxel_size, b0_dir, threshold, rescale, below):
    mask = check_mask(mask)
    field = check_volume('field', field, mask)
    voxel_size = check_voxel_size(voxel_size)
    check_positive(threshold=threshold)
    if threshold >= 2 / 3:
        raise ValueError(f'threshold is {threshold}, must be below 2/3, the largest magnitude of the kernel')

    def inverse(kernel):
        division = below(kernel)
        np.divide(1, kernel, out=division, where=np.abs(kernel) > threshold)
        if rescale:
            division /= irfftn(division * kernel, _padded(mask))[0, 0, 0]
        return division
    return _filter(field, mask, voxel_size, b0_dir, inverse)


def _filter(field, mask, voxel_size, b0_dir, inverse):
    """Multiply the field's spectrum by ``inverse(kernel)``."""
    box, size = bounding_box(mask), _padded(mask)
    spectrum = rfftn(embed(field, mask, box, size), size)
    spectrum *= inverse(dipole_kernel(size, voxel_size, b0_dir))
    return place(irfftn(spectrum, size), mask, box)


def _padded(mask):
    return padded_size(mask[bounding_box(mask)].shape)
