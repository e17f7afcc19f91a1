import numpy as np
import pytest

from qsmbids.core.relaxometry import r2_prime
from qsmbids.core.separation import RELAXIVITY, relaxivity_at, separate_sources, tissue_r2
from qsmbids.simulation.tissues import TISSUES

BRAIN = [tissue for tissue in TISSUES.values() if tissue.brain and tissue.r2_sources < tissue.r2star]


def volume(values):
    return np.array(values, np.float32).reshape(1, 1, -1)


@pytest.mark.parametrize('b0_tesla', [1.5, 3., 7.])
def test_the_table_of_tissues_comes_back(b0_tesla):
    positive, negative = (volume([getattr(t, name) for t in BRAIN]) for name in ('chi_positive', 'chi_negative'))
    r2prime = relaxivity_at(b0_tesla) * (positive - negative)
    found = separate_sources(positive + negative, r2prime, np.ones(positive.shape, bool), b0_tesla)
    assert found.positive == pytest.approx(positive, abs=1e-6)
    assert found.negative == pytest.approx(negative, abs=1e-6)


def test_signs_hold_and_only_what_fits_adds_up():
    rng = np.random.default_rng(0)
    chi, size = rng.normal(0, .05, (8, 8, 8)), rng.uniform(-.02, .1, (8, 8, 8))
    mask = rng.random(chi.shape) < .7
    found = separate_sources(chi, RELAXIVITY * size, mask, 3.)
    assert found.positive.min() == 0 == found.negative.max()
    assert not found.positive[~mask].any() and not found.negative[~mask].any()
    fits = mask & (abs(chi) <= size)
    assert (found.positive + found.negative)[fits] == pytest.approx(chi[fits], abs=1e-6)
    assert (found.positive - found.negative)[fits] == pytest.approx(size[fits], abs=1e-6)
    assert found.positive.dtype == found.negative.dtype == np.float32


def test_what_does_not_fit_gets_the_least_squares_values():
    chi, size = .1, .04
    found = separate_sources(volume([chi]), volume([RELAXIVITY * size]), np.ones((1, 1, 1), bool), 3.)
    p, n = np.meshgrid(np.linspace(0, .2, 401), np.linspace(-.2, 0, 401), indexing='ij')
    best = np.argmin((p + n - chi) ** 2 + (p - n - size) ** 2)
    assert found.positive.item() == pytest.approx(p.flat[best], abs=1e-3)
    assert found.negative.item() == pytest.approx(n.flat[best], abs=1e-3)


def test_the_other_sign_is_the_other_source():
    rng = np.random.default_rng(1)
    chi, r2prime, mask = rng.normal(0, .05, (4, 4, 4)), rng.uniform(0, 10, (4, 4, 4)), np.ones((4, 4, 4), bool)
    one, other = (separate_sources(sign * chi, r2prime, mask, 3.) for sign in (1, -1))
    assert np.array_equal(one.positive, -other.negative) and np.array_equal(one.negative, -other.positive)


def test_one_r2_for_all_tissue_lies_among_them():
    r2 = [tissue.r2star - tissue.r2_sources for name, tissue in TISSUES.items() if tissue.brain and tissue.r2star > 1]
    assert min(r2) < tissue_r2(3.) < max(r2)
    assert tissue_r2(1.5) < tissue_r2(3.) < tissue_r2(7.) < 2 * tissue_r2(3.)


def test_r2_prime_is_the_difference_where_r2_is_known():
    r2star, mask = volume([20, 20, 20, 20, 5, 20]), volume([1, 1, 1, 1, 1, 0]) > 0
    assert r2_prime(r2star, volume([12, np.nan, 0, -3, 12, 12]), mask).ravel().tolist() == [8, 0, 0, 0, 0, 0]
    assert r2_prime(r2star, 12., mask).ravel().tolist() == [8, 8, 8, 8, 0, 0]
    with pytest.raises(ValueError, match='^r2 '):
        r2_prime(r2star, np.ones((2, 2, 2)), mask)


@pytest.mark.parametrize('change, named', [
    ({'chi': np.zeros((2, 2, 3))}, 'chi'), ({'r2prime': np.full((2, 2, 2), np.nan)}, 'r2prime'),
    ({'mask': np.zeros((2, 2, 2), bool)}, 'mask'), ({'b0_tesla': 0}, 'b0_tesla'), ({'relaxivity': -1}, 'relaxivity')])
def test_what_does_not_fit_is_refused(change, named):
    options = dict(chi=np.zeros((2, 2, 2)), r2prime=np.zeros((2, 2, 2)), mask=np.ones((2, 2, 2), bool), b0_tesla=3.)
    with pytest.raises(ValueError, match=f'^{named}'):
        separate_sources(**options | change)
