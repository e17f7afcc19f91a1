"""Inversion with total generalised variation of second order: slopes cost less than the steps of total variation."""

import numpy as np
from numba import njit, prange

from qsmbids.core.checks import check_positive, check_weighted_field
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import frequencies, irfftn, rfftn
from qsmbids.core.grid import bounding_box, embed, embed_mask, padded_size, place
from qsmbids.core.inversion.strength import automatic_strength
from qsmbids.core.inversion.variational import (DATA_PENALTY, RELAXATION, cut, gradient_scale, relax_field,
                                                write_divergence)

# A second derivative per mm over `gradient_scale`; sets the pace of the iteration.
_BEND = 0.3
_DATA_PENALTY, _RELAXATION, _HALF = np.float32(DATA_PENALTY), np.float32(RELAXATION), np.float32(0.5)
# Where the symmetric gradient keeps its element of row and column.
_ELEMENT = np.array([[0, 3, 4], [3, 1, 5], [4, 5, 2]])


def invert_tgv(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, lambda_=None, ratio=3., tol=2e-3,
               max_iterations=100):
    """Invert a local field with total generalised variation of second order.

    Minimises ``1/2 |W (d * chi - field)|^2 + lambda_ sum |grad chi - w| + ratio lambda_ sum |E w|`` over chi and w,
    where E is the symmetric gradient and all sums are over the mask, by the alternating direction method of
    multipliers. Sources outside the mask are free, as in :func:`~qsmbids.core.inversion.variational.invert_tv`.

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
    lambda_ : float, optional
        Weight of the gradient in ppm mm, as for `invert_tv`. By default
        :func:`~qsmbids.core.inversion.strength.automatic_strength`.
    ratio : float, default 3
        Weight of the second derivative over that of the first in mm, as published (1.5e-3 to 5e-4).
    tol : float, default 2e-3
        Stop when an iteration changes the map by less than this part of it.
    max_iterations : int, default 100

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
    Five pairs of Fourier transforms per iteration, of the mask's bounding box with a margin: in Fourier space chi and
    w are found together, frequency by frequency. The publication starts from wrapped phase; here Laplacian unwrapping
    and LBV, which take the same Laplacian of it, come first.

    References
    ----------
    Langkammer C, Bredies K, Poser BA, et al. NeuroImage 2015;111:622-630 (the penalty, eq. 8). Bredies K, Kunisch K,
    Pock T. SIAM J Imaging Sci 2010;3:492-526.
    """
    field, mask, voxel_size, weight = check_weighted_field(field, mask, voxel_size, weight)
    check_positive(ratio=ratio, tol=tol, max_iterations=max_iterations)
    if not field[mask].any():
        return np.zeros_like(field)
    if lambda_ is None:
        lambda_ = automatic_strength(field, mask, voxel_size, b0_dir=b0_dir, weight=weight)
    check_positive(lambda_=lambda_)
    box = bounding_box(mask)
    size = padded_size(mask[box].shape)
    scale = gradient_scale(field, mask)
    share = embed(np.square(weight), mask, box, size)
    share /= share + np.float32(DATA_PENALTY)
    chi = _minimize(embed(field, mask, box, size), share, embed_mask(mask, box, size),
                    dipole_kernel(size, voxel_size, b0_dir), voxel_size, lambda_, ratio, scale, mask[box].shape, tol,
                    max_iterations)
    return place(chi, mask, box)


def _minimize(data, share, region, kernel, voxel_size, lambda_, ratio, scale, shape, tol, max_iterations):
    """Return the map after splits of the field, ``grad chi - w`` and ``E w``, each kept as in `minimize_tv`."""
    size = data.shape
    inner = tuple(slice(n) for n in shape)
    per_mm = np.divide(1, voxel_size).astype(np.float32)
    thresholds = np.array([scale, _BEND * scale], np.float32)
    penalties = np.array([lambda_, ratio * lambda_], np.float32) / thresholds
    symbols = [((np.exp(2j * np.pi * step * k.ravel()) - 1) / step).astype(np.complex64)
               for k, step in zip(frequencies(size, voxel_size), voxel_size)]
    state, target = data.copy(), data.copy()
    slope, vector = np.zeros((2, 3, *size), np.float32)
    bend = np.zeros((6, *size), np.float32)
    chi, divergence = np.zeros((2, *size), np.float32)
    spectra = np.empty((3, *kernel.shape), np.complex64)
    relaxation = np.float32(0)
    for _ in range(max_iterations):
        _relax_derivatives(chi, vector, region, per_mm, thresholds, relaxation, slope, bend)
        write_divergence(slope, divergence, region, per_mm, thresholds[0])
        _write_right_side(slope, bend, region, per_mm, thresholds, penalties, vector)
        spectrum = rfftn(target, size)
        for axis in range(3):
            spectra[axis] = rfftn(vector[axis], size)
        _solve(spectrum, rfftn(divergence, size), spectra, kernel, *symbols, penalties)
        for axis in range(3):
            vector[axis] = irfftn(spectra[axis], size)
        relax_field(irfftn(spectrum * kernel, size), data, share, state, target, _RELAXATION)
        previous, chi = chi, irfftn(spectrum, size)
        # The first step has no splits to be relaxed towards.
        relaxation = _RELAXATION if relaxation else np.float32(1)
        previous -= chi
        if np.linalg.norm(previous[inner]) <= tol * np.linalg.norm(chi[inner]):
            break
    return chi


