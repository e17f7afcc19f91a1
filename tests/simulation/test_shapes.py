import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qsmbids.core.dipole import forward_field
from qsmbids.simulation import shapes
from qsmbids.simulation.shapes import CUBOID, CYLINDER, ELLIPSOID, STYLES, random_shapes


@pytest.mark.parametrize('style', STYLES)
def test_a_sample_obeys_physics(style):
    sample = random_shapes((32, 28, 24), 3, style=style, voxel_size=(1, 1, 1.5), b0_dir=(0, .6, .8))
    assert all(v.dtype == np.float32 for v in (sample.chi, sample.local_field, sample.total_field))
    assert all(not v[~sample.mask].any() for v in (sample.chi, sample.local_field, sample.total_field))
    assert .1 < sample.mask.mean() < .8 and .05 < sample.chi[sample.mask].std() < .6
    truth = forward_field(sample.chi, (1, 1, 1.5), (0, .6, .8)) * sample.mask
    assert sample.local_field == pytest.approx(truth, abs=1e-5)
    background = (sample.total_field - sample.local_field)[sample.mask]
    assert background.std() > .1 * sample.local_field[sample.mask].std()


def test_the_background_is_harmonic_and_can_be_left_out():
    sample = random_shapes((48, 48, 48), 5, sources=6)
    # Smoothed: the edges of voxels ring at the highest frequency.
    background = gaussian_filter(sample.total_field - sample.local_field, 1)
    inner = np.ones_like(sample.mask)
    laplacian = -6 * background
    for axis in range(3):
        for step in (-1, 1):
            laplacian += np.roll(background, step, axis)
            for more in range(1, 7):
                inner &= np.roll(sample.mask, step * more, axis)
    assert inner.sum() > 500
    assert np.abs(laplacian[inner]).mean() < .02 * background[inner].std()
    alone = random_shapes((48, 48, 48), 5, sources=0)
    assert np.array_equal(alone.total_field, alone.local_field) and np.array_equal(alone.chi, sample.chi)


def test_a_seed_is_a_sample():
    first, again, other = (random_shapes((16, 16, 16), seed) for seed in ((1, 2), (1, 2), (1, 3)))
    assert all(np.array_equal(getattr(first, name), getattr(again, name)) for name in vars(first))
    assert not np.array_equal(first.chi, other.chi)


@pytest.mark.parametrize('kind, share', [(ELLIPSOID, np.pi / 6), (CUBOID, 1), (CYLINDER, np.pi / 4)])
def test_shapes_have_their_volumes_however_they_are_turned(kind, share):
    axes = np.array([[.3, .3, .5]])
    turns = np.concatenate([np.eye(3)[None], shapes.random_rotations(3, np.random.default_rng(1))])
    assert np.einsum('nij,nkj->nik', turns, turns) == pytest.approx(np.broadcast_to(np.eye(3), (4, 3, 3)))
    for turn in turns:
        volume = np.zeros((65, 65, 65), np.float32)
        shapes.paint_shapes(volume, np.array([kind]), np.array([[.1, 0, -.1]]), axes, turn[None], np.array([2.]), False)
        assert volume.sum() / 2 == pytest.approx(share * 8 * axes.prod() * 32 ** 3, rel=.03)


def test_later_layers_hide_earlier_ones_and_sums_add():
    both = [np.array([CUBOID, CUBOID]), np.zeros((2, 3)), np.array([[.5] * 3, [.2] * 3]), np.array([np.eye(3)] * 2),
            np.array([1., 10.])]
    for replace, middle in ((True, 10), (False, 11)):
        volume = np.zeros((21, 21, 21), np.float32)
        shapes.paint_shapes(volume, *both, replace)
        assert volume[10, 10, 10] == middle and volume[6, 6, 6] == 1 and volume[0, 0, 0] == 0


def test_a_sample_takes_a_tenth_of_a_second():
    random_shapes()
    best = np.inf
    for seed in range(3):
        start = time.process_time()
        random_shapes(seed=seed)
        best = min(best, time.process_time() - start)
    assert best < .1


@pytest.mark.parametrize('wrong, name', [({'style': 'cats'}, 'style'), ({'shape': (4, 9, 9)}, 'shape'),
                                         ({'sources': -1}, 'sources'), ({'voxel_size': (1, 0, 1)}, 'voxel_size')])
def test_wrong_arguments_are_named(wrong, name):
    with pytest.raises(ValueError, match=name):
        random_shapes(**wrong)
