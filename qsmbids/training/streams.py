"""Streams of training patches that depend on nothing but a seed and a position, so that a run can be resumed anywhere.

Patches come in blocks: some heads are simulated, each gives many patches, turned over at random, and these are
shuffled. A process of its own simulates the next block while the network learns from this one, on one thread: how many
there are decides the last bit.
"""

from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch

from qsmbids.core.grid import embed, embed_mask
from qsmbids.core.inversion.strength import automatic_strength
from qsmbids.networks.autoqsm import start_direct
from qsmbids.core.inversion.variational import invert_tv
from qsmbids.networks.pocsnet import start
from qsmbids.networks.shells import begin
from qsmbids.simulation.anatomy import head_from_labels, load_labels
from qsmbids.simulation.head import digital_head
from qsmbids.training.heads import training_head
from qsmbids.training.measured import measured_head
from qsmbids.training.shapes import training_shapes

SHORTEST = 24
"""Voxels along a patch: where a backbone has two of them left, oneDNN's slopes in bfloat16 are partly uninitialised."""
KINDS = 'heads', 'shapes', 'fields'
TARGETS = 'chi', 'field', 'local', 'direct'


def head_pool(paths, seed, shapes):
    """Return heads, each a label map (None: the parametric head) and a seed, all in one shape, then in the next."""
    return [(path, (seed, shape, n)) for shape in range(shapes) for n, path in enumerate(paths)]


class BlockStream:
    """Batches of blocks: what is common to all streams.

    Parameters
    ----------
    make : callable
        ``make(*settings, block)`` returns the block of a number, a dict of arrays; a function of a module.
    settings : tuple
    count : int
        What there is in a block.
    kind : str
        What that is called.
    batch : int
        Divides `count`.
    """

    def __init__(self, make, settings, count, kind, batch):
        if count % batch:
            raise ValueError(f'batch is {batch}, must divide the {count} {kind} of a block')
        self._make, self._settings, self._batches = make, settings, count // batch
        self.batch = batch

    @classmethod
    def for_network(cls, network, anatomies, seed, **settings):
        """Return the stream that a network learns from."""
        return cls(anatomies, seed, **settings)

    def batches(self, step=0):
        """Yield batches from a step on, each a dict of arrays whose first axis is the batch.

        The block after the current one is made meanwhile. Closing the generator ends the process that does.
        """
        block, at = divmod(step, self._batches)
        with closing(blocks_from(self._make, self._settings, block)) as blocks:
            for current in blocks:
                for n in range(at, self._batches):
                    yield self._cut(current, n * self.batch, (n + 1) * self.batch)
                at = 0

    @staticmethod
    def _cut(block, begin, end):
        """Return a part of a block."""
        return {name: values[begin:end] for name, values in block.items()}


class PatchStream(BlockStream):
    """Batches of patches from heads.

    Parameters
    ----------
    anatomies : list of path
        Label maps; the parametric head if empty. With the kind 'fields' measured local fields.
    seed : int
    target : {'chi', 'field', 'local', 'direct'}
        What a network is to find, chi from the local field, the same by that field alone, the local field from the
        total one, or chi from that; decides what the patches hold.
    kind : {'heads', 'shapes', 'fields'}
        Of what is simulated: `heads.training_head` or `shapes.training_shapes`, the latter twice as long as a patch.
        Or measured fields, for the target 'field' alone.
    noise : float, optional
        As the one of these.
    sparse : bool, default False
        Whether inversions begin with the map of total variation.
    patch : int, default 64
        Voxels along each side, at least `SHORTEST`.
    heads, patches : int
        Heads in a block, and patches of each.
    batch : int
        Patches in a batch; divides heads times patches.
    """

    def __init__(self, anatomies, seed, *, target='chi', kind='heads', noise=None, sparse=False, patch=64, heads=8,
                 patches=24, batch=4):
        super().__init__(
            make_block, ([str(path) for path in anatomies], seed, target, kind, noise, sparse, patch, heads, patches),
            heads * patches, 'patches', batch)
        if patch < SHORTEST:
            raise ValueError(f'patch is {patch}, must be at least {SHORTEST} voxels')
        for name, value, known in (('target', target, TARGETS), ('kind', kind, KINDS)):
            if value not in known:
                raise ValueError(f'{name} is {value!r}, must be one of {", ".join(known)}')
        if kind == 'fields' and (target != 'field' or not anatomies):
            raise ValueError("kind is 'fields', which teaches what learns from fields alone, and needs some of them")

    @classmethod
    def for_network(cls, network, anatomies, seed, **settings):
        """Return the stream that a network learns from."""
        return cls(anatomies, seed, target=network.target,
                   sparse=network.target == 'chi' and network.begins_sparse, **settings)

    @staticmethod
    def _cut(block, begin, end):
        return block.patches(begin, end)


def blocks_from(make, settings, block):
    """Yield ``make(*settings, block)`` and those of the numbers after it, each made while the one before is used."""
    with ProcessPoolExecutor(1, get_context('spawn'), torch.set_num_threads, (1,)) as pool:
        following = pool.submit(make, *settings, block)
        while True:
            current, block = following.result(), block + 1
            following = pool.submit(make, *settings, block)
            yield current


