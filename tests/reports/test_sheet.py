"""What is put on a sheet is found there, in the file's pixels."""

import io

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread

from qsmbids.reports.sheet import GROUND, Sheet, contours, stretch

GREY = colormaps['gray'].resampled(128)


def pixels(sheet):
    return np.asarray(imread(io.BytesIO(sheet.png())))[..., :3]


@pytest.mark.parametrize(('shape', 'error'), [((30, 40), 1e-3), ((61, 90), 1e-3), ((10, 90), .5), ((60, 9), .5)])
def test_stretching_keeps_planes(shape, error):
    rows, columns = np.mgrid[:20, :16]
    plane = (2 * rows - 3 * columns).astype(np.float32)
    wide = stretch(plane, shape)
    down, across = ((np.arange(n) + .5) * m / n - .5 for n, m in zip(shape, plane.shape))
    inner = np.s_[shape[0] // 10 + 2:-shape[0] // 10 - 2, shape[1] // 10 + 2:-shape[1] // 10 - 2]
    np.testing.assert_allclose(wide[inner], (2 * down[:, None] - 3 * across)[inner], atol=error)


def test_what_is_not_known_does_not_colour_its_neighbours():
    tile = np.ones((10, 10), np.float32)
    tile[:, 5:] = 1000
    known = np.zeros((10, 10), bool)
    known[:, :5] = True
    wide = stretch(tile, (20, 20), known)
    np.testing.assert_allclose(wide[:, :10], 1, rtol=1e-6)
    assert np.isnan(wide[:, 10:]).all()
    tile[:, 5:] = np.nan
    np.testing.assert_array_equal(stretch(tile, (20, 20)), wide)


def test_values_stand_in_their_colours_where_they_are_put():
    sheet = Sheet(60, 40, GREY)
    values = np.full((10, 20), 3.)
    values[0], values[1], values[2, 0] = 9, -9, np.nan
    sheet.put(values, (1, 5), 15, 5)
    seen = pixels(sheet)
    ground = [int(GROUND[at:at + 2], 16) / 255 for at in (1, 3, 5)]
    np.testing.assert_allclose(seen[8:15, 16:35], .5, atol=.02)
    assert (seen[5, 15:35] > .98).all() and (seen[6, 15:35] < .02).all()
    np.testing.assert_allclose(seen[7, 15], ground, atol=.01)
    np.testing.assert_allclose(seen[20:], np.broadcast_to(ground, seen[20:].shape), atol=.01)


def test_letters_stand_left_of_the_right_end_and_around_their_height():
    bare, written, boxed = (Sheet(120, 60, GREY) for _ in range(3))
    for sheet in (bare, written, boxed):
        sheet.put(np.full((60, 120), .25), (0, 1), 0, 0)
    written.write(100, 30, 'k 57', align=1)
    boxed.write(100, 30, 'k 57', align=1, boxed=True)
    bright = pixels(written).max(axis=2) - pixels(bare).max(axis=2) > .3
    down, across = np.nonzero(bright)
    assert 60 < across.min() and across.max() <= 100 and abs(down.mean() - 30) < 3 and bright.sum() > 30
    assert pixels(boxed)[22:25, 80:100].mean() < pixels(bare)[22:25, 80:100].mean() - .05


def test_an_outline_runs_along_its_mask():
    mask = np.zeros((12, 10), bool)
    mask[3:9, 2:7] = True
    (line,) = contours(mask, 100, 50, (120, 100))
    np.testing.assert_allclose(line.min(axis=0), (100 + 20, 50 + 30), atol=1e-6)
    np.testing.assert_allclose(line.max(axis=0), (100 + 70, 50 + 90), atol=1e-6)
    sheet = Sheet(220, 200, GREY)
    sheet.draw([line], '#ff0000')
    red = pixels(sheet)[..., 0] > .5
    assert red[80, 120:171].mean() > .8 and not red[100, 125:165].any() and not red[:75].any()


def test_an_outline_of_what_touches_the_rim_is_closed():
    (line,) = contours(np.ones((4, 4), bool), 0, 0, (40, 40))
    np.testing.assert_allclose(line[0], line[-1])
