"""POCSnet2: its projections, and what goes with the field whatever the weights."""

import numpy as np
import pytest
import torch

from qsmbids.core.dipole import dipole_kernel, forward_field
from qsmbids.core.fourier import convolve
from qsmbids.networks.inversion import invert_with
from qsmbids.networks.pocsnet import TRUST, POCSnet2, start


@pytest.fixture(scope='module')
def scene():
    rng = np.random.default_rng(0)
    mask = np.zeros((25, 22, 27), bool)
    mask[3:21, 2:20, 4:24] = True
    chi = .1 * rng.standard_normal(mask.shape).astype(np.float32) * mask
    return forward_field(chi, (1, 1, 1.5), (0, .6, .8)) * mask, mask, (1, 1, 1.5), (0, .6, .8)


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    network = POCSnet2(width=4, unrolls=2)
    torch.nn.init.normal_(network.backbone.last.weight, std=.1)
    return network


def test_projection_minimises_what_it_says(scene):
    field, mask, voxel_size, b0_dir = scene
    begun = start(field, mask, voxel_size, b0_dir, .05)
    other = np.random.default_rng(1).standard_normal(begun.mask.shape).astype(np.float32)
    found = begun.data + convolve(other - begun.first, begun.smoothing)
    kernel = dipole_kernel(begun.mask.shape, voxel_size, b0_dir)
    slope = convolve(convolve(found, kernel) - begun.field, kernel) + TRUST * .05 * (found - other)
    # A constant has no field and is free.
    slope -= slope.mean()
    assert np.abs(slope).max() < 1e-4 * np.abs(other).max()


def test_start_is_tikhonovs_map(scene):
    from qsmbids.core.inversion.direct import invert_tikhonov
    field, mask, voxel_size, b0_dir = scene
    begun = start(field, mask, voxel_size, b0_dir, .05)
    first = np.zeros(mask.shape, np.float32)
    first[begun.box] = begun.first[tuple(slice(n) for n in begun.box_shape)] * begun.scale
    assert np.allclose(first, invert_tikhonov(field, mask, voxel_size, b0_dir=b0_dir, lambda_=.05), atol=1e-6)
    assert begun.first[begun.mask].std() == pytest.approx(1, rel=.02)


@pytest.mark.parametrize('scale', [.1, -10])
def test_maps_go_with_the_field(scene, network, scale):
    field, mask, voxel_size, b0_dir = scene
    maps = invert_with(network, field, mask, voxel_size, b0_dir, .05)
    scaled = invert_with(network, scale * field, mask, voxel_size, b0_dir, .05)
    if scale > 0:
        for one, ten in zip(maps, scaled):
            assert np.allclose(scale * one, ten, atol=1e-4 * np.abs(ten).max())
    else:
        # It may know that veins are paramagnetic: no symmetry of the sign is promised.
        assert np.isfinite(scaled).all()


def test_the_network_changes_the_map_inside_the_mask_only(scene, network):
    field, mask, voxel_size, b0_dir = scene
    for chi in invert_with(network, field, mask, voxel_size, b0_dir, .05):
        assert chi.dtype == np.float32 and chi[mask].all() and not chi[~mask].any()
    torch.manual_seed(0)
    untrained = POCSnet2(width=4, unrolls=1)
    begun = start(field, mask, voxel_size, b0_dir, .05)
    proposed = invert_with(untrained, field, mask, voxel_size, b0_dir, .05)[1]
    assert np.allclose(proposed[begun.box][mask[begun.box]] / begun.scale,
                       begun.first[tuple(slice(n) for n in begun.box_shape)][mask[begun.box]], atol=1e-5)
