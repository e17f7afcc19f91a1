"""The network that moves the border of a first mask to that of the brain, and what it is given.

It judges voxels of `STEP` near the border of `core.masks.brain_mask`, each by how bright the magnitude is on the way
through the border there, by its surroundings, and by where on the head it lies. So it learns from voxels of hundreds of
heads at once, not from a head at a time.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from qsmbids.core.grid import bounding_box
from qsmbids.networks.unetr import STEP, flatten_magnitude, soft_surface

BAND = 5.
"""How far from the border voxels are judged in training, voxels."""
BEYOND = .6
"""How far outside of the first mask they are judged afterwards: it is too large almost always, and in a contrast that
was not learnt from a bright scalp must not be taken in."""
WAY = np.arange(-6, 7)
"""Where the magnitude is looked at on the way inwards, voxels from the border."""
NEAR = np.arange(-2, 3)
"""The same from the voxel that is judged."""
WIDTHS = {'magnitude': (1., 2., 4.), 'surface': (2., 4.), 'seen': (1., 3., 6.)}
"""Gaussians of what lies around a voxel, voxels."""
SPREAD = 1.5
"""Gaussian that the spread of the magnitude is taken over, voxels."""
SMOOTH = 1.5
"""Gaussian of the depth whose slope is the way inwards, voxels."""
CORE = 4.
"""Depth below which the magnitude is that of the brain, voxels."""
SIZE = 70.
"""Edge of a cube as large as a brain of 340 ml, mm: positions are in half edges of the first mask's."""
FEATURES = 3 * len(WAY) + len(NEAR) + sum(map(len, WIDTHS.values())) + 10
LARGEST = 4.
"""Of a feature."""


@dataclass(frozen=True)
class Border:
    """A magnitude and a first mask, ready to be looked at.

    Attributes
    ----------
    image, seen, inside : ndarray, shape (nx, ny, nz)
        Magnitude over that of the surroundings and of the brain; the field of view; the first mask with a soft border.
    depth, inward : ndarray, shape (nx, ny, nz), (3, nx, ny, nz)
        Voxels from the border, negative outside; the direction in which that grows.
    places : ndarray of int, shape (3, n)
        The voxels to judge.
    """

    image: np.ndarray
    seen: np.ndarray
    inside: np.ndarray
    depth: np.ndarray
    inward: np.ndarray
    places: np.ndarray

    def first_scores(self, places):
        """Return the scores of the first mask, shape (n,): they grow with the depth, so that little moves it a little."""
        depth, inside = self.depth[tuple(places)], self.inside[tuple(places)]
        return 2 * inside - 1 + np.sign(depth) * np.maximum(abs(depth) - .5, 0)


def find_border(magnitude, seen, surface):
    """Return the `Border` of a magnitude.

    Parameters
    ----------
    magnitude : ndarray, float32, shape (nx, ny, nz)
        On voxels of `STEP`; axes to the right, front and top.
    seen : ndarray of bool, shape (nx, ny, nz)
        The field of view; what lies beyond does not count.
    surface : ndarray, float32, shape (nx, ny, nz)
        Share of each voxel that is in the first mask.
    """
    inside = surface > .5
    deep, away = (ndimage.distance_transform_edt(where) for where in (inside, ~inside))
    depth = (deep - away - np.where(inside, .5, -.5)).astype(np.float32)
    inward = np.stack(np.gradient(ndimage.gaussian_filter(depth, SMOOTH)))
    inward /= np.maximum(np.sqrt((inward ** 2).sum(axis=0)), 1e-3)
    _, flat = flatten_magnitude(magnitude, seen)
    core = seen & (deep > CORE)
    level = np.median(flat[core if core.any() else seen & inside]) if (seen & inside).any() else 1
    places = np.argwhere((abs(depth) <= BAND) & seen).T
    return Border(flat / np.float32(max(level, 1e-3)), seen, soft_surface(surface), depth, inward, places)


