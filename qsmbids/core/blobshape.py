"""What a blob looks like: the ring of tissue around, the region that grows from its peak, its shape and its moment."""

from dataclasses import dataclass

import numpy as np
from numba import njit

RING_MM = 1.5, 4.5       # from the rim of a blob: the tissue that it is compared to
HALF = .5                # of the peak over the ring: where the region ends
TAIL, CLEAR = .25, 2.    # the same for what hangs on to it; SD of the ring that this rises above at least
BEYOND_MM = 2.           # the rim, to where susceptibility is summed up
# Variance of a voxel and of its blur, in voxels: two voxels are not long yet.
BLUR = .25
# A ball's voxels show 3/2 of its surface, whatever way it lies.
FACES = 2 / 3
_NAMES = ('peak', 'ring', 'spread', 'ring_voxels', 'parenchyma', 'volume', 'surface', 'length', 'width', 'open',
          'known', 'mean', 'second', 'tail_volume', 'tail_length', 'tail_width')


@dataclass(frozen=True)
class Shapes:
    """What :func:`measure_blobs` returns; all of shape (n,) unless stated.

    Attributes
    ----------
    peak, mean : ndarray
        Largest value, and mean of the region.
    ring, spread, ring_voxels : ndarray
        Median of the ring, and 1.4826 times its median absolute deviation; how many voxels it has.
    parenchyma : ndarray
        Share of the ring that is tissue inside the mask.
    volume, surface : ndarray
        Of the region at half of the peak, mm^3 and mm^2.
    length, width : ndarray
        SD of the region along its longest axis and the mean of the other two, mm.
    open : ndarray
        Whether the region goes on beyond the ring.
    known : ndarray
        Share of the blob's core in which the volume is known.
    second : ndarray
        Mean of the second volume in the region, less its median in the ring.
    tail_volume, tail_length, tail_width : ndarray
        As of the region, at a quarter of the peak: a bead of a vein has a tail, a ball has none.
    centre : ndarray, shape (n, 3)
        Of the region, voxels.
    seed : ndarray of int, shape (n, 3)
        Where the peak is.
    """

    peak: np.ndarray
    ring: np.ndarray
    spread: np.ndarray
    ring_voxels: np.ndarray
    parenchyma: np.ndarray
    volume: np.ndarray
    surface: np.ndarray
    length: np.ndarray
    width: np.ndarray
    open: np.ndarray
    known: np.ndarray
    mean: np.ndarray
    second: np.ndarray
    tail_volume: np.ndarray
    tail_length: np.ndarray
    tail_width: np.ndarray
    centre: np.ndarray
    seed: np.ndarray

    @property
    def contrast(self):
        """Peak over the ring."""
        return self.peak - self.ring

    @property
    def diameter(self):
        """Of the ball of the same volume, mm."""
        return np.cbrt(6 * self.volume / np.pi)

    @property
    def sphericity(self):
        """Surface of the ball of the same volume over that of the region, at most 1."""
        return np.minimum(np.pi * self.diameter ** 2 / np.maximum(FACES * self.surface, 1e-6), 1)

    @property
    def elongation(self):
        """Length over width: 1 of a ball."""
        return self.length / self.width

    @property
    def tail(self):
        """Length over width at a quarter of the peak."""
        return self.tail_length / self.tail_width


def measure_blobs(volume, blobs, mask, known, tissue, voxel_size, second=None):
    """Return what blobs look like.

    Parameters
    ----------
    volume : ndarray, float32, shape (nx, ny, nz)
        In which they are bright.
    blobs : qsmbids.core.blobs.Blobs
    mask, known, tissue : ndarray of bool, shape (nx, ny, nz)
        Where regions may grow; where the volume was measured; what is no fluid.
    voxel_size : sequence of float
        mm.
    second : ndarray, float32, shape (nx, ny, nz), optional
        Another contrast of the same place.

    Returns
    -------
    Shapes
    """
    steps = np.array(voxel_size, float)
    values = np.zeros((len(blobs.at), len(_NAMES)))
    centre, seed = np.zeros((len(blobs.at), 3)), np.zeros((len(blobs.at), 3), np.int64)
    other = np.zeros((1, 1, 1), np.float32) if second is None else second
    _measure(volume, other, mask, known, tissue, np.ascontiguousarray(blobs.at), np.sqrt(3) * blobs.scale, steps,
             values, centre, seed)
    columns = {name: values[:, number] for number, name in enumerate(_NAMES)}
    if second is None:
        columns['second'] = np.full(len(blobs.at), np.nan)
    return Shapes(**columns, centre=centre, seed=seed)


