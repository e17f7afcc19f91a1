"""What the network of the brain mask is given, and that its transformer sees all of it."""

import numpy as np
import pytest
import torch

from qsmbids.networks.unetr import CHANNELS, CLIP, UNETR, MaskUNet, mask_inputs, training_inputs

TINY = {'width': 4, 'tokens': 12, 'layers': 3, 'heads': 2}


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    magnitude = rng.uniform(.5, 1, (24, 32, 24)).astype(np.float32)
    seen = np.ones(magnitude.shape, bool)
    seen[:5] = False
    return magnitude, seen


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = UNETR(**TINY)
    torch.nn.init.normal_(network.last.weight)
    return network


def test_neither_amplitude_nor_what_lies_beyond_the_field_of_view_counts(scene):
    magnitude, seen = scene
    inputs = mask_inputs(magnitude, seen)
    assert inputs.shape == (len(CHANNELS), *magnitude.shape) and inputs.max() <= CLIP
    assert np.allclose(inputs, mask_inputs(1e4 * magnitude, seen), rtol=1e-4)
    assert np.allclose(inputs, mask_inputs(np.where(seen, magnitude, 50), seen))
    assert not inputs[:, ~seen].any() and np.array_equal(inputs[CHANNELS.index('seen')], seen)


def test_flattened_magnitude_is_free_of_slow_shading():
    even = np.ones((60, 60, 60), np.float32)
    shading = np.exp(np.linspace(-1, 1, 60, dtype=np.float32))[:, None, None]
    seen = np.ones(even.shape, bool)
    scaled, flattened, _ = mask_inputs(even * shading, seen)[:, 8:-8, 30, 30]
    assert np.ptp(flattened) < .4 * np.ptp(scaled / scaled.mean())


def test_nothing_seen_is_no_error():
    assert not mask_inputs(np.zeros((8, 8, 8), np.float32), np.zeros((8, 8, 8), bool)).any()


@pytest.mark.parametrize('kind', [lambda: UNETR(**TINY), lambda: MaskUNet(4)])
def test_any_size_and_nothing_known_before_training(kind):
    scores = kind()(torch.randn(1, len(CHANNELS), 17, 24, 30))
    assert scores.shape == (1, 1, 17, 24, 30) and scores.dtype == torch.float32 and not scores.any()


def test_all_of_it_learns(network, scene):
    batch = {'magnitude': scene[0][None].astype(np.float16), 'seen': scene[1][None],
             'share': np.ones((1, *scene[0].shape), np.float16)}
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
