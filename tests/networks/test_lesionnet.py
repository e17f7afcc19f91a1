"""The network that judges candidates of lesions, and what it is given."""

import numpy as np
import pytest
import torch

from qsmbids.core.lesioncandidates import Scene, find_candidates
from qsmbids.networks.lesionnet import (CHANNELS, CLASSES, FEATURES, LINEAR, PATCH, LesionNetwork, candidate_inputs,
                                        worth_asking)

SHAPE, STEPS = (40, 38, 36), (1., 1., 1.)


@pytest.fixture(scope='module')
def scene():
    """A round brain with a bright and a dark ball, one of them at its edge, and R2* with a void beside."""
    rng = np.random.default_rng(1)
    grids = np.ogrid[tuple(map(slice, SHAPE))]

    def ball(centre, radius):
        return np.clip(radius + .5 - np.sqrt(sum((g - c) ** 2 for g, c in zip(grids, centre))), 0, 1)
    brain = ball((20, 19, 18), 15) > .5
    balls = ball((14, 19, 18), 2), ball((31, 19, 18), 2)
    chi = (rng.normal(0, .02, SHAPE) + .8 * balls[0] - .6 * balls[1]) * brain
    known = brain & (ball((20, 28, 18), 3) == 0)
    r2star = (20 + 90 * ball((20, 28, 18), 3) + rng.normal(0, 1, SHAPE)) * brain
    return Scene.of((chi * known).astype(np.float32), brain, STEPS, r2star.astype(np.float32))


def test_patches_hold_what_lies_around_each_candidate(scene):
    blobs = find_candidates(scene)
    asked, patches, features = candidate_inputs(scene, blobs)
    assert len(asked) == len(blobs) and asked.any() and not asked.all()
    blobs = [blob for blob, ask in zip(blobs, asked) if ask]
    assert patches.shape == (len(blobs), len(CHANNELS), PATCH, PATCH, PATCH) and patches.dtype == np.float32
    middle = patches[:, :, PATCH // 2, PATCH // 2, PATCH // 2]
    chi, dark, known, brain = middle.T
    for number, blob in enumerate(blobs):
        at = tuple(np.rint(blob.centre).astype(int))
        assert np.sinh(chi[number]) * LINEAR * scene.amplitude == pytest.approx(scene.chi[at], abs=1e-5)
        assert np.sinh(dark[number]) * LINEAR == pytest.approx(scene.dark[at], abs=1e-5)
        assert (known[number], brain[number]) == (scene.known[at], scene.brain[at])
    seen = {(blob.source, blob.sign) for blob in blobs}
    assert seen == {('chi', 1), ('chi', -1), ('void', 1)}
    assert np.isfinite(features).all() and np.abs(features).max() < 3


def test_beyond_the_volume_there_is_nothing(scene):
    blob = find_candidates(scene)[0]
    corner = type(blob)(**{**vars(blob), 'centre': np.zeros(3)})
    patch = candidate_inputs(scene, [corner])[1][0]
    half = PATCH // 2
    assert not patch[:, :half].any() and not patch[:, :, :half].any() and not patch[..., :half].any()
    assert np.allclose(patch[CHANNELS.index('brain'), half:, half:, half:], scene.brain[:half, :half, :half])


def test_amplitude_and_reference_of_the_map_do_not_matter(scene):
    brain = np.pad(scene.brain, 8)
    chi, known = (np.pad(volume, 8) for volume in (scene.chi, scene.known))
    made = [Scene.of(np.where(known, factor * chi + offset, 0), brain, STEPS)
            for factor, offset in ((1, .01), (1.4, .1))]
    (_, first, told), (_, second, retold) = (candidate_inputs(each, find_candidates(each)) for each in made)
    assert np.allclose(first, second, atol=2e-3) and np.allclose(told, retold, atol=2e-2)


def test_no_candidates_are_no_rows(scene):
    asked, patches, features = candidate_inputs(scene, [])
    assert len(asked) == patches.shape[0] == 0 and features.shape == (0, len(FEATURES))


def test_faint_flat_and_outermost_candidates_are_not_asked_about(scene):
    blob = find_candidates(scene)[0]
    assert worth_asking([blob], scene.amplitude).all()
    for changed in ({'contrast': .05 * scene.amplitude}, {'blobness': .1}, {'edge': .5}):
        assert not worth_asking([type(blob)(**vars(blob) | changed)], scene.amplitude).any()
    small = vars(blob) | {'source': 'void', 'diameter': 1.5}
    assert not worth_asking([type(blob)(**small)], scene.amplitude).any()


def test_scores_are_shifted_and_sharpened_as_the_calibration_says():
    torch.manual_seed(0)
    network = LesionNetwork(4).eval()
    inputs = torch.randn(3, len(CHANNELS), PATCH, PATCH, PATCH), torch.randn(3, len(FEATURES))
    with torch.inference_mode():
        before = network(*inputs)
        network.sharpness.fill_(2)
        network.prior.copy_(torch.tensor([1., 0, -1]))
        assert torch.allclose(network(*inputs), 2 * before + torch.tensor([1., 0, -1]))
    assert before.shape == (3, len(CLASSES))
