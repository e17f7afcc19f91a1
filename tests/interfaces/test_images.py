"""Volumes come back as they were written, whatever their order and kind."""

import nibabel
import numpy as np
import pytest

from qsmbids.interfaces.images import load_array, load_mask, save_array


@pytest.mark.parametrize('shape', [(17, 9, 23), (8, 8, 8), (1, 5, 40), (30, 1, 1), (9, 10, 11, 3)])
@pytest.mark.parametrize('kind', [np.float32, np.int16])
def test_a_volume_is_read_as_it_was_written(shape, kind, tmp_path):
    volume = np.random.default_rng(0).integers(-999, 999, shape).astype(kind)
    path = tmp_path / 'volume.nii'
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)
    found = load_array(path)
    assert found.dtype == np.float32 and found.flags.c_contiguous and found.flags.writeable
    np.testing.assert_array_equal(found, volume)


def test_what_is_saved_is_loaded(tmp_path):
    volume = np.random.default_rng(1).normal(size=(12, 17, 9)).astype(np.float32)
    affine = np.diag([-1., 2., 3., 1.])
    like = nibabel.Nifti1Image(np.zeros(volume.shape, np.float32), affine)
    np.testing.assert_array_equal(load_array(save_array(tmp_path / 'a.nii.gz', volume, like)), volume)
    np.testing.assert_array_equal(load_mask(save_array(tmp_path / 'm.nii', volume > 0, like)), volume > 0)
    assert np.array_equal(nibabel.load(tmp_path / 'a.nii.gz').affine, affine)
