"""Balls around voxels: whether one fits inside a mask, and the filter "voxel minus mean over the ball around it"."""

import numpy as np
from scipy import ndimage

from qsmbids.core.checks import check_positive
from qsmbids.core.fourier import fast_size, irfftn, rfftn

# Distances within this of a radius count as equal to it (mm): rounding must not decide which voxels are in a ball.
_ROUNDING = 1e-3


def ball_radii(max_radius, min_radius, step, voxel_size):
    """Return the radii in mm, largest first, a little enlarged so that no distance between voxels equals one."""
    check_positive(max_radius=max_radius, min_radius=min_radius, radius_step=step)
    smallest = max(min_radius, *voxel_size)
    if max_radius < smallest:
        raise ValueError(f'max_radius is {max_radius} mm, must be at least min_radius and the voxel size, '
                         f'{smallest} mm')
    count = int((max_radius - min_radius) / step + _ROUNDING) + 1
    lengths = np.maximum(max_radius - step * np.arange(count), smallest)
    return np.unique(lengths)[::-1] + _ROUNDING


def depth(mask, voxel_size):
    """Return each voxel's distance in mm to the nearest centre of a voxel outside, those beyond the array included."""
    padded = np.pad(mask, 1)
    nearest = ndimage.distance_transform_edt(padded, sampling=voxel_size, return_distances=False, return_indices=True)
    squared = np.zeros(padded.shape, np.float32)
    for axis, (indices, step) in enumerate(zip(nearest, voxel_size)):
        here = np.arange(padded.shape[axis]).reshape([-1 if i == axis else 1 for i in range(3)])
        squared += np.square((indices - here) * np.float32(step))
    return np.sqrt(squared, out=squared)[1:-1, 1:-1, 1:-1]


def high_pass(radius, size, voxel_size):
    """Return the half spectrum of "voxel minus mean over the ball around it"; real, since the ball is symmetric."""
    reach = [int(radius / step) for step in voxel_size]
    offsets = np.indices([2 * n + 1 for n in reach]).reshape(3, -1) - np.array(reach)[:, None]
    squares = np.square(offsets * np.array(voxel_size)[:, None])
    inside = squares.sum(axis=0) <= radius ** 2
    kernel = np.zeros(size, np.float32)
    kernel[tuple(-offsets[:, inside])] = -_ball_weights(squares[:, inside] / radius ** 2)
    kernel[0, 0, 0] += 1
    return np.ascontiguousarray(rfftn(kernel, size).real)


def _ball_weights(squares):
    """Return the weights of a ball's voxels, sum 1, with which it takes the mean of every quadratic harmonic rightly.

    A ball of voxels that are not cubes has unequal second moments along the axes, and lets a part of the background's
    curvature through. Weights ``1 + c . (x^2, y^2, z^2)`` make the moments equal; for cubes c is zero.
    """
    system = np.zeros((4, 4))
    system[:3, :3] = squares @ squares.T
    system[:3, 3] = -1
    system[3, :3] = squares.sum(axis=1)
    slopes = np.linalg.solve(system, np.append(-squares.sum(axis=1), 0))[:3]
    weights = 1 + slopes @ squares
    return weights / weights.sum()


class BallFilter:
    """"Voxel minus mean over the ball around it" on volumes of one shape; what lies beyond them counts as zero.

    Parameters
    ----------
    inside : ndarray of bool, shape (nx, ny, nz)
        The mask, cut to its box.
    radius : float
        mm; what `ball_radius` returns.
    voxel_size : sequence of float
        mm.

    Attributes
    ----------
    kept : ndarray of bool, shape (nx, ny, nz)
        The voxels whose ball lies inside the mask.
    """

    def __init__(self, inside, radius, voxel_size):
        deepest = depth(inside, voxel_size)
        self.kept = deepest > radius
        if not self.kept.any():
            raise ValueError(f'mask is {deepest.max():.2f} mm deep at most, no ball of {radius:.2f} mm fits inside')
        self._shape = inside.shape
        # Both ends of the array are a ball apart.
        self._size = fast_size(inside.shape, np.ceil(radius / np.array(voxel_size)).astype(int))
        self._high_pass = high_pass(radius, self._size, voxel_size)

    def __call__(self, volume, times=1):
        """Return the volume filtered; twice is right for what is zero outside `kept`, and there only."""
        spectrum = rfftn(volume, self._size)
        for _ in range(times):
            spectrum *= self._high_pass
        return irfftn(spectrum, self._size, self._shape)


def ball_radius(radius, voxel_size):
    """Return `radius` in mm, at least as long as the longest edge of a voxel; ValueError unless it is positive."""
    check_positive(radius=radius)
    return max(radius, *voxel_size) + _ROUNDING
