"""autoQSM: a network from the total field straight to susceptibility, which is shown no mask.

The field is divided by the RMS of what in it differs from its mean over small balls: what sources outside make inside
a mask hardly counts there, and what comes out goes with the field.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from qsmbids.core.background.balls import BallFilter, ball_radius
from qsmbids.core.fourier import fast_size
from qsmbids.core.grid import bounding_box, embed
from qsmbids.networks.backbones import BACKBONES
from qsmbids.networks.frame import seen_at
from qsmbids.networks.operators import batch_volumes

RADIUS = 4.
"""Of the balls, mm."""


class DirectStart(NamedTuple):
    """What autoQSM starts from: the box of the mask, of a size with fast transforms.

    Attributes
    ----------
    total : ndarray, float32, shape of the box
        The measured field without its mean inside the mask, zero outside; divided by `scale`.
    scale : float
        ppm.
    box : tuple of slice
        Where the start of this array lies in the volume.
    """

    total: np.ndarray
    scale: float
    box: tuple


def start_direct(field, mask, voxel_size):
    """Prepare a total field in ppm that is finite inside the mask.

    Raises
    ------
    ValueError
        If no ball of `RADIUS` fits inside the mask.
    """
    box = bounding_box(mask)
    filtered = BallFilter(mask[box], ball_radius(RADIUS, voxel_size), voxel_size)
    inside = np.where(mask[box], field[box], 0).astype(np.float32)
    scale = float(np.sqrt(np.mean(np.square(filtered(inside)[filtered.kept]), dtype=float)))
    total = embed(field - np.float32(field[mask].mean(dtype=float)), mask, box, fast_size(mask[box].shape))
    total /= np.float32(scale or 1)
    return DirectStart(total, scale, box)


def training_inputs(batch, device):
    """Return what a training stream has for `forward`, the true map and where it counts."""
    volumes = batch_volumes(batch, ('total', 'chi', 'mask'), device)
    return {'total': volumes['total']}, volumes['chi'], volumes['mask']


class AutoQSM(nn.Module):
    """A network alone, from the total field to susceptibility.

    Parameters
    ----------
    backbone : {'compact', 'vnet'}
        The V-Net of width 8 has a quarter fewer parameters than the U-Net of the paper.
    width : int, default 24
        Channels of the backbone's first scale.

    References
    ----------
    Wei H et al. NeuroImage 2019;202:116064. The layers are those of the backbone instead.
    """

    target = 'direct'
    prepare = staticmethod(training_inputs)

    def __init__(self, backbone='compact', width=24):
        super().__init__()
        self.backbone = BACKBONES[backbone](1, width)

    def forward(self, total, size=None):
        """Return a tuple of the map, divided by the scale.

        Parameters
        ----------
        total : Tensor, shape (batch, 1, nx, ny, nz)
            As in `DirectStart`.
        size : sequence of int, optional
            Of the grid that the backbone works on, `frame.Frame.size`; that of the volume if not given.
        """
        # The background is many times stronger than what is sought: bfloat16 would round that away.
        with torch.autocast(total.device.type, enabled=False):
            return (10 * seen_at(self.backbone, total / 20, size),)
