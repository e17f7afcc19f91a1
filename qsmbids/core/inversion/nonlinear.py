"""Inversion with total variation of data compared as complex numbers, so that no voxel is further off than a turn."""

import numpy as np
from numba import njit, prange

from qsmbids.core.checks import check_positive, check_weighted_field
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import irfftn, rfftn
from qsmbids.core.grid import bounding_box, embed, embed_mask, padded_size, place, squared_gradient
from qsmbids.core.inversion.strength import automatic_strength
from qsmbids.core.inversion.variational import RELAXATION, field_split_update, gradient_scale, minimize_tv

PHASE_SCALE = 20.
"""Phase in rad that 1 ppm makes at 3 T in an echo time of 25 ms."""

# Twice the largest squared weight. At less than once, the multiplier of a voxel with bad data pushes its phase beyond
# half a turn, where another turn is nearer, and it jumps between both for ever; at once the step is steep there.
_DATA_PENALTY = np.float32(2)
# Sets the pace of the harmonic part.
_HARMONIC_PENALTY = np.float32(3)
_RELAXATION = np.float32(RELAXATION)


def invert_nltv(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, phase_scale=PHASE_SCALE, lambda_=None,
                tol=1e-3, max_iterations=400):
    """Invert a local field with total variation, comparing complex numbers (FANSI).

    Minimises ``1/2 |W (exp(i s d * chi) - exp(i s field))|^2 / s^2 + lambda_ sum |grad chi|`` by the alternating
    direction method of multipliers, with one split for the phase and one for the gradient. Errors much smaller than a
    turn count as in :func:`~qsmbids.core.inversion.variational.invert_tv`, which is the limit of a small scale; larger
    ones, as noise and unwrapping leave them in and around strong sources, count less and less, and whole turns nothing.

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
    phase_scale : float, default 20
        s in rad per ppm: a residual of ``pi / s`` ppm is half a turn. The default is the phase of 3 T and an echo time
        of 25 ms; for a single echo take ``2 pi TE`` times the centre frequency in MHz.
    lambda_ : float, optional
        Weight of the total variation in ppm mm, as for `invert_tv`: it means the same for every scale and voxel size.
        The published one is ``s lambda_``; its consensus value, 5e-4, is 2.5e-5 here. By default
        :func:`~qsmbids.core.inversion.strength.automatic_strength`.
    tol : float, default 1e-3
        Stop when an iteration changes the map by less than this part of it.
    max_iterations : int, default 400

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
    Two pairs of Fourier transforms per iteration, of the mask's bounding box with a margin. `a` times the field gives
    `a` times the map when `lambda_` is `a` times as large and `phase_scale` that part of it: the phase is what must
    stay the same.

    References
    ----------
    Milovic C, Bilgic B, Zhao B, Acosta-Cabronero J, Tejos C. Magn Reson Med 2018;80:814-821.
    """
    return _minimize(_phase_update, field, mask, voxel_size, b0_dir, weight, phase_scale, lambda_, tol, max_iterations)


def invert_whqsm(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, phase_scale=PHASE_SCALE, lambda_=None,
                 beta=150., tol=1e-3, max_iterations=400):
    """Invert a field with remains of a background with total variation (weak-harmonic QSM).

    As :func:`invert_nltv`, with a second field h that takes what is almost harmonic inside the mask M. Minimises
    ``1/2 |W (exp(i s (d * chi + h)) - exp(i s field))|^2 / s^2 + lambda_ sum |grad chi| + beta / 2 |M lap h|^2``.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir, weight, phase_scale, lambda_, tol, max_iterations
        As for `invert_nltv`.
    beta : float, default 150
        Weight of the Laplacian of h in mm^4. A large one leaves h harmonic.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Susceptibility in ppm; zero outside the mask.

    Raises
    ------
    ValueError
        As `invert_nltv`.

    Notes
    -----
    Three pairs of Fourier transforms per iteration. Without a background to take, the freedom of h costs accuracy.

    References
    ----------
    Milovic C, Bilgic B, Zhao B, Langkammer C, Tejos C, Acosta-Cabronero J. Magn Reson Med 2019;81:1399-1411.
    """
    check_positive(beta=beta)

    def make_update(data, squared, inside, kernel, squared_gradient, penalty):
        return _harmonic_update(data, squared, inside, kernel, squared_gradient, penalty, beta)
    return _minimize(make_update, field, mask, voxel_size, b0_dir, weight, phase_scale, lambda_, tol, max_iterations)


def _minimize(make_update, field, mask, voxel_size, b0_dir, weight, phase_scale, lambda_, tol, max_iterations):
    field, mask, voxel_size, weight = check_weighted_field(field, mask, voxel_size, weight)
    check_positive(phase_scale=phase_scale, tol=tol, max_iterations=max_iterations)
    if not field[mask].any():
        return np.zeros_like(field)
    if lambda_ is None:
        lambda_ = automatic_strength(field, mask, voxel_size, b0_dir=b0_dir, weight=weight)
    check_positive(lambda_=lambda_)

    box = bounding_box(mask)
    size = padded_size(mask[box].shape)
    threshold = phase_scale * gradient_scale(field, mask)
    data = embed(field, mask, box, size)
    data *= np.float32(phase_scale)
    inside = embed_mask(mask, box, size)
    update = make_update(data, embed(np.square(weight), mask, box, size), inside,
                         dipole_kernel(size, voxel_size, b0_dir),
                         squared_gradient(size, voxel_size), np.float32(phase_scale * lambda_ / threshold))
    phase = minimize_tv(update, size, voxel_size, threshold, mask[box].shape, tol, max_iterations, region=inside)
    phase /= np.float32(phase_scale)
    return place(phase, mask, box)


