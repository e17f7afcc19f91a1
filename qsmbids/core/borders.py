"""Borders of regions by their values: where a segmentation is in doubt, a voxel belongs to what it looks like."""

import numpy as np
from scipy import ndimage

REACH_MM = 3.
"""How far from a region values count for it, and against what is around it."""
SURE, FREE = .9, .8
"""Probability from which on a voxel shows what a region looks like; of the background, what its surroundings do."""
LEAST_VOXELS = 20
LEAST_CONTRAST = 2.
"""Of a region to its surroundings, in SD within both: less says nothing of a voxel."""
LEAST_SPREAD = .1
"""Of both, in units of the contrast: no map is more certain of its values."""
WEIGHT = .3
"""Of the values: the voxels of a border share noise, blur and errors of the map."""


def sharpen(classes, shares, background, values, mask, voxel_size):
    """Weigh the probabilities of regions by their values.

    What a region and its surroundings look like is told by its own voxels and by those around it, as median and median
    deviation. Around a region that stands out, its probability, that of the next region and that of the background are
    multiplied by how well each explains the value, to the power of `WEIGHT`. Large deviations, as of a vein, say
    little.

    Parameters
    ----------
    classes : ndarray of uint8, shape (2, nx, ny, nz)
        The most probable region of each voxel and the next one, from 1 on; 0 where there is none.
    shares : ndarray of float32, shape (2, nx, ny, nz)
        Their probabilities; changed in place.
    background : ndarray of float32, shape (nx, ny, nz)
        That of being in no region; changed in place.
    values : ndarray, shape (nx, ny, nz)
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the values count.
    voxel_size : sequence of float
        mm.

    Returns
    -------
    ndarray of uint8, shape (nx, ny, nz)
        The region that each voxel belongs to, or 0.

    Notes
    -----
    Labels that follow the values make the mean of a region stand out more; the weight is what keeps maps of persons,
    whose raters draw smooth outlines, where they are.
    """
    first, top = classes[0], shares[0]
    zone, looks = np.zeros(first.shape, bool), np.full((max(int(classes.max()), 1) + 1, 4), np.nan, np.float32)
    grown = [int(np.ceil(REACH_MM / step)) for step in voxel_size]
    for number, box in enumerate(ndimage.find_objects(np.where(top > .5, first, 0)), 1):
        if box is None:
            continue
        box = tuple(slice(max(side.start - more, 0), side.stop + more) for side, more in zip(box, grown))
        own = first[box] == number
        near = ndimage.distance_transform_edt(~(own & (top[box] > .5)), sampling=voxel_size) <= REACH_MM
        near &= mask[box]
        look = _look(values[box][near & own & (top[box] > SURE)], values[box][near & (background[box] > FREE)])
        if look is not None:
            looks[number] = look
            zone[box] |= near & own
    _weigh(classes, shares, background, values, zone, looks)
    found = np.where(top >= shares[1], first, classes[1])
    return np.where(shares.max(axis=0) > background, found, 0).astype(np.uint8)


def _look(inside, around):
    """Return middle and spread of a region and of its surroundings; None if they do not tell one from the other."""
    if min(inside.size, around.size) < LEAST_VOXELS:
        return None
    (middle, spread), (outer, outer_spread) = map(_middle_and_spread, (inside, around))
    contrast = abs(middle - outer)
    if contrast <= LEAST_CONTRAST * np.hypot(spread, outer_spread) / np.sqrt(2):
        return None
    return middle, max(spread, LEAST_SPREAD * contrast), outer, max(outer_spread, LEAST_SPREAD * contrast)


def _middle_and_spread(values):
    middle = np.median(values)
    return middle, 1.4826 * np.median(np.abs(values - middle))


def _weigh(classes, shares, background, values, zone, looks):
    """Multiply the three probabilities in the zone, each divided by their sum, in place."""
    found = values[zone]
    middle, spread, outer, outer_spread = looks[classes[0][zone]].T
    next_middle, next_spread, *_ = looks[classes[1][zone]].T
    own = _likelihood(found, middle, spread)
    other = np.where(np.isnan(next_middle), own, _likelihood(found, next_middle, next_spread))
    parts = np.stack([shares[0][zone] * own, shares[1][zone] * other,
                      background[zone] * _likelihood(found, outer, outer_spread)])
    known = shares[0][zone] + shares[1][zone] + background[zone]
    parts *= known / np.maximum(parts.sum(axis=0), 1e-30)
    shares[0][zone], shares[1][zone], background[zone] = parts


def _likelihood(values, middle, spread):
    """Return the density of Student's t with 4 degrees of freedom, to the power of `WEIGHT`, but for a factor."""
    return ((1 + ((values - middle) / spread) ** 2 / 4) ** -2.5 / spread) ** WEIGHT
