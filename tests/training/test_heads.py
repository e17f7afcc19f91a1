"""Heads that networks are trained on."""

import numpy as np
from scipy.ndimage import binary_erosion

from qsmbids.core.dipole import forward_field
from qsmbids.simulation.head import digital_head
from qsmbids.simulation.tissues import LABELS
from qsmbids.training.heads import training_head, without_holes


def sample(shape, affine, seed=0, variation=None):
    """A head of code, twice as coarse as asked for, with air inside."""
    wide = np.array(affine, float)
    wide[:3, :3] *= 4
    head = digital_head(tuple(n // 4 for n in shape), wide, seed=seed)
    middle = tuple(n // 2 for n in head.labels.shape)
    head.labels[middle] = LABELS['air']
    head.chi[middle] = head.chi_outside
    return head


def test_what_the_brain_encloses_is_brain():
    shape, affine = (168, 204, 168), np.diag([1., 1., 1., 1.])
    affine[:3, 3] = -83, -120, -82
    head = sample(shape, affine)
    filled, brain = without_holes(head)
    middle = tuple(n // 2 for n in head.labels.shape)
    assert brain[middle] and abs(filled.chi[middle]) < .1 and head.chi[middle] > 9
    assert np.array_equal(filled.chi[~brain], head.chi[~brain])


def test_a_head_is_what_it_says():
    head = training_head(sample, [3, 1], noise=.5, removals={'none': 1.})
    inner = binary_erosion(head.mask, iterations=2)
    assert abs(head.chi[head.mask].mean()) < 1e-4 and np.abs(head.chi).max() < 3
    own = forward_field(head.chi, head.voxel_size, head.b0_dir)
    assert np.linalg.norm((own - head.local)[inner]) < .03 * np.linalg.norm(own[inner])
    errors = (head.field - head.local)[head.mask]
    assert .2 < errors.std() / head.local[head.mask].std() < .6
    again = training_head(sample, [3, 1], noise=.5, removals={'none': 1.})
    assert np.array_equal(again.field, head.field)
