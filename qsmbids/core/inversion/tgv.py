"""Inversion with total generalised variation, from a field or straight from wrapped phase: no background to remove."""

from typing import NamedTuple

import numpy as np
from numba import njit, prange
from scipy import ndimage

from qsmbids.core.checks import check_mask, check_positive, check_volume, check_voxel_size
from qsmbids.core.grid import bounding_box
from qsmbids.core.inversion.strength import automatic_strength
from qsmbids.core.phase import radians_to_ppm, wrap

# Dual over primal step: of the size of a gradient's weight over a gradient. Sets the pace.
_BALANCE = 0.05


def invert_tgv(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), lambda_=None, ratio=3., max_iterations=1000):
    """Invert a field with total generalised variation of second order.

    Minimises ``1/2 |psi|^2 + lambda_ sum |grad chi - w| + ratio lambda_ sum |E w|`` over chi, w and psi, where E is the
    symmetric gradient and, in the mask less its border, ``lap psi = lap field - (1/3 lap - d^2/db^2) chi``. What is
    harmonic in the field, so the background, has no Laplacian: the total field will do.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
        Local or total field in ppm. Values outside the mask are not used.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the field is known.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float, default (0, 0, 1)
        Unit vector of the main field in voxel axes.
    lambda_ : float, optional
        Weight of the gradient in ppm mm, as for :func:`~qsmbids.core.inversion.variational.invert_tv`. The published
        5e-4 is for a phase in rad; divide it by what 1 ppm makes, 20 rad at 3 T and 25 ms. By default
        :func:`~qsmbids.core.inversion.strength.automatic_strength`, which asks for a local field.
    ratio : float, default 3
        Weight of the second derivative over that of the first in mm, as published (1.5e-3 to 5e-4).
    max_iterations : int, default 1000

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Susceptibility in ppm, its mean zero; zero outside the mask.

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty or nowhere thicker than two voxels, the field is not finite inside the
        mask, or a parameter is not positive.

    Notes
    -----
    The preconditioned primal-dual method on voxels, without Fourier transforms. About 22 volumes of the mask's bounding
    box.

    References
    ----------
    Langkammer C, Bredies K, Poser BA, et al. NeuroImage 2015;111:622-630 (eqs. 7 to 9). Pock T, Chambolle A. IEEE Int
    Conf Comput Vis 2011:1762-1769 (step sizes).
    """
    mask = check_mask(mask)
    field = check_volume('field', field, mask)
    voxel_size = check_voxel_size(voxel_size)
    check_positive(ratio=ratio, max_iterations=max_iterations)
    if not field[mask].any():
        return np.zeros_like(field)
    if lambda_ is None:
        lambda_ = automatic_strength(field, mask, voxel_size, b0_dir=b0_dir)
    return _invert(field, mask, voxel_size, b0_dir, lambda_, ratio, max_iterations)


def invert_tgv_phase(phase, mask, voxel_size, *, echo_time, center_frequency, b0_dir=(0., 0., 1.), lambda_=3e-4,
                     ratio=3., max_iterations=1000):
    """Invert the wrapped phase of one echo with total generalised variation, in a single step.

    Parameters
    ----------
    phase : ndarray, shape (nx, ny, nz)
        rad; whole turns do not matter. Values outside the mask are not used.
    mask, voxel_size, b0_dir, ratio, max_iterations
        As for :func:`invert_tgv`.
    echo_time : float
        s.
    center_frequency : float
        Hz.
    lambda_ : float, default 3e-4
        As for `invert_tgv`.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Susceptibility in ppm, its mean zero; zero outside the mask.

    Raises
    ------
    ValueError
        As `invert_tgv`.
    """
    mask = check_mask(mask)
    phase = check_volume('phase', phase, mask)
    check_positive(echo_time=echo_time, center_frequency=center_frequency, ratio=ratio, max_iterations=max_iterations)
    return radians_to_ppm(_invert(phase, mask, check_voxel_size(voxel_size), b0_dir,
                                  lambda_ / radians_to_ppm(1, echo_time, center_frequency), ratio, max_iterations,
                                  wrap), echo_time, center_frequency)


