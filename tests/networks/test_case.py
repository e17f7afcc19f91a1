"""The way of a field to the network's grid and back."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from qsmbids.core.dipole import forward_field
from qsmbids.core.inversion.direct import invert_tikhonov
from qsmbids.networks.case import Case
from qsmbids.networks.frame import COARSEST, FINEST


def scene(shape, voxel_size, b0_dir):
    """A smooth map in an ellipsoid, its field, and the mask."""
    grids = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing='ij')
    mask = sum(g ** 2 for g in grids) < .6
    chi = (.1 * np.cos(4 * grids[0]) * np.cos(3 * grids[1] + 1) * np.cos(3 * grids[2])).astype(np.float32) * mask
    return forward_field(chi, voxel_size, b0_dir) * mask, mask


@pytest.mark.parametrize('voxel_size', [(1, 1, 1), (.5, .6, 1.), (3, 2, 3), (1, 3, .9)])
@pytest.mark.parametrize('b0_dir', [(0, 0, 1), (0, -.96, .28), (.6, 0, .8)])
def test_no_change_gives_tikhonovs_map(voxel_size, b0_dir):
    field, mask = scene((30, 33, 28), voxel_size, b0_dir)
    case = Case(field, mask, voxel_size, b0_dir, .05)
    chi = case.proposed(case.start.first.copy())
    assert np.allclose(chi, invert_tikhonov(field, mask, voxel_size, b0_dir=b0_dir, lambda_=.05), atol=1e-5)
    assert case.start.mask.any() and np.argmax(np.abs(case.b0_dir)) == 2
    assert np.all(np.array(case.voxel_size) > np.multiply(FINEST, .95))
    assert np.all(np.array(case.voxel_size) < np.multiply(COARSEST, 1.05))


def test_the_projection_is_nearer_to_the_data():
    field, mask = scene((30, 33, 28), (1, 1, 1), (0, 0, 1))
    case = Case(field, mask, (1, 1, 1), (0, 0, 1), .01)
    maps = case.proposed(0 * case.start.first), case.projected(0 * case.start.first)
    errors = [np.linalg.norm((forward_field(chi, (1, 1, 1)) - field)[mask]) for chi in maps]
    assert errors[1] < .7 * errors[0]


@pytest.mark.parametrize('voxel_size', [(.6, .6, .7), (2, 2, 3)])
def test_a_change_comes_back_to_its_place(voxel_size):
    field, mask = scene((40, 44, 36), voxel_size, (0, 0, 1))
    case = Case(field, mask, voxel_size, (0, 0, 1), .05)
    assert case.resampled
    # The truth on the network's grid, handed in as what the network makes, must come out as on the data's.
    smooth = Case(field, mask, voxel_size, (0, 0, 1), .2)
    chi = case.proposed(smooth.start.first * smooth.start.scale / case.start.scale)
    wanted = invert_tikhonov(field, mask, voxel_size, lambda_=.2)
    inside = binary_erosion(mask, iterations=4)
    assert np.linalg.norm((chi - wanted)[inside]) < .1 * np.linalg.norm(wanted[inside])
