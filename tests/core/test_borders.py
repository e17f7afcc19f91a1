"""Borders of regions by their values: a known region, and a probability that is not quite where it lies."""

import numpy as np
import pytest

from qsmbids.core.borders import sharpen
from qsmbids.core.metrics import dice

SHAPE, VOXELS = (40, 36, 30), (1., 1., 1.)


def ball(radius, centre=(0, 0, 0)):
    x, y, z = (np.arange(n).reshape([-1 if a == axis else 1 for a in range(3)]) - (n - 1) / 2 - centre[axis]
               for axis, n in enumerate(SHAPE))
    return radius - np.sqrt(x ** 2 + y ** 2 + z ** 2)


def guess(centre=(0, 0, 0), radius=8.):
    """Return what `sharpen` takes of one ball whose border is soft, classes, shares and background."""
    share = (1 / (1 + np.exp(-1.5 * ball(radius, centre)))).astype(np.float32)
    classes, shares = np.zeros((2, *SHAPE), np.uint8), np.zeros((2, *SHAPE), np.float32)
    classes[0], shares[0] = 1, share
    return classes, shares, 1 - share


def values(truth, contrast=.1, noise=.01, seed=0):
    noise = noise * np.random.default_rng(seed).standard_normal(SHAPE)
    return (contrast * truth + noise).astype(np.float32)


def everywhere():
    return np.ones(SHAPE, bool)


@pytest.mark.parametrize('contrast', (.1, -.1))
def test_a_border_moves_to_where_the_values_change(contrast):
    truth = ball(8) > 0
    classes, shares, background = guess((.8, 0, 0), 8.4)
    before = shares[0] > background
    found = sharpen(classes, shares, background, values(truth, contrast), everywhere(), VOXELS)
    assert found.dtype == np.uint8 and dice(before, truth) < .93 < .97 < dice(found == 1, truth)


def test_only_contrast_counts_not_scale_or_reference():
    truth = ball(8) > 0
    first = sharpen(*guess((.8, 0, 0)), values(truth), everywhere(), VOXELS)
    assert np.array_equal(first, sharpen(*guess((.8, 0, 0)), 5 * values(truth) + 3, everywhere(), VOXELS))


@pytest.mark.parametrize('contrast, noise', ((0, .01), (.1, .1), (0, 0)))
def test_values_that_do_not_stand_out_change_nothing(contrast, noise):
    classes, shares, background = guess()
    expected = shares.copy()
    found = sharpen(classes, shares, background, values(ball(8) > 2, contrast, noise), everywhere(), VOXELS)
    assert np.array_equal(shares, expected) and np.array_equal(found, expected[0] > .5)


def test_probabilities_stay_a_part_of_one_and_far_away_the_same():
    classes, shares, background = guess()
    before = shares[0].copy()
    sharpen(classes, shares, background, values(ball(8) > 1), everywhere(), VOXELS)
    assert np.allclose(shares.sum(axis=0) + background, 1, atol=1e-5) and min(shares.min(), background.min()) >= 0
    far = ball(8) < -4
    assert np.array_equal(shares[0][far], before[far]) and not np.allclose(shares[0], before)


def test_what_lies_outside_the_mask_does_not_count():
    truth, mask = ball(8) > 0, everywhere()
    mask[20:] = False
    chi = values(truth)
    classes, shares, background = guess()
    before = shares[0].copy()
    found = sharpen(classes, shares, background, np.where(mask, chi, np.nan), mask, VOXELS)
    assert np.array_equal(shares[0][~mask], before[~mask])
    assert dice((found == 1) & mask, truth & mask) > .96


def test_two_regions_share_their_border_by_value():
    one, two = ball(9, (-5, 0, 0)) > 0, (ball(9, (5, 0, 0)) > 0)
    two &= ~one
    classes, shares, background = guess((-4, 0, 0), 9.)
    other = (1 - shares[0]) / (1 + np.exp(-1.5 * ball(9, (5, 0, 0)))).astype(np.float32)
    swap = other > shares[0]
    classes[0], classes[1] = np.where(swap, 2, 1), np.where(swap, 1, 2)
    shares[:] = np.where(swap, other, shares[0]), np.where(swap, shares[0], other)
    background -= other
    before = np.where(shares[0] > background, classes[0], 0)
    found = sharpen(classes, shares, background, values(one + 2. * two), everywhere(), VOXELS)
    for number, truth in ((1, one), (2, two)):
        assert dice(found == number, truth) > max(dice(before == number, truth), .95)


def test_where_nothing_is_probable_nothing_is_found():
    nothing = np.zeros((2, *SHAPE), np.uint8), np.zeros((2, *SHAPE), np.float32)
    assert not sharpen(*nothing, np.ones(SHAPE, np.float32), np.zeros(SHAPE), everywhere(), VOXELS).any()