def _invert(field, mask, voxel_size, b0_dir, lambda_, ratio, max_iterations, difference=np.asarray):
    check_positive(lambda_=lambda_)
    box = bounding_box(mask)
    # One voxel around, so that every stencil stays inside the arrays.
    inside = np.pad(mask[box], 1)
    inner = ndimage.binary_erosion(inside, np.ones((3, 3, 3)))
    if not inner.any():
        raise ValueError('mask is nowhere thicker than two voxels, must have voxels with all neighbours in it')
    grid = _grid(voxel_size, b0_dir)
    padded = np.pad(np.where(mask[box], field[box], np.float32(0)), 1)
    chi = _minimize(_laplacian(padded, inner, voxel_size, difference), inside, inner, grid, lambda_, ratio * lambda_,
                    max_iterations)
    found = np.zeros(mask.shape, np.float32)
    found[box] = chi[1:-1, 1:-1, 1:-1]
    found[mask] -= found[mask].mean(dtype=float)
    return found


def _laplacian(field, inner, voxel_size, difference):
    """Return the Laplacian in 1/mm^2 of what `difference` makes of steps between neighbours, zero outside `inner`."""
    total = np.zeros_like(field)
    for axis, step in enumerate(voxel_size):
        change = difference(np.diff(field, axis=axis, append=0)) / np.float32(step ** 2)
        total += change - np.roll(change, 1, axis)
    total *= inner
    return total


class _Grid(NamedTuple):
    """What the stencils need of voxel size and direction, and the steps of each variable.

    Attributes
    ----------
    per_mm : ndarray, shape (3,)
    straight : ndarray, shape (3,)
        Weights of the second differences along the axes in ``1/3 lap - d^2/db^2``.
    mixed : ndarray, shape (3,)
        Of the mixed ones along the axes 0 and 1, 0 and 2, 1 and 2, each over four voxels.
    steps : ndarray, shape (6,)
        Of the multipliers of the constraint, the gradient, the symmetric gradient; of chi, w, psi.
    """

    per_mm: np.ndarray
    straight: np.ndarray
    mixed: np.ndarray
    steps: np.ndarray


def _grid(voxel_size, b0_dir):
    b = np.asarray(b0_dir, dtype=float)
    if b.shape != (3,) or not np.all(np.isfinite(b)) or not b.any():
        raise ValueError(f'b0_dir is {b.tolist()}, must be a direction of three finite numbers')
    b = b / np.linalg.norm(b)
    per_mm = 1 / np.asarray(voxel_size)
    straight = (1 / 3 - b ** 2) * per_mm ** 2
    mixed = np.array([-0.5 * b[i] * b[j] * per_mm[i] * per_mm[j] for i, j in ((0, 1), (0, 2), (1, 2))])
    # Absolute sums of rows and of columns, which the steps must not exceed the inverse of.
    laplacian, wave = 4 * np.sum(per_mm ** 2), 4 * np.abs(straight).sum() + 4 * np.abs(mixed).sum()
    widest = per_mm.max()
    rows = np.array([laplacian + wave, 2 * widest + 1, 2 * widest])
    columns = np.array([wave + 2 * per_mm.sum(), 1 + 2 * per_mm.sum() + 2 * widest, laplacian])
    steps = np.concatenate([_BALANCE / rows, 1 / (_BALANCE * columns)])
    return _Grid(*(np.asarray(values, np.float32) for values in (per_mm, straight, mixed, steps)))


def _minimize(laplacian, inside, inner, grid, first, second, iterations):
    chi, psi, chi_ahead, psi_ahead, constraint = np.zeros((5, *inside.shape), np.float32)
    vector, vector_ahead, slope = np.zeros((3, 3, *inside.shape), np.float32)
    bend = np.zeros((6, *inside.shape), np.float32)
    for _ in range(iterations):
        _raise_duals(chi_ahead, vector_ahead, psi_ahead, laplacian, inside, inner, *grid, np.float32(first),
                     np.float32(second), constraint, slope, bend)
        _lower_primals(constraint, slope, bend, inside, *grid, chi, vector, psi, chi_ahead, vector_ahead, psi_ahead)
    return chi


