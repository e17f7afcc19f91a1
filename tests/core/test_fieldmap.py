import numpy as np
import pytest

from qsmbids.core.fieldmap import (complex_residual, fit_field_linear, fit_field_nonlinear, phase_offset_mcpc3ds,
                                   remove_phase_offset, total_field)
from qsmbids.core.phase import ppm_to_hz
from qsmbids.core.threads import use_threads

FREQUENCY = 123.25e6
VOXEL_SIZE = (3.6, 3.6, 4.2)
TRAINS = [(0.004, 0.008, 0.012, 0.016, 0.020), (0.00239, 0.00492), (0.005, 0.009, 0.0135)]


class Head:
    """A simulated multi-echo scan: 200 Hz of background with a steep source, a coil's offset, and T2* decay."""

    def __init__(self, echo_times, snr=np.inf, shape=(48, 55, 38), shift=0., seed=0):
        rng = np.random.default_rng(seed)
        times = np.asarray(echo_times)
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing='ij')
        radius = x ** 2 / 0.7 + y ** 2 / 0.9 + z ** 2 / 0.6
        self.mask = (radius < 1) & (x ** 2 + (y - 0.1) ** 2 + z ** 2 > 0.02)
        source = np.exp(-(x ** 2 + (y - 0.7) ** 2 + (z + 0.5) ** 2) / 0.08)
        self.field = 60 * (x * y + z ** 2) + 25 * y + 200 * source - 40 + shift
        self.offset = 1 + x - 1.5 * y + 0.8 * z + 0.5 * x * x - 0.7 * y * z
        decay = np.exp(-30 * times) * ((1 - 0.3 * radius) * self.mask)[..., None]
        signal = decay * np.exp(1j * (2 * np.pi * self.field[..., None] * times + self.offset[..., None]))
        if np.isfinite(snr):
            signal += (rng.standard_normal(signal.shape) + 1j * rng.standard_normal(signal.shape)) / snr
            with np.errstate(divide='ignore'):
                # Cramer-Rao: the phase has the SD 1 / (snr m), and the slope is all there is to estimate.
                self.sd = 1 / (2 * np.pi * snr * np.sqrt((decay ** 2 * times ** 2).sum(axis=-1)))
        self.phase, self.magnitude = np.angle(signal).astype(np.float32), np.abs(signal).astype(np.float32)
        self.echo_times = echo_times

    def total_field(self, **settings):
        return total_field(self.phase, self.magnitude, self.echo_times, self.mask, VOXEL_SIZE, FREQUENCY, **settings)

    def error(self, result):
        """Hz, in the mask."""
        return ppm_to_hz(result.field, FREQUENCY)[self.mask] - self.field[self.mask]


@pytest.mark.parametrize('fit', ['nonlinear', 'linear'])
@pytest.mark.parametrize('echo_times', TRAINS)
def test_noiseless_field_is_exact(echo_times, fit):
    head = Head(echo_times)
    before = head.phase.copy(), head.magnitude.copy()
    result = head.total_field(fit=fit)
    assert np.abs(head.error(result)).max() < 0.1
    assert result.residual.max() < 2e-3
    assert np.array_equal(head.phase, before[0]) and np.array_equal(head.magnitude, before[1])
    for volume in (result.field, result.residual, result.quality, result.unwrapped, result.offset):
        assert volume.dtype == np.float32 and not volume[~head.mask].any()


@pytest.mark.parametrize('snr', [20, 40])
@pytest.mark.parametrize('echo_times', TRAINS)
def test_noisy_field_is_unbiased_and_near_the_cramer_rao_bound(echo_times, snr):
    head = Head(echo_times, snr)
    result = head.total_field()
    error = head.error(result) / head.sd[head.mask]
    assert np.abs(error).max() < 8
    assert abs(error.mean()) < 0.05
    assert 0.95 < error.std() < 1.2


def test_uneven_echoes_find_a_center_frequency_that_is_far_off():
    # Half a turn over the first spacing is 125 Hz; only the third echo can tell 190 Hz from -60 Hz.
    head = Head((0.005, 0.009, 0.0135), 40, shift=190)
    assert np.abs(head.error(head.total_field())).max() < 20


def test_even_echoes_take_the_field_closest_to_zero():
    head = Head((0.004, 0.008, 0.012), 40, shift=250)
    assert head.error(head.total_field()) == pytest.approx(-250, abs=20)


