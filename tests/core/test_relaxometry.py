import numpy as np
import pytest

from qsmbids.core.methods import RELAXOMETRY
from qsmbids.core.relaxometry import RICE_STEP, RICE_TOP, _rician_means, fit_r2star, noise_sd
from qsmbids.core.threads import use_threads

EVEN = np.array([4, 9, 14, 19, 24]) * 1e-3
UNEVEN = np.array([3, 5, 12, 20]) * 1e-3


def decay(r2star, echo_times, s0=700.0):
    return (s0 * np.exp(-np.multiply.outer(r2star, echo_times))).astype(np.float32)


@pytest.mark.parametrize('method, echo_times', [('arlo', EVEN), ('loglinear', EVEN), ('loglinear', UNEVEN),
                                                ('loglinear', EVEN[:2]), ('nonlinear', EVEN), ('nonlinear', UNEVEN),
                                                ('nonlinear', EVEN[:2])])
def test_a_noiseless_decay_is_found_exactly(method, echo_times):
    r2star = np.geomspace(1, 200, 24).reshape(2, 3, 4)
    fit = fit_r2star(decay(r2star, echo_times), echo_times, np.ones(r2star.shape, bool), method)
    assert fit.method == method
    assert fit.r2star == pytest.approx(r2star, rel=2e-3, abs=0.02)
    assert fit.t2star == pytest.approx(1 / r2star, rel=1e-2)
    assert fit.s0 == pytest.approx(700, rel=2e-3)
    assert all(volume.dtype == np.float32 for volume in (fit.r2star, fit.t2star, fit.s0))


@pytest.mark.parametrize('method', RELAXOMETRY)
def test_unbiased_in_noise(method):
    rng = np.random.default_rng(0)
    shape = (40, 40, 10)
    clean = decay(np.full(shape, 25.0), EVEN, 40)
    noisy = np.abs(clean + rng.standard_normal(clean.shape) + 1j * rng.standard_normal(clean.shape))
    fit = fit_r2star(noisy, EVEN, np.ones(shape, bool), method)
    assert fit.r2star.mean() == pytest.approx(25, rel=0.01)
    assert fit.s0.mean() == pytest.approx(40, rel=0.01)
    assert fit.r2star.std() < 3


def rician(r2star, echo_times, snr, seed=0):
    clean = decay(r2star, echo_times, snr)
    noise = np.random.default_rng(seed).standard_normal((2, *clean.shape))
    return np.hypot(clean + noise[0], noise[1]).astype(np.float32)


def test_the_nonlinear_fit_knows_of_the_noise_floor():
    # A tenth of the volume decays into the noise, the rest tells how much there is of it.
    r2star = np.full((40, 40, 10), 20.)
    r2star[:4] = 100.
    noisy, mask = rician(r2star, EVEN, 20), np.ones(r2star.shape, bool)
    fits = {method: fit_r2star(noisy, EVEN, mask, method).r2star for method in RELAXOMETRY}
    bias = {method: np.median(found[:4]) - 100 for method, found in fits.items()}
    assert abs(bias['nonlinear']) < 1 < 2.5 < abs(bias['loglinear'])
    assert fits['nonlinear'][4:].std() < 1.02 * fits['arlo'][4:].std()
    spread = noise_sd(np.moveaxis(noisy, -1, 0).reshape(5, -1), EVEN, fits['nonlinear'].ravel())
    assert spread == pytest.approx(1, rel=0.02)


def test_the_table_of_rician_means_is_the_integral():
    rng = np.random.default_rng(0)
    means = _rician_means()
    for signal in (0., .5, 2., 8.):
        sampled = np.hypot(signal + rng.standard_normal(10**6), rng.standard_normal(10**6)).mean()
        assert means[round(signal / RICE_STEP)] == pytest.approx(sampled, abs=5e-3)
    assert means[-1] == pytest.approx(RICE_TOP + 1 / (2 * RICE_TOP), abs=1e-4)


