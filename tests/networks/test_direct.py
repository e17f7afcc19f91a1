"""autoQSM: what holds whatever the weights."""

import numpy as np
import pytest
import torch

from qsmbids.files import FileError
from qsmbids.networks.autoqsm import AutoQSM, start_direct
from qsmbids.networks.direct import invert_autoqsm
from qsmbids.networks.weights import save_weights

VOXEL_SIZE, B0_DIR = (1., 1.1, 1.5), (.1, .2, .97)


@pytest.fixture(scope='module')
def invert(tmp_path_factory):
    torch.manual_seed(0)
    network = AutoQSM(width=4)
    torch.nn.init.normal_(network.backbone.last.weight, std=.05)
    path = tmp_path_factory.mktemp('weights') / 'w.safetensors'
    save_weights(network, path, 'autoqsm', {'width': 4}, {})

    def invert(field, mask, voxel_size=VOXEL_SIZE, b0_dir=B0_DIR):
        return invert_autoqsm(field, mask, voxel_size, b0_dir=b0_dir, weights=path)
    return invert


def test_the_map_stays_in_the_mask_and_goes_with_the_field(total_scene, invert):
    field, mask = total_scene
    chi = invert(field, mask)
    assert chi.dtype == np.float32 and chi.shape == mask.shape and chi[mask].any() and not chi[~mask].any()
    for scale in (.1, 10):
        assert np.allclose(scale * chi, invert(scale * field, mask), atol=1e-3 * scale * np.abs(chi).max())


def test_neither_a_constant_nor_what_is_outside_matters(total_scene, invert):
    field, mask = total_scene
    chi = invert(field, mask)
    assert np.allclose(chi, invert(field + 3, mask), atol=2e-3 * np.abs(chi).max())
    assert np.array_equal(chi, invert(np.where(mask, field, np.nan), mask))


@pytest.mark.parametrize('order', [(2, 0, 1), (1, 0, 2), (0, 2, 1)])
def test_the_order_of_the_axes_does_not_matter(total_scene, invert, order):
    field, mask = total_scene
    chi = invert(field, mask)
    turned = invert(field.transpose(order), mask.transpose(order), [VOXEL_SIZE[axis] for axis in order],
                    [B0_DIR[axis] for axis in order])
    assert np.allclose(chi.transpose(order), turned, atol=1e-5 * np.abs(chi).max())


def test_a_stronger_background_hardly_changes_the_scale(total_scene):
    field, mask = total_scene
    grids = np.meshgrid(*(np.linspace(-1, 1, n) for n in mask.shape), indexing='ij', sparse=True)
    harmonic = (grids[0] ** 2 - grids[1] ** 2 * (32 * 1.1 / 34) ** 2 + 3 * grids[2]).astype(np.float32)
    one, other = (start_direct(volume, mask, VOXEL_SIZE).scale for volume in (field, field + 20 * harmonic))
    assert other == pytest.approx(one, rel=.1)


def test_no_field_has_no_map_and_errors_are_named(total_scene, invert):
    field, mask = total_scene
    assert not invert(0 * field, mask).any()
    with pytest.raises(ValueError, match='no ball of 4.00 mm'):
        invert(field, mask & (np.arange(mask.shape[2]) < 7))
    with pytest.raises(FileError, match='none.safetensors'):
        invert_autoqsm(field, mask, VOXEL_SIZE, weights='none.safetensors')