def grow_region(volume, mask, shape, number, blobs, voxel_size):
    """Return the voxels of a blob's region, shape (n, 3)."""
    radius = max(np.sqrt(3) * blobs.scale[number], shape.diameter[number] / 2)
    level = shape.ring[number] + HALF * shape.contrast[number]
    return _grow(volume, mask, shape.seed[number], level, blobs.at[number], radius + RING_MM[1],
                 np.array(voxel_size, float))[0]


def sum_moment(volume, mask, labels, index, centre, radius, ring, spread, ring_voxels, voxel_size):
    """Return the moment of a lesion and its error, in the unit of the volume times mm^3.

    Parameters
    ----------
    volume : ndarray, shape (nx, ny, nz)
    mask : ndarray of bool, shape (nx, ny, nz)
    labels : ndarray of int, shape (nx, ny, nz)
        Regions of all lesions: what belongs to another one does not count.
    index : int
        Of this one.
    centre : sequence of float
        Voxels.
    radius : float
        mm.
    ring, spread : float
        Median of the tissue around and its SD.
    ring_voxels : int
    voxel_size : sequence of float
        mm.

    Notes
    -----
    The error is that of the sum of independent voxels and of the median of the ring; what the inversion makes wrong is
    not in it. Liu T, et al. Radiology 2012;262:269-278 show that the moment, unlike the size, does not depend on the
    echo time.
    """
    steps, reach = np.array(voxel_size, float), radius + BEYOND_MM
    low = np.maximum(np.floor(centre - reach / steps).astype(int), 0)
    high = np.minimum(np.ceil(centre + reach / steps).astype(int) + 1, volume.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high))
    distance = sum(((grid - c) * step) ** 2 for grid, c, step in zip(np.ogrid[box], centre, steps))
    inside = (distance <= reach ** 2) & mask[box] & ((labels[box] == 0) | (labels[box] == index))
    count, voxel = int(inside.sum()), float(steps.prod())
    moment = float((volume[box][inside] - ring).sum(dtype=np.float64)) * voxel
    # The median of normally distributed values has pi/2 times the variance of their mean.
    error = spread * voxel * np.sqrt(count + np.pi / 2 * count ** 2 / max(ring_voxels, 1))
    return moment, float(error)


@njit(cache=True)
def _measure(volume, second, mask, known, tissue, at, radii, steps, values, centres, seeds):
    for n in range(len(at)):
        radius = radii[n]
        # A region may show that the blob is larger than its scale: then the ring lies further out.
        for again in range(2):
            ring, spread, count, parenchyma, beside = _ring(volume, second, mask, known, tissue, at[n], radius, steps)
            seed, peak, share = _peak(volume, mask, known, at[n], radii[n], steps)
            voxels, goes_on = _grow(volume, mask, seed, ring + HALF * (peak - ring), at[n], radius + RING_MM[1], steps)
            size = len(voxels) * steps.prod()
            larger = (3 * size / (4 * np.pi)) ** (1 / 3)
            if again or larger <= radius:
                break
            radius = larger
        centres[n], length, width, surface, mean, other = _describe(volume, second, voxels, steps)
        low = ring + min(max(TAIL * (peak - ring), CLEAR * spread), HALF * (peak - ring))
        tail = _grow(volume, mask, seed, low, at[n], radius + RING_MM[1], steps)[0]
        tail_length, tail_width = _describe(volume, second, tail, steps)[1:3]
        seeds[n] = seed
        values[n] = np.array([peak, ring, spread, count, parenchyma, size, surface, length, width,
                              1. if goes_on else 0., share, mean, other - beside, len(tail) * steps.prod(), tail_length,
                              tail_width])


@njit(cache=True)
def _bounds(at, reach, steps, shape):
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    for axis in range(3):
        width = int(np.ceil(reach / steps[axis]))
        low[axis], high[axis] = max(at[axis] - width, 0), min(at[axis] + width + 1, shape[axis])
    return low, high


@njit(cache=True)
def _squared(i, j, k, at, steps):
    return (((i - at[0]) * steps[0]) ** 2 + ((j - at[1]) * steps[1]) ** 2 + ((k - at[2]) * steps[2]) ** 2)


@njit(cache=True)
def _ring(volume, second, mask, known, tissue, at, radius, steps):
    """Return median, spread and number of the values in the ring, the share of tissue, the median of the second."""
    inner, outer = radius + RING_MM[0], radius + RING_MM[1]
    low, high = _bounds(at, outer, steps, volume.shape)
    size = (high - low).prod()
    values, others = np.empty(size, np.float64), np.empty(size, np.float64)
    count, total, solid = 0, 0, 0
    for i in range(low[0], high[0]):
        for j in range(low[1], high[1]):
            for k in range(low[2], high[2]):
                if inner ** 2 <= _squared(i, j, k, at, steps) <= outer ** 2:
                    total += 1
                    if mask[i, j, k] and tissue[i, j, k]:
                        solid += 1
                    if mask[i, j, k] and known[i, j, k]:
                        values[count] = volume[i, j, k]
                        if second.size > 1:
                            others[count] = second[i, j, k]
                        count += 1
    if count == 0:
        return 0., 0., 0, 0., 0.
    median = np.median(values[:count])
    spread = 1.4826 * np.median(np.abs(values[:count] - median))
    return median, spread, count, solid / total, np.median(others[:count]) if second.size > 1 else 0.


