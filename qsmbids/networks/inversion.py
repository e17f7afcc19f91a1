"""Inversion by networks, with the signature of every inversion."""

import numpy as np
import torch

from qsmbids.core.checks import check_positive, check_weighted_field
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import convolve
from qsmbids.core.grid import bounding_box, embed, padded_size, place
from qsmbids.core.inversion.nonlinear import PHASE_SCALE
from qsmbids.core.inversion.strength import automatic_strength, noise_share
from qsmbids.core.inversion.variational import invert_tv
from qsmbids.core.krylov import conjugate_gradients
from qsmbids.networks.case import Case
from qsmbids.networks.operators import convolve as convolve_tensor, dipole_kernels, inference
from qsmbids.networks.pocsnet import TRUST
from qsmbids.networks.shipped import shipped
from qsmbids.networks.weights import load_weights

MAPS = ('projected', 'network')
FLIPS = ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
"""Axes along which a field is turned over before the network sees it; the map is turned back."""
MOST_TILT, STRENGTHS = 40., (.004, .25)
"""What the training held: degrees between B0 and the nearest axis, and strengths."""


def invert_pocsnet2(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, lambda_=None, output='projected',
                    flips=4, weights='pocsnet2', companions=False):
    """Invert a local field by POCSnet2: a network and the projection on the measured field in turns.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir
        As for :func:`~qsmbids.core.inversion.direct.invert_tikhonov`.
    weight : ndarray, shape (nx, ny, nz), optional
        The field's reliability inside the mask, 0 to 1, for the map that the network begins with and for the strength.
        By default 1.
    lambda_ : float, optional
        How little the field is trusted, as the strength of Tikhonov's regularisation; chosen by
        :func:`~qsmbids.core.inversion.strength.automatic_strength` if not given. More is smoother.
    output : {'projected', 'network'}
        The projection of the network's last map on the measured field, or that map itself, which is smoother and
        fainter.
    flips : int, default 4
        The map is the mean over so many of the eight ways to turn over the axes.
    weights : str
        Name of weights that come with qsmbids, or the path of a file of your own.
    companions : bool, default False
        Whether to return what tells how far the map may be trusted, too.

    Returns
    -------
    chi : ndarray, float32, shape (nx, ny, nz)
        Susceptibility in ppm; zero outside the mask.
    maps : dict of ndarray
        Only with `companions`: 'uncertainty', the SD over the flips, and 'departure', the network's map minus its
        projection on the data; ppm.
    warnings : list of str
        Only with `companions`: in what the field is unlike those that the network was trained with.

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, the field is not finite inside the mask, `output` is not known or `flips`
        is not 1 to 8.
    FileError
        If the weights are missing or damaged.

    References
    ----------
    Wang 2022 (POCSnet), section 2.
    """
    if output not in MAPS:
        raise ValueError(f'output is {output!r}, must be one of {", ".join(MAPS)}')
    if flips not in range(1, len(FLIPS) + 1):
        raise ValueError(f'flips is {flips}, must be 1 to {len(FLIPS)}')
    network, _ = load_weights(shipped(weights))
    field, mask, voxel_size, weight = check_weighted_field(field, mask, voxel_size, weight)
    if not field[mask].any():
        nothing = np.zeros_like(field)
        return (nothing, {name: nothing for name in ('uncertainty', 'departure')}, []) if companions else nothing
    strength = choose_strength(field, mask, voxel_size, b0_dir, lambda_, weight)
    sparse = sparse_map(network, field, mask, voxel_size, b0_dir, weight)
    mean, squares, departure = (np.zeros_like(field) for _ in range(3))
    for count, axes in enumerate(FLIPS[:flips], 1):
        case = Case(np.flip(field, axes), np.flip(mask, axes), voxel_size,
                    [-b if axis in axes else b for axis, b in enumerate(b0_dir)], strength,
                    None if sparse is None else np.flip(sparse, axes))
        estimate = run(network, case.inputs())
        maps = {'network': case.proposed, 'projected': case.projected}
        maps = {name: np.flip(maps[name](estimate), axes) for name in (MAPS if companions else (output,))}
        change = maps[output] - mean
        mean += change / count
        squares += change * change * ((count - 1) / count)
        if companions:
            departure += (maps['network'] - maps['projected']) / flips
    if not companions:
        return mean
    maps = {'uncertainty': np.sqrt(squares / max(flips - 1, 1)), 'departure': departure}
    return mean, maps, unfamiliar(case, strength)


