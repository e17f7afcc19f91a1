import numpy as np
import pytest

from qsmbids.core import phase as ph


def ramp(turns=1.4, shape=(20, 18, 16)):
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing='ij')
    return ph.wrap(np.pi * turns * (x + 0.7 * y * y - 0.5 * z))


def difference(a, b):
    return np.abs(np.angle(np.exp(1j * (a.astype(float) - b))))


STORED = {
    'radians': (lambda r: r, 'radians'),
    'radians from 0': (lambda r: np.mod(r, 2 * np.pi), 'radians'),
    'siemens': (lambda r: np.clip(np.rint(r * 2048 / np.pi + 2048), 0, 4095), '4096 levels from 0'),
    'siemens slope 2': (lambda r: np.clip(2 * np.rint(r * 2048 / np.pi), -4096, 4094), '8192 levels around 0'),
    'milliradians': (lambda r: np.rint(1000 * r), 'milliradians'),
    '16 bit': (lambda r: np.clip(np.rint(r * 32768 / np.pi), -32768, 32767), '65536 levels around 0'),
}


@pytest.mark.parametrize('name', STORED)
def test_every_full_range_is_known_without_sidecar(name):
    store, rule = STORED[name]
    truth = ramp()
    radians, found, warning = ph.phase_to_radians(store(truth))
    assert (found, warning, radians.dtype) == (rule, None, np.float32)
    assert difference(radians, truth).max() < 2e-3
    assert radians.min() > -np.float32(np.pi) and radians.max() <= np.float32(np.pi)


@pytest.mark.parametrize('name, manufacturer', [('siemens', 'SIEMENS'), ('siemens slope 2', 'Siemens'),
                                                ('milliradians', 'GE MEDICAL SYSTEMS'),
                                                ('radians', 'Philips Medical Systems')])
def test_a_crop_keeps_the_vendors_scale(name, manufacturer):
    store, rule = STORED[name]
    truth = ramp(0.4)[:, :, 4:12] + 0.3
    radians, found, warning = ph.phase_to_radians(store(truth), 'arbitrary', manufacturer)
    assert (found, warning) == (rule, None)
    assert difference(radians, truth).max() < 2e-3


@pytest.mark.parametrize('name', ['siemens', 'milliradians', 'radians'])
def test_a_crop_without_vendor_keeps_its_scale_with_a_warning(name):
    store, rule = STORED[name]
    truth = 0.9 * ramp()
    radians, found, warning = ph.phase_to_radians(store(truth))
    assert found == rule and 'check' in warning
    assert difference(radians, truth).max() < 2e-3


def test_unknown_range_goes_by_its_extremes_with_a_warning():
    radians, rule, warning = ph.phase_to_radians(ramp() * 0.0036743774 / np.pi)
    assert rule == 'min/max' and 'extremes' in warning
    assert difference(radians, ramp()).max() < 5e-3


def test_units_rad_are_trusted_unless_the_values_forbid_it():
    small = 0.01 * ramp()
    assert np.array_equal(ph.phase_to_radians(small, 'rad', 'Siemens')[0], small)
    unwrapped = 12.5 * ramp()
    assert difference(ph.phase_to_radians(unwrapped, 'rad')[0], unwrapped).max() < 1e-5
    radians, rule, warning = ph.phase_to_radians(STORED['siemens'][0](ramp()), 'rad')
    assert rule == '4096 levels from 0' and "'rad'" in warning
    assert difference(radians, ramp()).max() < 2e-3


def test_masked_siemens_phase_does_not_stretch():
    stored = STORED['siemens'][0](0.8 * ramp())
    stored[:5] = 0
    radians, rule, _ = ph.phase_to_radians(stored, None, 'Siemens')
    assert rule == '4096 levels from 0'
    assert difference(radians[5:], 0.8 * ramp()[5:]).max() < 2e-3


@pytest.mark.parametrize('phase, units, match', [
    (np.zeros((0, 3, 3)), None, 'empty'), (np.full((3, 3, 3), 2.), 'rad', 'everywhere'),
    (np.array([[[1., np.nan]]]), None, 'repair'), (ramp(), 'Hz', "'Hz'")])
def test_phase_to_radians_refuses(phase, units, match):
    with pytest.raises(ValueError, match=match):
        ph.phase_to_radians(phase, units)


