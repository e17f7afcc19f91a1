"""Streams of training patches that depend on nothing but a seed and a position, so that a run can be resumed anywhere.

Patches come in blocks: some heads are simulated, each gives many patches, and these are shuffled. A process of its own
simulates the next block while the network learns from this one.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from qsmbids.core.inversion.strength import automatic_strength
from qsmbids.networks.pocsnet import start
from qsmbids.simulation.anatomy import head_from_labels, load_labels
from qsmbids.simulation.head import digital_head
from qsmbids.training.heads import training_head


class PatchStream:
    """Batches of patches from heads.

    Parameters
    ----------
    anatomies : list of path
        Label maps; the parametric head if empty.
    seed : int
    patch : int, default 64
        Voxels along each side.
    heads, patches : int
        Heads in a block, and patches of each.
    batch : int
        Patches in a batch; divides heads times patches.
    """

    def __init__(self, anatomies, seed, *, patch=64, heads=8, patches=24, batch=4):
        if heads * patches % batch:
            raise ValueError(f'batch is {batch}, must divide the {heads * patches} patches of a block')
        self._settings = [str(path) for path in anatomies], seed, patch, heads, patches
        self.batch = batch
        self._batches = heads * patches // batch

    def batches(self, step=0):
        """Yield batches from a step on, each a dict of arrays whose first axis is the batch.

        The block after the current one is made meanwhile. Closing the generator ends the process that does.
        """
        block, at = divmod(step, self._batches)
        with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
            following = pool.submit(make_block, *self._settings, block)
            while True:
                current, block = following.result(), block + 1
                following = pool.submit(make_block, *self._settings, block)
                for n in range(at, self._batches):
                    yield {name: values[n * self.batch:(n + 1) * self.batch] for name, values in current.items()}
                at = 0


def make_block(anatomies, seed, patch, heads, patches, block):
    """Return the patches of a block in random order.

    Returns
    -------
    dict of ndarray
        field, first, data, chi (float16, divided by the scale), total, local (float32, ppm), mask (bool), all of shape
        ``(n, patch, patch, patch)``; strength, scale, shape (n,); voxel_size, b0_dir, shape (n, 3).
    """
    rng = np.random.Generator(np.random.PCG64([seed, block]))
    samples = []
    for n in range(heads):
        path = anatomies[rng.integers(len(anatomies))] if anatomies else None
        sample = head_from_labels(*load_labels(path)) if path else digital_head
        head = training_head(sample, [seed, block, n])
        samples += cut_patches(head, patch, patches, rng)
    order = rng.permutation(len(samples))
    return {name: np.stack([samples[n][name] for n in order]) for name in samples[0]}


def cut_patches(head, patch, count, rng):
    """Return patches of a head as dicts; their middles lie in the mask."""
    strength = automatic_strength(head.field, head.mask, head.voxel_size, b0_dir=head.b0_dir, penalty='identity')
    # The level that the network is told is not always the right one.
    strength *= np.exp(.25 * rng.standard_normal())
    begun = start(head.field, head.mask, head.voxel_size, head.b0_dir, strength)
    mask = begun.mask
    inside = tuple(slice(n) for n in begun.box_shape)
    volumes = {name: _onto(getattr(head, name)[begun.box], mask.shape, inside) for name in ('chi', 'total', 'local')}
    volumes['chi'] /= np.float32(begun.scale)
    volumes |= {'field': begun.field, 'first': begun.first, 'data': begun.data, 'mask': mask}
    at = np.argwhere(mask[inside])
    limit = np.maximum(np.array(mask.shape) - patch, 0)
    found = []
    for middle in at[rng.integers(len(at), size=count)]:
        corner = np.clip(middle - patch // 2, 0, limit)
        cut = tuple(slice(c, c + patch) for c in corner)
        half = {name: volume[cut].astype(np.float16 if name in ('chi', 'field', 'first', 'data') else volume.dtype)
                for name, volume in volumes.items()}
        found.append(half | {'strength': np.float32(strength), 'scale': np.float32(begun.scale),
                             'voxel_size': np.array(head.voxel_size), 'b0_dir': np.array(head.b0_dir)})
    return found


def _onto(volume, shape, inside):
    padded = np.zeros(shape, np.float32)
    padded[inside] = volume
    return padded
