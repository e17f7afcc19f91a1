"""Streams of patches: the same at any position whatever came before, and true to the head that they are cut from."""

from contextlib import closing
from itertools import islice

import numpy as np
import pytest

from qsmbids.networks.pocsnet import POCSnet2
from qsmbids.networks.shells import POCSnet1, SHARQnet
from qsmbids.training.shapes import training_shapes
from qsmbids.training.streams import PatchStream, cut_patches, make_block

SHAPES = {'kind': 'shapes', 'patch': 24, 'heads': 2, 'patches': 3, 'batch': 2}


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
    blocks = [make_block([], 7, 'local', 'shapes', None, 24, 2, 3, n) for n in range(2)]
    whole = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    for n, batch in enumerate(found):
        assert same(batch, {name: values[2 * n:2 * n + 2] for name, values in whole.items()})
    assert not np.array_equal(blocks[0]['total'], blocks[1]['total'])


def test_seeds_differ():
    one, other = (make_block([], seed, 'chi', 'shapes', None, 16, 1, 1, 0) for seed in (1, 2))
    assert not np.array_equal(one['chi'], other['chi'])


@pytest.mark.parametrize('target, volumes', [('chi', {'chi', 'field', 'first', 'data', 'mask'}),
                                             ('local', {'total', 'local', 'first', 'mask', 'known'})])
def test_patches_hold_what_their_networks_ask_for(head, target, volumes):
    patches = cut_patches(head, target, 24, 2, np.random.default_rng(0))
    assert {name for name, value in patches[0].items() if value.ndim == 3} == volumes
    assert all(patch[name].shape == (24,) * 3 for patch in patches for name in volumes)
    assert all(patch['mask'].any() for patch in patches)
    batch = {name: np.stack([patch[name] for patch in patches]) for name in patches[0]}
    for network in (POCSnet2(width=4),) if target == 'chi' else (POCSnet1(width=4), SHARQnet(width=4)):
        inputs, truth, mask = network.prepare(batch, 'cpu')
        assert network(**inputs)[0].shape == truth.shape == mask.shape


def test_patches_are_parts_of_the_head(head):
    rng = np.random.default_rng(0)
    for patch in cut_patches(head, 'local', 16, 2, rng):
        at = np.argwhere(head.local == patch['local'][8, 8, 8]) - 8
        cuts = [tuple(slice(n, n + 16) for n in corner) for corner in at]
        assert any(np.array_equal(head.local[cut], patch['local']) and np.allclose(head.total[cut], patch['total'],
                                                                                 atol=1e-5) for cut in cuts)
        assert not (patch['known'] & ~patch['mask']).any()


def test_a_patch_may_be_longer_than_the_head(head):
    patch, = cut_patches(head, 'local', 64, 1, np.random.default_rng(0))
    assert patch['mask'].sum() == head.mask.sum()


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
