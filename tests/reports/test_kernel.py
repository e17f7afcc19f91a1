"""The figure of a map against its field: as large as the others, and true to what was measured."""

import io
from dataclasses import replace

import numpy as np
import pytest

from qsmbids.core.consistency import CELLS, BackwardKernel
from qsmbids.reports.kernel import draw_kernel


def make_kernel(factor=1.0, lean=0.0):
    """A kernel that is `factor` times what it should be and leans by some degrees."""
    row, column = np.indices((CELLS, CELLS)) - (CELLS - 1) / 2
    along = (row * np.cos(lean) + column * np.sin(lean)) / np.hypot(row, column)
    angle = np.linspace(88, 12, 20)
    theory = 1 / 3 - np.cos(np.radians(angle)) ** 2
    straight = 1 / 3 - (row / np.hypot(row, column)) ** 2
    slices = np.stack((factor * (1 / 3 - along ** 2), straight, np.log10((1 / 3 - along ** 2) ** 2 + 0.01) + 1))
    return BackwardKernel(angle, factor * theory, theory, 0.1, factor, 0.0, 0.9, (0.0, 0.0, 1.0), np.degrees(lean), 0.4,
                          slices.astype(np.float32), 0.4)


def pixels(png):
    from matplotlib.image import imread
    assert png.startswith(b'\x89PNG\r\n\x1a\n') and len(png) < 100_000
    return np.asarray(imread(io.BytesIO(png)))[..., :3]


def panel(image, left):
    """The inside of a slice, from its left edge."""
    return image[40:224, left + 6:left + 190]


@pytest.mark.parametrize('lean', [0, np.radians(25)])
def test_slices_are_drawn_upwards(lean):
    image = pixels(draw_kernel(make_kernel(lean=lean), np.degrees(lean), 0.5))
    assert image.shape[1] == 1076
    red, _, blue = np.moveaxis(panel(image, 468), 2, 0)
    row, column = np.indices(red.shape)
    row, column = -(row - 91.5), column - 91.5
    expected = 1 / 3 - ((row * np.cos(lean) + column * np.sin(lean)) / np.hypot(row, column)) ** 2
    assert np.corrcoef((red - blue).ravel(), expected.ravel())[0, 1] > 0.9


def test_the_axis_is_drawn_where_it_is_known():
    yellow = np.array((1, 0xd8 / 255, 0x4d / 255))

    def on_axis(png):
        return np.argwhere(np.abs(panel(pixels(png), 868) - yellow).max(axis=2) < 0.1)

    kernel = make_kernel()
    assert not len(on_axis(draw_kernel(kernel, 30.0, 0.01)))
    down, right = on_axis(draw_kernel(kernel, 30.0, 0.5)).T - 91.5
    assert len(down) > 50
    # Up is to the right by half of the length.
    assert np.polyfit(-down, right, 1)[0] == pytest.approx(np.tan(np.radians(30)), abs=0.05)


def test_the_curve_leaves_the_theory_with_the_gain():
    plain, twice = (pixels(draw_kernel(make_kernel(factor), 0.0, 0.5))[:, :440] for factor in (1, 2))
    assert np.abs(plain - twice).max() > 0.5


@pytest.mark.parametrize('changes', [
    {'gain': np.nan, 'offset': np.nan, 'coherence': np.nan, 'measured': np.full(20, np.nan)},
    {'theory': np.full(20, np.nan), 'measured': np.full(20, np.nan),
     'slices': np.full((3, CELLS, CELLS), np.nan, np.float32)},
    {'measured': np.full(20, 1e3), 'gain': -1e5, 'slices': np.full((3, CELLS, CELLS), np.inf, np.float32)}])
def test_any_content_can_be_drawn(changes):
    assert pixels(draw_kernel(replace(make_kernel(), **changes), np.nan, 0.0)).shape[1] == 1076
