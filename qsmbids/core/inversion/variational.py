"""Inversion with total variation, and the minimiser of total variation that other methods share."""

import numpy as np
from numba import njit, prange

from qsmbids.core.checks import check_positive, check_weighted_field
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import irfftn, rfftn
from qsmbids.core.grid import bounding_box, embed, embed_mask, padded_size, place, squared_gradient
from qsmbids.core.inversion.strength import automatic_strength

# These set the pace of the iteration, not where it ends.
DATA_PENALTY = 0.25
RELAXATION = 1.8


def invert_tv(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, lambda_=None, tol=2e-3,
              max_iterations=60):
    """Invert a local field with total variation.

    Minimises ``1/2 |W (d * chi - field)|^2 + lambda_ sum |grad chi|``, both summed over the mask, by the alternating
    direction method of multipliers, with one split for the field and one for the gradient. Sources outside the mask
    are free: they take up what the removal of the background left.

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
        Weight of the total variation in ppm mm; the gradient is per mm, so that it means the same for every voxel
        size. `a` times the field gives `a` times the map when `lambda_` is `a` times as large, too. By default
        :func:`~qsmbids.core.inversion.strength.automatic_strength`, which does that.
    tol : float, default 2e-3
        Stop when an iteration changes the map by less than this part of it.
    max_iterations : int, default 60

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
    Two pairs of Fourier transforms per iteration, of the mask's bounding box with a margin. Peak memory is about 10
    volumes of that size.

    References
    ----------
    Bilgic B et al. Magn Reson Med 2014;72:1444-1459 (the gradient split). Milovic C et al. Magn Reson Med
    2018;80:814-821 (the field split). Eckstein J, Bertsekas DP. Math Program 1992;55:293-318 (over-relaxation).

    Examples
    --------
    >>> import numpy as np
    >>> from qsmbids.core.dipole import forward_field
    >>> chi = np.zeros((32, 32, 32), np.float32)
    >>> chi[12:20, 12:20, 12:20] = .1
    >>> mask = np.ones(chi.shape, bool)
    >>> field = forward_field(chi, (1, 1, 1))
    >>> found = invert_tv(field, mask, (1, 1, 1))
    >>> round(float(found[12:20, 12:20, 12:20].mean()), 2)
    0.1
    """
    field, mask, voxel_size, weight = check_weighted_field(field, mask, voxel_size, weight)
    check_positive(tol=tol, max_iterations=max_iterations)
    if not field[mask].any():
        return np.zeros_like(field)
    if lambda_ is None:
        lambda_ = automatic_strength(field, mask, voxel_size, b0_dir=b0_dir, weight=weight)
    check_positive(lambda_=lambda_)

    box = bounding_box(mask)
    size = padded_size(mask[box].shape)
    chi = solve_tv(embed(field, mask, box, size), embed(np.square(weight), mask, box, size),
                   dipole_kernel(size, voxel_size, b0_dir), embed_mask(mask, box, size), voxel_size, lambda_,
                   gradient_scale(field, mask), tol, max_iterations)
    return place(chi, mask, box)


def solve_tv(data, squared, kernel, inside, voxel_size, lambda_, threshold, tol=2e-3, max_iterations=60):
    """Return the map of `invert_tv` on the padded grid, with the sources outside the mask.

    Parameters
    ----------
    data, squared : ndarray, float32, of the padded size
        The field and W^2, zero outside the mask; the second is used up.
    kernel : ndarray, float32, half spectrum
        What makes the field of the map.
    inside : ndarray of bool, of the padded size
        The mask.
    voxel_size, lambda_, tol, max_iterations
        As for `invert_tv`.
    threshold : float
        As for `minimize_tv`.
    """
    size = data.shape
    update = least_squares_update(data, squared, kernel, squared_gradient(size, voxel_size), lambda_ / threshold)
    shape = tuple(side.stop for side in bounding_box(inside))
    return minimize_tv(update, size, voxel_size, threshold, shape, tol, max_iterations, region=inside)


def gradient_scale(field, mask):
    """Return the gradient in ppm/mm that tells edges from noise while iterating: 0.6 of the field's RMS, per mm."""
    return 0.6 * float(np.sqrt(np.mean(np.square(field[mask]), dtype=float)))