def unfamiliar(case, strength):
    """Return in what a case is unlike those that the networks were trained with, as sentences for a report."""
    reasons = []
    if case.resampled:
        sizes = ' x '.join(f'{step:.2f}' for step in case.voxel_size)
        reasons.append(f'The voxels are not of a size that the network was trained with: it worked on {sizes} mm.')
    tilt = float(np.rad2deg(np.arccos(min(abs(case.b0_dir[2]) / np.linalg.norm(case.b0_dir), 1))))
    if tilt > MOST_TILT:
        reasons.append(f'B0 is tilted by {tilt:.0f} degrees against the nearest axis; the network was trained with up '
                       f'to {MOST_TILT:.0f}.')
    if not STRENGTHS[0] <= strength <= STRENGTHS[1]:
        reasons.append(f'The field has {"less" if strength < STRENGTHS[0] else "more"} noise (lambda {strength:.2g}) '
                       f'than those that the network was trained with ({STRENGTHS[0]:g} to {STRENGTHS[1]:g}).')
    return reasons


def sparse_map(network, field, mask, voxel_size, b0_dir, weight=None):
    """Return the map of total variation if the network begins with that, else None."""
    return invert_tv(field, mask, voxel_size, b0_dir=b0_dir, weight=weight) if network.begins_sparse else None


def invert_with(network, field, mask, voxel_size, b0_dir, strength, weight=None):
    """Return both maps of a network that is made like POCSnet2: after the last projection and before it, ppm."""
    case = Case(field, mask, voxel_size, b0_dir, strength,
                sparse_map(network, field, mask, voxel_size, b0_dir, weight))
    estimate = run(network, case.inputs(next(network.parameters()).device))
    return case.projected(estimate), case.proposed(estimate)


def run(network, inputs):
    """Return the network's own map, an array of the shape of its input."""
    device = next(network.parameters()).device
    with inference(device):
        return network(**inputs)[-1][0, 0].float().cpu().numpy()


def invert_deepqsm(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weights='deepqsm'):
    """Invert a local field by a network that takes no step on the data.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir, weights
        As for :func:`invert_pocsnet2`. The direction of B0 turns the axes only; the network knows no other.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Susceptibility in ppm; zero outside the mask.

    Raises
    ------
    ValueError, FileError
        As :func:`invert_pocsnet2`.

    References
    ----------
    Bollmann S et al. NeuroImage 2019;195:373-383.
    """
    return invert_pocsnet2(field, mask, voxel_size, b0_dir=b0_dir, weights=weights, flips=1)


def invert_dll2(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, lambda_=None, tol=1e-3,
                max_iterations=100, weights='pocsnet2'):
    """Invert a local field by least squares with a network's map as its prior.

    Minimises ``|weight (d * chi - field)|^2 + TRUST lambda |chi - prior|^2``: with a weight of 1 the projection of
    POCSnet2.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir, lambda_, weights
        As for :func:`invert_pocsnet2`.
    weight : ndarray, shape (nx, ny, nz), optional
        The field's reliability inside the mask, 0 to 1. By default 1.
    tol : float, default 1e-3
        Ends when the residual of the normal equations has fallen to this share.
    max_iterations : int, default 100
        Of conjugate gradients.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Susceptibility in ppm; zero outside the mask.

    Raises
    ------
    ValueError, FileError
        As :func:`invert_pocsnet2`.

    References
    ----------
    Zhang J et al. NeuroImage 2020;211:116579 (DLL2).
    """
    check_positive(tol=tol, max_iterations=max_iterations)
    network, _ = load_weights(shipped(weights))
    field, mask, voxel_size, weight = check_weighted_field(field, mask, voxel_size, weight)
    if not field[mask].any():
        return np.zeros_like(field)
    strength = choose_strength(field, mask, voxel_size, b0_dir, lambda_, weight)
    prior = invert_with(network, field, mask, voxel_size, b0_dir, strength, weight)[1]
    box = bounding_box(mask)
    size = padded_size(mask[box].shape)
    kernel = dipole_kernel(size, voxel_size, b0_dir)
    squared = np.square(embed(weight, mask, box, size))
    trust = np.float32(TRUST * strength)
    chi = embed(prior, mask, box, size)

    def normal(change):
        induced = convolve(change, kernel)
        induced *= squared
        induced = convolve(induced, kernel)
        induced += trust * change
        return induced
    missed = embed(field, mask, box, size)
    missed -= convolve(chi, kernel)
    missed *= squared
    chi += conjugate_gradients(normal, convolve(missed, kernel), tol, max_iterations)
    return place(chi, mask, box)


