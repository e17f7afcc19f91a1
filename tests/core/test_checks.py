import numpy as np
import pytest

from qsmbids.core.checks import (check_mask, check_positive, check_same_shape, check_volume, check_voxel_size,
                                 check_weight)


def test_what_is_right_already_is_not_copied():
    mask, volume = np.ones((2, 3, 4), bool), np.ones((2, 3, 4), np.float32)
    assert check_mask(mask) is mask and check_volume('field', volume, mask) is volume


def test_other_types_are_converted():
    mask = check_mask(np.eye(3, dtype=np.uint8)[None])
    volume = check_volume('field', np.asfortranarray(np.ones((1, 3, 3), int)), mask)
    assert mask.dtype == bool and mask.sum() == 3
    assert volume.dtype == np.float32 and volume.flags.c_contiguous


@pytest.mark.parametrize('mask, says', [(np.zeros((2, 2, 2)), 'empty'), (np.ones((2, 2)), r'\(2, 2\)')])
def test_masks_of_no_use(mask, says):
    with pytest.raises(ValueError, match=f'mask .*{says}'):
        check_mask(mask)
    if mask.ndim == 3:
        assert not check_mask(mask, empty=True).any()


def test_non_finite_values_count_inside_the_mask_only():
    mask = np.zeros((2, 2, 2), bool)
    mask[0] = True
    volume = np.zeros(mask.shape)
    volume[1] = np.nan
    check_volume('field', volume, mask)
    volume[0, 0, 0] = np.inf
    with pytest.raises(ValueError, match='field has 1 non-finite'):
        check_volume('field', volume, mask)


def test_the_message_names_the_odd_one_out():
    with pytest.raises(ValueError, match=r'magnitude has shape \(3,\).*phase, \(2,\)'):
        check_same_shape(phase=np.zeros(2), weight=np.zeros(2), magnitude=np.zeros(3))


@pytest.mark.parametrize('value', [-0.1, 1.1, 0])
def test_weights_of_no_use(value):
    mask = np.ones((2, 2, 2), bool)
    mask[0] = False
    weight = np.where(mask, 0.5, 7)
    assert np.array_equal(check_weight(weight, mask), weight)
    with pytest.raises(ValueError, match='weight'):
        check_weight(np.full(mask.shape, value), mask)


@pytest.mark.parametrize('voxel_size', [(1, 1), (1, 1, 0), (1, -1, 1), (1, np.nan, 1)])
def test_voxel_sizes_of_no_use(voxel_size):
    with pytest.raises(ValueError, match='voxel_size'):
        check_voxel_size(voxel_size)


@pytest.mark.parametrize('value', [0, -1, np.nan, np.inf])
def test_positive_means_positive_and_finite(value):
    with pytest.raises(ValueError, match='tol'):
        check_positive(threshold=1, tol=value)
