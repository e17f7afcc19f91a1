"""Inversion of the total field by a network: susceptibility without removal of the background."""

import numpy as np
import torch

from qsmbids.core.checks import check_mask, check_volume, check_voxel_size
from qsmbids.core.grid import place
from qsmbids.networks.autoqsm import start_direct
from qsmbids.networks.frame import Frame
from qsmbids.networks.operators import inference
from qsmbids.networks.shipped import shipped
from qsmbids.networks.weights import load_weights


def invert_autoqsm(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weights='autoqsm'):
    """Compute susceptibility from the total field by one network.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
        Total field in ppm. Values outside the mask are not used.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the field is known. The network is not shown it, but sees no field outside of it.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float, default (0, 0, 1)
        Unit vector of the main field in voxel axes. It gives the network's order of axes (networks.frame); the network
        knows of no tilt.
    weights : str
        Name of weights that come with qsmbids, or the path of a file of your own.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Susceptibility in ppm; zero outside the mask.

    Raises
    ------
    ValueError
        If shapes differ, the field is not finite inside the mask, or the mask is empty or nowhere 4 mm deep.
    FileError
        If the weights are missing or damaged.

    References
    ----------
    Wei H et al. NeuroImage 2019;202:116064.
    """
    network, _ = load_weights(shipped(weights))
    mask = check_mask(mask)
    return invert_total(network, check_volume('field', field, mask), mask, check_voxel_size(voxel_size), b0_dir)


def invert_total(network, field, mask, voxel_size, b0_dir):
    """Return the map of a network that takes the total field, ppm."""
    frame = Frame(voxel_size, b0_dir)
    mask = frame.turn(mask)
    start = start_direct(frame.turn(field), mask, frame.voxel_size)
    device = next(network.parameters()).device
    total = torch.from_numpy(start.total)[None, None].to(device)
    with inference(device):
        found, = network(total, size=frame.size(start.total.shape))
    return frame.back(place(found[0, 0].float().cpu().numpy(), mask, start.box) * np.float32(start.scale))
