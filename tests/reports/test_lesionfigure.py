"""The figure of lesions: where they lie, whatever the order and direction of the voxels."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from qsmbids.reports.lesionfigure import COLOURS, MOST, draw_lesions

SHAPE = (40, 48, 36)
AFFINE = np.array([[-2., 0, 0, 40], [0, 2, 0, -50], [0, 0, 2, -30], [0, 0, 0, 1]])


def row(index, place, kind='cmb', certainty='definite'):
    return {'index': str(index), **{f'{axis}_ras_mm': str(value) for axis, value in zip('xyz', place)}, 'class': kind,
            'certainty': certainty, 'probability': '0.9', 'diameter_mm': '3'}


@pytest.fixture(scope='module')
def brain():
    grids = np.ogrid[tuple(map(slice, SHAPE))]
    return sum(((g - n / 2) / (n / 2 - 2)) ** 2 for g, n in zip(grids, SHAPE)) < 1


def draw(brain, rows, affine=AFFINE):
    from matplotlib.image import imread
    chi = np.zeros(brain.shape, np.float32)
    for each in rows:
        at = np.linalg.solve(affine[:3, :3], [float(each[f'{axis}_ras_mm']) for axis in 'xyz'] - affine[:3, 3])
        chi[tuple(np.rint(at).astype(int))] = 1
    image = imread(io.BytesIO(draw_lesions(chi, affine, brain, rows)))[..., :3]
    return np.asarray(image)


def dots(image, kind):
    """Return column and row of the pixels of a class in the glass brain."""
    glass = image[:260]
    return np.argwhere(np.abs(glass - to_rgb(COLOURS[kind])).max(axis=2) < .03)[:, ::-1]


def test_a_lesion_lies_on_its_side_in_the_glass_brain_and_in_the_middle_of_its_thumbnails(brain):
    image = draw(brain, [row(1, (-24, 20, 16))])
    columns = dots(image, 'cmb')[:, 0]
    axial = columns[columns < 1076 // 3]
    outline = np.flatnonzero((image[20:250, :356].max(axis=2) > .8).any(axis=0))
    assert len(axial) and axial.mean() < (outline[0] + outline[-1]) / 2
    thumbnail = image[292:376, 6:90].mean(axis=2)
    bright = np.argwhere(thumbnail > thumbnail.max() - .1)
    assert np.allclose(bright.mean(axis=0), 42, atol=6)


def test_voxels_stored_the_other_way_give_the_same_picture(brain):
    flipped = AFFINE @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.]])
    rows = [row(1, (-24, 20, 16)), row(2, (10, -30, -4), 'calcification')]
    one, other = draw(brain, rows), draw(brain[::-1], rows, flipped)
    assert one.shape == other.shape and np.abs(one - other).mean() < .01


def test_classes_have_their_colours_and_what_does_not_count_is_left_out(brain):
    image = draw(brain, [row(1, (0, 0, 0)), row(2, (10, 10, 10), 'calcification'),
                         row(3, (9, 9, 9), 'deep_iron', 'unlikely'), row(4, (5, 5, 5), 'vessel')])
    assert len(dots(image, 'cmb')) and len(dots(image, 'calcification')) and not len(dots(image, 'deep_iron'))


def test_no_lesion_and_too_many_fit(brain):
    none, many = draw(brain, []), draw(brain, [row(n, (n - 20, n, 0)) for n in range(3 * MOST)])
    assert none.shape[1] == many.shape[1] == 1076 and none.shape[0] < many.shape[0] < 700
