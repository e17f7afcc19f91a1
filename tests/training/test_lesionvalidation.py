"""Scores fitted to frequencies, and what counts as a detection."""

import numpy as np
import torch
from torch import nn

from qsmbids.networks.lesionnet import CLASSES, FEATURES
from qsmbids.training.lesionstream import UNCLEAR
from qsmbids.training.lesionvalidation import LesionValidationSet, calibrate, detections


class Shouter(nn.Module):
    """Sure of itself: its scores are ten times what the first features say."""

    def __init__(self):
        super().__init__()
        self.register_buffer('sharpness', torch.ones(()))
        self.register_buffer('prior', torch.zeros(len(CLASSES)))

    def forward(self, patches, features):
        return 10 * features[:, :len(CLASSES)] * self.sharpness + self.prior


def look(count, seed=0, bleeds=((0., 0, 0, 1, .5),)):
    """Candidates whose class is drawn with the probabilities that their features say."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (count, len(FEATURES))).astype(np.float32)
    shares = np.exp(features[:, :3]) / np.exp(features[:, :3]).sum(axis=1, keepdims=True)
    classes = np.array([rng.choice(3, p=share / share.sum()) for share in shares], np.int8)
    return {'patches': np.zeros((count, 1), np.float16), 'features': features, 'classes': classes,
            'places': rng.uniform(10, 50, (count, 3)), 'bleeds': np.reshape(bleeds, (-1, 5))}


def test_calibrated_probabilities_are_frequencies():
    network = Shouter()
    calibrate(network, [look(3000)])
    assert abs(float(network.sharpness) - .1) < .01 and network.prior.abs().max() < .1


def test_detections_are_bright_and_matched_one_to_one():
    candidates = look(5)
    candidates['features'][:, FEATURES.index('sign')] = [1, 1, -1, 1, 1]
    candidates['places'][:3] = 0, 0, .5
    candidates['places'][4] = 1, 0, 0
    candidates['classes'] = np.array([0, 2, 2, UNCLEAR, UNCLEAR], np.int8)
    shares = np.tile([.9, .05, .05], (5, 1))
    found = detections(candidates, shares)
    # The dark one and the unclear one far off do not count; the two beside the found lesion are false.
    assert found.lesions == 1 and found.hits.sum() == 1 and len(found.hits) == 3


def test_the_score_falls_as_more_is_found(monkeypatch):
    validation = LesionValidationSet.__new__(LesionValidationSet)
    right = look(400)
    right['features'][:, FEATURES.index('sign')] = 1
    right['places'][right['classes'] == 0] = np.arange(3 * (right['classes'] == 0).sum()).reshape(-1, 3) + 100
    right['bleeds'] = np.column_stack([right['places'][right['classes'] == 0],
                                       np.ones(((right['classes'] == 0).sum(), 2))])
    right['features'][:, :3] = np.eye(3)[right['classes']] + np.random.default_rng(1).normal(0, .05, (400, 3))
    right['features'][:, FEATURES.index('sign')] = np.abs(right['features'][:, 0])
    validation.looks = [right]
    good = validation.score(Shouter())
    validation.looks = [right | {'bleeds': np.vstack([right['bleeds'], right['bleeds'] + (500, 0, 0, 0, 0)])}]
    worse = validation.score(Shouter())
    assert good['sensitivity'] > .9 and good['score'] < .1 and worse['score'] > .4
