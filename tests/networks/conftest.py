"""Small networks are faster on one core than on cores that others use; what several tests of them compute on."""

import numpy as np
import pytest
import torch

from qsmbids.core.dipole import forward_field


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='session')
def total_scene():
    """Return the total field of a brain of noise with a strong source outside, and its mask."""
    rng = np.random.default_rng(0)
    mask = np.zeros((35, 33, 27), bool)
    mask[3:30, 2:31, 4:24] = True
    mask[3:7, 2:7] = False
    chi = .1 * rng.standard_normal(mask.shape).astype(np.float32) * mask
    chi[33:, 10:20, 8:16] = 9
    return forward_field(chi, (1., 1.1, 1.5), (.1, .2, .97)), mask
