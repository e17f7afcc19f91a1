"""Axes and voxels of the networks, and the way to them."""

from itertools import permutations

import numpy as np
import pytest
import torch

from qsmbids.networks.frame import COARSEST, FINEST, Frame, seen_at


@pytest.mark.parametrize('order', list(permutations(range(3))))
def test_turning_ends_in_one_order_and_comes_back(order):
    volume = np.arange(3 * 5 * 7.).reshape(3, 5, 7)
    geometry = [np.array(values) for values in ((.9, 1., 1.1), (.1, -.3, .95))]
    upright = Frame(*geometry)
    turned = Frame(*(values[list(order)] for values in geometry))
    assert turned.voxel_size == upright.voxel_size and turned.b0_dir == upright.b0_dir
    moved = volume.transpose(order)
    assert np.array_equal(turned.turn(moved), upright.turn(volume))
    assert np.array_equal(turned.back(turned.turn(moved)), moved) and turned.turn(moved).flags.c_contiguous


@pytest.mark.parametrize('voxel_size', [(1, 1, 1), (.4, .7, 1.), (3, 2, 3), (1, 3, .9), (.85, 1.2, 2.4)])
@pytest.mark.parametrize('b0_dir', [(0, 0, 1), (.6, 0, .8), (1, 0, 0)])
def test_the_grid_has_voxels_of_the_training(voxel_size, b0_dir):
    frame, shape = Frame(voxel_size, b0_dir), (65, 80, 77)
    size = frame.size(shape)
    steps = np.array(frame.voxel_size) * shape / size
    assert np.all(steps > np.multiply(FINEST, .98)) and np.all(steps < np.multiply(COARSEST, 1.02))
    inside = (np.array(frame.voxel_size) >= FINEST) & (np.array(frame.voxel_size) <= COARSEST)
    assert np.array_equal(np.array(size)[inside], np.array(shape)[inside])


@pytest.mark.parametrize('size', [(24, 27, 17), (60, 44, 51), (33, 25, 31), None])
def test_a_smooth_volume_comes_back_from_any_grid(size):
    grids = np.meshgrid(*(np.linspace(-1, 1, n) for n in (33, 25, 31)), indexing='ij')
    smooth = torch.from_numpy(np.float32(np.cos(3 * grids[0] + grids[1]) + np.sin(2 * grids[2])))[None, None]
    seen = []
    found = seen_at(lambda volumes: seen.append(volumes.shape[2:]) or volumes, smooth, size)
    assert tuple(seen[0]) == (size or smooth.shape[2:])
    assert (found - smooth).abs()[..., 2:-2, 2:-2, 2:-2].max() < .03
