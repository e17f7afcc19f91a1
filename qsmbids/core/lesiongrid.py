"""The grid that lesions are looked for on: the part of the scan that holds the brain, its voxels nearly cubes."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from qsmbids.core.grid import bounding_box

FINEST_MM, COARSEST_MM = .8, 1.  # sides of the voxels, where those of the scan are finer or not alike
ALIKE, LONGEST = 1.25, 2.        # longest over shortest side: left as it is; more than can be made good
MARGIN_MM = 8.                   # around the mask


@dataclass(frozen=True)
class WorkingGrid:
    """A box of a scan's grid, and voxels of another size in it.

    Attributes
    ----------
    shape : tuple of int
        Of the scan.
    box : tuple of slice
        What of it counts.
    native, steps : tuple of float
        Voxel sizes of the scan and of this grid, mm.
    """

    shape: tuple
    box: tuple
    native: tuple
    steps: tuple

    @classmethod
    def of(cls, mask, voxel_size):
        """Return the grid for a mask: that of the scan, unless its voxels are finer than need be or not alike."""
        native = tuple(float(step) for step in voxel_size)
        box = bounding_box(mask, [round(MARGIN_MM / step) for step in native])
        ratio = max(native) / min(native)
        if ratio > LONGEST or (ratio <= ALIKE and max(native) >= FINEST_MM):
            return cls(mask.shape, box, native, native)
        return cls(mask.shape, box, native, (float(np.clip(min(native), FINEST_MM, COARSEST_MM)),) * 3)

    @property
    def low_confidence(self):
        """Whether voxels are too long along an axis to see what is round."""
        return max(self.native) > LONGEST * min(self.native)

    def to_working(self, volume, order):
        """Return a volume of the scan on this grid, interpolated by splines of an order; of masks and labels 0."""
        part = np.ascontiguousarray(volume[self.box])
        if self.steps == self.native:
            return part
        ratio = np.divide(self.steps, self.native)
        size = tuple(np.ceil(np.array(part.shape) / ratio).astype(int))
        if order and (ratio > 1).any():
            part = ndimage.gaussian_filter(part, .5 * np.sqrt(np.maximum(ratio ** 2 - 1, 0)))
        kind = np.uint8 if part.dtype == bool else part.dtype
        return ndimage.affine_transform(part.astype(kind, copy=False), ratio, (ratio - 1) / 2, size, order=order,
                                        mode='nearest').astype(part.dtype, copy=False)

    def to_scan(self, at):
        """Return places on this grid as places on the scan's, both in voxels, shape (n, 3)."""
        ratio = np.divide(self.steps, self.native)
        return np.asarray(at) * ratio + (ratio - 1) / 2 + [side.start for side in self.box]

    def labels_to_scan(self, labels):
        """Return labels of this grid on that of the scan, each voxel that of the nearest."""
        whole = np.zeros(self.shape, labels.dtype)
        ratio = np.divide(self.steps, self.native)
        nearest = [np.clip(np.rint((np.arange(side.stop - side.start) + .5) / r - .5).astype(int), 0, n - 1)
                   for side, r, n in zip(self.box, ratio, labels.shape)]
        whole[self.box] = labels[np.ix_(*nearest)]
        return whole
