import numpy as np
import pytest
import scipy.fft
from scipy.ndimage import gaussian_filter

from qsmbids.core.threads import use_threads
from qsmbids.simulation.artefacts import Bipolar, Motion, _moved, alternate, disturb, leave_out

SHAPE = (24, 20, 18)
TIMES = (.004, .012, .02)
STEP = (1., 1.5, 2.)


def blob(seed=0):
    """Smooth complex echoes of something in the middle of the field of view."""
    rng = np.random.default_rng(seed)
    volume = np.zeros((*SHAPE, 3), complex)
    volume[7:17, 6:14, 5:13] = rng.uniform(.5, 1, (10, 8, 8, 3)) * np.exp(1j * rng.uniform(-1, 1, (10, 8, 8, 3)))
    return gaussian_filter(volume, (1.5, 1.5, 1.5, 0))


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_bipolar_phase_is_linear_along_the_readout_of_even_echoes(axis):
    signal = np.ones((*SHAPE, 4), complex)
    alternate(signal, Bipolar(slope=1.2, constant=.4), axis)
    assert np.all(signal[..., ::2] == 1)
    phase = np.moveaxis(np.angle(signal[..., 1::2]), axis, 0)
    size = SHAPE[axis]
    line = .4 + 1.2 * (np.arange(size) - (size - 1) / 2) / size
    assert phase == pytest.approx(np.broadcast_to(line[:, None, None, None], phase.shape))


def test_even_echoes_can_be_shifted_along_the_readout():
    signal = blob()
    moved = signal.copy()
    alternate(moved, Bipolar(0., 0., shift=2.), 1)
    assert moved[..., 1] == pytest.approx(np.roll(signal[..., 1], 2, axis=1), abs=1e-12)
    half = signal.copy()
    alternate(half, Bipolar(0., 0., shift=.5), 1)
    alternate(half, Bipolar(0., 0., shift=-.5), 1)
    assert half == pytest.approx(signal, abs=1e-12)
    assert np.array_equal(moved[..., ::2], signal[..., ::2])


def test_a_still_object_is_not_disturbed():
    signal = blob()
    still = signal.copy()
    disturb(still, TIMES, STEP, 1, motion=Motion(3, 0., 0.), rng=np.random.default_rng(0))
    assert still == pytest.approx(signal, abs=1e-10)


def test_motion_makes_ghosts_along_the_phase_encoding_only():
    signal = blob()
    lines = {}
    for axis in (0, 1):
        moved = signal.copy()
        disturb(moved, TIMES, STEP, axis, motion=Motion(5, 2., 0.), rng=np.random.default_rng(3))
        change = np.abs(moved - signal)[..., 0]
        assert change.max() > .05 * np.abs(signal).max()
        # What appears far outside of the object lies before and behind it.
        lines[axis] = [change[:3].max(), change[:, :2].max()]
    assert lines[0][0] > 3 * lines[1][0] and lines[1][1] > 3 * lines[0][1]


def test_after_the_last_line_all_of_k_space_is_one_position():
    # One step, and the middle line before it: lines from the step on are those of the shifted object, others are kept.
    signal = blob()
    for seed in range(4):
        moved = signal.copy()
        disturb(moved, TIMES, STEP, 1, motion=Motion(1, 3., 0.), rng=np.random.default_rng(seed))
        before, after = (scipy.fft.fft(scipy.fft.fft(v[..., 0], axis=1), axis=2) for v in (signal, moved))
        order = np.argsort(scipy.fft.fftfreq(SHAPE[1]))
        kept = np.array([np.allclose(before[:, line], after[:, line], atol=1e-9) for line in order])
        assert kept[SHAPE[1] // 2]
        assert 0 < np.abs(np.diff(kept.astype(int))).sum() <= 1
        # The object is whole in every line: a step of it changes the phase of k-space, not how much there is.
        assert np.abs(after).sum() == pytest.approx(np.abs(before).sum(), rel=.1)


def test_turns_are_rigid_in_millimetres():
    # By 90 degrees about the middle of a grid of unequal steps: a ball stays a ball.
    size = (41, 31, 21)
    x, y, z = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * step for n, step in zip(size, STEP)), indexing='ij')
    ball = np.exp(-((x - 6) ** 2 + y ** 2 + z ** 2) / 40).astype(complex)
    turn = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.]])
    ((_, moved),) = _moved(ball, np.array(STEP), [([], turn, np.array([0, 0, 4.]))])
    expected = np.exp(-(x ** 2 + (y - 6) ** 2 + (z + 4) ** 2) / 40)
    assert moved == pytest.approx(expected, abs=5e-3)


def test_motion_is_that_of_its_seed_for_any_number_of_threads():
    results = []
    for count, seed in ((1, 0), (2, 0), (1, 1)):
        signal = blob()
        with use_threads(count):
            disturb(signal, TIMES, STEP, 2, motion=Motion(), rng=np.random.default_rng(seed))
        results.append(signal)
    assert np.array_equal(results[0], results[1]) and not np.allclose(results[0], results[2])


def test_drift_turns_lines_by_echo_time():
    signal = blob()
    drifted = signal.copy()
    disturb(drifted, TIMES, STEP, 1, drift_hz=10.)
    before, after = (scipy.fft.fft(v, axis=1) for v in (signal, drifted))
    for echo, time in enumerate(TIMES):
        for line in (0, 1, SHAPE[1] // 2, SHAPE[1] - 1):
            turn = np.exp(2j * np.pi * 10 * time * scipy.fft.fftfreq(SHAPE[1])[line])
            assert after[:, line, :, echo] == pytest.approx(before[:, line, :, echo] * turn, abs=1e-10)


@pytest.mark.parametrize('axis, fraction', [(0, .75), (1, .6), (2, 1.)])
def test_partial_fourier_leaves_lines_out_on_one_side(axis, fraction):
    signal = blob()
    cut = signal.copy()
    leave_out(cut, fraction, axis)
    before, after = (np.moveaxis(scipy.fft.fft(v, axis=axis), axis, 0) for v in (signal, cut))
    taken = [np.allclose(a, b, atol=1e-10) for a, b in zip(after, before)]
    missing = [np.abs(a).max() < 1e-10 for a in after]
    assert sum(taken) == np.ceil(fraction * SHAPE[axis])
    assert sum(missing) == SHAPE[axis] - sum(taken)
    order = np.argsort(scipy.fft.fftfreq(SHAPE[axis]))
    assert not any(np.array(missing)[order][SHAPE[axis] // 2:])
