"""Streams of training patches that depend on nothing but a seed and a position, so that a run can be resumed anywhere.

Patches come in blocks: some heads are simulated, each gives many patches, and these are shuffled. A process of its own
simulates the next block while the network learns from this one, on one thread: how many there are decides the last bit.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch

from qsmbids.core.grid import embed, embed_mask
from qsmbids.core.inversion.strength import automatic_strength
from qsmbids.networks.autoqsm import start_direct
from qsmbids.networks.pocsnet import start
from qsmbids.networks.shells import begin
from qsmbids.simulation.anatomy import head_from_labels, load_labels
from qsmbids.simulation.head import digital_head
from qsmbids.training.heads import training_head
from qsmbids.training.shapes import training_shapes

SHORTEST = 24
"""Voxels along a patch: where a backbone has two of them left, oneDNN's slopes in bfloat16 are partly uninitialised."""
KINDS = 'heads', 'shapes'
TARGETS = 'chi', 'local', 'direct'


class PatchStream:
    """Batches of patches from heads.

    Parameters
    ----------
    anatomies : list of path
        Label maps; the parametric head if empty.
    seed : int
    target : {'chi', 'local', 'direct'}
        What a network is to find, chi from the local field, the local field from the total one, or chi from that;
        decides what the patches hold.
    kind : {'heads', 'shapes'}
        Of what is simulated: `heads.training_head` or `shapes.training_shapes`, the latter twice as long as a patch.
    noise : float, optional
        As the one of these.
    patch : int, default 64
        Voxels along each side, at least `SHORTEST`.
    heads, patches : int
        Heads in a block, and patches of each.
    batch : int
        Patches in a batch; divides heads times patches.
    """

    def __init__(self, anatomies, seed, *, target='chi', kind='heads', noise=None, patch=64, heads=8, patches=24,
                 batch=4):
        if heads * patches % batch:
            raise ValueError(f'batch is {batch}, must divide the {heads * patches} patches of a block')
        if patch < SHORTEST:
            raise ValueError(f'patch is {patch}, must be at least {SHORTEST} voxels')
        for name, value, known in (('target', target, TARGETS), ('kind', kind, KINDS)):
            if value not in known:
                raise ValueError(f'{name} is {value!r}, must be one of {", ".join(known)}')
        self._settings = [str(path) for path in anatomies], seed, target, kind, noise, patch, heads, patches
        self.batch = batch
        self._batches = heads * patches // batch

    def batches(self, step=0):
        """Yield batches from a step on, each a dict of arrays whose first axis is the batch.

        The block after the current one is made meanwhile. Closing the generator ends the process that does.
        """
        block, at = divmod(step, self._batches)
        with ProcessPoolExecutor(1, get_context('spawn'), torch.set_num_threads, (1,)) as pool:
            following = pool.submit(make_block, *self._settings, block)
            while True:
                current, block = following.result(), block + 1
                following = pool.submit(make_block, *self._settings, block)
                for n in range(at, self._batches):
                    yield {name: values[n * self.batch:(n + 1) * self.batch] for name, values in current.items()}
                at = 0


def make_block(anatomies, seed, target, kind, noise, patch, heads, patches, block):
    """Return the patches of a block in random order.

    Returns
    -------
    dict of ndarray
        What a network's `prepare` uses. With the target ``'chi'``: field, first, data, chi (float16, divided by the
        scale), mask (bool), all of shape ``(n, patch, patch, patch)``; strength, scale, shape (n,); voxel_size, b0_dir,
        shape (n, 3). With the target ``'local'``: total, local (float32, ppm), first (float16, divided by the scale),
        mask and known (bool), scale, voxel_size, b0_dir.
    """
    rng = np.random.Generator(np.random.PCG64([seed, block]))
    samples = []
    for n in range(heads):
        if kind == 'shapes':
            head = training_shapes(2 * patch, [seed, block, n], noise=noise)
        else:
            path = anatomies[rng.integers(len(anatomies))] if anatomies else None
            sample = head_from_labels(*load_labels(path)) if path else digital_head
            head = training_head(sample, [seed, block, n], noise=noise,
                                 **({} if target == 'chi' else {'removals': {'none': 1.}}))
        samples += cut_patches(head, target, patch, patches, rng)
    order = rng.permutation(len(samples))
    return {name: np.stack([samples[n][name] for n in order]) for name in samples[0]}


def cut_patches(head, target, patch, count, rng):
    """Return patches of a head as dicts; their middles lie in the mask."""
    prepare = {'chi': _inversion, 'local': _background, 'direct': _direct}[target]
    volumes, numbers, shape = prepare(head, rng)
    numbers |= {'voxel_size': np.array(head.voxel_size), 'b0_dir': np.array(head.b0_dir)}
    at = np.argwhere(volumes['mask'][tuple(slice(n) for n in shape)])
    limit = np.maximum(np.array(volumes['mask'].shape) - patch, 0)
    found = []
    for middle in at[rng.integers(len(at), size=count)]:
        corner = np.clip(middle - patch // 2, 0, limit)
        cut = tuple(slice(c, c + patch) for c in corner)
        found.append({name: volume[cut].copy() for name, volume in volumes.items()} | numbers)
    return found


def _inversion(head, rng):
    """Return the volumes and the numbers that an inversion learns from, and how much of the volumes the box is."""
    strength = automatic_strength(head.field, head.mask, head.voxel_size, b0_dir=head.b0_dir, penalty='identity')
    # The level that the network is told is not always the right one.
    strength *= np.exp(.25 * rng.standard_normal())
    begun = start(head.field, head.mask, head.voxel_size, head.b0_dir, strength)
    volumes = {'chi': embed(head.chi, head.mask, begun.box, begun.mask.shape) / np.float32(begun.scale),
               'field': begun.field, 'first': begun.first, 'data': begun.data}
    volumes = {name: volume.astype(np.float16) for name, volume in volumes.items()} | {'mask': begun.mask}
    return volumes, {'strength': np.float32(strength), 'scale': np.float32(begun.scale)}, begun.box_shape


def _background(head, rng):
    """Return the same for background removal."""
    begun, _ = begin(head.total, head.mask, head.voxel_size)
    shape = head.mask[begun.box].shape
    volumes = {'total': begun.total * np.float32(begun.scale),
               'local': embed(head.local, head.mask, begun.box, begun.mask.shape),
               'first': begun.first.astype(np.float16), 'mask': begun.mask, 'known': begun.known}
    return volumes, {'scale': np.float32(begun.scale)}, shape


def _direct(head, _):
    """Return the same for inversion of the total field."""
    begun = start_direct(head.total, head.mask, head.voxel_size)
    size = begun.total.shape
    volumes = {'total': begun.total, 'mask': embed_mask(head.mask, begun.box, size),
               'chi': (embed(head.chi, head.mask, begun.box, size) / np.float32(begun.scale)).astype(np.float16)}
    return volumes, {'scale': np.float32(begun.scale)}, head.mask[begun.box].shape
