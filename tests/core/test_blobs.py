import numpy as np
import pytest

from qsmbids.core.blobs import SCALES_MM, fill_outside, find_blobs

SHAPE = (36, 34, 32)


@pytest.mark.parametrize('radius, steps', [(2., (1., 1., 1.)), (3., (1., 1., 1.)), (3., (1., 1., 1.5))])
def test_a_ball_is_found_where_it_is_at_its_scale_with_nine_tenths_of_its_contrast(paint, radius, steps):
    bright, dark = find_blobs(.4 * paint(SHAPE, (17, 16, 15), radius, steps), np.ones(SHAPE, bool), steps, threshold=.1)
    assert bright.at[0].tolist() == [17, 16, 15] and len(bright.at) == 1
    assert bright.response[0] == pytest.approx(.93 * .4, rel=.15)
    nearest = SCALES_MM[np.argmin(np.abs(np.array(SCALES_MM) - radius / np.sqrt(3)))]
    assert bright.scale[0] == nearest
    assert bright.curvature[0, 2] > .7 * bright.curvature[0, 0] > 0


def test_a_bead_of_a_tube_hardly_bends_along_it(paint):
    volume = paint(SHAPE, (17, 16, 15), 1.5, stretch=13.) + .1 * paint(SHAPE, (17, 16, 15), 2.)
    bright, _ = find_blobs(volume, np.ones(SHAPE, bool), (1., 1., 1.), threshold=.1)
    bead, = np.flatnonzero((bright.at == (17, 16, 15)).all(axis=1))
    assert bright.curvature[bead, 2] < .3 * bright.curvature[bead, 1]


def test_bright_and_dark_change_places_with_the_sign_and_the_amplitude_scales(paint):
    volume = (paint(SHAPE, (10, 10, 10), 2, (1., 1., 1.)) - .5 * paint(SHAPE, (25, 24, 22), 2.5, (1., 1., 1.)))
    everywhere = np.ones(SHAPE, bool)
    bright, dark = find_blobs(volume, everywhere, (1., 1., 1.), threshold=.2)
    dark_again, bright_again = find_blobs(-2 * volume, everywhere, (1., 1., 1.), threshold=.4)
    for one, other in ((bright, bright_again), (dark, dark_again)):
        assert np.array_equal(one.at, other.at) and np.allclose(2 * one.response, other.response, rtol=1e-5)
        assert np.allclose(2 * one.curvature, other.curvature, atol=1e-5)
    assert len(bright.at) and len(dark.at)


def test_only_the_mask_counts(paint):
    mask = np.ones(SHAPE, bool)
    mask[17, 16, 15] = False
    bright, _ = find_blobs(paint(SHAPE, (17, 16, 15), 2, (1., 1., 1.)), mask, (1., 1., 1.), threshold=.3)
    assert not len(bright.at)


def test_an_offset_inside_the_mask_makes_no_blob_at_its_edge(paint):
    mask = paint(SHAPE, (17, 16, 15), 12, (1., 1., 1.)) > .5
    filled = fill_outside(np.where(mask, .3, 0), mask, (1., 1., 1.))
    assert filled.dtype == np.float32 and np.abs(filled).max() < 1e-6


def test_what_is_not_known_gets_the_mean_of_its_neighbours(paint):
    rng = np.random.default_rng(0)
    volume = rng.normal(0, .01, SHAPE).astype(np.float32)
    known = np.ones(SHAPE, bool)
    known[15:18, 15:18, 15:18] = False
    volume += .2 * paint(SHAPE, (16, 16, 16), 4, (1., 1., 1.))
    filled = fill_outside(np.where(known, volume, 9), known, (1., 1., 1.))
    assert filled[16, 16, 16] == pytest.approx(.17, abs=.05)
    assert np.allclose(filled[known], (volume - np.median(volume[known]))[known], atol=1e-6)
