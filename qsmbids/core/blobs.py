"""Blobs in a volume: extrema of the scale-normalised Laplacian of Gaussian, with scales in mm on any voxels.

A ball of radius r and contrast c has its extremum at the scale r / sqrt(3), of 0.93 c.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from scipy import ndimage

SCALES_MM = (.6, .85, 1.2, 1.7, 2.3)
NEIGHBOURHOOD_MM = 2.  # along each axis, of which a blob is the extremum
REACH = 3.             # SD of a Gaussian beyond which it counts as zero


@dataclass(frozen=True)
class Blobs:
    """Blobs of one sign, the strongest first.

    Attributes
    ----------
    at : ndarray of int, shape (n, 3)
        Voxels.
    response : ndarray, shape (n,)
        Positive, in the unit of the volume.
    scale : ndarray, shape (n,)
        mm; the radius is sqrt(3) times that.
    curvature : ndarray, shape (n, 3)
        How fast the volume falls along the principal axes of the blob at its scale: eigenvalues of its Hessian with
        the sign that makes those of a blob positive, times the square of the scale, the largest first.
    """

    at: np.ndarray
    response: np.ndarray
    scale: np.ndarray
    curvature: np.ndarray


def find_blobs(volume, mask, voxel_size, *, threshold, scales=SCALES_MM):
    """Return the bright and the dark blobs of a volume.

    Parameters
    ----------
    volume : ndarray, shape (nx, ny, nz)
        Known everywhere, as from :func:`fill_outside`.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where their middle may lie.
    voxel_size : sequence of float
        mm.
    threshold : float
        Least response, in the unit of the volume.
    scales : sequence of float
        SD of the Gaussians, mm, growing.

    Returns
    -------
    bright, dark : Blobs

    Notes
    -----
    Lindeberg T. Feature detection with automatic scale selection. Int J Comput Vis 1998;30:79-116, equation 30.
    """
    steps = np.array(voxel_size, float)
    best = np.zeros((2, *volume.shape), np.float32)
    which = np.zeros((2, *volume.shape), np.uint8)
    smoothed, before = [], 0.
    for number, scale in enumerate(scales):
        # Gaussians on top of each other are one: each takes only what the one before lacks.
        blur = np.sqrt(scale ** 2 - before ** 2) / steps
        smoothed.append(ndimage.gaussian_filter(smoothed[-1] if smoothed else volume, blur, truncate=REACH,
                                                mode='nearest'))
        _keep_largest(smoothed[-1], ((scale / steps) ** 2).astype(np.float32), number, best, which)
        before = scale
    reach = np.maximum(np.rint(NEIGHBOURHOOD_MM / steps), 1).astype(np.int64)
    found = []
    for sign, response, index in zip((-1, 1), best, which):
        at = _extrema(response, mask, threshold, reach)
        at = at[np.argsort(-response[tuple(at.T)], kind='stable')]
        number = index[tuple(at.T)]
        curvature = np.empty((len(at), 3))
        for one, scale in enumerate(scales):
            here = number == one
            curvature[here] = scale ** 2 * np.linalg.eigvalsh(sign * _hessian(smoothed[one], at[here], steps))[:, ::-1]
        found.append(Blobs(at, response[tuple(at.T)], np.array(scales)[number], curvature))
    return tuple(found)


def fill_outside(volume, known, voxel_size, sigma_mm=2.):
    """Return a volume that goes on smoothly where it is not known, float32.

    Parameters
    ----------
    volume : ndarray, shape (nx, ny, nz)
    known : ndarray of bool, shape (nx, ny, nz)
    voxel_size : sequence of float
        mm.
    sigma_mm : float, default 2
        SD of the Gaussian that averages what is known; beyond its reach there is the median of it.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Relative to that median.
    """
    sigma = [sigma_mm / step for step in voxel_size]
    filled = np.where(known, volume - np.median(volume[known]), 0).astype(np.float32)
    weight = ndimage.gaussian_filter(known.astype(np.float32), sigma, truncate=REACH, mode='constant')
    mean = ndimage.gaussian_filter(filled, sigma, truncate=REACH, mode='constant')
    np.divide(mean, weight, out=filled, where=~known & (weight > 1e-3))
    return filled


def _hessian(volume, at, steps):
    """Return the second differences of a volume at voxels off its border, shape (n, 3, 3)."""
    def value(*offset):
        return volume[tuple((at + offset).T)].astype(float)

    unit = np.eye(3, dtype=int)
    hessian = np.empty((len(at), 3, 3))
    for i in range(3):
        hessian[:, i, i] = (value(*unit[i]) - 2 * value(0, 0, 0) + value(*-unit[i])) / steps[i] ** 2
        for j in range(i):
            plus, minus = unit[i] + unit[j], unit[i] - unit[j]
            hessian[:, i, j] = hessian[:, j, i] = (value(*plus) + value(*-plus) - value(*minus) - value(*-minus)) / (
                4 * steps[i] * steps[j])
    return hessian


@njit(cache=True, parallel=True)
def _keep_largest(smooth, weight, number, best, which):
    """Take the response at one scale, bright in best[0] and dark in best[1], wherever it is the largest so far."""
    nx, ny, nz = smooth.shape
    for i in prange(1, nx - 1):
        for j in range(1, ny - 1):
            for k in range(1, nz - 1):
                twice = 2 * smooth[i, j, k]
                response = (weight[0] * (twice - smooth[i - 1, j, k] - smooth[i + 1, j, k])
                            + weight[1] * (twice - smooth[i, j - 1, k] - smooth[i, j + 1, k])
                            + weight[2] * (twice - smooth[i, j, k - 1] - smooth[i, j, k + 1]))
                if response > best[0, i, j, k]:
                    best[0, i, j, k] = response
                    which[0, i, j, k] = number
                if -response > best[1, i, j, k]:
                    best[1, i, j, k] = -response
                    which[1, i, j, k] = number


@njit(cache=True)
def _extrema(response, mask, threshold, reach):
    """Return the voxels of a mask, off the border, at which a response is the largest of its neighbourhood."""
    nx, ny, nz = response.shape
    found = []
    for i in range(1, nx - 1):
        for j in range(1, ny - 1):
            for k in range(1, nz - 1):
                here = response[i, j, k]
                if mask[i, j, k] and here >= threshold and _is_largest(response, i, j, k, reach):
                    found.append((i, j, k))
    at = np.empty((len(found), 3), np.int64)
    for number, (i, j, k) in enumerate(found):
        at[number] = i, j, k
    return at


@njit(cache=True)
def _is_largest(response, i, j, k, reach):
    nx, ny, nz = response.shape
    here = response[i, j, k]
    for a in range(max(i - reach[0], 0), min(i + reach[0] + 1, nx)):
        for b in range(max(j - reach[1], 0), min(j + reach[1] + 1, ny)):
            for c in range(max(k - reach[2], 0), min(k + reach[2] + 1, nz)):
                other = response[a, b, c]
                # Of equals the first one counts.
                if other > here or (other == here and (a, b, c) < (i, j, k)):
                    return False
    return True
