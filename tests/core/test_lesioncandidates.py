import numpy as np
import pytest

from qsmbids.core.lesioncandidates import Scene, find_candidates

SHAPE, STEPS = (44, 42, 40), (1., 1., 1.)
BLEED, STONE = (14, 20, 20), (30, 20, 20)


@pytest.fixture(scope='module')
def volumes(paint):
    rng = np.random.default_rng(0)
    mask = paint(SHAPE, (22, 21, 20), 18.) > .5
    balls = paint(SHAPE, BLEED, 2.), paint(SHAPE, STONE, 2.)
    chi = rng.normal(0, .02, SHAPE) + .8 * balls[0] - .8 * balls[1]
    r2star = rng.normal(20, 2, SHAPE) + 110 * sum(balls)
    return (chi * mask).astype(np.float32), mask, (r2star * mask).astype(np.float32)


def strongest(blobs):
    return {(blob.source, blob.sign): blob for blob in reversed(blobs)}


def test_bright_and_dark_blobs_are_where_they_are(volumes):
    chi, mask, r2star = volumes
    scene = Scene.of(chi, mask, STEPS, r2star)
    found = strongest(find_candidates(scene))
    start = [side.start for side in scene.grid.box]
    for sign, centre in ((1, BLEED), (-1, STONE)):
        blob = found['chi', sign]
        assert np.allclose(blob.centre + start, centre, atol=.3) and blob.contrast == pytest.approx(.8, abs=.1)
        assert blob.decay > 60 and blob.known == 1
    assert ('void', 1) not in found


def test_any_zero_and_any_amplitude_of_the_map_is_seen_alike(volumes):
    chi, mask, _ = volumes
    scene = Scene.of(chi, mask, STEPS)
    other = Scene.of((1.3 * chi + .07) * mask, mask, STEPS)
    assert other.amplitude == pytest.approx(1.3 * scene.amplitude, rel=1e-3)
    assert other.zero == pytest.approx(1.3 * scene.zero + .07, abs=1e-4)
    first, second = (find_candidates(each) for each in (scene, other))
    assert len(first) == len(second)
    assert all(np.array_equal(a.seed, b.seed) and b.contrast == pytest.approx(1.3 * a.contrast, rel=.01)
               for a, b in zip(first, second))


def test_what_the_map_does_not_hold_is_looked_for_in_r2star(volumes):
    chi, mask, r2star = volumes
    there = mask.copy()
    there[11:18, 17:24, 17:24] = False
    found = strongest(find_candidates(Scene.of(chi * there, mask, STEPS, r2star)))
    assert found['void', 1].known < .6
    blind = strongest(find_candidates(Scene.of(chi * there, mask, STEPS)))
    assert blind['void', 1].decay is None and np.allclose(blind['void', 1].centre, found['void', 1].centre, atol=1)
    alone = strongest(find_candidates(Scene.of(None, mask, STEPS, r2star)))
    assert set(alone) == {('darkness', 1)}


def test_a_map_of_zeros_is_refused(volumes):
    with pytest.raises(ValueError, match='zero or not finite'):
        Scene.of(np.zeros(SHAPE), volumes[1], STEPS)