@njit(cache=True, inline='always')
def _wave(volume, i, j, k, straight, mixed):
    """Return ``(1/3 lap - d^2/db^2) volume`` at a voxel, a stencil that is its own adjoint."""
    twice = 2 * volume[i, j, k]
    return (straight[0] * (volume[i + 1, j, k] + volume[i - 1, j, k] - twice)
            + straight[1] * (volume[i, j + 1, k] + volume[i, j - 1, k] - twice)
            + straight[2] * (volume[i, j, k + 1] + volume[i, j, k - 1] - twice)
            + mixed[0] * (volume[i + 1, j + 1, k] + volume[i - 1, j - 1, k]
                          - volume[i + 1, j - 1, k] - volume[i - 1, j + 1, k])
            + mixed[1] * (volume[i + 1, j, k + 1] + volume[i - 1, j, k - 1]
                          - volume[i + 1, j, k - 1] - volume[i - 1, j, k + 1])
            + mixed[2] * (volume[i, j + 1, k + 1] + volume[i, j - 1, k - 1]
                          - volume[i, j + 1, k - 1] - volume[i, j - 1, k + 1]))


@njit(cache=True, inline='always')
def _curvature(volume, i, j, k, per_mm):
    twice = 2 * volume[i, j, k]
    return (per_mm[0] * per_mm[0] * (volume[i + 1, j, k] + volume[i - 1, j, k] - twice)
            + per_mm[1] * per_mm[1] * (volume[i, j + 1, k] + volume[i, j - 1, k] - twice)
            + per_mm[2] * per_mm[2] * (volume[i, j, k + 1] + volume[i, j, k - 1] - twice))


@njit(cache=True, parallel=True, error_model='numpy')
def _raise_duals(chi, vector, psi, laplacian, inside, inner, per_mm, straight, mixed, steps, first, second, constraint,
                 slope, bend):
    """Forward differences for the gradient, backward ones for the symmetric gradient; none across the mask's border."""
    nx, ny, nz = chi.shape
    half = np.float32(0.5)
    for i in prange(1, nx - 1):
        for j in range(1, ny - 1):
            for k in range(1, nz - 1):
                if not inside[i, j, k]:
                    continue
                if inner[i, j, k]:
                    constraint[i, j, k] += steps[0] * (_curvature(psi, i, j, k, per_mm)
                                                       + _wave(chi, i, j, k, straight, mixed) - laplacian[i, j, k])
                here = chi[i, j, k]
                x, y, z = slope[0, i, j, k], slope[1, i, j, k], slope[2, i, j, k]
                if inside[i + 1, j, k]:
                    x += steps[1] * (per_mm[0] * (chi[i + 1, j, k] - here) - vector[0, i, j, k])
                if inside[i, j + 1, k]:
                    y += steps[1] * (per_mm[1] * (chi[i, j + 1, k] - here) - vector[1, i, j, k])
                if inside[i, j, k + 1]:
                    z += steps[1] * (per_mm[2] * (chi[i, j, k + 1] - here) - vector[2, i, j, k])
                shorter = min(np.float32(1), first / np.sqrt(x * x + y * y + z * z))
                slope[0, i, j, k], slope[1, i, j, k], slope[2, i, j, k] = shorter * x, shorter * y, shorter * z

                left = per_mm[0] * steps[2] * inside[i - 1, j, k]
                below = per_mm[1] * steps[2] * inside[i, j - 1, k]
                behind = per_mm[2] * steps[2] * inside[i, j, k - 1]
                xx = bend[0, i, j, k] + left * (vector[0, i, j, k] - vector[0, i - 1, j, k])
                yy = bend[1, i, j, k] + below * (vector[1, i, j, k] - vector[1, i, j - 1, k])
                zz = bend[2, i, j, k] + behind * (vector[2, i, j, k] - vector[2, i, j, k - 1])
                xy = bend[3, i, j, k] + half * (below * (vector[0, i, j, k] - vector[0, i, j - 1, k])
                                                + left * (vector[1, i, j, k] - vector[1, i - 1, j, k]))
                xz = bend[4, i, j, k] + half * (behind * (vector[0, i, j, k] - vector[0, i, j, k - 1])
                                                + left * (vector[2, i, j, k] - vector[2, i - 1, j, k]))
                yz = bend[5, i, j, k] + half * (behind * (vector[1, i, j, k] - vector[1, i, j, k - 1])
                                                + below * (vector[2, i, j, k] - vector[2, i, j - 1, k]))
                length = np.sqrt(xx * xx + yy * yy + zz * zz + 2 * (xy * xy + xz * xz + yz * yz))
                shorter = min(np.float32(1), second / length)
                bend[0, i, j, k], bend[1, i, j, k], bend[2, i, j, k] = shorter * xx, shorter * yy, shorter * zz
                bend[3, i, j, k], bend[4, i, j, k], bend[5, i, j, k] = shorter * xy, shorter * xz, shorter * yz