def test_wrap_is_in_the_half_open_interval_and_congruent():
    values = np.concatenate([np.linspace(-40, 40, 1001), np.pi * np.arange(-9, 10)]).astype(np.float32)
    before = values.copy()
    wrapped = ph.wrap(values)
    assert np.array_equal(values, before)
    assert wrapped.min() > -np.float32(np.pi) and wrapped.max() <= np.float32(np.pi)
    assert difference(wrapped, values).max() < 1e-5


def test_center_frequency_prefers_the_scanners():
    assert ph.center_frequency(3) == pytest.approx(127.731e6)
    assert ph.center_frequency(3, 123.25) == pytest.approx(123.25e6)
    for b0, mhz in ((3, 63.8), (3, np.nan), (0, None), (3, 123.25e6)):
        with pytest.raises(ValueError, match='imaging_frequency_mhz|b0_tesla'):
            ph.center_frequency(b0, mhz)


def test_units_agree_and_return():
    frequency = 123.25e6
    assert ph.hz_to_ppm(123.25, frequency) == pytest.approx(1)
    assert ph.ppm_to_hz(ph.hz_to_ppm(17., frequency), frequency) == pytest.approx(17)
    # One turn over one echo time is one period of the frequency: 100 Hz over 10 ms.
    assert ph.radians_to_ppm(2 * np.pi, 0.01, frequency) == pytest.approx(ph.hz_to_ppm(100, frequency))
    assert ph.ppm_to_radians(ph.radians_to_ppm(1.3, 0.02, frequency), 0.02, frequency) == pytest.approx(1.3)


def test_repair_nonfinite_counts():
    volume = np.array([1, np.nan, -np.inf, 2], np.float32)
    repaired, count = ph.repair_nonfinite(volume)
    assert count == 2 and repaired.tolist() == [1, 0, 0, 2]
    assert np.isnan(volume[1])


def head_signal(snr, gradient, seed=0):
    rng = np.random.default_rng(seed)
    grids = np.meshgrid(*(np.linspace(-1, 1, n) for n in (32, 30, 24)), indexing='ij')
    inside = sum(g ** 2 for g in grids) < 0.7
    phase = 4 * grids[0] * grids[1] + 3 * grids[1] + gradient * np.arange(24)
    noise = rng.standard_normal((2, *inside.shape)) / snr
    signal = inside * np.exp(1j * phase) + noise[0] + 1j * noise[1]
    return np.abs(signal).astype(np.float32), np.angle(signal).astype(np.float32)


@pytest.mark.parametrize('weighted', [True, False])
@pytest.mark.parametrize('snr', [3, 50])
@pytest.mark.parametrize('gradient', [-0.6, 0, 0.6])
def test_alternating_slices_are_found_and_undone(snr, gradient, weighted):
    magnitude, phase = head_signal(snr, gradient)
    shifted = ph.undo_alternating_slices(phase)
    weights = magnitude if weighted else None
    assert ph.has_alternating_slices(shifted, weights) is True
    assert ph.has_alternating_slices(phase, weights) is False
    back = ph.undo_alternating_slices(shifted)
    assert np.ptp(np.mod(difference(back, phase), np.pi)) < 1e-5
    multi = np.stack([shifted, phase], axis=-1)
    assert ph.has_alternating_slices(multi, None if weights is None else np.stack([magnitude] * 2, axis=-1))


def test_noise_and_a_steep_gradient_do_not_alternate():
    noise = np.random.default_rng(1).uniform(-np.pi, np.pi, (24, 24, 24)).astype(np.float32)
    assert not ph.has_alternating_slices(noise)
    for gradient in (1.5, 2.0):
        assert not ph.has_alternating_slices(head_signal(20, gradient)[1])


def test_complex_to_polar():
    real, imaginary = np.array([[3., -1, 0]]), np.array([[4., -0., 0]])
    magnitude, phase = ph.complex_to_polar(real, imaginary)
    assert magnitude.tolist() == [[5, 1, 0]]
    assert phase[0] == pytest.approx([np.arctan2(4, 3), np.pi, 0])
    with pytest.raises(ValueError, match=r'\(1, 3\).*\(1, 2\)'):
        ph.complex_to_polar(real, imaginary[:, :2])
