"""Training samples from random shapes, as the networks of the papers learnt: no anatomy, the simplest errors."""

import numpy as np

from qsmbids.simulation.shapes import random_shapes
from qsmbids.training.heads import TrainingHead

VOXEL_SIZE, B0_DIR = (1., 1., 1.), (0., 0., 1.)


def training_shapes(side, seed, *, noise=None):
    """Make shapes with their fields, and three or four sources around them.

    Parameters
    ----------
    side : int
        Voxels along each axis.
    seed : sequence of int
    noise : float, default 1
        SD of the field's white noise in percent of its maximum.

    Returns
    -------
    TrainingHead
        Voxels of 1 mm, B0 along the third axis.

    References
    ----------
    Wang 2022 (POCSnet): the training data of both networks.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    sample = random_shapes((side,) * 3, [*seed, 1], voxel_size=VOXEL_SIZE, b0_dir=B0_DIR,
                           sources=int(rng.integers(3, 5)))
    mask, local = sample.mask, sample.local_field
    level = (1. if noise is None else noise) / 100 * np.abs(local).max()
    errors = np.float32(level) * rng.standard_normal(mask.shape, dtype=np.float32) * mask
    chi = (sample.chi - sample.chi[mask].mean()) * mask
    return TrainingHead(chi, sample.total_field + errors, local, local + errors, mask, VOXEL_SIZE, B0_DIR)
