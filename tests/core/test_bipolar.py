import numpy as np
import pytest

from qsmbids.core.bipolar import correct_bipolar, find_alternation
from qsmbids.core.fieldmap import total_field
from qsmbids.core.phase import ppm_to_hz, wrap

SHAPE = (40, 34, 29)
ECHO_TIMES = np.array([0.005, 0.010, 0.015, 0.020])
FREQUENCY = 123.25e6


def scan(constant=0., slope=(0., 0., 0.), *, snr=40, echo_times=ECHO_TIMES):
    """Phase, magnitude, mask and field in Hz of a ball in a curved field, with an alternating phase and an offset."""
    x, y, z = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE), indexing='ij')
    mask = (x / 18) ** 2 + (y / 15) ** 2 + (z / 13) ** 2 < 1
    field = 0.1 * x * y - 0.2 * z ** 2 + 2 * y + 10
    sign = np.array([1, -1] * 4)[:len(echo_times)]
    alternating = constant + slope[0] * x + slope[1] * y + slope[2] * z
    angle = 2 * np.pi * field[..., None] * echo_times + sign * alternating[..., None] + (0.3 + 0.02 * x)[..., None]
    rng = np.random.default_rng(0)
    signal = np.exp(1j * angle - 30 * echo_times) * mask[..., None]
    signal += (rng.standard_normal(signal.shape) + 1j * rng.standard_normal(signal.shape)) / snr
    return np.angle(signal).astype(np.float32), np.abs(signal).astype(np.float32), mask, field


@pytest.mark.parametrize('constant, slope', [(0.2, (0.05, 0., 0.)), (-0.6, (0., -0.3, 0.02)), (0.1, (0., 0., 0.))])
@pytest.mark.parametrize('echo_times', [ECHO_TIMES, ECHO_TIMES[:3]])
def test_constant_and_slopes_are_found(constant, slope, echo_times):
    phase, magnitude, mask, _ = scan(constant, slope, echo_times=echo_times)
    found = find_alternation(phase, magnitude, mask, echo_times)
    assert found.constant == pytest.approx(constant, abs=2e-3)
    assert found.slope == pytest.approx(slope, abs=3e-4)


def test_correction_undoes_the_alternation_and_leaves_the_input():
    phase, magnitude, mask, _ = scan(0.2, (0.05, 0., 0.01), snr=1e6)
    before = phase.copy()
    corrected, found = correct_bipolar(phase, magnitude, mask, ECHO_TIMES)
    assert np.array_equal(phase, before) and found.rms > 0.2 and 'bipolar' in found.note
    expected = scan(snr=1e6)[0]
    assert np.abs(wrap(corrected - expected))[mask].max() < 2e-3


@pytest.mark.parametrize('slope', [(0.04, 0., 0.), (0., 0.02, 0.01)])
def test_field_is_unbiased_afterwards(slope):
    errors = {}
    for bipolar in ('no', 'auto', 'yes'):
        phase, magnitude, mask, field = scan(0.3, slope)
        result = total_field(phase, magnitude, ECHO_TIMES, mask, (4, 4, 4), FREQUENCY, bipolar=bipolar)
        errors[bipolar] = (ppm_to_hz(result.field, FREQUENCY) - field)[mask]
        assert bool(result.notes) == (bipolar != 'no')
    clean = scan()
    unipolar = total_field(*clean[:2], ECHO_TIMES, clean[2], (4, 4, 4), FREQUENCY)
    spread = (ppm_to_hz(unipolar.field, FREQUENCY) - clean[3])[clean[2]].std()
    assert not unipolar.notes
    assert abs(errors['no'].mean()) > 1
    for bipolar in ('auto', 'yes'):
        assert abs(errors[bipolar].mean()) < 0.1 and errors[bipolar].std() < 1.1 * spread


def test_a_unipolar_readout_is_left_alone():
    phase, magnitude, mask, _ = scan()
    corrected, found = correct_bipolar(phase, magnitude, mask, ECHO_TIMES)
    assert found is None and np.array_equal(corrected, phase)


def test_two_echoes_uneven_echoes_and_noise_show_nothing():
    phase, magnitude, mask, _ = scan(0.3)
    assert find_alternation(phase[..., :2], magnitude[..., :2], mask, ECHO_TIMES[:2]) is None
    assert find_alternation(phase, magnitude, mask, (0.005, 0.010, 0.0165, 0.020)) is None
    noise = np.random.default_rng(1).uniform(-np.pi, np.pi, phase.shape).astype(np.float32)
    assert find_alternation(noise, magnitude, mask, ECHO_TIMES) is None
    with pytest.raises(ValueError, match="bipolar is 'yes'"):
        correct_bipolar(phase[..., :2], magnitude[..., :2], mask, ECHO_TIMES[:2], 'yes')
    with pytest.raises(ValueError, match="bipolar is 'maybe'"):
        correct_bipolar(phase, magnitude, mask, ECHO_TIMES, 'maybe')
