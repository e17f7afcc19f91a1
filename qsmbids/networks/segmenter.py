"""The network that segments the deep nuclei, and what it is given.

It sees a susceptibility map, and the magnitude and R2* where there are, on voxels of `STEP`, axes to the right, front and
top. All are put relative to the median and the spread inside the mask, so that neither the amplitude nor the reference
of a map matters. It knows no sides: a head and its mirror image are the same to it.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from qsmbids.core import labels
from qsmbids.networks.backbones import CompactUNet

STEP = 1.5
"""Voxels of the network, mm."""
CHANNELS = ('chi', 'mask', 'right', 'front', 'top', 'magnitude', 'r2star')
REACH = 60.
"""mm from the middle of the mask at which the channels of the position are one."""
CLIP = 8.
"""Largest value of an input, in units of its spread."""
STRUCTURES = tuple(name for name, structure in labels.STRUCTURES.items() if not structure.parts)
"""Names of what it tells apart."""


def training_inputs(batch, device):
    """Return the arguments of `forward`, the true classes and how they are merged for a batch of labelled patches."""
    volumes = torch.from_numpy(batch['inputs']).to(device).float().contiguous(memory_format=torch.channels_last_3d)
    truth = torch.from_numpy(batch['classes']).to(device).long()
    return {'volumes': volumes}, truth, torch.from_numpy(batch['merged']).to(device).long()


class SegmentationNetwork(nn.Module):
    """Susceptibility map to structures.

    Parameters
    ----------
    width : int, default 24
        Channels of the backbone's first scale.
    structures : sequence of str
        Names of the classes after the background, as in `core.labels.STRUCTURES`.
    """

    target = 'classes'
    prepare = staticmethod(training_inputs)

    def __init__(self, width=24, structures=STRUCTURES):
        super().__init__()
        self.structures = tuple(structures)
        self.backbone = CompactUNet(len(CHANNELS), width, 1 + len(self.structures))

    def forward(self, volumes):
        """Return scores whose softmax over the classes are probabilities.

        Parameters
        ----------
        volumes : Tensor, shape (batch, len(CHANNELS), nx, ny, nz)
            Of `network_inputs`.

        Returns
        -------
        Tensor, shape (batch, 1 + len(structures), nx, ny, nz)
        """
        return self.backbone(volumes).float()


def network_inputs(chi, mask, middle=None, magnitude=None, r2star=None):
    """Return what the network sees.

    Parameters
    ----------
    chi : ndarray, float32, shape (nx, ny, nz)
    mask : ndarray of bool, shape (nx, ny, nz)
    middle : sequence of float, optional
        Middle of the whole mask in voxels; that of `mask` if not given.
    magnitude, r2star : ndarray, float32, shape (nx, ny, nz), optional

    Returns
    -------
    ndarray, float32, shape (len(CHANNELS), nx, ny, nz)
    """
    volumes = np.zeros((len(CHANNELS), *mask.shape), np.float32)
    for name, volume in (('chi', chi), ('magnitude', magnitude), ('r2star', r2star)):
        if volume is not None:
            volumes[CHANNELS.index(name)] = standardised(volume, mask)
    volumes[CHANNELS.index('mask')] = mask
    if middle is None:
        middle = ndimage.center_of_mass(mask)
    for axis, name in enumerate(('right', 'front', 'top')):
        position = (np.arange(mask.shape[axis], dtype=np.float32) - np.float32(middle[axis])) * np.float32(STEP / REACH)
        volumes[CHANNELS.index(name)] = position.reshape([-1 if axis == other else 1 for other in range(3)])
    return volumes


def standardised(volume, mask):
    """Return a volume relative to its median and median deviation inside the mask, clipped, zero outside."""
    values = volume[mask]
    if not values.size:
        return np.zeros_like(volume)
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    scaled = np.clip((volume - middle) / np.float32(max(spread, 1e-12)), -CLIP, CLIP)
    return np.where(mask, scaled, 0).astype(np.float32)


def resampling(count, step, new_count, new_step):
    """Return the matrix that takes values along an axis to another step, the middles of both grids being the same.

    Linear between wide voxels, a weighted mean over narrow ones.

    Returns
    -------
    ndarray, float32, shape (new_count, count)
    """
    here = (np.arange(count) - (count - 1) / 2) * step
    there = (np.arange(new_count) - (new_count - 1) / 2) * new_step
    there = np.clip(there, here[0], here[-1])
    weight = np.maximum(1 - np.abs(there[:, None] - here) / max(step, new_step), 0)
    return (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)


def along_axes(volume, matrices):
    """Return a volume after one matrix along each axis."""
    first, second, third = matrices
    volume = np.matmul(second, volume @ third.T)
    return np.tensordot(first, volume, 1)