def minimize_tv(update, size, voxel_size, threshold, shape, tol, max_iterations, start=None, region=True):
    """Iterate the over-relaxed alternating direction method of multipliers on the split ``z = grad chi``.

    Parameters
    ----------
    update : callable
        ``update(divergence) -> chi``: the least-squares step on a periodic volume of `size`, given ``G^T (z - u)``
        with the split z and its scaled multiplier u; it may use up its argument. None asks for the first map, unless
        there is a `start`.
    size : tuple of int
    voxel_size : sequence of float
        mm.
    threshold : float
        What the shrinkage takes from the gradient's length: weight of the total variation over that of the split.
    shape : tuple of int
        The part of the volume, at its start, in which the change is measured.
    tol, max_iterations
        When to stop, as for `invert_tv`.
    start : ndarray, float32, of `size`, optional
        The first map; used up.
    region : ndarray of bool, of `size`, optional
        Where variation counts; everywhere by default.

    Returns
    -------
    ndarray, float32, of `size`
    """
    per_mm = np.divide(1, voxel_size).astype(np.float32)
    threshold = np.float32(threshold)
    region = np.ascontiguousarray(np.broadcast_to(region, size))
    chi = update(None) if start is None else start
    split = np.zeros((3, *size), np.float32)
    # Nothing is split yet that the first step could be relaxed towards.
    relaxation = np.float32(1)
    for _ in range(max_iterations):
        _relax_gradient(chi, split, region, per_mm, threshold, relaxation)
        previous, chi = chi, update(_divergence(split, region, per_mm, threshold))
        relaxation = np.float32(RELAXATION)
        if tol and relative_change(previous, chi, shape) <= tol:
            break
    return chi


def _divergence(split, region, per_mm, threshold):
    divergence = np.empty_like(split[0])
    write_divergence(split, divergence, region, per_mm, threshold)
    return divergence


def relative_change(previous, chi, shape):
    """Return the length of the difference of two volumes over that of the second, both cut to `shape`."""
    changed, length = _squares(previous, chi, shape).sum(axis=0)
    return np.sqrt(changed / length) if length else 0.


def least_squares_update(data, squared, kernel, squared_gradient, penalty, induced=None):
    """Return the step of `minimize_tv` for ``1/2 |W (d * chi - data)|^2``.

    Parameters
    ----------
    data, squared : ndarray, float32
        The field and W^2; the second is used up.
    kernel, squared_gradient : ndarray, float32
        Half spectra; the second is used up.
    penalty : float
        Weight of the total variation over the threshold of `minimize_tv`, mm^2.
    induced : ndarray, float32, optional
        The field of the map that `minimize_tv` starts with; used up.

    Returns
    -------
    callable
    """
    # s = share (q - data) with the names of `field_split_update`.
    share = squared
    share /= share + np.float32(DATA_PENALTY)

    def relax(induced, state, target):
        relax_field(induced, data, share, state, target, np.float32(RELAXATION))
    return field_split_update(data.copy() if induced is None else induced, kernel, squared_gradient, penalty, relax)


def field_split_update(state, kernel, squared_gradient, penalty, relax, data_penalty=DATA_PENALTY):
    """Return the step of `minimize_tv` for any data term that is a sum over voxels, by a split of the field.

    Parameters
    ----------
    state : ndarray, float32
        What the step keeps between its calls: ``q = d * chi + s`` with the scaled multiplier s. The split y and s are
        functions of q.
    kernel, squared_gradient : ndarray, float32
        Half spectra; the second is used up.
    penalty : float
        As for `least_squares_update`.
    relax : callable
        ``relax(induced, state, target)`` writes the next state with ``induced = d * chi``, and the target ``y - s``.
    data_penalty : float, optional
        Weight of the field's split.

    Returns
    -------
    callable
    """
    size = state.shape
    target = state.copy()
    penalty = np.float32(penalty / data_penalty)
    # The mean of a map makes no field: it stays zero.
    squared_gradient[0, 0, 0] = np.inf

    def update(divergence):
        both = divergence is not None
        part = rfftn(divergence, size) if both else None
        del divergence  # none but this function holds it
        spectrum = rfftn(target, size)
        _solve(spectrum, part if both else spectrum, kernel, squared_gradient, penalty, both)
        del part
        induced = irfftn(spectrum * kernel, size)
        relax(induced, state, target)
        del induced
        return irfftn(spectrum, size)
    return update