@dataclass(frozen=True)
class Block:
    """Heads, and where to cut them.

    Attributes
    ----------
    heads : list of tuple
        Volumes and numbers of each, dicts.
    cuts : list of tuple
        Which head, the corner of the patch, and the axes along which it is turned over.
    patch : int
        Voxels along each side of a patch.
    """

    heads: list
    cuts: list
    patch: int

    def patches(self, begin=0, end=None):
        """Return the patches from `begin` to before `end`.

        Returns
        -------
        dict of ndarray
            What a network's `prepare` uses. With the targets ``'chi'`` and ``'field'``: field, first, linear, data, chi
            (float16, divided by the scale), mask (bool), all of shape ``(n, patch, patch, patch)``; strength, scale,
            shape (n,); voxel_size, b0_dir, shape (n, 3). With the target ``'local'``: total, local (float32, ppm), first
            (float16, divided by the scale), mask and known (bool), scale, voxel_size, b0_dir. With the target
            ``'direct'``: total (float32) and chi (float16), divided by the scale, mask, scale, voxel_size, b0_dir.
        """
        found = [self._cut(*cut) for cut in self.cuts[begin:end]]
        return {name: np.stack([patch[name] for patch in found]) for name in found[0]}

    def _cut(self, head, corner, turned):
        volumes, numbers = self.heads[head]
        cut = tuple(slice(c, c + self.patch) for c in corner)
        signs = np.array([-1. if axis in turned else 1. for axis in range(3)])
        patches = {}
        for name, volume in volumes.items():
            part = volume[cut]
            if part.shape != (self.patch,) * 3:
                part = np.pad(part, [(0, self.patch - n) for n in part.shape])
            patches[name] = np.flip(part, turned)
        return patches | numbers | {'b0_dir': numbers['b0_dir'] * signs}


def make_block(anatomies, seed, target, kind, noise, sparse, patch, heads, patches, block):
    """Return the heads of a `Block` and its cuts in random order; the middles of the patches lie in the mask."""
    rng = np.random.Generator(np.random.PCG64([seed, block]))
    prepared, cuts = [], []
    for n in range(heads):
        if kind == 'shapes':
            head = training_shapes(2 * patch, [seed, block, n], noise=noise)
        elif kind == 'fields':
            head = measured_head(anatomies[rng.integers(len(anatomies))])
        else:
            path = anatomies[rng.integers(len(anatomies))] if anatomies else None
            sample = head_from_labels(*load_labels(path)) if path else digital_head
            head = training_head(sample, [seed, block, n], noise=noise,
                                 **({} if target in ('chi', 'field') else {'removals': {'none': 1.}}))
        prepared.append(prepare_head(head, target, rng, sparse))
        mask = prepared[-1][0]['mask']
        at = np.argwhere(mask)
        limit = np.maximum(np.array(mask.shape) - patch, 0)
        for middle in at[rng.integers(len(at), size=patches)]:
            turned = tuple(int(axis) for axis in np.flatnonzero(rng.random(3) < .5))
            cuts.append((n, np.clip(middle - patch // 2, 0, limit), turned))
    return Block(prepared, [cuts[n] for n in rng.permutation(len(cuts))], patch)


def prepare_head(head, target, rng, sparse=False):
    """Return the volumes that patches are cut from and the numbers that go with all of them, two dicts."""
    prepare = {'chi': _inversion, 'field': _inversion, 'local': _background, 'direct': _direct}[target]
    volumes, numbers = prepare(head, rng, sparse)
    return volumes, numbers | {'voxel_size': np.array(head.voxel_size), 'b0_dir': np.array(head.b0_dir)}


def _inversion(head, rng, sparse):
    """Return the volumes and the numbers that an inversion learns from."""
    strength = automatic_strength(head.field, head.mask, head.voxel_size, b0_dir=head.b0_dir, penalty='identity')
    # The level that the network is told is not always the right one.
    strength *= np.exp(.25 * rng.standard_normal())
    first = invert_tv(head.field, head.mask, head.voxel_size, b0_dir=head.b0_dir) if sparse else None
    begun = start(head.field, head.mask, head.voxel_size, head.b0_dir, strength, first)
    volumes = {'chi': embed(head.chi, head.mask, begun.box, begun.mask.shape) / np.float32(begun.scale),
               'field': begun.field, 'first': begun.first, 'linear': begun.linear, 'data': begun.data}
    volumes = {name: volume.astype(np.float16) for name, volume in volumes.items()} | {'mask': begun.mask}
    return volumes, {'strength': np.float32(strength), 'scale': np.float32(begun.scale)}


def _background(head, *_):
    """Return the same for background removal."""
    begun, _ = begin(head.total, head.mask, head.voxel_size)
    volumes = {'total': begun.total * np.float32(begun.scale),
               'local': embed(head.local, head.mask, begun.box, begun.mask.shape),
               'first': begun.first.astype(np.float16), 'mask': begun.mask, 'known': begun.known}
    return volumes, {'scale': np.float32(begun.scale)}


def _direct(head, *_):
    """Return the same for inversion of the total field."""
    begun = start_direct(head.total, head.mask, head.voxel_size)
    size = begun.total.shape
    volumes = {'total': begun.total, 'mask': embed_mask(head.mask, begun.box, size),
               'chi': (embed(head.chi, head.mask, begun.box, size) / np.float32(begun.scale)).astype(np.float16)}
    return volumes, {'scale': np.float32(begun.scale)}
