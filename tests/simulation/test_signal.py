from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, gaussian_filter

from qsmbids.core.phase import radians_to_ppm
from qsmbids.simulation.artefacts import Bipolar, Motion
from qsmbids.simulation.head import Head, digital_head
from qsmbids.simulation.signal import Sequence, acquire, fine_grid, simulate
from qsmbids.simulation.tissues import Tissue

WATER = Tissue(0, 20, 1, 1.5)
COARSE = np.diag([12., 12, 12, 1])
COARSE[:3, 3] = -90, -131, -66
HEAD_SEQUENCE = Sequence((16, 20, 14), COARSE, (.004, .012), supersampling=3)


def plain(shape, affine, echo_times=(.001,), **fields):
    """A sequence without noise, shim and coil."""
    return Sequence(shape, affine, echo_times, **{'snr': None, 'shim_order': None, 'coil': False, 'supersampling': 2,
                                                  **fields})


def uniform(sequence, tissue=WATER):
    shape = fine_grid(sequence)[1]
    return Head(np.zeros(shape, np.uint8), np.zeros(shape, np.float32), (tissue,), 0.)


def test_a_sphere_shows_its_analytic_field(sphere_truth):
    # Sagittal slices, thick and tilted: every way to get the field's direction wrong shows.
    tilt = np.deg2rad(25)
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.eye(3)[:, [1, 2, 0]] * (1, 1, 1.5)
    sequence = plain((36, 36, 28), affine)
    middle = affine[:3, :3] @ (17.5, 17.5, 13.5)

    def sample(shape, grid):
        index = np.moveaxis(np.indices(shape), 0, -1)
        distance = np.linalg.norm(index @ grid[:3, :3].T + grid[:3, 3] - middle, axis=-1)
        return Head(np.zeros(shape, np.uint8), np.clip((8 - distance) / .6 + .5, 0, 1).astype(np.float32), (WATER,), 0.)

    scan = simulate(sample, sequence)
    measured = radians_to_ppm(np.angle(scan.signal[..., 0]), .001, sequence.center_frequency_hz)
    _, analytic, edge = sphere_truth((72, 72, 56), (.5, .5, .75), 8, sequence.b0_dir, margin=2.2)
    analytic, edge = (v.reshape(36, 2, 36, 2, 28, 2).mean(axis=(1, 3, 5)) for v in (analytic, edge))
    error = np.where(edge, 0, scan.field - analytic)
    assert np.linalg.norm(error) < .02 * np.linalg.norm(analytic[edge == 0])
    # The edges of the sphere and of the field of view ring in the images, as a scanner's do: compare local means.
    error, truth = (gaussian_filter(v, 1) for v in (measured - analytic, analytic))
    away = binary_erosion(edge == 0, iterations=3)
    assert np.linalg.norm(error[away]) < .02 * np.linalg.norm(truth[away])
    assert np.abs(error[away]).max() < .02 * 2 / 3


def test_air_outside_the_grid_makes_no_field():
    sequence = plain((12, 12, 12), np.diag([2., 2, 2, 1]))

    def sample(shape, grid):
        return Head(np.zeros(shape, np.uint8), np.full(shape, 9.2, np.float32), (WATER,))

    assert np.abs(simulate(sample, sequence).field).max() < 1e-5


def test_voxels_lie_where_the_affine_says():
    sequence = plain((16, 14, 12), np.diag([2., 2, 2, 1]), supersampling=3)
    x = np.arange(48)[:, None, None] * 2 / 3 - 2 / 3  # mm, from the centre of the first coarse voxel
    field = np.broadcast_to(np.sin(2 * np.pi * x / 16), (48, 42, 36)).astype(np.float32)
    measured = radians_to_ppm(np.angle(acquire(uniform(sequence), field, sequence)[0][..., 0]), .001,
                              sequence.center_frequency_hz)
    expected = np.sin(2 * np.pi * np.arange(16) * 2 / 16)
    assert measured[:, 3, 5] == pytest.approx(expected, abs=2e-3)


