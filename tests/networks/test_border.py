"""What the network of the brain's border is given, and that it starts with the first mask."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from qsmbids.networks.border import BAND, FEATURES, LARGEST, BorderNetwork, border_features, find_border

SHAPE = (32, 36, 30)


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    places = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in SHAPE], indexing='ij', sparse=True)
    away = np.sqrt(sum((p / a) ** 2 for p, a in zip(places, (10, 12, 9))))
    magnitude = (np.where(away < .9, 1, np.where(away < 1.1, .4, .8)) + .02 * rng.standard_normal(SHAPE))
    seen = np.ones(SHAPE, bool)
    seen[:4] = False
    return magnitude.astype(np.float32), seen, (away < 1).astype(np.float32)


def features(magnitude, seen, surface):
    border = find_border(magnitude, seen, surface)
    return border, border_features(border, border.places)


def test_neither_amplitude_nor_what_lies_beyond_the_field_of_view_counts(scene):
    magnitude, seen, surface = scene
    _, found = features(*scene)
    assert found.shape[1] == FEATURES and np.isfinite(found).all() and abs(found).max() <= LARGEST
    assert np.allclose(found, features(1e4 * magnitude, seen, surface)[1], atol=2e-3)
    assert np.allclose(found, features(np.where(seen, magnitude, 50), seen, surface)[1], atol=1e-4)


def test_voxels_near_the_border_are_judged_and_first_scores_say_what_the_mask_does(scene):
    border, _ = features(*scene)
    inside = scene[2][tuple(border.places)] > 0
    near = ndimage.binary_dilation(scene[2] > 0) & ~ndimage.binary_erosion(scene[2] > 0) & scene[1]
    assert near[tuple(border.places)].sum() == near.sum() and scene[1][tuple(border.places)].all()
    assert np.array_equal(border.first_scores(border.places) > 0, inside)
    assert abs(border.depth[tuple(border.places)]).max() <= BAND
    deeper = np.argsort(border.depth[tuple(border.places)])
    assert np.corrcoef(np.arange(len(deeper)), border.first_scores(border.places)[deeper])[0, 1] > .9


def test_the_way_through_the_border_leads_from_the_dark_to_the_brain(scene):
    border, found = features(*scene)
    way = np.median(found[:, :13], axis=0)
    assert way[12] > .9 and way[6] < .75 and np.argmin(way) in (5, 6)
    assert np.allclose(np.median(found[:, 13:26], axis=0), way, atol=.25)


def test_before_training_the_first_mask_is_kept_and_far_from_its_border_always(scene):
    network = BorderNetwork(8)
    assert np.array_equal(network.find(*scene) > .5, scene[2] > .5)
    torch.nn.init.constant_(network.layers[-1].bias, 100.)
    inside, grown = scene[2] > .5, network.find(*scene) > .5
    assert grown[inside].all() and (grown & ~inside).any()
    # By one voxel at most.
    assert not (grown & ~ndimage.binary_dilation(inside, np.ones((3, 3, 3)))).any()
    torch.nn.init.constant_(network.layers[-1].bias, -100.)
    shrunk = network.find(*scene) > .5
    depth = ndimage.distance_transform_edt(inside)
    assert not shrunk[depth < BAND].any() and shrunk[depth > BAND + 1].all()


def test_all_of_it_learns(scene):
    border, found = features(*scene)
    network = BorderNetwork(8)
    torch.nn.init.normal_(network.layers[-1].weight)
    inputs, share, _ = network.prepare({'features': found, 'first': border.first_scores(border.places),
                                        'share': np.ones(len(found))}, 'cpu')
    (network(**inputs) - share).square().mean().backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


def test_a_mask_of_everything_is_no_error():
    everything = np.ones((8, 9, 10), np.float32)
    assert (BorderNetwork(8).find(everything, everything > 0, everything) > .5).all()
