import numpy as np
import pytest

from qsmbids.core.lesiongrid import WorkingGrid

SHAPE = (40, 36, 24)


def brain(low=6, high=-6):
    mask = np.zeros(SHAPE, bool)
    mask[low:high, low:high, 4:-4] = True
    return mask


@pytest.mark.parametrize('voxel, steps, low', [
    ((1., 1., 1.), (1., 1., 1.), False), ((1.5, 1.5, 1.5), (1.5, 1.5, 1.5), False), ((.5, .5, .5), (.8, .8, .8), False),
    ((.6, .6, 1.2), (.8, .8, .8), False), ((1., 1., 1.2), (1., 1., 1.2), False), ((1.2, 1.2, 2.), (1., 1., 1.), False),
    ((1., 1., 3.), (1., 1., 3.), True)])
def test_the_grid_stays_unless_voxels_are_fine_or_unlike(voxel, steps, low):
    grid = WorkingGrid.of(brain(), voxel)
    assert grid.steps == pytest.approx(steps) and grid.low_confidence == low


@pytest.mark.parametrize('voxel', [(1., 1., 1.), (.6, .6, 1.1), (1., 1., 1.6), (.5, .5, .5)])
def test_places_and_values_stay_where_they_are(voxel):
    grid = WorkingGrid.of(brain(), voxel)
    axes = np.ogrid[tuple(map(slice, SHAPE))]
    ramp = sum(weight * axis for weight, axis in zip((1., 2., -3.), axes)).astype(np.float32)
    worked = grid.to_working(ramp, 1)
    at = np.argwhere(np.ones(worked.shape, bool))[::97]
    inner = ((at > 3) & (at < np.array(worked.shape) - 4)).all(axis=1)
    there = grid.to_scan(at[inner])
    assert np.allclose(worked[tuple(at[inner].T)], there @ (1., 2., -3.), atol=.02)


@pytest.mark.parametrize('voxel', [(1., 1., 1.), (.6, .6, 1.1), (.5, .5, .5)])
def test_labels_come_back(voxel):
    mask = brain()
    labels = np.zeros(SHAPE, np.uint8)
    labels[10:20, 10:20, 8:16] = 7
    grid = WorkingGrid.of(mask, voxel)
    back = grid.labels_to_scan(grid.to_working(labels, 0))
    assert back.shape == SHAPE and back.dtype == np.uint8 and set(np.unique(back)) == {0, 7}
    assert np.count_nonzero(back != labels) < .35 * np.count_nonzero(labels)
    assert grid.to_working(mask, 0).dtype == bool
