"""Smooth random fields, and deformations that can be undone made of them.

A deformation is a displacement in mm on a grid of `STEP` that covers a head: where to look in the original for a point
of what is shown. It comes from a velocity field that is followed for a unit of time (scaling and squaring [1]_), so
that nothing is folded or torn. Only additions and products per point: every processor rounds them alike.

References
----------
.. [1] Arsigny V, et al. A log-Euclidean framework for statistics on diffeomorphisms. MICCAI 2006, LNCS 4190:924-931.
"""

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np

STEP, SHAPE = 4., (67, 76, 76)
ORIGIN = np.array([-132., -156., -192.])  # head coordinates, mm
CELL = 60.      # mm: how smooth the random deformation is
DOUBLINGS = 7
STRETCH_SD, STRETCH_MAX = .04, .15
SHEAR_SD, SHEAR_MAX = .025, .08
# How deep inside the ventricles and how far outside their widening ends, mm.
WIDENING_INSIDE, WIDENING_OUTSIDE = 4, 25
# Over how many mm outside of the brain's cover the skull gets thinner, and where that fades out.
SHELL, FADE_START, FADE_END = 8, 30, 60


@dataclass(frozen=True)
class Form:
    """Where to look in the original for the points of a head.

    Attributes
    ----------
    scale : ndarray, float32, shape (3,)
        Size along each axis.
    linear : ndarray, float32, shape (3, 3), optional
        Linear map from the scaled head to what is deformed.
    deformation : ndarray, float32, shape (3, *SHAPE), optional
    """

    scale: np.ndarray
    linear: np.ndarray | None = None
    deformation: np.ndarray | None = None

    def original(self, points):
        """Return where the points of the head, float32 (3, n) in mm, come from."""
        points = points / self.scale[:, None]
        if self.linear is not None:
            # Not a matrix product: that one rounds differently on every processor.
            points = np.stack([m[0] * points[0] + m[1] * points[1] + m[2] * points[2] for m in self.linear])
        if self.deformation is not None:
            displace(points, self.deformation)
        return points


def smooth_noise(lattice, points, cell):
    """Return a smooth random field of unit variance: cubic B-splines on a lattice of `cell` mm, repeated endlessly.

    Parameters
    ----------
    lattice : ndarray, float32, shape (nx, ny, nz)
        White noise of unit variance.
    points : ndarray, float32, shape (3, n)
        mm.
    cell : float

    Returns
    -------
    ndarray, float32, shape (n,)
    """
    variance = (151 / 315) ** 3  # of cubic B-splines with unit white weights
    # Three more nodes behind each axis: the four that a point needs lie side by side.
    nodes = np.pad(lattice.astype(float), (0, 3), 'wrap')
    field = np.empty(points.shape[1], np.float32)
    _splines(nodes.ravel(), nodes.shape, points, np.float32(cell), field)
    return np.divide(field, np.float32(np.sqrt(variance)), out=field)


@numba.njit(cache=True, nogil=True, error_model='numpy')
def _splines(nodes, shape, points, cell, field):
    """Evaluate cubic B-splines in double precision; unsigned indices, which need no check for being negative."""
    row, plane = np.uint64(shape[2]), np.uint64(shape[1] * shape[2])
    two, three = np.uint64(2), np.uint64(3)
    for n in range(points.shape[1]):
        x, y, z = np.float64(points[0, n] / cell), np.float64(points[1, n] / cell), np.float64(points[2, n] / cell)
        i, j, k = np.floor(x), np.floor(y), np.floor(z)
        u, v, w = _basis(x - i), _basis(y - j), _basis(z - k)
        at = (plane * np.uint64((int(i) - 1) % (shape[0] - 3)) + row * np.uint64((int(j) - 1) % (shape[1] - 3))
              + np.uint64((int(k) - 1) % (shape[2] - 3)))
        field[n] = ((u[0] * _of_plane(nodes, at, row, v, w) + u[1] * _of_plane(nodes, at + plane, row, v, w))
                    + (u[2] * _of_plane(nodes, at + two * plane, row, v, w)
                       + u[3] * _of_plane(nodes, at + three * plane, row, v, w)))


@numba.njit(cache=True, nogil=True)
def _basis(t):
    s = 1 - t
    return (s * s * s * (1 / 6), (4 - 6 * t * t + 3 * t * t * t) * (1 / 6), (4 - 6 * s * s + 3 * s * s * s) * (1 / 6),
            t * t * t * (1 / 6))


@numba.njit(cache=True, nogil=True)
def _of_plane(nodes, at, row, v, w):
    two, three = np.uint64(2), np.uint64(3)
    return ((v[0] * _of_row(nodes, at, w) + v[1] * _of_row(nodes, at + row, w))
            + (v[2] * _of_row(nodes, at + two * row, w) + v[3] * _of_row(nodes, at + three * row, w)))


