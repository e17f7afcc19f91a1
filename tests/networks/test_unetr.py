"""What the network of the brain mask is given, that its transformer sees all of it, and that it starts as it is told."""

import numpy as np
import pytest
import torch

from qsmbids.networks.unetr import (CHANNELS, CLIP, SURE, UNETR, MaskUNet, cut_window, mask_inputs, put_window,
                                    training_inputs, window_around)

TINY = {'width': 4, 'tokens': 12, 'layers': 3, 'heads': 2}


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    magnitude = rng.uniform(.5, 1, (24, 32, 24)).astype(np.float32)
    seen = np.ones(magnitude.shape, bool)
    seen[:5] = False
    surface = np.zeros(magnitude.shape, np.float32)
    surface[8:18, 8:26, 6:20] = 1
    return magnitude, seen, surface


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = UNETR(**TINY)
    torch.nn.init.normal_(network.last.weight)
    return network


def test_neither_amplitude_nor_what_lies_beyond_the_field_of_view_counts(scene):
    magnitude, seen, surface = scene
    inputs = mask_inputs(magnitude, seen, surface)
    assert inputs.shape == (len(CHANNELS), *magnitude.shape) and inputs.max() <= CLIP
    assert np.allclose(inputs, mask_inputs(1e4 * magnitude, seen, surface), rtol=1e-4)
    assert np.allclose(inputs, mask_inputs(np.where(seen, magnitude, 50), seen, surface))
    assert not inputs[:3, ~seen].any() and np.array_equal(inputs[CHANNELS.index('seen')], seen)


def test_the_first_mask_is_told_with_its_depth(scene):
    soft, depth = mask_inputs(*scene)[3:]
    inside = scene[2] > 0
    assert np.array_equal(soft > .5, inside) and np.array_equal(depth > 0, inside)
    assert depth[13, 17, 13] == depth.max() and depth.min() == -1


def test_flattened_magnitude_is_free_of_slow_shading():
    even = np.ones((60, 60, 60), np.float32)
    shading = np.exp(np.linspace(-1, 1, 60, dtype=np.float32))[:, None, None]
    seen = np.ones(even.shape, bool)
    scaled, flattened = mask_inputs(even * shading, seen, even)[:2, 8:-8, 30, 30]
    assert np.ptp(flattened) < .4 * np.ptp(scaled / scaled.mean())


def test_nothing_seen_is_no_error():
    nothing = np.zeros((8, 8, 8), np.float32)
    inputs = mask_inputs(nothing, nothing > 0, nothing)
    assert np.isfinite(inputs).all() and not inputs[:4].any()


@pytest.mark.parametrize('kind', [lambda: UNETR(**TINY), lambda: MaskUNet(4)])
def test_any_size_and_the_first_mask_is_kept_before_training(kind, scene):
    magnitude, seen, surface = (np.pad(volume, ((0, 0), (0, 1), (0, 6))) for volume in scene)
    scores = kind()(torch.from_numpy(mask_inputs(magnitude, seen, surface))[None]).detach()
    assert scores.shape == (1, 1, 24, 33, 30) and scores.dtype == torch.float32
    assert np.array_equal(scores[0, 0] > 0, surface > .5)
    assert (scores[0, 0, 5:12, 17, 13].diff() > 0).all() and scores.abs().max() == SURE


def test_all_of_it_learns(network, scene):
    batch = {'magnitude': scene[0][None].astype(np.float16), 'seen': scene[1][None],
             'share': np.ones((1, *scene[0].shape), np.float16), 'surface': scene[2][None] > 0}
    inputs, share, seen = training_inputs(batch, 'cpu')
    assert share.shape == seen.shape == (1, 1, *scene[0].shape)
    for block in network.modules():
        if hasattr(block, 'second'):  # starts as nothing
            torch.nn.init.normal_(block.second.weight, std=.1)
    (network(**inputs) * share).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_what_happens_far_away_is_seen(network):
    volumes = torch.randn(1, len(CHANNELS), 48, 24, 24)
    changed = volumes.clone()
    changed[..., :4] += 3
    changed[:, :, 8:] = volumes[:, :, 8:]
    with torch.inference_mode():
        difference = (network(changed) - network(volumes)).abs()
    assert difference[:, :, 40:].max() > 1e-4


@pytest.mark.parametrize('low, high', [((2, 3, 4), (9, 9, 9)), ((0, 0, 0), (20, 12, 3))])
def test_a_window_holds_the_first_mask_with_its_surroundings_and_is_put_back(low, high):
    surface = np.zeros((20, 16, 12), bool)
    surface[tuple(slice(*ends) for ends in zip(low, high))] = True
    first, size = window_around(surface, (8, 8, 8), 2)
    assert (size >= 8).all() and (size >= np.subtract(high, low) + 4).all()
    assert (first <= np.subtract(low, 2)).all() and (first + size >= np.add(high, 2)).all()
    values = np.random.default_rng(0).standard_normal(surface.shape)
    part = cut_window(values, first, size)
    assert part.shape == tuple(size) and part[tuple(np.subtract(low, first))] == values[low]
    back = put_window(part, first, surface.shape)
    assert np.array_equal(back[surface], values[surface]) and np.array_equal(cut_window(back, first, size), part)
