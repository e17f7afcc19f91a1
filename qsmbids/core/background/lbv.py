"""LBV: the background field as the harmonic field that equals the measured one on the mask's surface."""

import numpy as np
from numba import njit, prange

from qsmbids.core.checks import check_mask, check_positive, check_volume, check_voxel_size
from qsmbids.core.grid import bounding_box


def remove_background_lbv(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), peel=0, tol=1e-4,
                          max_iterations=1000):
    """Remove the background field by solving the Laplacian boundary value problem.

    The outermost layer of the mask is taken for all background; the local field is zero there, and inside has the
    Laplacian of the measured field.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
        Total field in ppm. Values outside the mask are not used.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the field is reliable. What lies beyond the array counts as outside.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float
        Not used: the Laplacian has no direction.
    peel : int, default 0
        Layers of voxels that are taken off the mask first. The field of what lies next to the border is taken for
        background, and its error reaches deep; a few layers less make the local field right, and the map smaller.
    tol : float, default 1e-4
        Stop when the residual of the Laplacian is below this part of its start.
    max_iterations : int, default 1000

    Returns
    -------
    local : ndarray, float32, shape (nx, ny, nz)
        Field of the sources inside the mask, in ppm; zero outside the returned mask.
    mask : ndarray of bool, shape (nx, ny, nz)
        The voxels of the given mask, without what was peeled off, that have all six neighbours in it.

    Raises
    ------
    ValueError
        If shapes differ, the field is not finite inside the mask, the mask is empty or nothing is left of it, `peel`
        is negative, or another parameter is not positive.

    Notes
    -----
    Conjugate gradients on the seven-point Laplacian, compiled, without Fourier transforms; five volumes of the mask's
    bounding box.

    References
    ----------
    Zhou D, Liu T, Spincemaille P, Wang Y. NMR Biomed 2014;27:312-319.
    """
    mask = check_mask(mask)
    field = check_volume('field', field, mask)
    voxel_size = check_voxel_size(voxel_size)
    check_positive(tol=tol, max_iterations=max_iterations)
    if peel != int(peel) or peel < 0:
        raise ValueError(f'peel is {peel}, must be a whole number, 0 or more')
    box = bounding_box(mask)
    inner = tuple(slice(1, n + 1) for n in mask[box].shape)
    padded = tuple(n + 2 for n in mask[box].shape)
    inside = np.zeros(padded, bool)
    inside[inner] = mask[box]
    values = np.zeros(padded, np.float32)
    np.copyto(values[inner], field[box], where=mask[box])
    for _ in range(int(peel)):
        inside = _core(inside)
    core = _core(inside)
    if not core.any():
        raise ValueError('mask has no voxel with all six neighbours in it, nothing is left inside its surface')
    local = _solve(values, core, (1 / np.square(voxel_size)).astype(np.float32), tol, max_iterations)
    result, eroded = np.zeros_like(field), np.zeros_like(mask)
    eroded[box] = core[inner]
    np.copyto(result[box], local[inner], where=core[inner])
    return result, eroded


def _core(inside):
    """Return the voxels whose six neighbours are inside, too."""
    core = inside.copy()
    for axis in range(3):
        for step in (1, -1):
            core &= np.roll(inside, step, axis)
    return core


def _solve(values, core, per_square_mm, tol, max_iterations):
    """Return x that is zero outside `core` and has the Laplacian of `values` there."""
    residual = np.zeros_like(values)
    energy = first = _apply_laplacian(values, core, per_square_mm, residual)[1]
    direction, image, x = residual.copy(), np.zeros_like(values), np.zeros_like(values)
    for _ in range(max_iterations):
        if energy <= tol ** 2 * first:
            break
        curvature = _apply_laplacian(direction, core, per_square_mm, image)[0]
        before, energy = energy, _step(x, residual, direction, image, np.float32(energy / curvature))
        _turn(direction, residual, np.float32(energy / before))
    return x


@njit(cache=True, parallel=True)
def _apply_laplacian(volume, core, per_square_mm, image):
    """Write minus the Laplacian of `volume` in `core`; return its products with `volume` and with itself."""
    nx, ny, nz = volume.shape
    along, square = 0., 0.
    for i in prange(1, nx - 1):
        for j in range(1, ny - 1):
            for k in range(1, nz - 1):
                if core[i, j, k]:
                    here = 2 * volume[i, j, k]
                    bend = (per_square_mm[0] * (here - volume[i - 1, j, k] - volume[i + 1, j, k])
                            + per_square_mm[1] * (here - volume[i, j - 1, k] - volume[i, j + 1, k])
                            + per_square_mm[2] * (here - volume[i, j, k - 1] - volume[i, j, k + 1]))
                    image[i, j, k] = bend
                    along += volume[i, j, k] * bend
                    square += bend * bend
    return along, square


@njit(cache=True, parallel=True)
def _step(x, residual, direction, image, length):
    """Go along `direction`; return the energy of the new residual."""
    nx, ny, nz = x.shape
    energy = 0.
    for i in prange(nx):
        for j in range(ny):
            for k in range(nz):
                x[i, j, k] += length * direction[i, j, k]
                residual[i, j, k] -= length * image[i, j, k]
                energy += residual[i, j, k] * residual[i, j, k]
    return energy


@njit(cache=True, parallel=True)
def _turn(direction, residual, keep):
    nx, ny, nz = direction.shape
    for i in prange(nx):
        for j in range(ny):
            for k in range(nz):
                direction[i, j, k] = residual[i, j, k] + keep * direction[i, j, k]
