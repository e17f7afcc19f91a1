"""Background removal by networks, with the signature of every background removal."""

import numpy as np
import torch

from qsmbids.core.checks import check_mask, check_volume, check_voxel_size
from qsmbids.core.grid import place
from qsmbids.networks.frame import Frame
from qsmbids.networks.operators import inference
from qsmbids.networks.shells import begin
from qsmbids.networks.shipped import shipped
from qsmbids.networks.weights import load_weights

MAPS = ('projected', 'network')


def remove_background_pocsnet1(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), output='projected', weights='pocsnet1'):
    """Remove the background field by POCSnet1: a network and the projection on the measured field in turns.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
        Total field in ppm. Values outside the mask are not used.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the field is reliable. What lies beyond the array counts as outside.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float, default (0, 0, 1)
        Unit vector of the main field in voxel axes. It gives the network's order of axes (networks.frame) and nothing
        else: the projections know no direction. Voxels that it was not trained with the network sees resampled; the
        projections use every voxel.
    output : {'projected', 'network'}
        The last projection on the measured field, or the network's map before it, which has less of the field's noise.
    weights : str
        Name of weights that come with qsmbids, or the path of a file of your own.

    Returns
    -------
    local : ndarray, float32, shape (nx, ny, nz)
        Field of the sources inside the mask, in ppm; zero outside the returned mask.
    mask : ndarray of bool, shape (nx, ny, nz)
        The voxels of the given mask that a ball of 2 mm fits around.

    Raises
    ------
    ValueError
        If shapes differ, the field is not finite inside the mask, the mask is empty or no ball fits inside, or `output`
        is not known.
    FileError
        If the weights are missing or damaged.

    Notes
    -----
    On the mask's bounding box, without patches. Six balls, of which each takes one pair of Fourier transforms in every
    iteration, with one more for all: 84 pairs to start with, 42 for each turn of the network. Peak memory is about 30
    volumes of the box with the compact backbone.

    References
    ----------
    Wang 2022 (POCSnet), section 2. Sun H, Wilman AH. Magn Reson Med 2014;71:1151-1157 (RESHARP, where it starts).
    """
    if output not in MAPS:
        raise ValueError(f'output is {output!r}, must be one of {", ".join(MAPS)}')
    maps, known = _remove(weights, field, mask, voxel_size, b0_dir)
    return maps[MAPS.index(output)], known


def remove_background_sharqnet(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weights='sharqnet'):
    """Remove the background field by SHARQnet: a network from the total field to the local one.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir, weights
        As for `remove_background_pocsnet1`.

    Returns
    -------
    local, mask
        As for `remove_background_pocsnet1`. The local field need not agree with the measured one in anything.

    Raises
    ------
    ValueError, FileError
        As `remove_background_pocsnet1`.

    Notes
    -----
    The amplitude is that of RESHARP with many radii, in 77 pairs of Fourier transforms of the mask's bounding box.

    References
    ----------
    Bollmann S et al. Z Med Phys 2019;29:139-149.
    """
    maps, known = _remove(weights, field, mask, voxel_size, b0_dir)
    return maps[0], known


def _remove(weights, field, mask, voxel_size, b0_dir):
    network, _ = load_weights(shipped(weights))
    mask = check_mask(mask)
    return remove_with(network, check_volume('field', field, mask), mask, check_voxel_size(voxel_size), b0_dir)


def remove_with(network, field, mask, voxel_size, b0_dir):
    """Return a network's maps, ppm, the one after the last projection first, and the mask in which they hold."""
    frame = Frame(voxel_size, b0_dir)
    mask = frame.turn(mask)
    device = next(network.parameters()).device
    start, balls = begin(frame.turn(field), mask, frame.voxel_size, device=device)
    inputs = {name: torch.from_numpy(getattr(start, name).astype(np.float32, copy=False))[None, None].to(device)
              for name in ('total', 'first', 'mask', 'known')}
    with inference(device):
        maps = network(**inputs, balls=balls, size=frame.size(start.mask.shape))
    known = place(start.known, mask, start.box) > 0
    placed = [place(estimate[0, 0].float().cpu().numpy(), known, start.box) * np.float32(start.scale)
              for estimate in maps]
    return [frame.back(volume) for volume in placed], frame.back(known)
