"""Background removal by networks: what holds whatever the weights."""

import numpy as np
import pytest
import torch

from qsmbids.core.dipole import forward_field
from qsmbids.core.fourier import fast_size
from qsmbids.core.grid import bounding_box, embed
from qsmbids.core.metrics import nrmse
from qsmbids.files import FileError
from qsmbids.networks.background import remove_background_pocsnet1, remove_background_sharqnet, remove_with
from qsmbids.networks.frame import Frame
from qsmbids.networks.shells import POCSnet1, SHARQnet, begin
from qsmbids.networks.weights import save_weights

VOXEL_SIZE, B0_DIR = (1., 1.1, 1.5), (.1, .2, .97)
METHODS = {'pocsnet1': (POCSnet1, remove_background_pocsnet1), 'sharqnet': (SHARQnet, remove_background_sharqnet)}


def untrained(kind):
    torch.manual_seed(0)
    network = kind(width=4)
    torch.nn.init.normal_(network.backbone.last.weight, std=.05)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope='module', params=METHODS)
def method(request, tmp_path_factory):
    """A method with weights of its own."""
    kind, function = METHODS[request.param]
    path = tmp_path_factory.mktemp('weights') / 'w.safetensors'
    save_weights(untrained(kind), path, request.param, {'width': 4}, {})
    return lambda *volumes, **options: function(*volumes, VOXEL_SIZE, b0_dir=B0_DIR, weights=path, **options)


def test_any_weights_leave_the_inside_of_the_mask(total_scene, method):
    field, mask = total_scene
    local, known = method(field, mask)
    assert local.dtype == np.float32 and local.flags.c_contiguous and known.dtype == bool
    assert not (known & ~mask).any() and .4 < known.sum() / mask.sum() < 1
    assert local[known].any() and not local[~known].any()


@pytest.mark.parametrize('scale', [.1, 10])
def test_the_local_field_goes_with_the_field(total_scene, method, scale):
    field, mask = total_scene
    one, other = method(field, mask)[0], method(scale * field, mask)[0]
    assert np.allclose(scale * one, other, atol=1e-3 * np.abs(other).max())


def test_a_constant_does_not_matter(total_scene, method):
    field, mask = total_scene
    local, _ = method(field, mask)
    assert np.allclose(local, method(field + 3, mask)[0], atol=2e-3 * np.abs(local).max())


def test_no_field_has_no_local_field(total_scene, method):
    _, mask = total_scene
    local, known = method(np.zeros(mask.shape), mask)
    assert known.any() and not local.any()


def test_values_outside_the_mask_do_not_matter(total_scene, method):
    field, mask = total_scene
    assert np.array_equal(method(field, mask)[0], method(np.where(mask, field, np.nan), mask)[0])


@pytest.mark.parametrize('order', [(2, 0, 1), (1, 0, 2), (0, 2, 1)])
def test_the_order_of_the_axes_does_not_matter(total_scene, order):
    field, mask = total_scene
    network = untrained(POCSnet1)
    upright, known = remove_with(network, field, mask, VOXEL_SIZE, B0_DIR)
    turned, turned_known = remove_with(network, np.ascontiguousarray(field.transpose(order)), mask.transpose(order),
                                       [VOXEL_SIZE[axis] for axis in order], [B0_DIR[axis] for axis in order])
    assert np.array_equal(known.transpose(order), turned_known)
    for one, other in zip(upright, turned):
        assert np.allclose(one.transpose(order), other, atol=1e-5 * np.abs(one).max())


def test_the_projection_brings_a_wrong_map_back_to_the_measured_field(total_scene):
    """What differs from the mean over balls is the field's, whatever the network says."""
    field, mask = total_scene
    maps, _ = remove_with(untrained(POCSnet1), field, mask, VOXEL_SIZE, B0_DIR)
    start, balls = begin(field, mask, VOXEL_SIZE)
    disagreement = []
    for volume in maps:
        difference = torch.from_numpy(embed(field - volume, mask, start.box, start.mask.shape))[None, None]
        disagreement.append(float((difference * balls.normal(difference)).sum()))
    assert disagreement[0] < .1 * disagreement[1]


@pytest.mark.parametrize('voxel_size', [(.5, .6, .5), (2., 1.8, 3.5)])
def test_other_voxels_are_seen_resampled_and_projected_as_they_are(voxel_size):
    grids = np.meshgrid(*(np.linspace(-1, 1, n) for n in (35, 33, 31)), indexing='ij', sparse=True)
    mask = sum(g * g for g in grids) < .8
    chi = np.zeros(mask.shape, np.float32)
    chi[32:, 10:20, 8:16] = 9
    chi[15:20, 14:18, 12:20] = .3
    field, network = forward_field(chi, voxel_size, B0_DIR), untrained(POCSnet1)
    shapes = []
    network.backbone.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape[2:]))
    maps, known = remove_with(network, field, mask, voxel_size, B0_DIR)
    assert shapes[0] == Frame(voxel_size, B0_DIR).size(fast_size(mask[bounding_box(mask)].shape)) != mask.shape
    assert all(np.isfinite(volume).all() and not volume[~known].any() for volume in maps)
    assert nrmse(maps[0], maps[1], known) > 1


def test_wrong_arguments_are_named(total_scene):
    field, mask = total_scene
    with pytest.raises(ValueError, match='output'):
        remove_background_pocsnet1(field, mask, VOXEL_SIZE, output='map')
    with pytest.raises(FileError, match='none.safetensors'):
        remove_background_sharqnet(field, mask, VOXEL_SIZE, weights='none.safetensors')
