"""Candidates of lesions judged by a network."""

import numpy as np
import torch

from qsmbids.networks.lesionnet import CLASSES, candidate_inputs
from qsmbids.networks.shipped import shipped
from qsmbids.networks.weights import load_weights

BATCH = 128


def lesion_classifier(weights='cmb'):
    """Return a function that gives the probabilities of the classes of candidates.

    Parameters
    ----------
    weights : str, default 'cmb'
        Name of weights that come with qsmbids, or the path of a file of your own.

    Returns
    -------
    callable
        ``classify(scene, blobs) -> ndarray of float32, shape (n, 3)``, for
        :func:`qsmbids.core.microbleeds.find_microbleeds`.

    Raises
    ------
    FileError
        If the weights are missing or damaged.
    """
    network, _ = load_weights(shipped(weights))

    def classify(scene, blobs):
        asked, patches, features = candidate_inputs(scene, blobs)
        shares = np.zeros((len(blobs), len(CLASSES)), np.float32)
        shares[:, CLASSES.index('neither')] = 1
        shares[asked] = class_shares(network, patches, features)
        return shares
    return classify


def class_shares(network, patches, features):
    """Return the probabilities of the classes, float32 (n, 3)."""
    shares = np.empty((len(patches), len(CLASSES)), np.float32)
    with torch.inference_mode():
        for begin in range(0, len(patches), BATCH):
            part = slice(begin, begin + BATCH)
            scores = network(torch.from_numpy(patches[part]).float(), torch.from_numpy(features[part]).float())
            shares[part] = torch.softmax(scores, 1).numpy()
    return shares
