"""POCSnet2: dipole inversion that alternates between a network and the measured field.

Both steps of POCS have a strength between them: how far the field is to be trusted against what the network says. It is
the one that makes the error of Tikhonov's map least (core.inversion.strength), and so comes from the field itself; the
network gets it as an input, too. All maps are divided by the RMS of Tikhonov's map: what comes out goes with the field.

The published network begins with Tikhonov's map. It may begin with that of total variation instead, and is shown both:
the one is better where there is little noise and tissue is even, the other keeps what is fine.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import irfftn, rfftn
from qsmbids.core.grid import bounding_box, embed, embed_mask, padded_size
from qsmbids.networks.backbones import BACKBONES
from qsmbids.networks.operators import batch_volumes, convolve, dipole_kernels

TRUST = 4.
"""How many times less than Tikhonov's map the network's is in error, squared: multiplies the strength."""


class Start(NamedTuple):
    """What POCSnet2 starts from: the box of the mask, padded.

    Attributes
    ----------
    field, first, linear, data : ndarray, float32, shape of the padded box
        The local field, the map that the turns begin with and Tikhonov's inside the mask, and the part of each
        projection that the network does not change; divided by `scale`.
    mask : ndarray of bool, shape of the padded box
    smoothing : ndarray, float32, half spectrum
        What a projection leaves of a change of the map.
    level : float
        Of the noise, for the network.
    scale : float
        RMS of Tikhonov's map inside the mask, ppm.
    box : tuple of slice
        Where the start of these arrays lies in the volume.
    """

    field: np.ndarray
    first: np.ndarray
    linear: np.ndarray
    data: np.ndarray
    mask: np.ndarray
    smoothing: np.ndarray
    level: float
    scale: float
    box: tuple

    @property
    def box_shape(self):
        return tuple(side.stop - side.start for side in self.box)


def start(field, mask, voxel_size, b0_dir, strength, sparse=None):
    """Prepare a local field that is not zero everywhere inside the mask.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
        ppm.
    mask : ndarray of bool, shape (nx, ny, nz)
    voxel_size, b0_dir
        As for every inversion.
    strength : float
        Of Tikhonov's regularisation.
    sparse : ndarray, shape (nx, ny, nz), optional
        Map to begin with, ppm; Tikhonov's if not given.

    Returns
    -------
    Start
        The projection of a map N is ``data + smoothing * (N - first)``: the minimum over x of
        ``|d * x - field|^2 + TRUST strength |x - N|^2``.
    """
    box = bounding_box(mask)
    size = padded_size(mask[box].shape)
    inside = embed_mask(mask, box, size)
    padded = embed(field, mask, box, size)
    kernel = dipole_kernel(size, voxel_size, b0_dir)
    projected = rfftn(padded, size)
    projected *= kernel
    linear = irfftn(projected / (np.square(kernel) + np.float32(strength)), size)
    linear *= inside
    scale = float(np.sqrt(np.mean(np.square(linear[inside]), dtype=float)))
    first = linear.copy() if sparse is None else embed(sparse, mask, box, size)
    smoothing = projection_smoothing(kernel, strength)
    data = irfftn(projected * (smoothing / np.float32(TRUST * strength)) + rfftn(first, size) * smoothing, size)
    for volume in (padded, first, linear, data):
        volume /= np.float32(scale)
    return Start(padded, first, linear, data, inside, smoothing, noise_level(strength), scale, box)


def projection_smoothing(kernel, strength):
    """Return the filter that a projection on the field is for a change of the map, float32, half spectrum."""
    strength = np.float32(TRUST * strength)
    return strength / (np.square(kernel) + strength)


def noise_level(strength):
    """Return what the network is told of the noise: near zero for a usual strength."""
    return float(np.log10(strength)) + 1.25


def training_inputs(batch, device):
    """Return the arguments of `forward`, the true map and the mask for a batch of a training stream."""
    volumes = batch_volumes(batch, ('field', 'first', 'linear', 'data', 'mask', 'chi'), device)
    truth, strengths = volumes.pop('chi'), batch['strength']
    kernels = dipole_kernels(truth.shape[2:], batch['voxel_size'], batch['b0_dir'], device)
    strength = torch.from_numpy(TRUST * strengths).to(device)[:, None, None, None, None]
    smoothing = strength / (kernels.square() + strength)
    return volumes | {'level': batch_levels(batch, device), 'smoothing': smoothing}, truth, volumes['mask']


def batch_levels(batch, device):
    """Return what the network is told of the noise of a batch, shape (batch,)."""
    return torch.tensor([noise_level(strength) for strength in batch['strength']], dtype=torch.float32, device=device)


class POCSnet2(nn.Module):
    """Network and projection on the field in turns, with the same weights in every turn.

    Parameters
    ----------
    backbone : {'compact', 'vnet'}
    width : int
        Channels of the backbone's first scale.
    unrolls : int, default 3
        Turns.
    begin : {'tikhonov', 'tv'}
        Whose map the turns begin with; the backbone sees Tikhonov's beside that of total variation.

    References
    ----------
    Wang 2022 (POCSnet), section 2. The projection is the proximal step of its released code.
    """

    target = 'chi'
    prepare = staticmethod(training_inputs)

    def __init__(self, backbone='compact', width=24, unrolls=3, begin='tikhonov'):
        super().__init__()
        self.begins_sparse = begin == 'tv'
        self.backbone = BACKBONES[backbone](5 if self.begins_sparse else 4, width)
        self.unrolls = unrolls

    def forward(self, field, first, linear, data, mask, level, smoothing):
        """Return the map after the last projection, and that of the network before it, divided by the scale.

        Parameters
        ----------
        field, first, linear, data, mask : Tensor, shape (batch, 1, nx, ny, nz)
            As in `Start`, float32.
        level : Tensor, shape (batch,)
        smoothing : Tensor, shape (batch, 1, nx, ny, nz // 2 + 1)

        Returns
        -------
        projected, proposed : Tensor, shape (batch, 1, nx, ny, nz)
            Both zero outside the mask.
        """
        known = [3 * field, mask, level[:, None, None, None, None] * mask]
        if self.begins_sparse:
            known.append(linear)
        projected = first
        for _ in range(self.unrolls):
            change = self.backbone(torch.cat([projected, *known], dim=1))
            proposed = (projected + change.float()) * mask
            projected = (data + convolve(proposed - first, smoothing)) * mask
        return projected, proposed


class DeepQSM(nn.Module):
    """A network from the local field straight to the map, without a step on the data.

    Parameters
    ----------
    backbone, width
        As for `POCSnet2`.

    References
    ----------
    Bollmann S et al. NeuroImage 2019;195:373-383.
    """

    target = 'chi'
    prepare = staticmethod(training_inputs)
    begins_sparse = False

    def __init__(self, backbone='compact', width=24):
        super().__init__()
        self.backbone = BACKBONES[backbone](2, width)

    def forward(self, field, mask, **_):
        """Return a tuple of the map, divided by the scale; what only `POCSnet2` uses is not looked at."""
        return (self.backbone(torch.cat([3 * field, mask], dim=1)).float() * mask,)
