"""The axes and voxels that networks are trained with, and the way of measured volumes to them: one rule for all.

The axes are taken in the order of their angles to B0, the nearest last. Voxels that are smaller or larger than those of
the training are brought into its range.
"""

import numpy as np
from torch.nn import functional

from qsmbids.core.dipole import unit_direction

FINEST, COARSEST = (.85, .85, .85), (1.2, 1.2, 2.4)
"""Voxel sizes that the networks are trained with, mm; the third axis is the one along B0."""


class Frame:
    """How volumes of one geometry are turned for a network.

    Parameters
    ----------
    voxel_size, b0_dir : sequence of float
        Of the volumes: mm, and the direction of the main field in voxel axes; ValueError unless it is one.

    Attributes
    ----------
    voxel_size, b0_dir : tuple of float
        Of the turned volumes.
    """

    def __init__(self, voxel_size, b0_dir):
        self._order = np.argsort(np.abs(unit_direction(b0_dir)), kind='stable')
        self.voxel_size, self.b0_dir = (tuple(float(values[axis]) for axis in self._order)
                                        for values in (voxel_size, b0_dir))

    def turn(self, volume):
        """Return a volume with its axes in the network's order."""
        return np.ascontiguousarray(volume.transpose(self._order))

    def back(self, volume):
        """Undo `turn`."""
        return np.ascontiguousarray(volume.transpose(np.argsort(self._order)))

    def size(self, shape):
        """Return how many voxels the network's grid has over the field of view of a turned volume of `shape`."""
        wanted = np.clip(self.voxel_size, FINEST, COARSEST)
        return tuple(max(1, int(round(n * step / new))) for n, step, new in zip(shape, self.voxel_size, wanted))


def seen_at(backbone, volumes, size):
    """Return what a backbone makes of volumes on a grid of another size over the same field of view, on their own grid.

    Parameters
    ----------
    backbone : Module
    volumes : Tensor, shape (batch, channel, nx, ny, nz)
    size : sequence of int, or None
        None, or the size that they have, leaves them as they are.
    """
    shape = volumes.shape[2:]
    if size is None or tuple(size) == tuple(shape):
        return backbone(volumes)
    found = backbone(functional.interpolate(volumes, size=tuple(size), mode='trilinear'))
    return functional.interpolate(found.float(), size=tuple(shape), mode='trilinear')
