import numpy as np
import pytest

from qsmbids.core.labels import BY_NAME
from qsmbids.core.lesionplaces import STANDARD, part_below_tentorium, place_lesions

# Standard brain, mm: a place and what it is.
KNOWN = {(0, -28, -33): ('infratentorial', 'brainstem'), (25, -65, -38): ('infratentorial', 'cerebellum'),
         (0, -62, -20): ('infratentorial', 'cerebellum'), (30, -90, 5): ('lobar', None), (45, 30, 10): ('lobar', None),
         (40, -75, -8): ('lobar', None), (50, -20, -28): ('lobar', None), (27, -22, -15): ('lobar', None),
         (26, 3, 0): ('deep', 'basal ganglia'), (-11, -18, 8): ('deep', 'thalamus'), (20, 6, 8): ('deep', None),
         (16, -56, -34): ('infratentorial', 'cerebellum'), (-5, -20, -9): ('infratentorial', 'brainstem')}
SHAPE, STEP = (90, 100, 80), 2.


def segmented(names, turn=0., size=1., shift=(0., 0., 0.)):
    """Balls at the centres of nuclei, in a head that is turned about the left-right axis, scaled and shifted."""
    cos, sin = np.cos(turn), np.sin(turn)
    pose = size * np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    affine = np.diag([STEP, STEP, STEP, 1.])
    affine[:3, 3] = -STEP * np.array(SHAPE) / 2
    grids = [STEP * grid + start for grid, start in zip(np.ogrid[tuple(map(slice, SHAPE))], affine[:3, 3])]
    labels = np.zeros(SHAPE, np.uint8)
    for name in names:
        for side, way in (('L', -1), ('R', 1)):
            x, y, z = STANDARD[name]
            centre = pose @ (way * x, y, z) + shift
            labels[sum((grid - c) ** 2 for grid, c in zip(grids, centre)) < 4.5 ** 2] = BY_NAME[f'{name}_{side}'].index
    return labels, affine, lambda point: pose @ point + shift


@pytest.mark.parametrize('names', [
    [name for name in STANDARD if name not in ('Pallidum', 'Subthalamic')],
    ['Caudate', 'Putamen', 'Pallidum', 'Thalamus', 'Hippocampus', 'Amygdala']])  # what FreeSurfer knows
@pytest.mark.parametrize('pose', [{}, {'turn': .35, 'size': .85, 'shift': (4., -9., 6.)}])
def test_regions_of_the_standard_brain_are_known_in_any_pose(names, pose):
    labels, affine, move = segmented(names, **pose)
    there = {point: place for point, place in KNOWN.items()
             if tuple(map(abs, point[:1])) + point[1:] not in STANDARD.values()
             or next(name for name, centre in STANDARD.items() if centre == (abs(point[0]), *point[1:])) in names}
    places = place_lesions([move(np.array(point)) for point in there], labels > 0, affine, labels)
    for point, (region, part), place in zip(there, there.values(), places):
        assert (place['bombs_region'], place['mars_region']) == (region, part), point
        if point[0]:
            assert place['hemisphere'] == ('L' if point[0] < 0 else 'R')


def test_without_labels_only_the_side_is_known():
    mask, affine = np.ones((10, 10, 10), bool), np.diag([-2., 2., 2., 1.])
    left, right = place_lesions([(-17, 5, 5), (-3, 5, 5)], mask, affine)
    assert (left['hemisphere'], right['hemisphere']) == ('L', 'R')
    assert left['bombs_region'] is None and left['mars_region'] is None


def test_few_nuclei_tell_only_what_lies_in_them():
    labels, affine, _ = segmented(['Putamen'])
    inside, beside, far = place_lesions([(26, 3, 0), (26, 10, 0), (0, -60, -30)], labels > 0, affine, labels)
    assert inside['bombs_region'] == beside['bombs_region'] == 'deep' and far['bombs_region'] is None
    assert inside['deep_nucleus'] == 'Putamen' and beside['deep_nucleus'] is None


def test_the_tentorium_is_even():
    for x, y, z in ((25, -65, -38), (40, -75, -8), (10, -20, -9)):
        assert part_below_tentorium((x, y, z)) == part_below_tentorium((-x, y, z))
