import numpy as np
import pytest

from qsmbids.core.coils import combine_coils
from qsmbids.core.phase import wrap

SHAPE = (40, 44, 36)
ECHO_TIMES = np.array([0.004, 0.009, 0.014])
VOXEL_SIZE = (4., 4., 4.)


class Channels:
    """Six coils around a ball, each with a phase that is steep near it; loaded on demand."""

    def __init__(self, snr=np.inf, count=6):
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing='ij')
        self.mask = x ** 2 + y ** 2 + z ** 2 < 0.8
        self.field = 40 * (x * y + z ** 2) + 15 * y - 5
        self.grid, self.snr, self.count, self.loads = (x, y, z), snr, count, []

    def __len__(self):
        return self.count

    def __getitem__(self, channel):
        self.loads.append(channel)
        x, y, z = self.grid
        around = 2 * np.pi * channel / self.count
        distance = (x - 1.4 * np.cos(around)) ** 2 + (y - 1.4 * np.sin(around)) ** 2 + z ** 2
        offset = channel + 1.5 * (x * np.cos(2 * around) + y * z) + 0.5 * distance
        angle = 2 * np.pi * self.field[..., None] * ECHO_TIMES + offset[..., None]
        signal = np.exp(1j * angle - 30 * ECHO_TIMES) * (self.mask / (0.5 + distance))[..., None]
        rng = np.random.default_rng(channel)
        signal += (rng.standard_normal(signal.shape) + 1j * rng.standard_normal(signal.shape)) / self.snr
        return np.abs(signal).astype(np.float32), np.angle(signal).astype(np.float32)

    def evolution_error(self, phase, first, second):
        """Error of the phase that grows between two echoes, rad, in the mask, up to a constant."""
        truth = 2 * np.pi * self.field * (ECHO_TIMES[second] - ECHO_TIMES[first])
        error = np.exp(1j * (phase[..., second] - phase[..., first] - truth)[self.mask])
        return np.angle(error / error.mean())


def test_combined_phase_is_that_of_the_field():
    channels = Channels()
    magnitude, phase = combine_coils(channels, ECHO_TIMES, VOXEL_SIZE)
    assert phase.dtype == magnitude.dtype == np.float32 and phase.shape == (*SHAPE, 3)
    for second in (1, 2):
        assert np.abs(channels.evolution_error(phase, 0, second)).max() < 0.02
    # Without the offsets of the coils nothing but the field is left in the first echo, up to whole turns of the growth.
    rest = np.exp(1j * (phase[..., 0] - 2 * np.pi * channels.field * ECHO_TIMES[0])[channels.mask])
    assert np.abs(np.angle(rest / rest.mean())).max() < 0.05
    power = sum(channels[index][0] ** 2 for index in range(len(channels)))
    assert magnitude == pytest.approx(np.sqrt(power), rel=1e-5)


def test_channels_are_asked_for_one_at_a_time_and_twice():
    channels = Channels()
    combine_coils(channels, ECHO_TIMES, VOXEL_SIZE)
    assert channels.loads == 2 * list(range(6))


def test_no_open_fringes_and_the_noise_of_all_channels():
    channels = Channels(snr=30)
    magnitude, phase = combine_coils(channels, ECHO_TIMES, VOXEL_SIZE)
    error = channels.evolution_error(phase, 0, 1)
    expected = np.sqrt(1 / magnitude[channels.mask, 0] ** 2 + 1 / magnitude[channels.mask, 1] ** 2) / 30
    assert error.std() < 1.15 * np.sqrt(np.mean(expected ** 2))
    single = channels.evolution_error(channels[0][1], 0, 1)
    assert error.std() < 0.7 * single.std()


def test_dead_channels_do_no_harm_and_one_is_enough():
    class WithDead(Channels):
        def __getitem__(self, channel):
            magnitude, phase = super().__getitem__(channel)
            return magnitude * (channel != 2), phase

    channels = WithDead()
    _, phase = combine_coils(channels, ECHO_TIMES, VOXEL_SIZE)
    assert np.abs(channels.evolution_error(phase, 0, 2)).max() < 0.02
    _, phase = combine_coils(Channels(count=1), ECHO_TIMES, VOXEL_SIZE)
    assert np.abs(wrap(phase[..., 1] - Channels(count=1)[0][1][..., 1])[channels.mask]).max() > 0.1


def test_bad_input_is_named():
    one = np.ones((4, 4, 4, 2), np.float32)
    for channels, match in [([], 'channels is empty'), ([(one, one[..., :1])], 'channel 0'), ([(0 * one, one)], 'zero'),
                            ([(one, one), (one[1:], one[1:])], 'channel 1'), ([(one[..., :1],) * 2], 'echo')]:
        times = ECHO_TIMES[:1] if match == 'echo' else ECHO_TIMES[:2]
        with pytest.raises(ValueError, match=match):
            combine_coils(channels, times, VOXEL_SIZE)
