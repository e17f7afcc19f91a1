"""PedQ-NET's reconstruction: a network from the local field to susceptibility that learns without any true map.

What it is taught by is the measured field: the map is good if its own field is the measured one. The loss compares the
phases of both, weighted by how sure the field is, so that noise where there is no signal and outliers count little;
nnU-Net_TV adds the total variation of the map. The same loss fits the network to one participant.
"""

from typing import NamedTuple

import torch
from torch import nn

from qsmbids.networks.backbones import BACKBONES
from qsmbids.networks.operators import batch_volumes, convolve, dipole_kernels, gradient
from qsmbids.networks.pocsnet import batch_levels

MARGIN = 16
"""Voxels at the rim of a patch whose field is made by sources outside of it, and so does not count."""
PHASE = .6
"""Phase in rad that a field of 1 times the scale makes, as at 3 T after 25 ms for a map whose RMS is 30 ppb: the same
for all, so that the map goes with the field. An error of several times that counts less than in proportion."""
SMOOTH = 1e-3
"""Phase in rad below which the loss is a parabola: what has no slope at zero has no direction there either."""


class Measured(NamedTuple):
    """What a map is compared with.

    Attributes
    ----------
    field : Tensor, shape (batch, 1, nx, ny, nz)
        Divided by the scale.
    weight : Tensor, shape of `field`
        Zero where the field is not known.
    kernel : Tensor, shape (batch, 1, nx, ny, nz // 2 + 1)
        Of the dipole.
    """

    field: torch.Tensor
    weight: torch.Tensor
    kernel: torch.Tensor


def model_loss(chi, measured, sparsity=0., margin=0):
    """Return how far the field of a map is from the measured one, plus its total variation.

    Parameters
    ----------
    chi : Tensor, shape (batch, 1, nx, ny, nz)
        Divided by the scale.
    measured : Measured
    sparsity : float, default 0
        Weight of the mean length of the map's gradient per voxel, both relative to the scale.
    margin : int, default 0
        Voxels at each side that do not count.

    Returns
    -------
    Tensor
        Mean over the batch of ``|w (exp(i s d * chi) - exp(i s field))|_1 / (s |w|_1)`` with s = `PHASE`, which for
        small phases is the mean error of the field relative to the scale.

    References
    ----------
    Jung W. PedQ-NET, ISMRM, the loss L_model. Liu J, Koch KM. uQSM, MRM 2020.
    """
    inner = (..., *[slice(margin, -margin or None)] * 3)
    axes = (1, 2, 3, 4)
    half = PHASE / 2 * (convolve(chi, measured.kernel) - measured.field)[inner]
    weight = measured.weight[inner]
    missed = 2 * (half.sin().square() + SMOOTH ** 2).sqrt()
    total = weight.sum(axes).clamp_min(1e-6)
    loss = (missed * weight).sum(axes) / (PHASE * total)
    if sparsity:
        known = weight > 0
        length = sum(step[inner].square() for step in gradient(chi)).add(SMOOTH ** 2).sqrt()
        loss = loss + sparsity * (length * known).sum(axes) / known.sum(axes).clamp_min(1)
    return loss.mean()


def field_inputs(batch, device):
    """Return the arguments of `forward`, what its map is compared with, and the mask, for a batch of a stream."""
    inputs = batch_volumes(batch, ('field', 'linear', 'mask'), device)
    mask = inputs['mask']
    kernel = dipole_kernels(mask.shape[2:], batch['voxel_size'], batch['b0_dir'], device)
    return inputs | {'level': batch_levels(batch, device)}, Measured(inputs['field'], mask, kernel), mask


class PedQNet(nn.Module):
    """A network that adds to Tikhonov's map what the field asks for.

    Parameters
    ----------
    backbone : {'compact', 'nnunet', 'vnet'}
        Of the abstract, a plain nnU-Net: 'nnunet' with width 16.
    width : int
        Channels of the backbone's first scale.
    sparsity : float, default 0
        Of `model_loss` while it is trained, and when it is fitted: above 0 this is nnU-Net_TV.

    References
    ----------
    Jung W. PedQ-NET, ISMRM. Isensee F et al. Nat Methods 2021;18:203-211 (nnU-Net).
    """

    target = 'field'
    prepare = staticmethod(field_inputs)
    begins_sparse = False

    def __init__(self, backbone='compact', width=24, sparsity=0.):
        super().__init__()
        self.backbone = BACKBONES[backbone](4, width)
        self.sparsity = sparsity

    def forward(self, field, linear, mask, level, **_):
        """Return a tuple of the map, divided by the scale and zero outside the mask.

        Parameters
        ----------
        field, linear, mask, level
            As in `networks.pocsnet.POCSnet2`; what only that uses is not looked at.
        """
        seen = torch.cat([linear, 3 * field, mask, level[:, None, None, None, None] * mask], dim=1)
        return ((linear + self.backbone(seen).float()) * mask,)