def test_threads_change_nothing():
    noisy, mask = rician(np.linspace(5, 80, 1000).reshape(10, 10, 10), EVEN, 30), np.ones((10, 10, 10), bool)
    found = []
    for threads in (1, 2):
        with use_threads(threads):
            found.append(fit_r2star(noisy, EVEN, mask, 'nonlinear').r2star)
    assert np.array_equal(*found)


@pytest.mark.parametrize('echo_times', [EVEN[:2], UNEVEN])
def test_arlo_steps_aside_where_it_does_not_apply(echo_times):
    magnitude, mask = decay(np.full((2, 2, 2), 30.0), echo_times), np.ones((2, 2, 2), bool)
    fit = fit_r2star(magnitude, echo_times, mask, 'arlo')
    assert fit.method == 'loglinear'
    assert np.array_equal(fit.r2star, fit_r2star(magnitude, echo_times, mask, 'loglinear').r2star)


@pytest.mark.parametrize('method', RELAXOMETRY)
def test_the_scale_of_the_magnitude_only_scales_s0(method):
    r2star = np.linspace(5, 80, 8).reshape(2, 2, 2)
    mask = np.ones(r2star.shape, bool)
    fit, tiny = (fit_r2star(decay(r2star, EVEN) * scale, EVEN, mask, method) for scale in (1, np.float32(1e-18)))
    assert tiny.r2star == pytest.approx(fit.r2star, rel=1e-4)
    assert tiny.s0 * 1e18 == pytest.approx(fit.s0, rel=1e-4)


@pytest.mark.parametrize('method', RELAXOMETRY)
@pytest.mark.filterwarnings('error')
def test_voxels_without_a_decay(method):
    samples = {'nothing': [0] * 5, 'not finite': [9, np.nan, 7, 6, 5], 'rising': [1, 2, 3, 4, 5],
               'constant': [3] * 5, 'first only': [8, 0, 0, 0, 0], 'last only': [0, 0, 0, 0, 8]}
    magnitude = np.array(list(samples.values()), np.float32).reshape(6, 1, 1, 5)
    fit = fit_r2star(magnitude, EVEN, np.ones((6, 1, 1), bool), method)
    found = {name: (fit.r2star[i, 0, 0], fit.t2star[i, 0, 0], fit.s0[i, 0, 0]) for i, name in enumerate(samples)}
    assert found['nothing'] == found['not finite'] == (0, 0, 0)
    # No decay was seen: T2* is as long as it can be, not zero.
    assert found['rising'][:2] == (0, 2)
    assert found['constant'] == pytest.approx((0, 2, 3), abs=1e-3)
    assert found['first only'][0] > 200
    assert np.all(np.isfinite(list(found.values())))


def test_zero_outside_the_mask_and_inputs_kept():
    magnitude = np.full((3, 3, 3, 5), 5, np.int16)
    magnitude[..., 0] = 7
    mask = np.zeros((3, 3, 3), bool)
    mask[1] = True
    before = magnitude.copy()
    fit = fit_r2star(magnitude, EVEN, mask)
    assert np.array_equal(fit.s0 > 0, mask)
    assert np.array_equal(fit.t2star > 0, mask)
    assert np.array_equal(magnitude, before)


def test_an_empty_mask_gives_empty_maps():
    assert not fit_r2star(np.ones((2, 2, 2, 5)), EVEN, np.zeros((2, 2, 2), bool)).r2star.any()


@pytest.mark.parametrize('echo_times, method, named', [
    ([0.004], 'arlo', 'echo_times'), ([0.004, 0.004, 0.008], 'arlo', 'echo_times'),
    ([0.008, 0.004], 'arlo', 'echo_times'), ([4, 8, 12], 'arlo', 'echo_times'),
    ([0.004, 0.008], 'arlo', 'magnitude'), ([0.004, 0.008, 0.012], 'exact', 'method')])
def test_what_cannot_be_fitted_is_refused(echo_times, method, named):
    shape = (2, 2, 2, 1 if len(echo_times) == 1 else 3)
    with pytest.raises(ValueError, match=f'^{named}'):
        fit_r2star(np.ones(shape), echo_times, np.ones((2, 2, 2), bool), method)
