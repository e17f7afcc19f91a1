"""RESHARP and iSMV: the local field as the solution of linear equations in the filter of one ball."""

import numpy as np

from qsmbids.core.background.balls import BallFilter, ball_radius
from qsmbids.core.checks import check_mask, check_positive, check_volume, check_voxel_size
from qsmbids.core.grid import bounding_box, place
from qsmbids.core.krylov import conjugate_gradients, image_least_squares


def remove_background_resharp(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), radius=6.0, lambda_=1e-4, tol=1e-3,
                              max_iterations=50):
    """Remove the background field by RESHARP.

    Minimises ``|M H (local - field)|^2 + lambda_ |local|^2``, where H is "voxel minus mean over the ball around it" and
    M selects the voxels whose ball lies inside the mask.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
        Total field in ppm. Values outside the mask are not used.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the field is reliable. What lies beyond the array counts as outside.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float
        Not used: a harmonic field has the mean-value property whatever the direction of B0.
    radius : float, default 6
        Of the ball in mm, at least the longest edge of a voxel. The mask shrinks by it: a larger one is more accurate
        in what it leaves, and leaves less.
    lambda_ : float, default 1e-4
        Weight of the local field's energy. A larger one takes more of its slow part away.
    tol : float, default 1e-3
        Stop when the normal equations' residual is below this part of their right side.
    max_iterations : int, default 50

    Returns
    -------
    local : ndarray, float32, shape (nx, ny, nz)
        Field of the sources inside the mask, in ppm; zero outside the returned mask.
    mask : ndarray of bool, shape (nx, ny, nz)
        The voxels of the given mask that the ball fits around.

    Raises
    ------
    ValueError
        If shapes differ, the field is not finite inside the mask, the mask is empty or thinner than the ball
        everywhere, or a parameter is not positive.

    Notes
    -----
    Conjugate gradients in the space of what M H makes, where the operator ``M H H M + lambda_`` takes one pair of
    Fourier transforms of the mask's bounding box per iteration.

    References
    ----------
    Sun H, Wilman AH. Magn Reson Med 2014;71:1151-1157.
    """
    check_positive(lambda_=lambda_, tol=tol)
    values, ball, box, shape = _prepare(field, mask, voxel_size, radius)

    def gram(passed):
        passed = ball(passed, times=2)
        passed *= ball.kept
        return passed

    passed = ball(values)
    passed *= ball.kept
    local = ball(image_least_squares(gram, passed, tol, max_iterations, lambda_))
    return _grow(local, ball.kept, box, shape)


def remove_background_ismv(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), radius=6.0, tol=1e-3, max_iterations=100):
    """Remove the background field by iterative spherical mean value filtering.

    The published iteration replaces the field by its mean over balls, and sets the border of the mask, where no ball
    fits, back to what was measured, until nothing changes: the background field is the measured one in the border, and
    inside harmonic in the sense of the ball. Here the same fixed point is found by conjugate gradients:
    ``M H M local = M H field``, symbols as for `remove_background_resharp`.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir
        As for `remove_background_resharp`.
    radius : float, default 6
        Of the ball in mm, at least the longest edge of a voxel. The mask shrinks by it.
    tol : float, default 1e-3
        Stop when the residual is below this part of the right side.
    max_iterations : int, default 100

    Returns
    -------
    local : ndarray, float32, shape (nx, ny, nz)
        Field of the sources inside the mask, in ppm; zero outside the returned mask.
    mask : ndarray of bool, shape (nx, ny, nz)
        The voxels of the given mask that the ball fits around.

    Raises
    ------
    ValueError
        As `remove_background_resharp`.

    Notes
    -----
    One pair of Fourier transforms of the mask's bounding box per iteration.

    References
    ----------
    Wen Y, Zhou D, Liu T, Spincemaille P, Wang Y. Magn Reson Med 2014;72:1065-1071.
    """
    values, ball, box, shape = _prepare(field, mask, voxel_size, radius)

    def inner(volume):
        passed = ball(volume)
        passed *= ball.kept
        return passed

    local = conjugate_gradients(inner, inner(values), tol, max_iterations)
    return _grow(local, ball.kept, box, shape)


def _prepare(field, mask, voxel_size, radius):
    mask = check_mask(mask)
    field = check_volume('field', field, mask)
    voxel_size = check_voxel_size(voxel_size)
    radius = ball_radius(radius, voxel_size)
    box = bounding_box(mask)
    values = np.where(mask[box], field[box], np.float32(0))
    return values, BallFilter(mask[box], radius, voxel_size), box, mask.shape


def _grow(local, kept, box, shape):
    eroded = np.zeros(shape, bool)
    eroded[box] = kept
    return place(local, eroded, box), eroded
