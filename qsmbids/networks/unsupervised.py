"""Inversion by networks that are fitted to the field of each participant: PedQ-NET and nnU-Net_TV."""

import numpy as np
import torch

from qsmbids.core.checks import check_positive, check_weighted_field
from qsmbids.networks.case import Case
from qsmbids.networks.inversion import choose_strength, descend, run
from qsmbids.networks.operators import dipole_kernels
from qsmbids.networks.pedqnet import MARGIN, Measured, model_loss
from qsmbids.networks.shipped import shipped
from qsmbids.networks.weights import load_weights

PATCH = 96
"""Voxels along each side of what one step sees of a volume that is larger than `WHOLE`."""
WHOLE = 192 ** 3
"""Voxels that one step sees at once: about 3 GB with the compact backbone."""


def invert_pedqnet(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, lambda_=None, steps=40,
                   learning_rate=3e-4, weights='pedqnet', watch=None):
    """Invert a local field by PedQ-NET's reconstruction network, fitted to this field without a true map.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir
        As for :func:`~qsmbids.core.inversion.direct.invert_tikhonov`.
    weight : ndarray, shape (nx, ny, nz), optional
        The field's reliability inside the mask, 0 to 1. By default 1.
    lambda_ : float, optional
        Strength of Tikhonov's regularisation for the map that the network starts from; chosen by
        :func:`~qsmbids.core.inversion.strength.automatic_strength` if not given.
    steps : int, default 40
        Of Adam on this field; 0 takes the network as it was trained.
    learning_rate : float, default 3e-4
    weights : str
        Name of weights that come with qsmbids, or the path of a file of your own.
    watch : callable, optional
        ``watch(step, steps, loss)`` after every step; what it returns ends the fit if it is true, with a valid map.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Susceptibility in ppm; zero outside the mask.

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, the field is not finite inside the mask, `steps` is negative or
        `learning_rate` is not positive.
    FileError
        If the weights are missing or damaged.

    References
    ----------
    Jung W. PedQ-NET, ISMRM. Liu J, Koch KM. MRM 2020 (uQSM), for the fit to one participant.
    """
    check_positive(learning_rate=learning_rate)
    if steps != int(steps) or steps < 0:
        raise ValueError(f'steps is {steps}, must be a whole number, 0 or more')
    network, _ = load_weights(shipped(weights))
    field, mask, voxel_size, weight = check_weighted_field(field, mask, voxel_size, weight)
    if not field[mask].any():
        return np.zeros_like(field)
    strength = choose_strength(field, mask, voxel_size, b0_dir, lambda_, weight)
    case = Case(field, mask, voxel_size, b0_dir, strength)
    fit_to_field(network, case, case.to_grid(weight), int(steps), learning_rate, watch)
    return case.proposed(run(network, case.inputs()))


def invert_nnunet_tv(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, lambda_=None, steps=40,
                     learning_rate=3e-4, weights='nnunet_tv', watch=None):
    """Do what :func:`invert_pedqnet` does with the network whose loss holds the map's total variation."""
    return invert_pedqnet(field, mask, voxel_size, b0_dir=b0_dir, weight=weight, lambda_=lambda_, steps=steps,
                          learning_rate=learning_rate, weights=weights, watch=watch)


def fit_to_field(network, case, weight, steps, learning_rate, watch=None):
    """Fit a network's weights to a case, in place.

    Parameters
    ----------
    network : PedQNet
    case : Case
    weight : ndarray, shape of ``case.start.mask``
    steps, learning_rate, watch
        As for `invert_pedqnet`.

    Returns
    -------
    list of float
        The loss before each step.
    """
    inputs = case.inputs()
    whole = case.start.mask.size <= WHOLE
    size = case.start.mask.shape if whole else tuple(min(n, PATCH) for n in case.start.mask.shape)
    kernel = dipole_kernels(size, [case.voxel_size], [case.b0_dir])
    weight = torch.from_numpy(weight)[None, None] * inputs['mask']
    middles = None if whole else np.argwhere(case.start.mask)
    rng = np.random.Generator(np.random.PCG64(0))

    def loss():
        cut = (...,) if whole else _patch(middles[rng.integers(len(middles))], size, case.start.mask.shape)
        seen = inputs | {name: inputs[name][cut] for name in ('field', 'linear', 'mask')}
        with torch.autocast('cpu', torch.bfloat16):
            chi, = network(**seen)
        return model_loss(chi, Measured(seen['field'], weight[cut], kernel), network.sparsity, 0 if whole else MARGIN)
    return descend(network, loss, steps, learning_rate, watch=watch)


def _patch(middle, size, shape):
    """Return the slices of a patch of a size around a voxel that stays inside the volume."""
    starts = np.clip(np.asarray(middle) - np.array(size) // 2, 0, np.array(shape) - size)
    return (..., *(slice(start, start + n) for start, n in zip(starts, size)))
