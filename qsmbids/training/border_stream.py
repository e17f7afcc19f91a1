"""The stream of voxels near the border of a first mask, each with its share of brain.

As the other streams it depends on nothing but a seed and a position. Magnitudes with their masks are slow to make, so
what they give is kept: in memory, and in a folder if there is one.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from qsmbids.files import write_atomically
from qsmbids.networks.border import border_features, find_border
from qsmbids.training.masks import mask_head, mask_sample, mask_window
from qsmbids.training.streams import BlockStream, head_pool

FIRST = 16            # magnitudes that are there for the first block; as many more come with each
KEPT = 4096           # voxels of a magnitude that are kept
DRAWN = 1024          # voxels of a magnitude in a block


class BorderStream(BlockStream):
    """Batches of voxels.

    Parameters
    ----------
    anatomies : list of path
        Label maps; the parametric head comes in any case.
    seed : int
    shapes : int, default 4
        How many heads each label map gives.
    parametric : int, default 2
        How many parametric heads come with each round of label maps.
    magnitudes : int, default 1500
        How many there are in the end.
    looks : int, default 64
        Magnitudes in a block, with 1024 voxels of each.
    batch : int, default 4096
        Voxels in a batch; divides those of a block.
    cache : str, optional
        Folder that keeps heads, and voxels of magnitudes.
    """

    def __init__(self, anatomies, seed, *, shapes=4, parametric=2, magnitudes=1500, looks=64, batch=4096, cache=None):
        paths = [str(path) for path in anatomies] + [None] * parametric
        super().__init__(make_border_block, (head_pool(paths, seed, shapes), seed, magnitudes, looks, cache),
                         looks * DRAWN, 'voxels', batch)


def make_border_block(heads, seed, magnitudes, looks, cache, block):
    """Return the voxels of a block, in random order: features (float16), first, share."""
    rng = np.random.Generator(np.random.PCG64([seed, block]))
    known = min(FIRST * (block + 1), magnitudes)
    drawn = [border_voxels(heads[number % len(heads)], seed, number, cache)
             for number in rng.integers(known, size=looks)]
    chosen = [rng.integers(KEPT, size=DRAWN) for _ in drawn]
    order = rng.permutation(looks * DRAWN)
    return {name: np.concatenate([found[name][some] for found, some in zip(drawn, chosen)])[order] for name in drawn[0]}


@lru_cache(maxsize=None)
def border_voxels(head, seed, number, cache=None):
    """Return voxels of a magnitude of a head (its path and seed), a dict of arrays of length `KEPT`."""
    kept = Path(cache, f'border_{seed}_{number}.npz') if cache else None
    if kept and kept.exists():
        with np.load(kept) as arrays:
            return {name: arrays[name] for name in arrays}
    rng, window = np.random.Generator(np.random.PCG64([seed, number, KEPT])), None
    while window is None:
        window = mask_window(mask_sample(mask_head(*head, cache), rng), rng)
    border = find_border(window['magnitude'].astype(np.float32), window['seen'], window['surface'].astype(np.float32))
    places = border.places[:, rng.integers(border.places.shape[1], size=KEPT)]
    found = {'features': border_features(border, places).astype(np.float16),
             'first': border.first_scores(places).astype(np.float16), 'share': window['share'][tuple(places)]}
    if kept:
        write_atomically(kept, lambda temporary: np.savez(temporary, **found))
    return found