@njit(cache=True, parallel=True, error_model='numpy')
def _solve(spectrum, divergence, vector, kernel, x, y, z, penalties):
    """Replace the field's target and the right side of w by the spectra of chi and w.

    With ``A = first + second E^T E`` of w alone, ``first A^-1 G`` of chi is what w follows it by.
    """
    first, half = penalties[0], _HALF * penalties[1]
    for i in prange(spectrum.shape[0]):
        for j in range(spectrum.shape[1]):
            for k in range(spectrum.shape[2]):
                gx, gy, gz = x[i], y[j], z[k]
                bx, by, bz = gx.conjugate(), gy.conjugate(), gz.conjugate()
                # E differs backwards, by minus the conjugates: A is near + half b b^H, inverted by Sherman-Morrison.
                squared, across = (gx * bx + gy * by + gz * bz).real, gx * gx + gy * gy + gz * gz
                near = first + half * squared
                far = near + half * squared
                vx, vy, vz = vector[0, i, j, k], vector[1, i, j, k], vector[2, i, j, k]
                along = half / far * (gx * vx + gy * vy + gz * vz)
                vx, vy, vz = (vx - along * bx) / near, (vy - along * by) / near, (vz - along * bz) / near
                right = (_DATA_PENALTY * kernel[i, j, k] * spectrum[i, j, k]
                         + first * (divergence[i, j, k] + bx * vx + by * vy + bz * vz))
                left = (_DATA_PENALTY * kernel[i, j, k] * kernel[i, j, k] + first * half / near
                        * (squared * squared + first / far * (across * across.conjugate()).real))
                chi = right / left if squared > 0 else 0 * right
                spectrum[i, j, k] = chi
                along = half / far * across
                chi *= first / near
                vector[0, i, j, k] = vx + chi * (gx - along * bx)
                vector[1, i, j, k] = vy + chi * (gy - along * by)
                vector[2, i, j, k] = vz + chi * (gz - along * bz)


@njit(cache=True, inline='always')
def _cut_bend(bend, region, i, j, k, threshold):
    """Return the factor that cuts a symmetric matrix to the length `threshold`, or to zero outside the region."""
    xx, yy, zz = bend[0, i, j, k], bend[1, i, j, k], bend[2, i, j, k]
    xy, xz, yz = bend[3, i, j, k], bend[4, i, j, k], bend[5, i, j, k]
    return cut(np.sqrt(xx * xx + yy * yy + zz * zz), np.sqrt(2 * (xy * xy + xz * xz)), np.sqrt(np.float32(2)) * yz,
               threshold * region[i, j, k])


@njit(cache=True, parallel=True, error_model='numpy')
def _relax_derivatives(chi, vector, region, per_mm, thresholds, relaxation, slope, bend):
    """Forward differences for the gradient, backward ones for the symmetric gradient."""
    nx, ny, nz = chi.shape
    for i in prange(nx):
        for j in range(ny):
            for k in range(nz):
                ahead = (chi[i + 1 if i + 1 < nx else 0, j, k], chi[i, j + 1 if j + 1 < ny else 0, k],
                         chi[i, j, k + 1 if k + 1 < nz else 0])
                keep = 1 - relaxation + relaxation * cut(slope[0, i, j, k], slope[1, i, j, k], slope[2, i, j, k],
                                                         thresholds[0] * region[i, j, k])
                for axis in range(3):
                    found = per_mm[axis] * (ahead[axis] - chi[i, j, k]) - vector[axis, i, j, k]
                    slope[axis, i, j, k] = keep * slope[axis, i, j, k] + relaxation * found
                keep = 1 - relaxation + relaxation * _cut_bend(bend, region, i, j, k, thresholds[1])
                for element in range(6):
                    bend[element, i, j, k] *= keep
                for axis in range(3):
                    here = vector[axis, i, j, k]
                    behind = (vector[axis, i - 1, j, k], vector[axis, i, j - 1, k], vector[axis, i, j, k - 1])
                    for other in range(3):
                        share = relaxation if other == axis else _HALF * relaxation
                        bend[_ELEMENT[axis, other], i, j, k] += share * per_mm[other] * (here - behind[other])


@njit(cache=True, parallel=True, error_model='numpy')
def _write_right_side(slope, bend, region, per_mm, thresholds, penalties, right):
    """Write ``second E^T q - first p`` with the targets p and q, each the split less its multiplier."""
    nx, ny, nz = region.shape
    for i in prange(nx):
        ahead_x = i + 1 if i + 1 < nx else 0
        for j in range(ny):
            ahead_y = j + 1 if j + 1 < ny else 0
            for k in range(nz):
                ahead_z = k + 1 if k + 1 < nz else 0
                here = 1 - 2 * _cut_bend(bend, region, i, j, k, thresholds[1])
                x = 1 - 2 * _cut_bend(bend, region, ahead_x, j, k, thresholds[1])
                y = 1 - 2 * _cut_bend(bend, region, i, ahead_y, k, thresholds[1])
                z = 1 - 2 * _cut_bend(bend, region, i, j, ahead_z, thresholds[1])
                kept = 1 - 2 * cut(slope[0, i, j, k], slope[1, i, j, k], slope[2, i, j, k],
                                   thresholds[0] * region[i, j, k])
                for axis in range(3):
                    a, b, c = _ELEMENT[axis, 0], _ELEMENT[axis, 1], _ELEMENT[axis, 2]
                    pull = (per_mm[0] * (here * bend[a, i, j, k] - x * bend[a, ahead_x, j, k])
                            + per_mm[1] * (here * bend[b, i, j, k] - y * bend[b, i, ahead_y, k])
                            + per_mm[2] * (here * bend[c, i, j, k] - z * bend[c, i, j, ahead_z]))
                    right[axis, i, j, k] = penalties[1] * pull - penalties[0] * kept * slope[axis, i, j, k]
