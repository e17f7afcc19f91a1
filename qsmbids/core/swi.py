"""Susceptibility-weighted images: a magnitude that is even and dark where the phase shows paramagnetic sources.

Made as CLEAR-SWI does it [1]_, from what the pipeline knows already: the echoes weigh what contrast they have, and the
phase is the unwrapped total field, which has none of the artefacts that a homodyne filter leaves near air.

References
----------
.. [1] Eckstein K, Bachrata B, Hangel G, et al. Improved susceptibility weighted imaging at ultra-high field using
   bipolar multi-echo acquisition and optimized image processing: CLEAR-SWI. NeuroImage 2021;237:118175.
.. [2] Haacke EM, Xu Y, Cheng Y-CN, Reichenbach JR. Susceptibility weighted imaging (SWI). Magn Reson Med
   2004;52:612-618.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from qsmbids.core.checks import check_mask, check_positive, check_same_shape, check_volume, check_voxel_size
from qsmbids.core.grid import bounding_box
from qsmbids.core.threads import over_slabs

REACH = 4.0   # SD of a Gaussian beyond which it counts as zero
RIDGE = 1e-3  # keeps a slope from following noise where nearly all of a Gaussian lies outside the mask


@dataclass(frozen=True)
class WeightedImage:
    """What `weight_by_susceptibility` returns; float32 of shape (nx, ny, nz), zero outside the mask.

    Attributes
    ----------
    swi : ndarray
        Weighted magnitude, in units of the magnitude of the surroundings.
    minip : ndarray
        Its minimum over neighbouring slices.
    """

    swi: np.ndarray
    minip: np.ndarray


def weight_by_susceptibility(magnitude, field, mask, trusted, voxel_size, *, echo_times, b0_dir=(0., 0., 1.),
                             strength=4., sigma_mm=4., flat_mm=20., slices=7):
    """Return the susceptibility-weighted image of a multi-echo scan and its minimum-intensity projection.

    Slices are those across the voxel axis that is nearest to the main field: axial ones, however the volume is stored.

    Parameters
    ----------
    magnitude : ndarray, shape (nx, ny, nz, ne)
    field : ndarray, shape (nx, ny, nz)
        Total field, ppm.
    mask : ndarray of bool, shape (nx, ny, nz)
        The brain.
    trusted : ndarray of bool, shape (nx, ny, nz)
        Where the field is known; elsewhere the magnitude stays as it is.
    voxel_size : sequence of float
        mm.
    echo_times : sequence of float, length ne
        s.
    b0_dir : sequence of float
        Direction of the main field in voxel axes.
    strength : float, default 4
        How fast a positive phase darkens.
    sigma_mm : float, default 4
        SD of the high-pass filter within a slice.
    flat_mm : float, default 20
        SD of the Gaussian that finds the shading of the coils.
    slices : int, default 7
        Over how many the minimum is taken.

    Returns
    -------
    WeightedImage

    Raises
    ------
    ValueError
        If shapes do not fit, a mask is empty, or a parameter is not positive.
    """
    mask, trusted, voxel_size = check_mask(mask), check_mask(trusted), check_voxel_size(voxel_size)
    check_positive(strength=strength, sigma_mm=sigma_mm, flat_mm=flat_mm, slices=slices)
    if np.shape(magnitude) != (*mask.shape, len(echo_times)):
        raise ValueError(f'magnitude has shape {np.shape(magnitude)}, must be that of mask, {mask.shape}, with one '
                         f'value for each of the {len(echo_times)} echo_times')
    check_same_shape(mask=mask, trusted=trusted)
    trusted = trusted & mask
    field = check_volume('field', field, trusted)
    box, axis = bounding_box(mask), int(np.argmax(np.abs(b0_dir)))
    inside = mask[box]
    image = flatten(combine_for_contrast(magnitude[box], echo_times, inside), inside, voxel_size, flat_mm)
    image *= phase_mask(high_pass(field[box], trusted[box], voxel_size, axis, sigma_mm), trusted[box], strength)
    maps = [np.zeros(mask.shape, np.float32) for _ in range(2)]
    maps[0][box], maps[1][box] = image, minimum_projection(image, inside, axis, slices)
    return WeightedImage(*maps)


def combine_for_contrast(magnitude, echo_times, mask):
    """Return the sum of echoes that shows a small change of R2* best: each weighs by its loss per R2*, TE times signal.

    Parameters
    ----------
    magnitude : ndarray, shape (nx, ny, nz, ne)
    echo_times : sequence of float, length ne
        s.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the mean signal of each echo is taken.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
    """
    loss = np.array([time * magnitude[..., echo].mean(where=mask, dtype=float)
                     for echo, time in enumerate(echo_times)])
    total = loss.sum()
    if not total > 0:
        raise ValueError('magnitude is zero in all of mask, or the echo times are')
    return np.einsum('...e,e->...', magnitude, (loss / total).astype(np.float32))


def flatten(image, mask, voxel_size, sigma_mm):
    """Divide an image by its mean over the surroundings inside a mask; zero outside of it.

    Parameters
    ----------
    image : ndarray, shape (nx, ny, nz)
        Not negative.
    mask : ndarray of bool, shape (nx, ny, nz)
    voxel_size : sequence of float
        mm.
    sigma_mm : float
        SD of the Gaussian that weighs the surroundings.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
    """
    bright, count = np.where(mask, image, 0).astype(np.float32), mask.astype(np.float32)
    for n, step in zip(mask.shape, voxel_size):
        # Each turn brings the next axis to the front: after three the axes are where they were.
        bright, count = (np.moveaxis(np.tensordot(_gaussian(n, step / sigma_mm), volume, (1, 0)), 0, -1)
                         for volume in (bright, count))
    return np.divide(image * mask, bright / np.maximum(count, np.finfo(np.float32).tiny),
                     out=np.zeros(mask.shape, np.float32), where=mask & (bright > 0))


def high_pass(field, mask, voxel_size, axis, sigma_mm):
    """Take the planes that fit a field best around each voxel of a slice out of it.

    A Gaussian mean would leave the slope of the field at the border of the mask, where all neighbours lie on one side.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
    mask : ndarray of bool, shape (nx, ny, nz)
        What counts.
    voxel_size : sequence of float
        mm.
    axis : int
        Across the slices.
    sigma_mm : float
        SD of the Gaussian that weighs the neighbours.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Zero outside the mask.
    """
    planes, within = (np.moveaxis(volume, axis, 0) for volume in (field, mask))
    steps = np.delete(voxel_size, axis) / sigma_mm
    rows, columns = ([_moment_kernel(step, power) for power in range(3)] for step in steps)
    result = np.empty(planes.shape, np.float32)

    def filter_slab(slab):
        weight = within[slab].astype(np.float32)
        values = np.where(within[slab], planes[slab], np.float32(0))
        m00, m10, m01, m20, m11, m02 = _moments(weight, rows, columns, 2)
        v00, v10, v01 = _moments(values, rows, columns, 1)
        m20 += RIDGE * m00
        m02 += RIDGE * m00
        # The first row of the inverse of the normal equations: the plane's value at its own voxel.
        first, second, third = m20 * m02 - m11 * m11, m11 * m01 - m10 * m02, m10 * m11 - m20 * m01
        height, total = first * v00 + second * v10 + third * v01, first * m00 + second * m10 + third * m01
        mean = np.divide(height, total, out=np.zeros_like(total), where=total > np.finfo(np.float32).tiny)
        result[slab] = values - mean * weight

    over_slabs(filter_slab, len(planes), 8)
    return np.moveaxis(result, 0, axis)


def phase_mask(field, mask, strength):
    """Return weights from 0 to 1 that fall where a high-passed field is positive.

    ``(1 + tanh(1 - strength field / (10 level))) / 2`` with the mean of the positive values as level, so that neither
    units nor field strength matter; 0.88 where the field is zero.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the level is found. Beyond it the field is zero.
    strength : float

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)

    Examples
    --------
    >>> import numpy as np
    >>> field = np.array([[[-.1, 0., .1, .3]]])
    >>> phase_mask(field, np.ones(field.shape, bool), 4.).round(2)
    array([[[0.92, 0.88, 0.83, 0.69]]])
    """
    positive = field[mask & (field > 0)]
    level = float(positive.mean(dtype=float)) if positive.size else 1.0
    return (1 + np.tanh(1 - field * np.float32(strength / (10 * level)))) / 2


def minimum_projection(image, mask, axis, slices=7):
    """Return the minimum of an image over neighbouring slices.

    Parameters
    ----------
    image : ndarray, shape (nx, ny, nz)
    mask : ndarray of bool, shape (nx, ny, nz)
        What counts; the result is zero elsewhere.
    axis : int
        Across the slices.
    slices : int, default 7
        As many, half of them to each side.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
    """
    lowest = ndimage.minimum_filter1d(np.where(mask, image, np.inf), int(slices), axis=axis, mode='nearest')
    return np.where(mask, lowest, 0).astype(np.float32)


def _moments(volume, rows, columns, degree):
    """Return the moments of each slice whose powers sum up to `degree` at most, in the order 00, 10, 01, 20, 11, 02."""
    along = [ndimage.correlate1d(volume, kernel, 1, mode='constant') for kernel in rows[:degree + 1]]
    return [ndimage.correlate1d(along[total - q], columns[q], 2, mode='constant')
            for total in range(degree + 1) for q in range(total + 1)]


def _moment_kernel(step, power):
    """Return a Gaussian times a power of the distance, both in SD, at neighbours `step` SD apart."""
    away = np.arange(-int(REACH / step), int(REACH / step) + 1) * step
    return np.exp(-away ** 2 / 2) * away ** power


def _gaussian(count, step):
    """Return the matrix that sums all voxels of an axis under a Gaussian; `step` in SD."""
    return np.exp(-np.square((np.arange(count) - np.arange(count)[:, None]) * step) / 2).astype(np.float32)
