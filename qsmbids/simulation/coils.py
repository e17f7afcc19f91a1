"""Smooth things that coils make: harmonic fields, and the sensitivities of a receive array and of its combination."""

import numpy as np

LOOP_RADIUS, LOOP_DISTANCE = .6, 1.3  # of one coil, and from the middle of the field of view; 0.1 m
UPWARD = (-.4, 1.)                    # lowest and highest coil, as a share of the distance


def harmonics(position, order):
    """Return the harmonic polynomials of a position (x, y, z) up to an order of 2, as shim coils make them.

    Returns
    -------
    ndarray, shape (terms, ...)
        1, 4 or 9 terms.
    """
    x, y, z = position
    terms = [np.ones_like(x)]
    if order >= 1:
        terms += [x, y, z]
    if order >= 2:
        terms += [x * y, y * z, z * x, x * x - y * y, 2 * z * z - x * x - y * y]
    return np.stack(terms)


def from_middle(index, shape, affine):
    """Return scanner coordinates relative to the middle of a grid, in units of 0.1 m; one array per coordinate."""
    i, j, k = ((at - (n - 1) / 2) / 100 for at, n in zip(index, shape))
    return [affine[axis, 0] * i + affine[axis, 1] * j + affine[axis, 2] * k for axis in range(3)]


def combined_sensitivity(shape, affine, rng):
    """Return what the combination of all coils leaves of them: a smooth gain near 1 and a smooth phase.

    Parameters
    ----------
    shape : tuple of int
    affine : ndarray, shape (4, 4)
        Voxel to scanner, mm.
    rng : Generator

    Returns
    -------
    ndarray, complex128, shape (nx, ny, nz)
    """
    phase, gain = (_random_harmonic(shape, affine, rng, size) for size in (1., .25))
    return np.exp(gain + 1j * phase)


def sensitivities(count, shape, affine, rng):
    """Yield the sensitivities of an array of coils relative to their best combination.

    Loops around the field of view, evenly over the upper part of a sphere, see what lies near them best; each has a
    phase of its own, a constant and a smooth part. The squared magnitudes of all coils sum up to 1 everywhere, so that
    white noise of equal SD in every coil is white noise of that SD in ``sum(conj(sensitivity) * signal)``.

    Parameters
    ----------
    count : int
    shape, affine, rng
        See `combined_sensitivity`.

    Yields
    ------
    ndarray, complex64, shape (nx, ny, nz)
    """
    places = _places(count)
    position = [p.astype(np.float32) for p in from_middle(np.ogrid[tuple(slice(n) for n in shape)], shape, affine)]
    total = np.zeros(shape, np.float32)
    for place in places:
        total += _reach(position, place) ** 2
    total = np.sqrt(total)
    for place in places:
        phase = rng.uniform(-np.pi, np.pi) + _random_harmonic(shape, affine, rng, 1.)
        yield (_reach(position, place) / total * np.exp(1j * phase)).astype(np.complex64)


def _places(count):
    """Return where coils lie, shape (count, 3), 0.1 m: along a spiral with the golden angle."""
    height = UPWARD[0] + (np.arange(count) + .5) / count * (UPWARD[1] - UPWARD[0])
    angle = np.arange(count) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - height ** 2)
    return LOOP_DISTANCE * np.column_stack([radius * np.cos(angle), radius * np.sin(angle), height])


def _reach(position, place):
    """Return how strong a coil sees a position: the field on the axis of a loop, at that distance in any direction."""
    squared = sum((p - np.float32(q)) ** 2 for p, q in zip(position, place))
    return (1 + squared / np.float32(LOOP_RADIUS ** 2)) ** np.float32(-1.5)


def _random_harmonic(shape, affine, rng, size):
    """Return a random polynomial of second order, up to `size` at 0.1 m from the middle per term."""
    weights = size * rng.uniform(-1, 1, 9) * [1, .8, .8, .8, .4, .4, .4, .4, .2]
    total = np.empty(shape)
    for i in range(shape[0]):
        plane = from_middle(np.ogrid[i:i + 1, :shape[1], :shape[2]], shape, affine)
        total[i] = np.einsum('t,t...->...', weights, harmonics(plane, 2))[0]
    return total
