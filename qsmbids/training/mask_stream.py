"""The stream of magnitudes with their brains: as that of `streams`, it depends on nothing but a seed and a position."""

from contextlib import closing

import numpy as np

from qsmbids.training.masks import SIZE, mask_head, mask_sample
from qsmbids.training.streams import blocks_from

FIRST = 6
"""Heads that are there for the first block; as many more come with each."""


class MaskStream:
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
        if samples % batch:
            raise ValueError(f'batch is {batch}, must divide the {samples} samples of a block')
        paths = [str(path) for path in anatomies] + [None] * parametric
        pool = [(path, (seed, shape, n)) for shape in range(shapes) for n, path in enumerate(paths)]
        self._settings = pool, seed, tuple(size), samples, cache
        self.batch = batch
        self._batches = samples // batch

    @classmethod
    def for_network(cls, network, anatomies, seed, **settings):
        """Return the stream that a network learns from."""
        return cls(anatomies, seed, **settings)

    def batches(self, step=0):
        """Yield batches from a step on, as `streams.PatchStream.batches` does."""
        block, at = divmod(step, self._batches)
        with closing(blocks_from(make_mask_block, self._settings, block)) as blocks:
            for current in blocks:
                for n in range(at, self._batches):
                    yield {name: values[n * self.batch:(n + 1) * self.batch] for name, values in current.items()}
                at = 0


def make_mask_block(pool, seed, size, samples, cache, block):
    """Return the samples of a block: a dict of what `masks.mask_sample` returns, stacked."""
    rng = np.random.Generator(np.random.PCG64([seed, block]))
    known = pool[:FIRST * (block + 1)]
    found = [mask_sample(mask_head(*known[rng.integers(len(known))], cache), rng, size) for _ in range(samples)]
    return {name: np.stack([one[name] for one in found]) for name in found[0]}