def test_nonlinear_fit_survives_a_whole_turn_in_one_echo():
    head = Head(TRAINS[0], 20)
    times = np.asarray(TRAINS[0])
    phase = remove_phase_offset(head.phase, head.offset.astype(np.float32))
    truth = 2 * np.pi * head.field
    initial = (truth + 40).astype(np.float32)
    field, _ = fit_field_nonlinear(phase, head.magnitude, times, head.mask, initial)
    error = (field - truth)[head.mask] / (2 * np.pi * head.sd[head.mask])
    assert abs(error.mean()) < 0.05 and 0.95 < error.std() < 1.05


def test_nonlinear_fit_keeps_its_start_rather_than_change_the_branch():
    rng = np.random.default_rng(3)
    mask = np.ones((12, 12, 12), bool)
    times = (0.004, 0.009, 0.016)
    phase = rng.uniform(-np.pi, np.pi, mask.shape + (3,)).astype(np.float32)
    initial = rng.uniform(-900, 900, mask.shape).astype(np.float32)
    field, residual = fit_field_nonlinear(phase, None, times, mask, initial)
    assert np.abs(field - initial).max() <= np.pi / 0.007
    assert residual.min() >= 0 and residual.max() <= 2
    assert np.all(residual <= complex_residual(phase, None, times, mask, initial) + 1e-5)


def test_linear_fit_is_least_squares():
    rng = np.random.default_rng(4)
    times = np.array([0.004, 0.009, 0.016])
    unwrapped, magnitude = rng.uniform(1, 3, (2, 2, 3, 4, 3)).astype(np.float32)
    field = fit_field_linear(unwrapped, magnitude, times, np.ones((2, 3, 4), bool))
    voxel = np.linalg.lstsq((magnitude[1, 2, 3] * times)[:, None], magnitude[1, 2, 3] * unwrapped[1, 2, 3], rcond=None)
    assert field[1, 2, 3] == pytest.approx(voxel[0][0], rel=1e-5)


def test_residual_is_the_relative_misfit():
    head = Head(TRAINS[0])
    phase = remove_phase_offset(head.phase, head.offset.astype(np.float32))
    field = (2 * np.pi * head.field).astype(np.float32)
    assert complex_residual(phase, None, TRAINS[0], head.mask, field).max() < 1e-3
    opposite = complex_residual(phase + np.float32(np.pi), head.magnitude, TRAINS[0], head.mask, field)
    assert opposite[head.mask] == pytest.approx(2, abs=1e-4)
    # One echo of two, of equal weight, turned by 90 degrees: |1 - i|^2 / 2 = 1.
    quarter = complex_residual(phase[..., :2] + np.float32([0, np.pi / 2]), None, TRAINS[0][:2], head.mask, field)
    assert quarter[head.mask] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize('voxel_size', [VOXEL_SIZE, (2.4, 2.4, 2.8)])
def test_offset_follows_the_coil_up_to_the_border(voxel_size):
    head = Head((0.00239, 0.00492))
    offset = phase_offset_mcpc3ds(head.phase, head.magnitude, head.mask, head.echo_times, voxel_size)
    error = np.angle(np.exp(1j * (offset - head.offset)))[head.mask]
    assert np.abs(error).max() < (0.003 if voxel_size is VOXEL_SIZE else 0.012)


def test_offset_ignores_voids_and_needs_no_magnitude():
    head = Head((0.004, 0.008), 40)
    hole = np.zeros(head.mask.shape, bool)
    hole[16:25, 16:25, 16:21] = True
    head.magnitude[hole] *= 1e-3
    head.phase[hole] = np.random.default_rng(5).uniform(-np.pi, np.pi, (hole.sum(), 2))
    for magnitude, limit in ((head.magnitude, 0.1), (None, 0.5)):
        offset = phase_offset_mcpc3ds(head.phase, magnitude, head.mask, head.echo_times, VOXEL_SIZE)
        error = np.angle(np.exp(1j * (offset - head.offset)))[head.mask & ~hole]
        assert np.sqrt(np.mean(error ** 2)) < limit / 5 and np.abs(error).max() < limit


def test_one_echo_has_no_offset_to_remove():
    head = Head((0.010,), 40)
    result = head.total_field()
    assert result.offset is None and result.residual.max() < 1e-6
    expected = head.field[head.mask] + head.offset[head.mask] / (2 * np.pi * 0.010)
    error = ppm_to_hz(result.field, FREQUENCY)[head.mask] - expected
    error -= np.rint(np.median(error) * 0.010) / 0.010
    assert abs(error.mean()) < 0.05 and (error / head.sd[head.mask]).std() < 1.05
    with pytest.raises(ValueError, match='one echo'):
        phase_offset_mcpc3ds(head.phase, head.magnitude, head.mask, (0.010,), VOXEL_SIZE)


