"""The stream of magnitudes with their brains: as that of `streams`, it depends on nothing but a seed and a position."""

import numpy as np

from qsmbids.training.masks import SIZE, mask_head, mask_sample
from qsmbids.training.streams import BlockStream

FIRST = 6
"""Heads that are there for the first block; as many more come with each."""


class MaskStream(BlockStream):
    """Batches of magnitudes of whole heads.

    Parameters
    ----------
    anatomies : list of path
        Label maps; the parametric head comes in any case.
    seed : int
    shapes : int, default 4
        How many heads each label map gives.
    parametric : int, default 2
        How many parametric heads come with each round of label maps.
    size : sequence of int, default `SIZE`
        Of the samples, voxels of `networks.unetr.STEP`.
    samples : int, default 24
        In a block.
    batch : int, default 2
        Samples in a batch; divides `samples`.
    cache : str, optional
        Where heads are kept for other runs. Made anew each time if not given.
    """

    def __init__(self, anatomies, seed, *, shapes=4, parametric=2, size=SIZE, samples=24, batch=2, cache=None):
        paths = [str(path) for path in anatomies] + [None] * parametric
        pool = [(path, (seed, shape, n)) for shape in range(shapes) for n, path in enumerate(paths)]
        super().__init__(make_mask_block, (pool, seed, tuple(size), samples, cache), samples, 'samples', batch)


def make_mask_block(pool, seed, size, samples, cache, block):
    """Return the samples of a block: a dict of what `masks.mask_sample` returns, stacked."""
    rng = np.random.Generator(np.random.PCG64([seed, block]))
    known = pool[:FIRST * (block + 1)]
    found = [mask_sample(mask_head(*known[rng.integers(len(known))], cache), rng, size) for _ in range(samples)]
    return {name: np.stack([one[name] for one in found]) for name in found[0]}
