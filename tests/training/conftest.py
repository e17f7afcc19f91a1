"""Small networks are faster on one core than on cores that others use."""

import numpy as np
import pytest
import torch

from qsmbids.networks.segmenter import STRUCTURES
from qsmbids.simulation.tissues import LABELS
from qsmbids.training.labelled import Labelled, merging


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_head():
    """Return a function that makes a labelled head of white matter with a putamen on each side, of tissues or a map."""
    def make(kind='tissues'):
        tissues = np.full((40, 44, 36), LABELS['air'], np.uint8)
        tissues[4:36, 4:40, 4:32] = LABELS['white_matter']
        tissues[8:14, 18:28, 12:22] = tissues[26:32, 18:28, 12:22] = LABELS['putamen']
        classes = np.where(tissues == LABELS['putamen'], 1 + STRUCTURES.index('Putamen'), 0).astype(np.uint8)
        chi = np.where(classes, .1, 0).astype(np.float32)
        return Labelled(classes, tissues != LABELS['air'], merging(STRUCTURES, {}),
                        **{kind: {'tissues': tissues, 'chi': chi}[kind]})
    return make
