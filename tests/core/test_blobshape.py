import numpy as np
import pytest

from qsmbids.core.blobs import find_blobs
from qsmbids.core.blobshape import grow_region, measure_blobs, sum_moment

SHAPE = (36, 34, 32)
STEPS = (1., 1., 1.)


def measured(volume, steps=STEPS, second=None, mask=None):
    mask = np.ones(SHAPE, bool) if mask is None else mask
    bright, _ = find_blobs(volume, mask, steps, threshold=.1)
    return bright, measure_blobs(volume, bright, mask, mask, mask, steps, second)


@pytest.mark.parametrize('radius', [2.1, 3.2, 4.3])
def test_a_ball_has_its_volume_and_is_round(paint, radius):
    _, shapes = measured(.1 + .5 * paint(SHAPE, (17.2, 16.1, 14.8), radius, STEPS))
    assert shapes.volume[0] == pytest.approx(4 / 3 * np.pi * radius ** 3, rel=.15)
    assert shapes.sphericity[0] > .8 and shapes.elongation[0] < 1.15 and not shapes.open[0]
    assert shapes.ring[0] == pytest.approx(.1, abs=1e-6) and shapes.contrast[0] == pytest.approx(.5, abs=.01)
    assert np.allclose(shapes.centre[0], (17.2, 16.1, 14.8), atol=.2) and shapes.parenchyma[0] == 1


def test_size_is_in_mm_whatever_the_voxels_are(paint):
    steps = (1., 1.2, 1.5)
    _, shapes = measured(paint(SHAPE, (17.2, 14.1, 11.8), 3.2, steps), steps)
    assert shapes.volume[0] == pytest.approx(4 / 3 * np.pi * 3.2 ** 3, rel=.2)
    assert shapes.elongation[0] < 1.2


def test_a_bead_of_a_tube_has_a_tail_and_a_tube_goes_on(paint):
    tube = paint(SHAPE, (17, 16, 15), 1.2, stretch=13.)
    for bump, long in ((.3, lambda shapes, n: shapes.open[n] and shapes.elongation[n] > 2.4),
                       (2., lambda shapes, n: shapes.elongation[n] < 1.5 and shapes.tail[n] > 1.8)):
        bright, shapes = measured(tube + bump * paint(SHAPE, (17, 16, 15), 1.8))
        bead, = np.flatnonzero((bright.at == (17, 16, 15)).all(axis=1))
        assert long(shapes, bead)


def test_the_second_contrast_is_taken_in_the_region_and_the_ring(paint):
    ball = paint(SHAPE, (17, 16, 15), 3, STEPS)
    _, shapes = measured(ball, second=20 + 30 * ball)
    assert shapes.second[0] == pytest.approx(28, abs=3)
    assert np.isnan(measured(ball)[1].second[0])


def test_tissue_is_the_share_of_the_ring_in_the_mask(paint):
    mask = np.zeros(SHAPE, bool)
    mask[:, :, 15:] = True
    _, shapes = measured(paint(SHAPE, (17, 16, 16), 2, STEPS), mask=mask)
    assert .5 < shapes.parenchyma[0] < .7


@pytest.mark.parametrize('offset', [0., -.07])
def test_the_moment_is_contrast_times_volume_and_its_error_that_of_the_noise(paint, offset):
    rng = np.random.default_rng(1)
    found, errors = [], []
    ball = paint(SHAPE, (17, 16, 15), 2.5, STEPS)
    for _ in range(20):
        volume = (offset + .6 * ball + rng.normal(0, .02, SHAPE)).astype(np.float32)
        bright, shapes = measured(volume)
        region = grow_region(volume, np.ones(SHAPE, bool), shapes, 0, bright, STEPS)
        labels = np.zeros(SHAPE, np.uint8)
        labels[tuple(region.T)] = 1
        moment, error = sum_moment(volume, np.ones(SHAPE, bool), labels, 1, shapes.centre[0], shapes.diameter[0] / 2,
                                   shapes.ring[0], shapes.spread[0], shapes.ring_voxels[0], STEPS)
        found.append(moment)
        errors.append(error)
    assert np.mean(found) == pytest.approx(.6 * ball.sum(), rel=.03)
    assert np.std(found) == pytest.approx(np.mean(errors), rel=.5)


def test_what_belongs_to_another_lesion_is_left_out_of_the_moment(paint):
    volume = paint(SHAPE, (12, 16, 15), 2, STEPS) + paint(SHAPE, (18, 16, 15), 2, STEPS)
    everywhere, labels = np.ones(SHAPE, bool), np.zeros(SHAPE, np.uint8)
    labels[:15][volume[:15] > .5] = 1
    labels[15:][volume[15:] > .5] = 2
    alone = paint(SHAPE, (12, 16, 15), 2, STEPS).sum()
    moment, _ = sum_moment(volume, everywhere, labels, 1, np.array([12., 16, 15]), 3., 0., .01, 100, STEPS)
    assert moment == pytest.approx(alone, rel=.1)
