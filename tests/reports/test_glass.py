import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine

from qsmbids.reports.figures import PLANES
from qsmbids.reports.glass import brain_box, outlines, place_in_box, read_box

TURNED = np.array([[0, 0, -2., 20], [1.5, 0, 0, -10], [0, -3., 0, 30], [0, 0, 0, 1]])


@pytest.fixture
def mask():
    found = np.zeros((14, 10, 16), bool)
    found[3:9, 2:7, 4:15] = True
    return found


@pytest.mark.parametrize('affine', [np.eye(4), TURNED])
def test_places_are_fractions_of_the_box_whatever_the_axes(mask, affine):
    box = brain_box(mask, affine)
    voxels = apply_affine(affine, np.argwhere(mask))
    assert np.allclose(box, [voxels.min(axis=0), voxels.max(axis=0)], atol=.01)
    places = place_in_box(voxels, box)
    assert np.allclose([places.min(axis=0), places.max(axis=0)], [[0] * 3, [1] * 3], atol=1e-3)
    # To the right, to the front, to the top: x, y and z grow with the fractions.
    assert (np.argsort(places, axis=0) == np.argsort(voxels, axis=0)).all()


def test_nothing_has_no_box_and_a_flat_one_is_no_division_by_zero(mask):
    assert brain_box(mask & False, np.eye(4)) == []
    assert np.isfinite(place_in_box([[1, 2, 3]], [[1, 2, 3], [1, 2, 3]])).all()


def test_a_box_is_read_from_the_mask_on_disk_if_there_is_one(mask, tmp_path):
    path = tmp_path / 'mask.nii.gz'
    assert read_box(path) == []
    nibabel.save(nibabel.Nifti1Image(mask.astype(np.uint8), TURNED), path)
    assert read_box(path) == brain_box(mask, TURNED)
    path.write_bytes(b'damaged')
    assert read_box(path) == []


@pytest.mark.parametrize('affine', [np.eye(4), TURNED])
def test_the_outline_of_a_pyramid_grows_narrow_to_the_top(affine):
    grid = np.indices((24, 24, 24))
    world = apply_affine(affine, grid.reshape(3, -1).T)
    height = (world[:, 2] - world[:, 2].min()) / np.ptp(world[:, 2])
    middle = (world.min(axis=0) + world.max(axis=0)) / 2
    away = np.abs((world - middle) / np.ptp(world, axis=0))[:, :2].max(axis=1)
    found = outlines((away <= .5 * (1.05 - height)).reshape(24, 24, 24), affine)
    assert list(found) == list(PLANES)
    for plane in ('coronal', 'sagittal'):
        points = np.array(found[plane])
        assert np.ptp(points[points[:, 1] < .1, 0]) > .9 > .3 > np.ptp(points[points[:, 1] > .9, 0])
    assert all(0 <= value <= 1 for points in found.values() for point in points for value in point)
