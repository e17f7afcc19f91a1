"""What the segmentation network is given: no amplitude, no reference, no voxel size."""

import numpy as np
import pytest
import torch

from qsmbids.core.labels import STRUCTURES as TABLE
from qsmbids.networks.segmenter import (CHANNELS, CLIP, REACH, STEP, STRUCTURES, SegmentationNetwork,
                                        along_axes, network_inputs, resampling, standardised)


def test_all_structures_that_are_no_unions_are_told_apart():
    assert set(STRUCTURES) == set(TABLE) - {'Pallidum'}
    network = SegmentationNetwork(width=4, structures=('Putamen', 'CSF'))
    assert network(torch.zeros(1, len(CHANNELS), 13, 16, 9)).shape == (1, 3, 13, 16, 9)


@pytest.mark.parametrize('count, step, new_count, new_step', [(20, 3., 60, 1.), (60, 1., 20, 3.), (33, .7, 24, 1.),
                                                              (7, 1., 7, 1.), (1, 3., 3, 1.)])
def test_resampling_keeps_constants_and_lines_about_the_common_middle(count, step, new_count, new_step):
    matrix = resampling(count, step, new_count, new_step)
    assert matrix.shape == (new_count, count) and np.allclose(matrix.sum(axis=1), 1)
    here, there = ((np.arange(n) - (n - 1) / 2) * width for n, width in ((count, step), (new_count, new_step)))
    inside = np.abs(there) <= here[-1] - max(step, new_step)
    assert np.allclose((matrix @ here)[inside], there[inside], atol=1e-4 if step > new_step else .03)
    if count == new_count:
        assert np.array_equal(matrix, np.eye(count))


def test_along_axes_is_one_matrix_per_axis():
    rng = np.random.default_rng(0)
    volume = rng.random((4, 5, 6), np.float32)
    matrices = [rng.random((n + 1, n), np.float32) for n in volume.shape]
    assert np.allclose(along_axes(volume, matrices), np.einsum('ia,jb,kc,abc->ijk', *matrices, volume), rtol=1e-4)


def test_inputs_do_not_know_amplitude_and_reference():
    rng = np.random.default_rng(0)
    mask = rng.random((12, 14, 10)) > .3
    chi = rng.standard_normal(mask.shape).astype(np.float32)
    inputs = network_inputs(chi, mask, magnitude=chi)
    assert np.allclose(inputs, network_inputs(.01 * chi + .2, mask, magnitude=7 * chi), atol=2e-3)
    assert not inputs[0][~mask].any() and np.array_equal(inputs[1], mask)
    assert not inputs[CHANNELS.index('r2star')].any() and inputs[CHANNELS.index('magnitude')].any()
    assert np.abs(standardised(np.where(chi > 2, 1e6, chi), mask)).max() == CLIP
    assert not standardised(chi, np.zeros_like(mask)).any()


def test_positions_are_those_from_the_middle_of_the_mask():
    mask = np.zeros((20, 20, 20), bool)
    mask[4:9, 10:15, 2:19] = True
    positions = network_inputs(mask.astype(np.float32), mask)[2:5]
    assert np.allclose(positions[:, 6, 12, 10], 0) and np.allclose(
        positions[:, 12, 12, 4], (6 * STEP / REACH, 0, -6 * STEP / REACH))
    assert np.allclose(network_inputs(mask.astype(np.float32), mask, (0, 0, 0))[2:5, 6, 12, 18] * REACH / STEP, (6, 12, 18))
