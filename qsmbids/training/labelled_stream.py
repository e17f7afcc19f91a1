"""The stream of labelled patches: as that of `streams`, it depends on nothing but a seed and a position."""

import numpy as np

from qsmbids.training.labelled import labelled_patch, measured, simulated
from qsmbids.training.streams import SHORTEST, BlockStream, head_pool

MEASURED_ENDING = '_chi.nii.gz'
FIRST = 4
"""Heads that are there for the first block; as many more come with each."""


class LabelledStream(BlockStream):
    """Batches of labelled patches.

    Parameters
    ----------
    anatomies : list of path
        Label maps, and measured maps with labels beside them (``NAME_chi.nii.gz``, ``NAME_labels.nii.gz``); the
        parametric head if empty.
    seed : int
    structures : sequence of str
        Of the network.
    patch : int, default 56
        Voxels along each side, at least `SHORTEST`.
    shapes : int, default 4
        How many other shapes each label map gets.
    patches : int, default 48
        In a block.
    batch : int, default 2
        Patches in a batch; divides `patches`.
    share : float, default 0.5
        Of the measured maps among the patches, where there are any.
    begin : int, default 0
        Block from which on there are measured ones.
    voxel_size : sequence of float, default (1, 1, 3)
        True one of the measured maps, mm.
    """

    def __init__(self, anatomies, seed, *, structures, patch=56, shapes=4, patches=48, batch=2, share=.5, begin=0,
                 voxel_size=(1., 1., 3.)):
        if patch < SHORTEST:
            raise ValueError(f'patch is {patch}, must be at least {SHORTEST} voxels')
        paths = [str(path) for path in anatomies]
        maps = [path.removesuffix(MEASURED_ENDING) for path in paths if path.endswith(MEASURED_ENDING)]
        heads = [path for path in paths if not path.endswith(MEASURED_ENDING)] or [None]
        pool = head_pool(heads, seed, shapes)
        super().__init__(
            make_labelled_block,
            (pool, maps, seed, tuple(structures), patch, patches, share, begin, tuple(voxel_size)),
            patches, 'patches', batch)

    @classmethod
    def for_network(cls, network, anatomies, seed, **settings):
        """Return the stream that a network learns from."""
        return cls(anatomies, seed, structures=network.structures, **settings)


def make_labelled_block(pool, maps, seed, structures, patch, patches, share, begin, voxel_size, block):
    """Return the patches of a block: a dict of what `labelled.labelled_patch` returns, stacked."""
    rng = np.random.Generator(np.random.PCG64([seed, block]))
    known = pool[:FIRST * (block + 1)]
    found = []
    for _ in range(patches):
        if maps and block >= begin and rng.random() < share:
            head = measured(maps[rng.integers(len(maps))], voxel_size, structures)
        else:
            head = simulated(*known[rng.integers(len(known))], structures)
        found.append(labelled_patch(head, patch, rng))
    return {name: np.stack([one[name] for one in found]) for name in found[0]}