def border_features(border, places):
    """Return what the network is told of voxels.

    Parameters
    ----------
    border : Border
    places : ndarray of int, shape (3, n)

    Returns
    -------
    ndarray, float32, shape (n, FEATURES)
    """
    at, index = places.astype(np.float32), tuple(places)
    depth, inward = border.depth[index], border.inward[(slice(None), *index)]
    surface = border.inside > .5
    box = bounding_box(surface)
    middle = np.array([(part.start + part.stop - 1) / 2 for part in box], np.float32)
    edge = np.cbrt(surface.sum())
    spread = ndimage.gaussian_filter(border.image ** 2, SPREAD) - ndimage.gaussian_filter(border.image, SPREAD) ** 2
    rows = [*_ways(border, at, depth, inward), *_looked(border.image, [at + inward * step for step in NEAR]),
            *[ndimage.gaussian_filter(np.asarray(volume, np.float32), width)[index]
              for name, volume in (('magnitude', border.image), ('surface', border.inside), ('seen', border.seen))
              for width in WIDTHS[name]],
            np.sqrt(np.maximum(spread, 0))[index], *(2 * (at - middle[:, None]) / edge), *inward, depth / BAND,
            (depth / BAND) ** 2, np.full(depth.shape, edge * STEP / SIZE - 1.5)]
    every = np.median(_typical_way(border), axis=1)
    rows += [np.full(depth.shape, value) for value in every]
    return np.clip(np.stack(rows, axis=1), -LARGEST, LARGEST).astype(np.float32)


def _ways(border, at, depth, inward):
    """Return the magnitude on the way through the border, as it is and smoothed."""
    ways = [at + inward * (step - depth) for step in WAY]
    return [*_looked(border.image, ways), *_looked(ndimage.gaussian_filter(border.image, 1.), ways)]


def _typical_way(border):
    """Return the magnitude on some ways through the border, shape (len(WAY), n)."""
    depth = border.depth[tuple(border.places)]
    some = border.places[:, abs(depth) <= 1][:, ::4]
    if not some.size:
        return np.zeros((len(WAY), 1), np.float32)
    index = tuple(some)
    inward = border.inward[(slice(None), *index)]
    return np.stack(_looked(border.image, [some + inward * (step - border.depth[index]) for step in WAY]))


def _looked(volume, points):
    return [ndimage.map_coordinates(volume, at, order=1, mode='nearest') for at in points]


class BorderNetwork(nn.Module):
    """Features of a voxel to the score of being brain.

    Parameters
    ----------
    width : int, default 128
        Of the two hidden layers.
    """

    target = 'border'

    def __init__(self, width=128):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
                                    nn.Linear(width, 1))
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    @staticmethod
    def prepare(batch, device):
        """Return the arguments of `forward` and the true share of brain for a batch of voxels."""
        inputs = {name: torch.from_numpy(batch[name]).to(device).float() for name in ('features', 'first')}
        return inputs, torch.from_numpy(batch['share']).to(device).float(), None

    def forward(self, features, first):
        """Return scores whose sigmoid is the share of brain; those of the first mask before training.

        Parameters
        ----------
        features : Tensor, shape (n, FEATURES)
        first : Tensor, shape (n,)

        Returns
        -------
        Tensor, float32, shape (n,)
        """
        return first + self.layers(features)[:, 0].float()

    def find(self, magnitude, seen, surface):
        """Return the share of brain, as `networks.unetr.MaskNetwork.find` does; far from the border that of the mask."""
        border = find_border(magnitude, seen, surface)
        places = border.places[:, border.depth[tuple(border.places)] >= -BEYOND]
        share = np.array(surface, np.float32)
        features, first = border_features(border, places), border.first_scores(places)
        device = next(self.parameters()).device
        with torch.inference_mode():
            scores = self(*(torch.from_numpy(np.float32(values)).to(device) for values in (features, first)))
        share[tuple(places)] = scores.sigmoid().cpu().numpy()
        return share
