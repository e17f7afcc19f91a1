import numpy as np
import pytest

from qsmbids.core.methods import UNWRAPPING
from qsmbids.core.phase import wrap
from qsmbids.core.threads import use_threads
from qsmbids.core.unwrap import romeo_quality, unwrap_and_rate, unwrap_bestpath, unwrap_laplacian, unwrap_romeo

SHAPE = (44, 50, 40)


def head(shape=SHAPE):
    """A brain-like mask with a hole, its magnitude, and a field in Hz with a steep source below the front."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing='ij')
    radius = x ** 2 / 0.7 + y ** 2 / 0.9 + z ** 2 / 0.6
    mask = (radius < 1) & (x ** 2 + (y - 0.1) ** 2 + z ** 2 > 0.02)
    field = 60 * (x * y + z ** 2) + 25 * y + 160 * np.exp(-(x ** 2 + (y - 0.7) ** 2 + (z + 0.5) ** 2) / 0.08)
    return field, mask, (1 - 0.3 * radius) * mask


def scan(field, magnitude, echo_times, snr=np.inf, seed=0):
    rng = np.random.default_rng(seed)
    signal = magnitude[..., None] * np.exp(2j * np.pi * field[..., None] * np.asarray(echo_times))
    if np.isfinite(snr):
        signal += (rng.standard_normal(signal.shape) + 1j * rng.standard_normal(signal.shape)) / snr
    return np.angle(signal).astype(np.float32), np.abs(signal).astype(np.float32)


def turns(unwrapped, truth, mask):
    """Whole turns between both in the mask, counted from the most frequent."""
    counts = np.rint((unwrapped - truth)[mask] / (2 * np.pi)).astype(int)
    return counts - np.bincount(counts - counts.min()).argmax() - counts.min()


@pytest.mark.parametrize('with_magnitude', [True, False])
@pytest.mark.parametrize('snr', [np.inf, 20])
@pytest.mark.parametrize('shape', [SHAPE, (37, 41, 45)])
def test_unwrap_undoes_wrap_without_a_wrong_voxel(shape, snr, with_magnitude):
    field, mask, magnitude = head(shape)
    phase, noisy = scan(field, 1 + 0 * magnitude, [0.020], snr)
    before = phase.copy()
    unwrapped = unwrap_romeo(phase[..., 0], mask, magnitude=noisy[..., 0] if with_magnitude else None)
    assert unwrapped.shape == shape and unwrapped.dtype == np.float32
    assert np.array_equal(phase, before) and not unwrapped[~mask].any()
    assert not turns(unwrapped, 2 * np.pi * 0.020 * field, mask).any()
    whole = (unwrapped - phase[..., 0])[mask] / (2 * np.pi)
    assert np.abs(whole - np.rint(whole)).max() < 1e-4
    assert abs(np.median(unwrapped[mask])) <= np.pi + 1e-3


def test_best_path_adds_whole_turns_only_and_joins_parts():
    field, mask, magnitude = head()
    mask[20:23] = False
    echo_times = (0.004, 0.009, 0.014)
    phase, noisy = scan(field, magnitude, echo_times, 30)
    before = phase.copy()
    unwrapped = unwrap_bestpath(phase, mask, echo_times, noisy)
    truth = 2 * np.pi * field[..., None] * np.asarray(echo_times)
    assert unwrapped.dtype == np.float32 and np.array_equal(phase, before) and not unwrapped[~mask].any()
    assert not np.rint((unwrapped - truth)[mask] / (2 * np.pi)).any()
    whole = (unwrapped - phase)[mask] / (2 * np.pi)
    assert np.abs(whole - np.rint(whole)).max() < 1e-4
    assert np.array_equal(unwrap_bestpath(phase[..., 0], mask)[mask], unwrapped[mask, 0])


def test_noise_is_crossed_last():
    # A slab of noise cuts the mask but for a bridge: any path through the noise would tear both halves apart.
    field, mask, magnitude = head()
    field = 4 * field
    magnitude = magnitude.copy()
    magnitude[20:23, :, 8:] = 0
    phase, noisy = scan(field, magnitude + 1e-3, [0.004], 60)
    good = mask & (magnitude > 0.1)
    unwrapped = unwrap_romeo(phase[..., 0], mask, magnitude=noisy[..., 0])
    assert not turns(unwrapped, 2 * np.pi * 0.004 * field, good).any()


@pytest.mark.parametrize('echo_times', [(0.004, 0.008, 0.012, 0.016, 0.020), (0.00239, 0.00492),
                                        (0.003, 0.0071, 0.013)])
@pytest.mark.parametrize('template', [None, 1])
def test_echoes_follow_the_template(echo_times, template):
    field, mask, magnitude = head()
    phase, noisy = scan(field, magnitude, echo_times, 20)
    unwrapped = unwrap_romeo(phase, mask, echo_times, noisy, template)
    truth = 2 * np.pi * field[..., None] * np.asarray(echo_times)
    wrong = np.rint((unwrapped - truth)[mask] / (2 * np.pi))
    assert not wrong.any()


def test_uneven_echoes_decide_the_whole_turns():
    # 300 Hz off resonance is more than half a turn at the first echo; echoes at 5, 9 and 13.5 ms know it.
    field, mask, magnitude = head()
    echo_times = np.array([0.005, 0.009, 0.0135])
    phase, noisy = scan(field + 300, magnitude, echo_times, 30)
    unwrapped = unwrap_romeo(phase, mask, echo_times, noisy)
    truth = 2 * np.pi * (field + 300)[..., None] * echo_times
    assert not np.rint((unwrapped - truth)[mask] / (2 * np.pi)).any()


def test_parts_of_a_mask_meet_across_the_gap():
    field, mask, _ = head()
    mask = mask.copy()
    mask[21:23] = False
    mask[:, :, 14:16] = False
    phase, _ = scan(field, mask, [0.010])
    unwrapped = unwrap_romeo(phase[..., 0], mask, voxel_size=(0.5, 0.5, 1))
    assert not turns(unwrapped, 2 * np.pi * 0.010 * field, mask).any()


def test_a_constant_shift_and_a_transposition_change_nothing():
    field, mask, magnitude = head()
    phase, noisy = scan(field, magnitude, [0.015], 20)
    unwrapped = unwrap_romeo(phase[..., 0], mask, magnitude=noisy[..., 0])
    shifted = unwrap_romeo(wrap(phase[..., 0] + 1), mask, magnitude=noisy[..., 0])
    assert np.ptp((shifted - unwrapped)[mask]) < 1e-3
    turned = unwrap_romeo(phase[..., 0].T, mask.T, magnitude=noisy[..., 0].T).T
    assert not turns(turned, unwrapped, mask).any()


def test_neither_threads_nor_the_way_of_asking_matter():
    field, mask, magnitude = head()
    times = (0.004, 0.009)
    phase, noisy = scan(field, magnitude, times, 5)
    results = []
    for count in (1, 2):
        with use_threads(count):
            results.append([unwrap_romeo(phase, mask, times, noisy), romeo_quality(phase, mask, times, noisy)])
    assert np.array_equal(results[0][0], results[1][0]) and np.array_equal(results[0][1], results[1][1])
    together = unwrap_and_rate(phase, mask, times, noisy)
    assert np.array_equal(together[0], results[0][0]) and np.array_equal(together[1], results[0][1])


def test_one_voxel_and_the_edge_of_the_array():
    phase = np.linspace(-3, 3, 60).reshape(3, 4, 5).astype(np.float32)
    single = np.zeros(phase.shape, bool)
    single[2, 3, 4] = True
    assert unwrap_romeo(phase, single)[2, 3, 4] == phase[2, 3, 4]
    ramp = 0.12 * np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    unwrapped = unwrap_romeo(wrap(ramp), np.ones(ramp.shape, bool))
    assert np.ptp(unwrapped - ramp) < 1e-5


def test_quality_tells_signal_from_noise():
    field, mask, magnitude = head()
    magnitude = magnitude.copy()
    magnitude[:15] = 0
    times = (0.005, 0.010)
    phase, noisy = scan(field, magnitude, times, 30)
    quality = romeo_quality(phase, mask, times, noisy)
    assert quality.dtype == np.float32 and not quality[~mask].any()
    assert quality.min() >= 0 and quality.max() <= 1
    assert quality[:14][mask[:14]].mean() < 0.25 and quality[16:][mask[16:]].mean() > 0.6
    constant = romeo_quality(np.ones(SHAPE, np.float32), np.ones(SHAPE, bool))
    assert constant[2:-2, 2:-2, 2:-2] == pytest.approx(1)


@pytest.mark.parametrize('voxel_size', [(1, 1, 1), (0.8, 0.8, 2)])
def test_laplacian_is_right_up_to_harmonic_functions(voxel_size):
    field, mask, magnitude = head()
    phase, _ = scan(field, magnitude + 1, [0.010])
    unwrapped = unwrap_laplacian(phase, mask, voxel_size)
    assert unwrapped.shape == phase.shape and not unwrapped[~mask].any()
    assert unwrapped[mask].mean() == pytest.approx(0, abs=1e-4)
    truth = 2 * np.pi * 0.010 * field
    interior = mask.copy()
    for axis in range(3):
        interior &= np.roll(mask, 1, axis) & np.roll(mask, -1, axis)
    error = laplacian(unwrapped[..., 0] - truth, voxel_size)[interior]
    assert np.abs(error).max() < 1e-2 * np.abs(laplacian(truth, voxel_size)[interior]).max()


def laplacian(volume, voxel_size):
    return sum((np.roll(volume, 1, axis) + np.roll(volume, -1, axis) - 2 * volume) / step ** 2
               for axis, step in enumerate(voxel_size))


@pytest.mark.parametrize('method', UNWRAPPING)
def test_methods_share_a_signature(method):
    field, mask, magnitude = head((20, 20, 20))
    phase, noisy = scan(field, magnitude, (0.004, 0.008), 50)
    unwrapped = UNWRAPPING[method].load()(phase, mask, echo_times=(0.004, 0.008), magnitude=noisy,
                                          voxel_size=(1, 1, 1))
    assert unwrapped.shape == phase.shape and unwrapped.dtype == np.float32


def test_bad_input_is_named():
    phase, mask = np.zeros((4, 4, 4, 2), np.float32), np.ones((4, 4, 4), bool)
    broken = phase.copy()
    broken[0, 0, 0, 0] = np.nan
    for call, match in [
        (lambda: unwrap_romeo(phase, np.zeros((4, 4, 4), bool), (0.1, 0.2)), 'mask is empty'),
        (lambda: unwrap_romeo(phase, mask[:3], (0.1, 0.2)), r'\(4, 4, 4, 2\).*\(3, 4, 4\)'),
        (lambda: unwrap_romeo(phase, mask, (0.1, 0.2), phase[..., 0]), r'magnitude.*\(4, 4, 4\).*\(4, 4, 4, 2\)'),
        (lambda: unwrap_romeo(broken, mask, (0.1, 0.2)), 'phase.*repair'),
        (lambda: unwrap_romeo(phase, mask, (0.1, 0.2), broken), 'magnitude.*repair'),
        (lambda: unwrap_romeo(phase, mask), 'echo_times'),
        (lambda: unwrap_romeo(phase, mask, (4, 8)), 'seconds'),
        (lambda: unwrap_romeo(phase, mask, (0.1, 0.1)), 'increase'),
        (lambda: unwrap_romeo(phase, mask, (0.1, 0.2), template=2), 'template is 2'),
        (lambda: unwrap_laplacian(phase, mask, (1, 1, 0)), 'voxel_size'),
    ]:
        with pytest.raises(ValueError, match=match):
            call()
