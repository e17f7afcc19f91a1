"""A measured field as a network is given it: axes and voxels as in training, and the way back.

Voxels that are smaller or larger than those of the training are brought into its range (networks.frame) by the Fourier
series of the field; what the network changes there of its first map goes back by the same way and is added on the grid
of the data, where the projections use every voxel and its true size. Wrapped phase never comes here: fields only are
resampled, as Kiersnowski 2023 asks.

References
----------
Kiersnowski OC, Karsa A, Wastling SJ, Thornton JS, Shmueli K. Magn Reson Med 2023;89:1791-1808.
"""

import numpy as np
import torch

from qsmbids.core.fourier import irfftn, resample, rfftn
from qsmbids.core.grid import place
from qsmbids.networks.frame import Frame
from qsmbids.networks.pocsnet import start


class Case:
    """One field, ready for a network.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir
        As for every inversion; the field is not zero everywhere inside the mask.
    strength : float
        Of Tikhonov's regularisation.
    sparse : ndarray, shape (nx, ny, nz), optional
        Map for the network to begin with, ppm; Tikhonov's if not given.

    Attributes
    ----------
    start : Start
        On the grid of the network.
    voxel_size, b0_dir : tuple of float
        Of that grid.
    resampled : bool
        Whether it is another than that of the data.
    """

    def __init__(self, field, mask, voxel_size, b0_dir, strength, sparse=None):
        self._frame = Frame(voxel_size, b0_dir)
        self._mask = self._frame.turn(mask)
        self.b0_dir = self._frame.b0_dir
        self._data = start(self._frame.turn(field), self._mask, self._frame.voxel_size, self.b0_dir, strength,
                           None if sparse is None else self._frame.turn(sparse))
        padded = self._data.mask.shape
        size = self._frame.size(padded)
        self.resampled = size != padded
        self.start, self.voxel_size = self._data, self._frame.voxel_size
        if self.resampled:
            self.voxel_size = tuple(n * step / new for n, step, new in zip(padded, self.voxel_size, size))
            inside = resample(self._data.mask.astype(np.float32), size) > .5
            field, first = (resample(volume, size) * np.float32(self._data.scale)
                            for volume in (self._data.field, self._data.first))
            self.start = start(field, inside, self.voxel_size, self.b0_dir, strength,
                               None if sparse is None else first)
        self._size = size

    def inputs(self, device='cpu'):
        """Return the arguments of a network's `forward`."""
        begun = self.start
        volumes = {name: getattr(begun, name) for name in ('field', 'first', 'linear', 'data', 'smoothing')}
        volumes['mask'] = begun.mask.astype(np.float32)
        tensors = {name: torch.from_numpy(volume)[None, None].to(device) for name, volume in volumes.items()}
        return tensors | {'level': torch.tensor([begun.level], dtype=torch.float32, device=device)}

    def to_grid(self, volume):
        """Return a volume of the data's grid on that of the network, zero outside the mask."""
        inside = np.zeros(self._data.mask.shape, np.float32)
        inside[tuple(slice(n) for n in self._data.box_shape)] = self._frame.turn(volume)[self._data.box]
        if not self.resampled:
            return inside * self._data.mask
        moved = np.zeros(self.start.mask.shape, np.float32)
        moved[tuple(slice(n) for n in self.start.box_shape)] = resample(inside, self._size)[self.start.box]
        return moved * self.start.mask

    def proposed(self, estimate):
        """Return a network's map on the grid of the data, ppm, zero outside the mask.

        Parameters
        ----------
        estimate : ndarray, shape of ``start.mask``
            Divided by the scale.
        """
        return self._place(self._data.first + self._change(estimate))

    def projected(self, estimate):
        """Return the projection of a network's map on the measured field, as `proposed` does."""
        spectrum = rfftn(self._change(estimate), self._data.mask.shape)
        spectrum *= self._data.smoothing
        return self._place(self._data.data + irfftn(spectrum, self._data.mask.shape))

    def _change(self, estimate):
        change = (estimate - self.start.first) * self.start.mask
        if self.resampled:
            change *= np.float32(self.start.scale / self._data.scale)
            whole = np.zeros(self._size, np.float32)
            whole[self.start.box] = change[tuple(slice(n) for n in self.start.box_shape)]
            change = resample(whole, self._data.mask.shape)
        return change * self._data.mask

    def _place(self, padded):
        volume = place(padded, self._mask, self._data.box)
        volume *= np.float32(self._data.scale)
        return self._frame.back(volume)
