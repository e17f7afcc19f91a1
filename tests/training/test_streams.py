"""Streams of patches: the same at any position whatever came before, and true to the head that they are cut from."""

from contextlib import closing
from itertools import islice

import numpy as np
import pytest

from qsmbids.core.grid import bounding_box
from qsmbids.networks.autoqsm import AutoQSM
from qsmbids.networks.pedqnet import PedQNet
from qsmbids.networks.pocsnet import POCSnet2
from qsmbids.networks.shells import POCSnet1, SHARQnet
from qsmbids.training.shapes import training_shapes
from qsmbids.training.streams import Block, PatchStream, make_block, prepare_head

SHAPES = {'kind': 'shapes', 'patch': 24, 'heads': 2, 'patches': 3, 'batch': 2}


def block(*, seed=7, target='chi', sparse=False, patch=24, heads, patches, number=0):
    return make_block([], seed, target, 'shapes', None, sparse, patch, heads, patches, number)


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(scope='module')
def head():
    return training_shapes(40, [1])


def test_batches_depend_on_seed_and_position_only():
    stream = PatchStream([], 7, target='local', **SHAPES)
    with closing(stream.batches()) as batches:
        found = list(islice(batches, 5))
    # The second batch of the second block.
    with closing(stream.batches(4)) as batches:
        assert same(next(batches), found[4])
    blocks = [block(target='local', number=n, heads=2, patches=3).patches() for n in range(2)]
    whole = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    for n, batch in enumerate(found):
        assert same(batch, {name: values[2 * n:2 * n + 2] for name, values in whole.items()})
    assert not np.array_equal(blocks[0]['total'], blocks[1]['total'])


def test_seeds_differ():
    one, other = (block(seed=seed, patch=16, heads=1, patches=1).patches() for seed in (1, 2))
    assert not np.array_equal(one['chi'], other['chi'])


@pytest.mark.parametrize('network, volumes', [
    (POCSnet2(width=4), {'chi', 'field', 'first', 'linear', 'data', 'mask'}),
    (POCSnet2(width=4, begin='tv'), {'chi', 'field', 'first', 'linear', 'data', 'mask'}),
    (PedQNet(width=4), {'chi', 'field', 'first', 'linear', 'data', 'mask'}),
    (POCSnet1(width=4), {'total', 'local', 'first', 'mask', 'known'}),
    (SHARQnet(width=4), {'total', 'local', 'first', 'mask', 'known'}),
    (AutoQSM(width=4), {'total', 'chi', 'mask'})])
def test_patches_hold_what_their_networks_ask_for(network, volumes):
    sparse = getattr(network, 'begins_sparse', False)
    batch = block(target=network.target, sparse=sparse, heads=1, patches=2).patches()
    assert {name for name, value in batch.items() if value.ndim == 4} == volumes
    assert all(batch[name].shape == (2, 24, 24, 24) for name in volumes)
    assert all(mask.any() for mask in batch['mask'])
    inputs, _, mask = network.prepare(batch, 'cpu')
    assert network(**inputs)[0].shape == mask.shape == (2, 1, 24, 24, 24)
    if 'linear' in volumes:
        assert sparse != np.array_equal(batch['first'], batch['linear'])


def test_patches_are_parts_of_the_head_turned_over(head):
    volumes, numbers = prepare_head(head, 'local', np.random.default_rng(0))
    turns = [(), (0,), (1, 2)]
    found = Block([(volumes, numbers)], [(0, (3, 4, 5), turned) for turned in turns], 16).patches()
    for n, turned in enumerate(turns):
        for name in volumes:
            assert np.array_equal(np.flip(found[name][n], turned), volumes[name][3:19, 4:20, 5:21])
        signs = [-1 if axis in turned else 1 for axis in range(3)]
        assert np.allclose(found['b0_dir'][n], signs * np.array(head.b0_dir))
    assert not (volumes['known'] & ~volumes['mask']).any()
    box = bounding_box(head.mask)
    inside = tuple(slice(side.stop - side.start) for side in box)
    total = np.where(head.mask, head.total - head.total[head.mask].mean(), 0)
    assert np.allclose(volumes['total'][inside], total[box], atol=1e-5)


def test_a_patch_may_be_longer_than_the_head(head):
    prepared = prepare_head(head, 'local', np.random.default_rng(0))
    patch = Block([prepared], [(0, (0, 0, 0), (1,))], 64).patches()
    assert patch['mask'].shape == (1, 64, 64, 64) and patch['mask'].sum() == head.mask.sum()


def test_shapes_have_the_noise_that_was_asked_for():
    quiet, loud = (training_shapes(24, [1], noise=noise) for noise in (0., 5.))
    assert np.array_equal(quiet.local, loud.local) and np.array_equal(quiet.field, quiet.local)
    errors = (loud.field - loud.local)[loud.mask]
    assert errors.std() == pytest.approx(.05 * np.abs(loud.local).max(), rel=.05)
    assert np.allclose(loud.total - quiet.total, loud.field - loud.local, atol=1e-5)
    assert abs(quiet.chi[quiet.mask].mean()) < 1e-6 and not quiet.total[~quiet.mask].any()


@pytest.mark.parametrize('wrong', [{'batch': 4}, {'patch': 16}, {'kind': 'brains'}, {'target': 'phase'}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PatchStream([], 1, **(SHAPES | wrong))