@numba.njit(cache=True, nogil=True)
def _of_row(nodes, at, w):
    return ((w[0] * nodes[at] + w[1] * nodes[at + np.uint64(1)])
            + (w[2] * nodes[at + np.uint64(2)] + w[3] * nodes[at + np.uint64(3)]))


@lru_cache(maxsize=1)
def grid_points():
    """Return the coordinates of the grid of a deformation, float32 (3, n), mm; read-only."""
    points = np.indices(SHAPE, np.float32).reshape(3, -1) * np.float32(STEP) + ORIGIN.astype(np.float32)[:, None]
    points.flags.writeable = False
    return points


@lru_cache(maxsize=4)
def random_deformation(seed, sd_mm):
    """Return a random smooth invertible deformation.

    Parameters
    ----------
    seed : int or tuple of int
    sd_mm : float
        SD of each component of the velocity, mm per unit of time.

    Returns
    -------
    ndarray, float32, shape (3, *SHAPE), read-only
    """
    lattice = np.random.Generator(np.random.PCG64(seed)).standard_normal((3, 16, 16, 16)).astype(np.float32)
    points = grid_points()
    velocity = np.stack([np.float32(sd_mm) * smooth_noise(part, points, CELL) for part in lattice])
    deformation = follow(velocity.reshape(3, *SHAPE))
    deformation.flags.writeable = False
    return deformation


def follow(velocity):
    """Return the displacement after a unit of time in a steady velocity field, both float32 (3, *SHAPE) in mm."""
    displacement = velocity / np.float32(2 ** DOUBLINGS)
    for _ in range(DOUBLINGS):
        displacement = compose(displacement, displacement)
    return displacement


def compose(first, second):
    """Return the displacement by `first` and from there by `second`; any of the two may be None for no displacement."""
    if first is None or second is None:
        return second if first is None else first
    points = grid_points() + first.reshape(3, -1)
    displace(points, second)
    return (points - grid_points()).reshape(first.shape)


def age_deformation(stature, ventricles, cover):
    """Return the deformation that widens the ventricles and thins the skull, None if nothing changes.

    Parameters
    ----------
    stature : Stature
    ventricles, cover : callable
        Each returns the distance of points (float32 (3, n), mm) to the walls of the ventricles and to the inside of the
        skull, negative inside.
    """
    if not (stature.widening or stature.skull_loss):
        return None
    points = grid_points()
    velocity = np.zeros((3, *SHAPE), np.float32)
    if stature.widening:
        distance = ventricles(points).reshape(SHAPE)
        inside, outside = 1 + distance / WIDENING_INSIDE, 1 - distance / WIDENING_OUTSIDE
        # The speed falls on the way from the new wall to the old one.
        speed = -WIDENING_OUTSIDE * np.log(1 - stature.widening / WIDENING_OUTSIDE)
        velocity -= np.float32(speed) * np.clip(np.minimum(inside, outside), 0, 1) * _outwards(distance)
    if stature.skull_loss:
        distance = cover(points).reshape(SHAPE)
        rise, fall = distance / SHELL, (FADE_END - distance) / (FADE_END - FADE_START)
        velocity += np.float32(stature.skull_loss) * np.clip(np.minimum(rise, fall), 0, 1) * _outwards(distance)
    return follow(velocity.astype(np.float32))


def _outwards(distance):
    slope = np.stack(np.gradient(distance))
    return slope / np.maximum(np.sqrt((slope * slope).sum(axis=0)), np.float32(1e-6))


def random_affine(rng):
    """Return a random linear map, float32 (3, 3): it stretches each axis by up to 15 % and shears a little."""
    stretch = 1 + np.clip(STRETCH_SD * rng.standard_normal(3), -STRETCH_MAX, STRETCH_MAX)
    shear = np.clip(SHEAR_SD * rng.standard_normal((3, 3)), -SHEAR_MAX, SHEAR_MAX)
    np.fill_diagonal(shear, stretch)
    return shear.astype(np.float32)


@numba.njit(cache=True, nogil=True)
def displace(points, deformation):
    """Move points, float32 (3, n) in mm, in place. Beyond its grid a deformation goes on as at the edge."""
    grid, moved = np.empty(3), np.empty(3)
    for n in range(points.shape[1]):
        for axis in range(3):
            grid[axis] = min(max((points[axis, n] - ORIGIN[axis]) / STEP, 0.), deformation.shape[axis + 1] - 1.001)
        i, j, k = int(grid[0]), int(grid[1]), int(grid[2])
        u, v, w = grid[0] - i, grid[1] - j, grid[2] - k
        for axis in range(3):
            moved[axis] = 0.
            for c in range(8):
                a, b, d = c >> 2, (c >> 1) & 1, c & 1
                moved[axis] += ((u if a else 1 - u) * (v if b else 1 - v) * (w if d else 1 - w)
                                * deformation[axis, i + a, j + b, k + d])
        for axis in range(3):
            points[axis, n] += moved[axis]
