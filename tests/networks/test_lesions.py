"""Candidates judged by a network with weights."""

import numpy as np
import pytest
import torch

from qsmbids.core.microbleeds import find_microbleeds
from qsmbids.files import FileError
from qsmbids.networks.lesionnet import CHANNELS, FEATURES, PATCH, LesionNetwork
from qsmbids.networks.lesions import BATCH, class_shares, lesion_classifier
from qsmbids.networks.weights import save_weights


@pytest.fixture
def network():
    torch.manual_seed(0)
    return LesionNetwork(4).eval()


def test_probabilities_do_not_depend_on_the_batch(network):
    rng = np.random.default_rng(0)
    patches = rng.normal(0, 1, (BATCH + 3, len(CHANNELS), PATCH, PATCH, PATCH)).astype(np.float16)
    features = rng.normal(0, 1, (BATCH + 3, len(FEATURES))).astype(np.float32)
    shares = class_shares(network, patches, features)
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(shares[-2:], class_shares(network, patches[-2:], features[-2:]), atol=1e-4)
    assert class_shares(network, patches[:0], features[:0]).shape == (0, 3)


def test_a_file_of_weights_grades_the_census(network, tmp_path):
    path = tmp_path / 'mine.safetensors'
    with torch.no_grad():
        network.prior.copy_(torch.tensor([9., 0, 0]))
    save_weights(network, path, 'lesions', {'width': 4}, {})
    mask = np.zeros((30, 30, 30), bool)
    mask[3:27, 3:27, 3:27] = True
    chi = np.random.default_rng(0).normal(0, .02, mask.shape).astype(np.float32) * mask
    chi[14:17, 14:17, 14:17] += .5
    census = find_microbleeds(chi, mask, np.eye(4), classify=lesion_classifier(str(path)))
    bright = [row for row in census.lesions if row['class'] == 'cmb']
    assert bright and all(row['probability'] > .9 for row in bright)
    assert not any(row['class'] == 'calcification' for row in census.lesions)


def test_weights_that_are_not_there_are_named():
    with pytest.raises(FileError, match='none'):
        lesion_classifier('none')