@njit(cache=True, inline='always')
def _back(dual, number, i, j, k, axis, inside, per_mm):
    """Return the adjoint of a backward difference inside the mask."""
    value = np.float32(0)
    if axis == 0:
        if inside[i - 1, j, k]:
            value += dual[number, i, j, k]
        if inside[i + 1, j, k]:
            value -= dual[number, i + 1, j, k]
    elif axis == 1:
        if inside[i, j - 1, k]:
            value += dual[number, i, j, k]
        if inside[i, j + 1, k]:
            value -= dual[number, i, j + 1, k]
    else:
        if inside[i, j, k - 1]:
            value += dual[number, i, j, k]
        if inside[i, j, k + 1]:
            value -= dual[number, i, j, k + 1]
    return per_mm[axis] * value


@njit(cache=True, parallel=True)
def _lower_primals(constraint, slope, bend, inside, per_mm, straight, mixed, steps, chi, vector, psi, chi_ahead,
                   vector_ahead, psi_ahead):
    """Step down, and put twice the new value less the old one into what the duals see next."""
    nx, ny, nz = chi.shape
    for i in prange(1, nx - 1):
        for j in range(1, ny - 1):
            for k in range(1, nz - 1):
                if not inside[i, j, k]:
                    continue
                # A multiplier of a step across the border stays zero.
                fall = (_wave(constraint, i, j, k, straight, mixed)
                        + per_mm[0] * (slope[0, i - 1, j, k] - slope[0, i, j, k])
                        + per_mm[1] * (slope[1, i, j - 1, k] - slope[1, i, j, k])
                        + per_mm[2] * (slope[2, i, j, k - 1] - slope[2, i, j, k]))
                value = chi[i, j, k] - steps[3] * fall
                chi_ahead[i, j, k] = 2 * value - chi[i, j, k]
                chi[i, j, k] = value

                before = psi[i, j, k]
                value = (before - steps[5] * _curvature(constraint, i, j, k, per_mm)) / (1 + steps[5])
                psi_ahead[i, j, k] = 2 * value - before
                psi[i, j, k] = value

                x = (_back(bend, 0, i, j, k, 0, inside, per_mm) + _back(bend, 3, i, j, k, 1, inside, per_mm)
                     + _back(bend, 4, i, j, k, 2, inside, per_mm) - slope[0, i, j, k])
                y = (_back(bend, 3, i, j, k, 0, inside, per_mm) + _back(bend, 1, i, j, k, 1, inside, per_mm)
                     + _back(bend, 5, i, j, k, 2, inside, per_mm) - slope[1, i, j, k])
                z = (_back(bend, 4, i, j, k, 0, inside, per_mm) + _back(bend, 5, i, j, k, 1, inside, per_mm)
                     + _back(bend, 2, i, j, k, 2, inside, per_mm) - slope[2, i, j, k])
                x = vector[0, i, j, k] - steps[4] * x
                y = vector[1, i, j, k] - steps[4] * y
                z = vector[2, i, j, k] - steps[4] * z
                vector_ahead[0, i, j, k] = 2 * x - vector[0, i, j, k]
                vector_ahead[1, i, j, k] = 2 * y - vector[1, i, j, k]
                vector_ahead[2, i, j, k] = 2 * z - vector[2, i, j, k]
                vector[0, i, j, k], vector[1, i, j, k], vector[2, i, j, k] = x, y, z