@njit(cache=True, parallel=True, error_model='numpy')
def _solve(spectrum, part, kernel, squared_gradient, penalty, both):
    """Replace the spectrum of the field's target by that of the map; `part`, the divergence, counts if `both` do."""
    share = penalty if both else np.float32(0)
    for i in prange(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            field, gradient, dipole, squared = spectrum[i, j], part[i, j], kernel[i, j], squared_gradient[i, j]
            for k in range(dipole.size):
                scale = np.float32(1) / (dipole[k] * dipole[k] + penalty * squared[k])
                along, across = dipole[k] * scale, share * scale
                field[k] = complex(along * field[k].real + across * gradient[k].real,
                                   along * field[k].imag + across * gradient[k].imag)


@njit(cache=True, parallel=True)
def relax_field(induced, data, share, state, target, relaxation):
    for i in prange(data.shape[0]):
        for j in range(data.shape[1]):
            for k in range(data.shape[2]):
                excess = share[i, j, k] * (state[i, j, k] - data[i, j, k])
                split = state[i, j, k] - excess
                state[i, j, k] = split + excess + relaxation * (induced[i, j, k] - split)
                target[i, j, k] = state[i, j, k] - 2 * share[i, j, k] * (state[i, j, k] - data[i, j, k])


# Both kernels below keep one array per axis, w = grad chi + u. The multiplier u is w cut to the length `threshold`,
# and the split z is the rest, w - u.

@njit(cache=True, inline='always')
def cut(x, y, z, threshold):
    """Return the factor that cuts a vector to the length `threshold`."""
    squared = x * x + y * y + z * z
    if squared <= threshold * threshold:
        return np.float32(1)
    return threshold / np.sqrt(squared)


@njit(cache=True, parallel=True, error_model='numpy')
def _relax_gradient(chi, split, region, per_mm, threshold, relaxation):
    nx, ny, nz = chi.shape
    for i in prange(nx):
        ahead_x = i + 1 if i + 1 < nx else 0
        for j in range(ny):
            ahead_y = j + 1 if j + 1 < ny else 0
            for k in range(nz):
                ahead_z = k + 1 if k + 1 < nz else 0
                x, y, z = split[0, i, j, k], split[1, i, j, k], split[2, i, j, k]
                # relaxation * grad + (1 - relaxation) * z + u
                keep = (1 - relaxation) + relaxation * cut(x, y, z, threshold * region[i, j, k])
                here = chi[i, j, k]
                split[0, i, j, k] = keep * x + relaxation * per_mm[0] * (chi[ahead_x, j, k] - here)
                split[1, i, j, k] = keep * y + relaxation * per_mm[1] * (chi[i, ahead_y, k] - here)
                split[2, i, j, k] = keep * z + relaxation * per_mm[2] * (chi[i, j, ahead_z] - here)


@njit(cache=True, parallel=True, error_model='numpy')
def write_divergence(split, divergence, region, per_mm, threshold):
    """Write ``G^T (z - u)``, which is ``G^T (w - 2 u)``."""
    nx, ny, nz = divergence.shape
    for i in prange(nx):
        behind_x = i - 1 if i else nx - 1
        for j in range(ny):
            behind_y = j - 1 if j else ny - 1
            before_z = _reflected(split, region, i, j, nz - 1, threshold, 2)
            for k in range(nz):
                x, y, z = split[0, i, j, k], split[1, i, j, k], split[2, i, j, k]
                factor = 1 - 2 * cut(x, y, z, threshold * region[i, j, k])
                behind = _reflected(split, region, behind_x, j, k, threshold, 0)
                below = _reflected(split, region, i, behind_y, k, threshold, 1)
                divergence[i, j, k] = (per_mm[0] * (behind - factor * x) + per_mm[1] * (below - factor * y)
                                       + per_mm[2] * (before_z - factor * z))
                before_z = factor * z


@njit(cache=True, inline='always')
def _reflected(split, region, i, j, k, threshold, axis):
    """Return one component of ``w - 2 u``."""
    kept = cut(split[0, i, j, k], split[1, i, j, k], split[2, i, j, k], threshold * region[i, j, k])
    return (1 - 2 * kept) * split[axis, i, j, k]


@njit(cache=True, parallel=True, fastmath={'reassoc', 'nsz'})
def _squares(previous, chi, shape):
    """Return the squared length of ``previous - chi`` and of ``chi`` in each plane of `shape`."""
    sums = np.zeros((shape[0], 2))
    for i in prange(shape[0]):
        for j in range(shape[1]):
            before, after = previous[i, j], chi[i, j]
            changed, length = np.float32(0), np.float32(0)
            for k in range(shape[2]):
                step = before[k] - after[k]
                changed += step * step
                length += after[k] * after[k]
            sums[i, 0] += changed
            sums[i, 1] += length
    return sums
