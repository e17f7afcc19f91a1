"""How far two susceptibility maps of one brain agree: over all of it, and by how strong the susceptibility is."""

from dataclasses import dataclass

import numpy as np

from qsmbids.core.checks import check_mask, check_volume

LEVELS = -np.inf, -.1, -.05, -.02, .02, .05, .1, np.inf
"""Limits between the levels of susceptibility, ppm: of the mean of both maps, so that neither decides alone."""


@dataclass(frozen=True)
class Level:
    """What is between two limits of susceptibility.

    Attributes
    ----------
    low, high : float
        ppm; infinite at both ends.
    voxels : int
    difference : float
        Mean of the other map minus the first, ppm.
    rms : float
        Root mean square of that difference, ppm.
    """

    low: float
    high: float
    voxels: int
    difference: float
    rms: float


@dataclass(frozen=True)
class Agreement:
    """How a map stands to the first.

    Attributes
    ----------
    slope : float
        ppm of the other map for each ppm of the first: that of the main axis of their scatter, so that errors of
        neither make it smaller. NaN if a map is constant.
    correlation : float
        NaN if a map is constant.
    rms : float
        Root mean square of their difference, both without their means, ppm.
    levels : tuple of Level
        Those that have voxels.
    """

    slope: float
    correlation: float
    rms: float
    levels: tuple


def compare_maps(first, other, mask):
    """Compare two susceptibility maps in ppm.

    Parameters
    ----------
    first, other : ndarray, shape (nx, ny, nz)
    mask : ndarray of bool, shape (nx, ny, nz)
        What is compared; both maps are taken without their means over it.

    Returns
    -------
    Agreement

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, or a map is not finite inside it.

    Examples
    --------
    >>> import numpy as np
    >>> first = np.random.default_rng(0).normal(0, .05, (12, 12, 12)).astype(np.float32)
    >>> found = compare_maps(first, .8 * first, np.ones(first.shape, bool))
    >>> round(found.slope, 2), round(found.correlation, 2)
    (0.8, 1.0)
    """
    mask = check_mask(mask)
    one, two = (check_volume(name, volume, mask)[mask].astype(float) for name, volume in (('first', first),
                                                                                         ('other', other)))
    one -= one.mean()
    two -= two.mean()
    squares, products = (np.mean(one * one), np.mean(two * two)), np.mean(one * two)
    slope = correlation = np.nan
    if all(squares):
        correlation = products / np.sqrt(squares[0] * squares[1])
        spread = squares[1] - squares[0]
        # Both ways to write the root are the same; this one does not divide by what may vanish where slopes are small.
        root = np.hypot(spread, 2 * products)
        slope = 2 * products / (root - spread) if spread < 0 else (spread + root) / (2 * products or np.nan)
    difference = two - one
    at = np.digitize((one + two) / 2, LEVELS[1:-1])
    levels = []
    for n, (low, high) in enumerate(zip(LEVELS, LEVELS[1:])):
        inside = difference[at == n]
        if inside.size:
            levels.append(Level(low, high, inside.size, float(inside.mean()), float(np.sqrt(np.mean(inside ** 2)))))
    return Agreement(float(slope), float(correlation), float(np.sqrt(np.mean(difference ** 2))), tuple(levels))