def test_steady_state_and_decay():
    sequence = plain((8, 8, 8), np.eye(4), (.005, .025), repetition_time=.03, flip_angle=20)
    signal = acquire(uniform(sequence), np.zeros((16, 16, 16), np.float32), sequence)[0]
    e1, angle = np.exp(-.03 / 1.5), np.deg2rad(20)
    start = np.sin(angle) * (1 - e1) / (1 - np.cos(angle) * e1)
    assert signal[4, 4, 4] == pytest.approx(start * np.exp(-20 * np.array([.005, .025])), rel=1e-5)


def test_a_turn_of_phase_within_a_voxel_leaves_no_signal():
    sequence = plain((8, 8, 8), np.eye(4), (0, .01), supersampling=4)
    hz_per_turn = 1 / .01
    gradient = hz_per_turn / (1e-6 * sequence.center_frequency_hz) / 4
    field = np.broadcast_to(np.arange(32, dtype=np.float32)[:, None, None] * np.float32(gradient), (32, 32, 32))
    signal = np.abs(acquire(uniform(sequence), field, sequence)[0])
    assert signal[..., 0].min() > .01
    assert signal[..., 1].max() < 1e-4 * signal[..., 0].min()


def test_the_shim_leaves_no_slope_in_the_brain():
    sample = partial(digital_head, seed=1)
    shimmed, raw = (simulate(sample, replace(HEAD_SEQUENCE, shim_order=order)) for order in (2, None))
    position = np.argwhere(shimmed.mask) - np.argwhere(shimmed.mask).mean(axis=0)
    terms = np.column_stack([np.ones(len(position)), position])
    slopes = [np.linalg.lstsq(terms, scan.field[shimmed.mask], rcond=None)[0] for scan in (shimmed, raw)]
    assert np.abs(slopes[0][1:]).max() < .1 * np.abs(slopes[1][1:]).max()
    assert abs(slopes[0][0]) < .05 * abs(slopes[1][0])


def test_noise_has_the_stated_snr_and_the_seed_decides():
    sample = partial(digital_head, seed=1)
    noisy = replace(HEAD_SEQUENCE, snr=40)
    first, again, other = (simulate(sample, noisy, seed) for seed in (7, 7, 8))
    assert np.array_equal(first.signal, again.signal) and np.array_equal(first.field, again.field)
    assert not np.array_equal(first.signal, other.signal)
    clean = simulate(sample, replace(HEAD_SEQUENCE, snr=None), 7)
    noise = first.signal - clean.signal
    level = np.abs(clean.signal[clean.mask, 0]).mean() / 40
    assert noise.real.std() == pytest.approx(level, rel=.03)
    assert noise.imag.std() == pytest.approx(level, rel=.03)


def test_truth_is_on_the_grid_of_the_scan():
    scan = simulate(partial(digital_head, seed=1), HEAD_SEQUENCE)
    assert scan.signal.shape == (16, 20, 14, 2) and scan.signal.dtype == np.complex64
    for volume in (scan.field, scan.local_field, scan.chi, scan.r2star):
        assert volume.shape == (16, 20, 14) and volume.dtype == np.float32
    assert scan.labels.dtype == np.uint8 and scan.mask.dtype == bool
    assert 1e6 < scan.mask.sum() * 12 ** 3 < 2e6


def noisy_phantom(seed=3, **fields):
    """Acquire water without a field, SNR 50, or as `fields` say."""
    sequence = replace(plain((16, 18, 12), np.diag([9., 8, 10, 1]), (.004, .012)), **{'snr': 50, **fields})
    return acquire(uniform(sequence), np.zeros(fine_grid(sequence)[1], np.float32), sequence, seed)