def invert_fine(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, lambda_=None, steps=30,
                learning_rate=1e-4, phase_scale=PHASE_SCALE, weights='pocsnet2'):
    """Invert a local field by a network whose weights are fitted to it.

    Lessens ``|weight (exp(i s d * chi(weights)) - exp(i s field))|^2``, until no more of the field is missed than its
    own spectrum says is noise.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir, weight, lambda_, weights
        As for :func:`invert_dll2`.
    steps : int, default 30
        Of Adam, at most.
    learning_rate : float, default 1e-4
    phase_scale : float
        Phase in rad that 1 ppm makes.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Susceptibility in ppm; zero outside the mask.

    Raises
    ------
    ValueError, FileError
        As :func:`invert_pocsnet2`.

    References
    ----------
    Zhang J et al. NeuroImage 2020;211:116579 (FINE).
    """
    check_positive(steps=steps, learning_rate=learning_rate, phase_scale=phase_scale)
    network, _ = load_weights(shipped(weights))
    field, mask, voxel_size, weight = check_weighted_field(field, mask, voxel_size, weight)
    if not field[mask].any():
        return np.zeros_like(field)
    case = Case(field, mask, voxel_size, b0_dir, choose_strength(field, mask, voxel_size, b0_dir, lambda_, weight),
                sparse_map(network, field, mask, voxel_size, b0_dir, weight))
    noise = noise_share(field, mask, voxel_size, b0_dir=b0_dir, weight=weight)
    fit(network, case, case.to_grid(weight), noise, int(steps), learning_rate, phase_scale)
    return case.proposed(run(network, case.inputs()))


def fit(network, case, weight, noise, steps, learning_rate, phase_scale):
    """Fit a network's weights to a case, in place; return the losses of the steps, relative to that of no map."""
    inputs = case.inputs()
    kernel = dipole_kernels(case.start.mask.shape, [case.voxel_size], [case.b0_dir])
    scale = phase_scale * case.start.scale
    measured, weight = scale * inputs['field'], torch.from_numpy(weight)[None, None] * inputs['mask']
    nothing = _phase_error(torch.zeros_like(measured), measured, weight)

    def loss():
        with torch.autocast('cpu', torch.bfloat16):
            chi = network(**inputs)[-1]
        return _phase_error(scale * convolve_tensor(chi, kernel), measured, weight) / nothing
    return descend(network, loss, steps, learning_rate, enough=noise)


def descend(network, loss, steps, learning_rate, enough=None, watch=None):
    """Lessen a loss by Adam on a network's weights, in place.

    Parameters
    ----------
    network : Module
    loss : callable
        Returns the loss of the network as it is, a Tensor.
    steps : int
        At most.
    learning_rate : float
    enough : float, optional
        Loss that no step is taken from.
    watch : callable, optional
        ``watch(step, steps, loss)`` after every step; what it returns ends the descent if it is true.

    Returns
    -------
    list of float
        The loss before each step.
    """
    optimizer = torch.optim.Adam(network.requires_grad_(True).parameters(), lr=learning_rate)
    losses = []
    for step in range(1, steps + 1):
        missed = loss()
        losses.append(missed.item())
        if enough is not None and losses[-1] <= enough:
            break
        optimizer.zero_grad()
        missed.backward()
        optimizer.step()
        if watch and watch(step, steps, losses[-1]):
            break
    network.requires_grad_(False)
    return losses


def _phase_error(phase, measured, weight):
    """Return the sum of ``|weight (exp(i phase) - exp(i measured))|^2``."""
    return (weight.square() * (2 - 2 * torch.cos(phase - measured))).sum()


def choose_strength(field, mask, voxel_size, b0_dir, given, weight=None):
    """Return the strength of Tikhonov's regularisation that is given, or that the field asks for if it is None."""
    if given is None:
        return automatic_strength(field, mask, voxel_size, b0_dir=b0_dir, weight=weight, penalty='identity')
    check_positive(lambda_=given)
    return given
