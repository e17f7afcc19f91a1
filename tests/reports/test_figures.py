"""Figures show the patient as he lies, whatever the order, direction and size of the voxels."""

import io
import subprocess
import sys
from itertools import permutations, product

import numpy as np
import pytest

from qsmbids.reports.figures import FIGURES, PLANES, draw_figure, view_brain

TILE, GAP = 208, 6


def stored(volume, order, flips, voxel_size=(1.0, 1.0, 1.0)):
    """Return a volume in RAS order as another scanner would store it, and the affine that says so."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (source, flip) in enumerate(zip(order, flips)):
        affine[source, axis] = -voxel_size[source] if flip else voxel_size[source]
        affine[source, 3] = (volume.shape[source] - 1) * voxel_size[source] if flip else 0
    turned = volume.transpose(order)
    return np.flip(turned, [axis for axis in range(3) if flips[axis]]), affine


def pixels(png):
    from matplotlib.image import imread
    return np.asarray(imread(io.BytesIO(png)))[..., :3]


def ball(shape, voxel_size, radius):
    grids = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * size for n, size in zip(shape, voxel_size)],
                        indexing='ij', sparse=True)
    return sum(grid ** 2 for grid in grids) <= radius ** 2


@pytest.fixture(scope='module')
def head():
    """A brain with a bright mark at its left, front and top; RAS."""
    brain = ball((24, 30, 20), (1, 1, 1), 9)
    volume = brain * 10.0
    volume[5:9, 17:20, 11:14] = 50
    return volume.astype(np.float32), brain


@pytest.mark.parametrize('order', list(permutations(range(3))))
@pytest.mark.parametrize('flips', list(product((False, True), repeat=3)))
def test_slices_do_not_depend_on_how_voxels_are_stored(head, order, flips):
    volume, brain = head
    expected = view_brain(brain, np.eye(4))
    array, affine = stored(volume, order, flips)
    mask, _ = stored(brain, order, flips)
    view = view_brain(mask, affine)
    for plane, (across, *_) in PLANES.items():
        for mine, theirs in zip(view.positions[across], expected.positions[across]):
            shown = view.cut(array, plane, mine)
            # Halves are rounded to even: a flip may move a slice by one.
            assert abs(mine - theirs) <= 1
            np.testing.assert_array_equal(shown, expected.cut(volume, plane, mine))


@pytest.mark.parametrize(('order', 'flips'), [((0, 1, 2), (False,) * 3), ((0, 1, 2), (True, True, False)),
                                              ((1, 2, 0), (True, False, True)), ((2, 0, 1), (False, True, False))])
def test_a_mark_at_the_left_front_top_is_drawn_there(head, order, flips):
    volume, brain = head
    array, affine = stored(volume, order, flips)
    mask, _ = stored(brain, order, flips)
    image = pixels(draw_figure('r2star', view_brain(mask, affine), {'': array}, mask)).mean(axis=2)
    heights = row_heights(view_brain(mask, affine))
    for plane, top, sides in zip(PLANES, np.cumsum([GAP, *[h + GAP for h in heights[:-1]]]), ('LA', 'LS', 'AS')):
        row = image[top + 22:top + heights[list(PLANES).index(plane)] - 18]
        tiles = [row[:, GAP + 20 + i * (TILE + GAP):GAP + i * (TILE + GAP) + TILE - 20] for i in range(5)]
        brightest = max(tiles, key=lambda tile: (tile > 0.95).sum())
        down, right = np.argwhere(brightest > 0.95).mean(axis=0) / brightest.shape
        assert (right < 0.5) if sides[0] == 'L' else (right > 0.5)
        assert down < 0.5


def row_heights(view):
    box = [len(range(*edge.indices(size))) for edge, size in zip(view.box, view.shape)]
    return [round(TILE * box[up] * view.voxel_size[up] / (box[right] * view.voxel_size[right]))
            for _, right, up in PLANES.values()]


def test_a_slice_is_named_by_its_index_in_the_file(head):
    volume, brain = head
    array, affine = stored(volume, (1, 2, 0), (True, False, True))
    view = view_brain(stored(brain, (1, 2, 0), (True, False, True))[0], affine)
    for plane, (across, *_) in PLANES.items():
        axis, index = view.index(across, view.positions[across][0]).split()
        taken = np.take(array, int(index), axis='ijk'.index(axis))
        shown = view.whole().cut(array, plane, view.positions[across][0])
        assert sorted(taken.ravel()) == sorted(shown.ravel())
        assert int(index) != view.positions[across][0] or not affine[across, 'ijk'.index(axis)] < 0


def test_a_ball_is_round_whatever_the_voxels():
    size = (1.0, 1.5, 4.0)
    brain = ball((50, 36, 16), size, 20)
    view = view_brain(brain, np.diag((*size, 1)))
    # Letters are darker than this.
    bright = pixels(draw_figure('r2star', view, {'': brain * 50.0}, brain)).min(axis=2) > 0.95
    top, left = GAP, GAP + 2 * (TILE + GAP)
    for height in row_heights(view):
        shown = bright[top:top + height, left:left + TILE]
        down, right = (np.ptp(np.flatnonzero(shown.any(axis=axis))) for axis in (1, 0))
        assert down / right == pytest.approx(1, abs=0.12)
        top += height + GAP


def test_slices_lie_inside_the_brain_and_show_it_whole():
    brain = np.zeros((40, 50, 60), bool)
    brain[5:15, 30:45, 20:50] = True
    view = view_brain(brain, np.eye(4), margin=2)
    assert [min(p) >= low and max(p) < high for p, low, high in zip(view.positions, (5, 30, 20), (15, 45, 50))]
    assert view.cut(brain, 'axial', 30).sum() == 10 * 15
    assert view.cut(brain, 'axial', 30).shape == (15 + 4, 10 + 4)
    assert view.whole().cut(brain, 'axial', 30).shape == (50, 40)
    inner = brain & (np.arange(60) > 45)
    assert min(view.through(inner).positions[2]) > 45
    assert view.through(inner & False) == view


def test_the_scale_runs_from_black_to_white():
    brain = np.ones((16, 16, 16), bool)
    volume = np.full(brain.shape, -0.1, np.float32)
    volume[8:] = 0.1
    image = pixels(draw_figure('chi', view_brain(brain, np.eye(4)), {'': volume}, brain))
    middle = image[GAP + 60:GAP + 90, GAP:GAP + TILE].mean(axis=(0, 2))
    assert middle[20:80].max() < 0.02 and middle[120:190].min() > 0.98


def test_outlines_follow_their_masks(head):
    volume, brain = head
    view = view_brain(brain, np.eye(4))
    plain, outlined = (pixels(draw_figure('residual', view, {'': volume * 0.01}, brain, masks))[:-46]
                       for masks in ({}, {'reliable': brain}))
    changed = np.abs(plain - outlined).max(axis=2) > 0.2
    assert changed.any()
    red, _, blue = outlined[changed].mean(axis=0)
    assert red > blue + 0.3  # yellow
    row = np.flatnonzero(changed[GAP + TILE // 2, GAP + 2 * (TILE + GAP):GAP + 2 * (TILE + GAP) + TILE])
    edge = TILE * (12 - 9 - view.box[0].start) / 24
    assert row[0] == pytest.approx(edge, abs=8)


@pytest.mark.parametrize('name', FIGURES)
def test_any_content_can_be_drawn(name):
    rng = np.random.default_rng(1)
    volume = rng.normal(size=(12, 10, 9)).astype(np.float32)
    volume[3] = np.nan
    volume[4] = np.inf
    for brain in (volume > 5, volume < 5, np.zeros_like(volume, bool)):
        for values in (volume, np.zeros_like(volume)):
            image = pixels(draw_figure(name, view_brain(brain, np.eye(4)), {'': values}, brain, {'brain': brain}))
            assert image.shape[1] == 1076


def test_one_slice_can_be_drawn():
    brain = np.ones((20, 1, 20), bool)
    layers = {'first echo,': np.zeros(brain.shape), 'last echo,': np.ones(brain.shape)}
    image = pixels(draw_figure('phase', view_brain(brain, np.eye(4)), layers, brain, {'brain': brain}))
    assert image.shape[0] > 4 * 48


def test_files_are_small():
    rng = np.random.default_rng(2)
    brain = ball((120, 140, 90), (1, 1, 1), 44)
    png = draw_figure('residual', view_brain(brain, np.eye(4)),
                      {'': rng.rayleigh(0.04, brain.shape).astype(np.float32)}, brain, {'reliable': brain})
    assert png.startswith(b'\x89PNG\r\n\x1a\n') and len(png) < 350_000


def test_there_is_no_global_state():
    code = ('import sys, numpy as np; from qsmbids.reports.figures import *; assert "matplotlib" not in sys.modules;'
            'm = np.ones((9, 9, 9), bool); draw_figure("chi", view_brain(m, np.eye(4)), {"": m * 1.0}, m);'
            'assert "matplotlib.pyplot" not in sys.modules')
    subprocess.run([sys.executable, '-c', code], check=True)
