"""Removal of the background field: what sources outside the mask make inside it.

Such a field is harmonic inside the mask: its value equals its mean over any ball there. The methods share the
signature ``method(field, mask, voxel_size, *, b0_dir, **params) -> (local field, mask)``.
"""

import numpy as np
from scipy import ndimage

from qsmbids.core.checks import check_mask, check_positive, check_volume, check_voxel_size
from qsmbids.core.fourier import fast_size, irfftn, rfftn


def remove_background_vsharp(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), max_radius=12.0, min_radius=1.0,
                             radius_step=1.0, threshold=0.05):
    """Remove the background field by V-SHARP.

    Every voxel loses its mean over the largest ball around it that lies inside the mask, and with that the background
    field. What this took from the local field is put back by deconvolution with the largest ball's filter.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
        Total field in ppm. Values outside the mask are not used.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the field is reliable. What lies beyond the array counts as outside.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float
        Not used: a harmonic field has the mean-value property whatever the direction of B0.
    max_radius, min_radius, radius_step : float, default 12, 1 and 1
        Radii of the balls in mm. Balls that do not reach the next voxel along every axis are left out, so that on
        coarse grids the smallest radius is the longest edge of a voxel.
    threshold : float, default 0.05
        Spatial frequencies that the largest ball's filter passes with less than this are set to zero.

    Returns
    -------
    local : ndarray, float32, shape (nx, ny, nz)
        Field of the sources inside the mask, in ppm; zero outside the returned mask.
    mask : ndarray of bool, shape (nx, ny, nz)
        The voxels of the given mask that a ball fits around.

    Raises
    ------
    ValueError
        If shapes differ, the field is not finite inside the mask, the mask is empty or thinner than the smallest
        ball everywhere, or a parameter is not positive.

    Notes
    -----
    The Fourier transforms cover the mask's bounding box with `max_radius` around it; two per radius and four more.
    Peak memory is about 8 volumes of that size.

    References
    ----------
    Schweser F et al. NeuroImage 2011;54:2789-2807. Li W, Wu B, Liu C. NeuroImage 2011;55:1645-1656.
    Wu B et al. Magn Reson Med 2012;67:137-147 (the varying radius).
    """
    mask = check_mask(mask)
    field = check_volume('field', field, mask)
    voxel_size = check_voxel_size(voxel_size)
    radii = _radii(max_radius, min_radius, radius_step, voxel_size)
    check_positive(threshold=threshold)

    box = ndimage.find_objects(mask.view(np.uint8))[0]
    inside = mask[box]
    depth = _depth(inside, voxel_size)
    radii = radii[radii < depth.max()]
    if not len(radii):
        raise ValueError(f'mask is {depth.max():.2f} mm deep at most, no ball of at least {min_radius} mm and one '
                         'voxel along every axis fits inside')
    # The deconvolution reaches far: without a margin one side of the brain would leak into the other.
    size = fast_size(inside.shape, np.ceil(max_radius / np.array(voxel_size)).astype(int))
    spectrum = rfftn(np.where(inside, field[box], np.float32(0)), size)
    local = np.zeros_like(field, shape=inside.shape)
    shallower = depth.max() + 1
    for radius in radii:
        high_pass = _high_pass(radius, size, voxel_size)
        if radius == radii[0]:
            deconvolution = np.divide(1, high_pass, out=np.zeros_like(high_pass), where=np.abs(high_pass) > threshold)
        shell = (depth > radius) & (depth <= shallower)
        np.copyto(local, irfftn(spectrum * high_pass, size, inside.shape), where=shell)
        shallower = radius
    spectrum = rfftn(local, size)
    spectrum *= deconvolution
    eroded = np.zeros_like(mask)
    eroded[box] = depth > radii[-1]
    result = np.zeros_like(field)
    np.copyto(result[box], irfftn(spectrum, size, inside.shape), where=eroded[box])
    return result, eroded


# Distances within this of a radius count as equal to it (mm): rounding must not decide which voxels are in a ball.
_ROUNDING = 1e-3


def _radii(max_radius, min_radius, step, voxel_size):
    """Return the radii in mm, largest first, a little enlarged so that no distance between voxels equals one."""
    check_positive(max_radius=max_radius, min_radius=min_radius, radius_step=step)
    smallest = max(min_radius, *voxel_size)
    if max_radius < smallest:
        raise ValueError(f'max_radius is {max_radius} mm, must be at least min_radius and the voxel size, '
                         f'{smallest} mm')
    count = int((max_radius - min_radius) / step + _ROUNDING) + 1
    radii = np.maximum(max_radius - step * np.arange(count), smallest)
    return np.unique(radii)[::-1] + _ROUNDING


def _depth(mask, voxel_size):
    """Return each voxel's distance in mm to the nearest centre of a voxel outside, those beyond the array included."""
    padded = np.pad(mask, 1)
    nearest = ndimage.distance_transform_edt(padded, sampling=voxel_size, return_distances=False, return_indices=True)
    squared = np.zeros(padded.shape, np.float32)
    for axis, (indices, step) in enumerate(zip(nearest, voxel_size)):
        here = np.arange(padded.shape[axis]).reshape([-1 if i == axis else 1 for i in range(3)])
        squared += np.square((indices - here) * np.float32(step))
    return np.sqrt(squared, out=squared)[1:-1, 1:-1, 1:-1]


def _high_pass(radius, size, voxel_size):
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