def _phase_update(data, squared, _, kernel, squared_gradient, penalty):
    """Return the step of `minimize_tv` for a phase in rad, which keeps a split of it between its calls."""
    def relax(induced, state, target):
        _relax_phase(induced, data, squared, state, target, _DATA_PENALTY, _RELAXATION)
    return field_split_update(data.copy(), kernel, squared_gradient, penalty, relax, _DATA_PENALTY)


def _harmonic_update(data, squared, inside, kernel, squared_gradient, penalty, beta):
    """Return the step of `minimize_tv` with a harmonic part, of whose Laplacian it keeps a split.

    With the phase's target t, the Laplacian's v, and both penalties r and m, chi and h minimise
    ``r |D chi + h - t|^2 + penalty |G chi - (z - u)|^2 + m |L h - v|^2``; h is eliminated first.
    """
    size = data.shape
    ratio = _HARMONIC_PENALTY / _DATA_PENALTY
    share = np.float32(beta / (beta + _HARMONIC_PENALTY))
    state, target = data.copy(), data.copy()
    curvature = np.zeros(size, np.float32)

    def update(divergence):
        both = divergence is not None
        part = rfftn(divergence, size) if both else None
        del divergence  # none but this function holds it
        # The split less its multiplier, as for the phase.
        harmonic = rfftn(np.where(inside, (1 - 2 * share) * curvature, curvature), size)
        spectrum = rfftn(target, size)
        _solve_harmonic(spectrum, harmonic, part if both else spectrum, kernel, squared_gradient, penalty, ratio, both)
        del part
        induced = spectrum * kernel
        induced += harmonic
        _relax_phase(irfftn(induced, size), data, squared, state, target, _DATA_PENALTY, _RELAXATION)
        del induced
        harmonic *= squared_gradient
        _relax_curvature(irfftn(harmonic, size), inside, share, curvature, _RELAXATION)
        return irfftn(spectrum, size)
    return update


@njit(cache=True, parallel=True, error_model='numpy')
def _solve_harmonic(spectrum, harmonic, part, kernel, squared_gradient, penalty, ratio, both):
    """Replace the targets of the phase and of the negative Laplacian by the spectra of chi and h."""
    one = np.float32(1)
    weight = penalty if both else np.float32(0)
    for i in prange(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            for k in range(kernel.shape[2]):
                dipole, squared, wanted = kernel[i, j, k], squared_gradient[i, j, k], spectrum[i, j, k]
                # What h takes of a phase that only it explains.
                taken = one / (one + ratio * squared * squared)
                free = ratio * squared * taken * harmonic[i, j, k]
                norm = penalty * squared + _DATA_PENALTY * dipole * dipole * (one - taken)
                chi = (_DATA_PENALTY * dipole * (wanted - taken * wanted - free) + weight * part[i, j, k])
                chi *= one / norm if norm > 0 else np.float32(0)
                harmonic[i, j, k] = free + taken * (wanted - dipole * chi)
                spectrum[i, j, k] = chi


# As in the linear inversion, the state is ``q = d * chi + s`` with the scaled multiplier s; both it and the split
# ``q - s`` are functions of q, and the target of the next step is ``q - 2 s``.

@njit(cache=True, parallel=True, error_model='numpy')
def _relax_phase(induced, data, squared, state, target, penalty, relaxation):
    for i in prange(data.shape[0]):
        for j in range(data.shape[1]):
            for k in range(data.shape[2]):
                split = np.float32(0.5) * (state[i, j, k] + target[i, j, k])
                relaxed = state[i, j, k] + relaxation * (induced[i, j, k] - split)
                state[i, j, k] = relaxed
                target[i, j, k] = relaxed - 2 * _multiplier(relaxed - data[i, j, k], squared[i, j, k], penalty)


@njit(cache=True, inline='always')
def _multiplier(distance, squared, penalty):
    """Return ``distance - y`` for the y that minimises ``squared (1 - cos y) + penalty / 2 (y - distance)^2``.

    Of the turns, the nearest has the least. From there to half a turn the derivative is concave and starts from below,
    at what a linear one would give, so that Newton's method rises to its root without a bracket.
    """
    turns = np.float32(2 * np.pi) * np.rint(distance / np.float32(2 * np.pi))
    far = abs(distance - turns)
    near = far * penalty / (penalty + squared)
    # Below, the linear one is right to 1e-4.
    if far > np.float32(0.02):
        for _ in range(20):
            step = (penalty * (far - near) - squared * np.sin(near)) / (penalty + squared * np.cos(near))
            near += step
            if step < np.float32(1e-4) * near:
                break
    return np.copysign(far - near, distance - turns)


@njit(cache=True, parallel=True)
def _relax_curvature(found, inside, share, state, relaxation):
    for i in prange(state.shape[0]):
        for j in range(state.shape[1]):
            for k in range(state.shape[2]):
                kept = 1 - share if inside[i, j, k] else np.float32(1)
                state[i, j, k] += relaxation * (found[i, j, k] - kept * state[i, j, k])