@njit(cache=True)
def _peak(volume, mask, known, at, radius, steps):
    """Return where a volume is largest within a blob, that value, and the share of the blob that is known."""
    low, high = _bounds(at, radius, steps, volume.shape)
    best, seed, count, there = -np.inf, at.copy(), 0, 0
    for i in range(low[0], high[0]):
        for j in range(low[1], high[1]):
            for k in range(low[2], high[2]):
                if mask[i, j, k] and _squared(i, j, k, at, steps) <= radius ** 2:
                    count += 1
                    if known[i, j, k]:
                        there += 1
                    if volume[i, j, k] > best:
                        best, seed[0], seed[1], seed[2] = volume[i, j, k], i, j, k
    return seed, best, there / max(count, 1)


@njit(cache=True)
def _grow(volume, mask, seed, level, at, reach, steps):
    """Return the voxels above a level that hang together with a seed by faces, and whether they reach a ball's rim."""
    low, high = _bounds(at, reach, steps, volume.shape)
    seen = np.zeros((high[0] - low[0], high[1] - low[1], high[2] - low[2]), np.bool_)
    voxels = np.empty((seen.size, 3), np.int64)
    voxels[0] = seed
    seen[seed[0] - low[0], seed[1] - low[1], seed[2] - low[2]] = True
    count, done, goes_on = 1, 0, False
    rim = (reach - steps.min()) ** 2
    while done < count:
        x, y, z = voxels[done, 0], voxels[done, 1], voxels[done, 2]
        done += 1
        if _squared(x, y, z, at, steps) > rim:
            goes_on = True
        for axis in range(3):
            for way in (-1, 1):
                i = x + way if axis == 0 else x
                j = y + way if axis == 1 else y
                k = z + way if axis == 2 else z
                if i < low[0] or j < low[1] or k < low[2] or i >= high[0] or j >= high[1] or k >= high[2]:
                    continue
                if seen[i - low[0], j - low[1], k - low[2]] or not mask[i, j, k] or volume[i, j, k] < level:
                    continue
                if _squared(i, j, k, at, steps) <= reach ** 2:
                    seen[i - low[0], j - low[1], k - low[2]] = True
                    voxels[count, 0], voxels[count, 1], voxels[count, 2] = i, j, k
                    count += 1
    return voxels[:count].copy(), goes_on


@njit(cache=True)
def _describe(volume, second, voxels, steps):
    """Return centre, length, width and surface of a region, and the means of both volumes in it."""
    count = len(voxels)
    centre, low, high = np.zeros(3), voxels[0].copy(), voxels[0].copy()
    mean = other = 0.
    for n in range(count):
        for axis in range(3):
            centre[axis] += voxels[n, axis] / count
            low[axis], high[axis] = min(low[axis], voxels[n, axis]), max(high[axis], voxels[n, axis])
        mean += volume[voxels[n, 0], voxels[n, 1], voxels[n, 2]] / count
        if second.size > 1:
            other += second[voxels[n, 0], voxels[n, 1], voxels[n, 2]] / count
    inside = np.zeros((high[0] - low[0] + 3, high[1] - low[1] + 3, high[2] - low[2] + 3), np.bool_)
    spread = np.diag(BLUR * steps ** 2)
    for n in range(count):
        inside[voxels[n, 0] - low[0] + 1, voxels[n, 1] - low[1] + 1, voxels[n, 2] - low[2] + 1] = True
        away = (voxels[n] - centre) * steps
        for a in range(3):
            for b in range(3):
                spread[a, b] += away[a] * away[b] / count
    surface = 0.
    for i in range(1, inside.shape[0]):
        for j in range(1, inside.shape[1]):
            for k in range(1, inside.shape[2]):
                if inside[i, j, k] != inside[i - 1, j, k]:
                    surface += steps[1] * steps[2]
                if inside[i, j, k] != inside[i, j - 1, k]:
                    surface += steps[0] * steps[2]
                if inside[i, j, k] != inside[i, j, k - 1]:
                    surface += steps[0] * steps[1]
    axes = np.sqrt(np.linalg.eigvalsh(spread))
    return centre, axes[2], (axes[0] + axes[1]) / 2, surface, mean, other
