import numpy as np
import pytest

from qsmbids.core.certainty import field_weight, noise_level, residual_weight
from qsmbids.core.fieldmap import fit_field_linear, fit_field_nonlinear

ECHO_TIMES = np.array([0.004, 0.009, 0.016])
SHAPE = (20, 20, 20)


def scan(sd, seed=0):
    """Magnitude from 0.5 to 1.5 along x, a field of 40 rad/s, noise; the field's error too."""
    rng = np.random.default_rng(seed)
    magnitude = np.broadcast_to(np.linspace(0.5, 1.5, SHAPE[0])[:, None, None, None], (*SHAPE, 3))
    signal = magnitude * np.exp(40j * ECHO_TIMES)
    signal = signal + sd * (rng.standard_normal(signal.shape) + 1j * rng.standard_normal(signal.shape))
    phase, magnitude = np.angle(signal).astype(np.float32), np.abs(signal).astype(np.float32)
    mask = np.ones(SHAPE, bool)
    initial = fit_field_linear(phase, magnitude, ECHO_TIMES, mask)
    field, residual = fit_field_nonlinear(phase, magnitude, ECHO_TIMES, mask, initial)
    return magnitude, residual, mask, field - 40


@pytest.mark.parametrize('sd', [0.01, 0.03])
def test_noise_level_is_the_noise(sd):
    magnitude, residual, mask, _ = scan(sd)
    assert noise_level(magnitude, residual, mask) == pytest.approx(sd, rel=0.05)
    assert noise_level(1000 * magnitude, residual, mask) == pytest.approx(1000 * sd, rel=0.05)


def test_weight_is_inverse_to_the_error_of_the_field_up_to_the_median():
    magnitude, residual, mask, error = scan(0.02)
    weight = field_weight(magnitude, np.zeros_like(residual), ECHO_TIMES, mask)
    spread = error.std(axis=(1, 2))
    expected = np.minimum(np.median(spread) / spread, 1)
    assert weight.mean(axis=(1, 2)) == pytest.approx(expected, rel=0.15)
    assert weight.dtype == np.float32 and weight.min() > 0 and weight.max() == 1


def test_weight_mistrusts_voxels_whose_echoes_disagree():
    magnitude, residual, mask, _ = scan(0.02)
    before = field_weight(magnitude, residual, ECHO_TIMES, mask)
    residual[15, 4, 4] = 0.5
    magnitude[2, 3, 4] = 0
    after = field_weight(magnitude, residual, ECHO_TIMES, mask)
    assert after[15, 4, 4] < 0.1 * before[15, 4, 4] and after[2, 3, 4] == 0
    rest = np.ones(SHAPE, bool)
    rest[15, 4, 4] = rest[2, 3, 4] = False
    assert after[rest] == pytest.approx(before[rest], rel=1e-2)


def test_one_echo_and_a_mask():
    magnitude, residual, mask, _ = scan(0.02)
    mask[:5] = False
    assert noise_level(magnitude[..., :1], residual, mask) == 0
    weight = field_weight(magnitude[..., :1], 0 * residual, (0.01,), mask)
    assert not weight[:5].any() and weight[5:].min() > 0.3


def test_bad_input_is_named():
    magnitude, residual, mask, _ = scan(0.02)
    with pytest.raises(ValueError, match='residual'):
        field_weight(magnitude, residual[1:], ECHO_TIMES, mask)
    with pytest.raises(ValueError, match='magnitude is zero'):
        field_weight(0 * magnitude, residual, ECHO_TIMES, mask)


def test_a_residual_from_the_threshold_on_weighs_nothing():
    residual = np.array([0, .15, .3, .9, 0], np.float32).reshape(1, 1, 5)
    mask = np.array([1, 1, 1, 1, 0], bool).reshape(1, 1, 5)
    assert residual_weight(residual, mask, .3).ravel() == pytest.approx([1, .5, 0, 0, 0])
    with pytest.raises(ValueError, match='^threshold'):
        residual_weight(residual, mask, 0)
    with pytest.raises(ValueError, match='^residual'):
        residual_weight(residual[..., :3], mask)
