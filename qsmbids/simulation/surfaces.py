"""Distances to simple surfaces, compiled: points in mm, float32, as three arrays of shape (n,) or one of (3, n).

Distances are negative inside. Each operation is rounded by itself to single precision: every processor gives the same.
"""

from dataclasses import dataclass

import numba
import numpy as np
from scipy.spatial import cKDTree

BLOCK = 4096  # points that stay in the cache
CELL = 2.     # mm


def norm(p):
    """Return the lengths of vectors of two or three components."""
    length = np.empty(p[0].size, np.float32)
    _norm(p[0], p[1], p[2] if len(p) > 2 else np.zeros(1, np.float32), length)
    return length


def ellipsoid(p, centre, axes):
    """Return the distance to an ellipsoid, exact to first order near its surface."""
    distance = np.empty(p[0].size, np.float32)
    _ellipsoid(p[0], p[1], p[2], np.float32(centre), np.float32(axes), distance)
    return distance


def tube(p, path):
    """Return the distance to a tube along a broken line of (x, y, z, radius)."""
    path = np.asarray(path)
    start, way = path[:-1].astype(np.float32), np.subtract(path[1:], path[:-1], dtype=np.float32)
    squared = (way[:, :3] ** 2).sum(axis=1)
    distance = np.full(p[0].size, np.inf, np.float32)
    _tube(p[0], p[1], p[2], start, way, squared, distance)
    return distance


def smooth_min(a, b, width):
    """Return the lower of two distances, rounded where they differ by less than `width` mm."""
    lower = np.empty(a.size, np.float32)
    _smooth_min(a, b, np.float32(width), np.float32(4 * width), lower)
    return lower


@numba.njit(cache=True, nogil=True, error_model='numpy')
def _norm(x, y, z, length):
    for n in range(x.size):
        squared = x[n] * x[n] + y[n] * y[n]
        if z.size == x.size:
            squared += z[n] * z[n]
        length[n] = np.sqrt(squared)


@numba.njit(cache=True, nogil=True, error_model='numpy')
def _ellipsoid(x, y, z, centre, axes, distance):
    a, b, c = axes
    for n in range(x.size):
        u, v, w = (x[n] - centre[0]) / a, (y[n] - centre[1]) / b, (z[n] - centre[2]) / c
        radius = np.sqrt(u * u + v * v + w * w)
        u, v, w = u / a, v / b, w / c
        gradient = np.sqrt(u * u + v * v + w * w)
        distance[n] = radius * (radius - np.float32(1)) / max(gradient, np.float32(1e-6))


@numba.njit(cache=True, nogil=True, error_model='numpy')
def _tube(x, y, z, start, way, squared, distance):
    for first in range(0, x.size, BLOCK):
        part = slice(first, first + BLOCK)
        for s in range(len(start)):
            _segment(x[part], y[part], z[part], start[s], way[s], squared[s], distance[part])


@numba.njit(cache=True, nogil=True, error_model='numpy')
def _segment(x, y, z, start, way, squared, distance):
    a, b, c, radius = start
    i, j, k, growth = way
    for n in range(x.size):
        u, v, w = x[n] - a, y[n] - b, z[n] - c
        t = min(max((u * i + v * j + w * k) / squared, np.float32(0)), np.float32(1))
        u, v, w = u - t * i, v - t * j, w - t * k
        distance[n] = min(distance[n], np.sqrt(u * u + v * v + w * w) - (radius + t * growth))


@numba.njit(cache=True, nogil=True, error_model='numpy')
def _smooth_min(a, b, width, fourfold, lower):
    for n in range(a.size):
        overlap = max(width - abs(a[n] - b[n]), np.float32(0))
        lower[n] = min(a[n], b[n]) - overlap * overlap / fourfold


@dataclass(frozen=True)
class Balls:
    """Many small balls, as a vein is made of.

    Attributes
    ----------
    tree : cKDTree
        Their centres.
    radii : ndarray, shape (n,)
        mm.
    origin : ndarray, float32, shape (3,)
        Corner of a grid of cells of `CELL` mm.
    cells : ndarray, bool
        Those that a ball touches.
    """

    tree: cKDTree
    radii: np.ndarray
    origin: np.ndarray
    cells: np.ndarray

    def inside(self, p):
        """Return the indices of the points, float32 (3, n), that lie inside the ball with the nearest centre."""
        # Nearly all points lie in cells without a ball: those need no search.
        near = np.empty(p.shape[1], np.bool_)
        _look_up(p, self.origin, self.cells, near)
        near = np.flatnonzero(near)
        distance, nearest = self.tree.query(p[:, near].T, distance_upper_bound=self.radii.max())
        found = np.flatnonzero(np.isfinite(distance))
        return near[found[distance[found] < self.radii[nearest[found]]]]


def balls(points):
    """Return the `Balls` of (x, y, z, radius), shape (n, 4)."""
    centres, radii = points[:, :3], points[:, 3]
    margin = radii[:, None] + 1e-3  # more than rounding takes away
    origin = ((centres - margin).min(axis=0) - CELL).astype(np.float32)
    first, last = (np.floor((centres + side * margin - origin) / CELL).astype(int) for side in (-1, 1))
    cells = np.zeros(last.max(axis=0) + 2, bool)
    for offset in np.ndindex(*(last - first).max(axis=0) + 1):
        cells[tuple(np.minimum(first + offset, last).T)] = True
    return Balls(cKDTree(centres), radii, origin, cells)


@numba.njit(cache=True, nogil=True, error_model='numpy')
def _look_up(p, origin, cells, near):
    for n in range(p.shape[1]):
        i = np.floor((p[0, n] - origin[0]) / np.float32(CELL))
        j = np.floor((p[1, n] - origin[1]) / np.float32(CELL))
        k = np.floor((p[2, n] - origin[2]) / np.float32(CELL))
        near[n] = (0 <= i < cells.shape[0] and 0 <= j < cells.shape[1] and 0 <= k < cells.shape[2]
                   and cells[int(i), int(j), int(k)])
