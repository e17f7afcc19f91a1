"""The stream of magnitudes with their brains: as that of `streams`, it depends on nothing but a seed and a position."""

import numpy as np

from qsmbids.networks.unetr import WINDOW
from qsmbids.training.masks import mask_head, mask_sample, mask_window
from qsmbids.training.streams import BlockStream, head_pool

FIRST = 6
"""Heads that are there for the first block; as many more come with each."""


class MaskStream(BlockStream):
    """Batches of windows of magnitudes, each with a first mask.

    Parameters
    ----------
    anatomies : list of path
        Label maps; the parametric head comes in any case.
    seed : int
    shapes : int, default 4
        How many heads each label map gives.
    parametric : int, default 2
        How many parametric heads come with each round of label maps.
    size : sequence of int, default `WINDOW`
        Of the windows, voxels of `networks.unetr.STEP`.
    samples : int, default 24
        In a block.
    passes : int, default 2
        How often each is seen, after the first time turned over at random along the first axis.
    batch : int, default 2
        Samples in a batch; divides `samples`.
    cache : str, optional
        Where heads are kept for other runs. Made anew each time if not given.
    """

    def __init__(self, anatomies, seed, *, shapes=4, parametric=2, size=WINDOW, samples=24, passes=2, batch=2,
                 cache=None):
        paths = [str(path) for path in anatomies] + [None] * parametric
        super().__init__(
            make_mask_block, (head_pool(paths, seed, shapes), seed, tuple(size), samples, passes, cache),
            samples * passes, 'samples', batch)


def make_mask_block(pool, seed, size, samples, passes, cache, block):
    """Return the windows of a block, a dict of arrays, as often and in the order that they are seen."""
    windows = mask_windows(pool, seed, size, samples, cache, block)
    rng = np.random.Generator(np.random.PCG64([seed, block, passes]))
    order = np.concatenate([rng.permutation(samples) for _ in range(passes)])
    over = (rng.random(order.size) < .5) & (np.arange(order.size) >= samples)
    found = {name: values[order] for name, values in windows.items()}
    for values in found.values():
        values[over] = values[over, ::-1]
    return found


def mask_windows(pool, seed, size, samples, cache, block):
    """Return the samples of a block: a dict of what `masks.mask_window` returns, stacked."""
    rng = np.random.Generator(np.random.PCG64([seed, block]))
    known, found = pool[:FIRST * (block + 1)], []
    while len(found) < samples:
        window = mask_window(mask_sample(mask_head(*known[rng.integers(len(known))], cache), rng), rng, size)
        if window:
            found.append(window)
    return {name: np.stack([one[name] for one in found]) for name in found[0]}