@pytest.mark.parametrize('fit', ['nonlinear', 'linear'])
def test_laplacian_field_differs_by_a_harmonic_function(fit):
    head = Head((0.004, 0.008, 0.012))
    result = head.total_field(unwrapping='laplacian', fit=fit)
    error = (ppm_to_hz(result.field, FREQUENCY) - head.field) * head.mask
    inside = head.mask.copy()
    for axis in range(3):
        inside &= np.roll(head.mask, 1, axis) & np.roll(head.mask, -1, axis)

    def laplacian(volume):
        return sum((np.roll(volume, 1, axis) + np.roll(volume, -1, axis) - 2 * volume) / step ** 2
                   for axis, step in enumerate(VOXEL_SIZE))[inside]

    assert np.linalg.norm(laplacian(error)) < 0.03 * np.linalg.norm(laplacian(head.field))


def test_a_bipolar_readout_is_corrected_unless_told_not_to():
    head = Head(TRAINS[0], 40)
    clean = head.total_field()
    ramp = np.linspace(-0.4, 0.4, head.mask.shape[0], dtype=np.float32)[:, None, None, None]
    head.phase = head.phase + ramp * np.float32([1, -1, 1, -1, 1])
    left, corrected = head.total_field(bipolar='no'), head.total_field()
    # A phase step d on alternate echoes acts as a slope of 2 d / spacing on the first two, which offset and fit see.
    assert np.abs(head.error(left)).max() < 2 * 0.8 / (2 * np.pi * 0.004)
    assert left.residual.mean() > 2 * clean.residual.mean() and not left.notes
    assert head.error(corrected).std() < 1.02 * head.error(clean).std()
    assert corrected.residual.mean() < 1.02 * clean.residual.mean()
    assert len(corrected.notes) == 1 and 'bipolar' in corrected.notes[0] and not clean.notes


def test_no_offset_removal_and_no_magnitude():
    head = Head(TRAINS[0], 40)
    head.phase = remove_phase_offset(head.phase, head.offset.astype(np.float32))
    head.magnitude = None
    result = head.total_field(offset='none')
    assert result.offset is None
    assert np.abs(head.error(result)).max() < 5


def test_threads_do_not_matter():
    head = Head(TRAINS[2], 10)
    results = []
    for count in (1, 2):
        with use_threads(count):
            results.append(head.total_field())
    for name in ('field', 'residual', 'quality', 'offset', 'unwrapped'):
        assert np.array_equal(getattr(results[0], name), getattr(results[1], name)), name


def test_bad_input_is_named():
    head = Head((0.004, 0.008), shape=(8, 8, 8))
    broken = head.phase.copy()
    broken[0, 0, 0, 0] = np.nan

    def call(**changes):
        given = dict(phase=head.phase, magnitude=head.magnitude, echo_times=(0.004, 0.008), mask=head.mask,
                     voxel_size=VOXEL_SIZE, center_frequency_hz=FREQUENCY)
        return total_field(**(given | changes))

    for changes, match in [
        (dict(echo_times=(0.004, 0.004)), r'echo_times.*0\.004, 0\.004'),
        (dict(echo_times=(4, 8)), 'echo_times.*seconds'),
        (dict(echo_times=(0.004,)), 'echo_times.*2 numbers'),
        (dict(echo_times=None), 'echo_times'),
        (dict(mask=np.zeros_like(head.mask)), 'mask is empty'),
        (dict(mask=head.mask[1:]), r'\(8, 8, 8, 2\).*\(7, 8, 8\)'),
        (dict(magnitude=head.magnitude[..., 0]), r'magnitude.*\(8, 8, 8\).*\(8, 8, 8, 2\)'),
        (dict(phase=broken), 'phase.*repair'),
        (dict(phase=head.phase[..., 0], magnitude=None), r'\(8, 8, 8\).*\(nx, ny, nz, ne\)'),
        (dict(voxel_size=(1, 1)), 'voxel_size'),
        (dict(center_frequency_hz=0), 'center_frequency_hz'),
        (dict(offset='aspire'), "offset.*'aspire'"), (dict(bipolar='x'), 'bipolar'),
        (dict(unwrapping='x'), 'unwrapping'), (dict(fit='x'), 'fit'),
    ]:
        with pytest.raises(ValueError, match=match):
            call(**changes)
    with pytest.raises(ValueError, match='initial'):
        fit_field_nonlinear(head.phase, None, (0.004, 0.008), head.mask, np.zeros((8, 8)))
    with pytest.raises(ValueError, match='offset'):
        remove_phase_offset(head.phase, head.offset[1:])