def test_coils_share_the_signal_and_each_has_its_own_noise():
    plain_signal, none = noisy_phantom(snr=None)
    assert none is None
    combined, channels = noisy_phantom(snr=None, channels=5)
    assert channels.shape == (16, 18, 12, 2, 5) and channels.dtype == np.complex64
    assert combined == pytest.approx(plain_signal, rel=1e-4)
    assert (np.abs(channels) ** 2).sum(axis=-1) == pytest.approx(np.abs(plain_signal) ** 2, rel=1e-4)
    # The echoes of a coil share one phase offset.
    turn = np.angle(channels[..., 1, :] * channels[..., 0, :].conj())
    assert np.abs(turn).max() < 1e-3
    noisy_combined, noisy_channels = noisy_phantom(channels=5)
    sd = np.abs(plain_signal[..., 0]).mean() / 50
    noise = np.concatenate([noisy_channels - channels, (noisy_combined - combined)[..., None]], axis=-1)
    spread = noise.reshape(-1, 6).real.std(axis=0)
    assert spread == pytest.approx(np.full(6, sd), rel=.05)
    correlation = np.corrcoef(noise[..., :5].reshape(-1, 5).T)
    assert np.abs(correlation - np.eye(5)).max() < .1


def test_a_bipolar_readout_turns_even_echoes_alone():
    plain_signal, bipolar = (noisy_phantom(snr=None, bipolar=b)[0] for b in (None, Bipolar(1.5, .2)))
    turn = np.angle(bipolar * plain_signal.conj())
    assert np.abs(turn[..., 0]).max() < 1e-5
    along = .2 + 1.5 * (np.arange(16) - 7.5) / 16
    assert turn[..., 1] == pytest.approx(np.broadcast_to(along[:, None, None], (16, 18, 12)), abs=1e-5)


def test_motion_drift_and_partial_fourier_act_along_the_phase_encoding():
    sample = partial(digital_head, seed=1)
    clean = simulate(sample, HEAD_SEQUENCE, 5)
    for fields in ({'motion': Motion(6, 8., 3.)}, {'drift_hz': 60.}, {'partial_fourier': .6}):
        scan = simulate(sample, replace(HEAD_SEQUENCE, phase_encoding=2, **fields), 5)
        assert np.array_equal(scan.field, clean.field)
        difference = np.abs(scan.signal - clean.signal)[scan.mask]
        assert difference.mean() > .01 * np.abs(clean.signal[scan.mask]).mean(), fields
        middle = np.fft.fft(scan.signal, axis=2)[:, :, 0]
        reference = np.fft.fft(clean.signal, axis=2)[:, :, 0]
        if 'partial_fourier' in fields:
            assert middle == pytest.approx(reference, abs=1e-5)


@pytest.mark.parametrize('tesla', [1.5, 3, 7])
def test_phase_grows_with_the_field_strength(tesla):
    sequence = plain((8, 8, 8), np.eye(4), (.01,), b0_tesla=tesla)
    signal = acquire(uniform(sequence), np.full((16, 16, 16), .1, np.float32), sequence)[0]
    assert np.angle(signal) == pytest.approx(2 * np.pi * 4.2577 * tesla * .01, rel=1e-4)  # 0.1 ppm, Hz per T


@pytest.mark.parametrize('fields', [{'echo_times': ()}, {'echo_times': (-.1,)}, {'supersampling': 0}, {'channels': -1},
                                    {'readout': 3}, {'phase_encoding': 0}, {'partial_fourier': .5}])
def test_impossible_sequences_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        simulate(digital_head, replace(HEAD_SEQUENCE, **fields))


def test_fine_voxels_fill_the_coarse_ones():
    affine = np.array([[0, -2, 0, 5], [3, 0, 0, -7], [0, 0, 4, 1], [0, 0, 0, 1.]])
    fine, shape = fine_grid(Sequence((4, 5, 6), affine, (.01,), supersampling=3))
    assert tuple(shape) == (12, 15, 18)
    inside = np.stack(np.meshgrid(*(3 * n + np.arange(3) for n in (1, 4, 2)), indexing='ij'), axis=-1).reshape(-1, 3)
    centre = (inside @ fine[:3, :3].T + fine[:3, 3]).mean(axis=0)
    assert centre == pytest.approx(affine[:3, :3] @ (1, 4, 2) + affine[:3, 3])
