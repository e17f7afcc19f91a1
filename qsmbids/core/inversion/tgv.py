"""Inversion with total generalised variation of second order: slopes cost less than the steps of total variation."""

import numpy as np
from numba import njit, prange

from qsmbids.core.checks import check_positive, check_weighted_field
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import frequencies, irfftn, rfftn
from qsmbids.core.grid import bounding_box, embed, embed_mask, padded_size, place
from qsmbids.core.inversion.strength import automatic_strength
from qsmbids.core.inversion.variational import (DATA_PENALTY, RELAXATION, gradient_scale, relative_change,
                                                relax_field, write_divergence)

# A second derivative per mm over `gradient_scale`; sets the pace of the iteration.
_BEND = 0.3
_DATA_PENALTY, _RELAXATION = np.float32(DATA_PENALTY), np.float32(RELAXATION)
_HALF, _ONE, _TWO, _TINY = np.float32(0.5), np.float32(1), np.float32(2), np.float32(1e-38)
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
        if relative_change(previous, chi, shape) <= tol:
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


# As in total variation, loops run along rows in steps so small that each becomes vector instructions.

@njit(cache=True, error_model='numpy')
def _cut_slope(slope, region, i, j, threshold, factor):
    """Write the factor that cuts each vector of a row to the length `threshold`, or to zero outside the region."""
    x, y, z, inside = slope[0, i, j], slope[1, i, j], slope[2, i, j], region[i, j]
    for k in range(factor.size):
        most = threshold * inside[k]
        factor[k] = most / np.sqrt(max(x[k] * x[k] + y[k] * y[k] + z[k] * z[k], most * most, _TINY))


@njit(cache=True, error_model='numpy')
def _cut_bend(bend, region, i, j, threshold, factor):
    """As `_cut_slope`, for symmetric matrices."""
    xx, yy, zz, inside = bend[0, i, j], bend[1, i, j], bend[2, i, j], region[i, j]
    xy, xz, yz = bend[3, i, j], bend[4, i, j], bend[5, i, j]
    for k in range(factor.size):
        across = xy[k] * xy[k] + xz[k] * xz[k] + yz[k] * yz[k]
        squared = xx[k] * xx[k] + yy[k] * yy[k] + zz[k] * zz[k] + across + across
        most = threshold * inside[k]
        factor[k] = most / np.sqrt(max(squared, most * most, _TINY))


@njit(cache=True, parallel=True, error_model='numpy')
def _relax_derivatives(chi, vector, region, per_mm, thresholds, relaxation, slope, bend):
    """Forward differences for the gradient, backward ones for the symmetric gradient."""
    nx, ny, nz = chi.shape
    for i in prange(nx):
        keep = np.empty(nz, np.float32)
        for j in range(ny):
            here = chi[i, j]
            _cut_slope(slope, region, i, j, thresholds[0], keep)
            for k in range(nz):
                keep[k] = (_ONE - relaxation) + relaxation * keep[k]
            _relax_row(slope[0, i, j], keep, relaxation, per_mm[0], chi[i + 1 if i + 1 < nx else 0, j], here,
                       vector[0, i, j])
            _relax_row(slope[1, i, j], keep, relaxation, per_mm[1], chi[i, j + 1 if j + 1 < ny else 0], here,
                       vector[1, i, j])
            _relax_row(slope[2, i, j, :-1], keep[:-1], relaxation, per_mm[2], here[1:], here[:-1], vector[2, i, j, :-1])
            _relax_row(slope[2, i, j, -1:], keep[-1:], relaxation, per_mm[2], here[:1], here[-1:], vector[2, i, j, -1:])
            _cut_bend(bend, region, i, j, thresholds[1], keep)
            for k in range(nz):
                keep[k] = (_ONE - relaxation) + relaxation * keep[k]
            for element in range(6):
                line = bend[element, i, j]
                for k in range(nz):
                    line[k] *= keep[k]
            for axis in range(3):
                here = vector[axis, i, j]
                for other in range(3):
                    step = (relaxation if other == axis else _HALF * relaxation) * per_mm[other]
                    line = bend[_ELEMENT[axis, other], i, j]
                    if other == 2:
                        _add_difference(line[:1], step, here[:1], here[-1:])
                        _add_difference(line[1:], step, here[1:], here[:-1])
                    else:
                        _add_difference(line, step, here, vector[axis, i - 1, j] if other == 0 else
                                        vector[axis, i, j - 1])


@njit(cache=True, error_model='numpy')
def _relax_row(slope, keep, relaxation, per_mm, ahead, here, vector):
    for k in range(slope.size):
        slope[k] = keep[k] * slope[k] + relaxation * (per_mm * (ahead[k] - here[k]) - vector[k])


@njit(cache=True)
def _add_difference(line, step, here, behind):
    for k in range(line.size):
        line[k] += step * (here[k] - behind[k])


@njit(cache=True, parallel=True, error_model='numpy')
def _write_right_side(slope, bend, region, per_mm, thresholds, penalties, right):
    """Write ``second E^T q - first p`` with the targets p and q, each the split less its multiplier."""
    nx, ny, nz = region.shape
    first, second = penalties[0], penalties[1]
    for i in prange(nx):
        ahead_x = i + 1 if i + 1 < nx else 0
        kept, at, after_x, after_y, along = np.empty((5, nz), np.float32)
        for j in range(ny):
            ahead_y = j + 1 if j + 1 < ny else 0
            _cut_slope(slope, region, i, j, thresholds[0], kept)
            _cut_bend(bend, region, i, j, thresholds[1], at)
            _cut_bend(bend, region, ahead_x, j, thresholds[1], after_x)
            _cut_bend(bend, region, i, ahead_y, thresholds[1], after_y)
            for factor in (kept, at, after_x, after_y):
                for k in range(nz):
                    factor[k] = _ONE - _TWO * factor[k]
            for axis in range(3):
                a, b, c = _ELEMENT[axis, 0], _ELEMENT[axis, 1], _ELEMENT[axis, 2]
                line, given, bent, step = right[axis, i, j], slope[axis, i, j], bend[c, i, j], second * per_mm[2]
                for k in range(nz):
                    along[k] = step * at[k] * bent[k]
                for k in range(nz):
                    line[k] = along[k] - first * kept[k] * given[k]
                for k in range(nz - 1):
                    line[k] -= along[k + 1]
                line[nz - 1] -= along[0]
                _pull(line, second * per_mm[0], at, bend[a, i, j], after_x, bend[a, ahead_x, j])
                _pull(line, second * per_mm[1], at, bend[b, i, j], after_y, bend[b, i, ahead_y])


@njit(cache=True)
def _pull(line, step, at, here, after, ahead):
    for k in range(line.size):
        line[k] += step * (at[k] * here[k] - after[k] * ahead[k])
