import numpy as np
import pytest

from qsmbids.core.dipole import forward_field
from qsmbids.core.inversion.direct import invert_tikhonov
from qsmbids.core.inversion.strength import PENALTIES, automatic_strength, estimate_spectra
from qsmbids.core.inversion.variational import invert_tv
from qsmbids.core.metrics import nrmse

VOXEL_SIZE, B0_DIR = (1, 1.2, 1.5), (0, 0.6, 0.8)
SHAPE = (48, 44, 40)


@pytest.fixture(scope='module')
def head():
    """Overlapping boxes in an ellipsoid: susceptibility, its field, the mask."""
    rng = np.random.default_rng(0)
    x, y, z = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in SHAPE)]
    mask = x ** 2 + y ** 2 + z ** 2 < 0.9
    chi = np.zeros(SHAPE, np.float32)
    for _ in range(60):
        corner = rng.integers(4, 36, 3)
        chi[tuple(slice(c, c + n) for c, n in zip(corner, rng.integers(2, 9, 3)))] += rng.normal(0, 0.05)
    chi *= mask
    return chi, forward_field(chi, VOXEL_SIZE, B0_DIR), mask


def noise(sd):
    return sd * np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)


def strength(field, mask, penalty):
    return automatic_strength(field, mask, VOXEL_SIZE, b0_dir=B0_DIR, penalty=penalty)


def test_the_powers_are_those_of_map_and_noise(head):
    chi, field, mask = head
    spectra = estimate_spectra(field + noise(0.01), mask, VOXEL_SIZE, b0_dir=B0_DIR)
    total = np.sum(spectra.count)
    found = np.sqrt(spectra.scale * np.sum(spectra.noise * spectra.count))
    assert found == pytest.approx(0.01, rel=0.15)
    found = np.sqrt(spectra.scale * np.sum(spectra.chi * spectra.count.sum(axis=1)))
    assert found == pytest.approx(chi[mask].std(), rel=0.25)
    # All coefficients but those of the lowest shells, each once.
    size = 1 / (spectra.scale * mask.sum())
    assert 0.99 * size < total < size


@pytest.mark.parametrize('penalty', ['identity', 'gradient'])
@pytest.mark.parametrize('sd', [0.002, 0.01, 0.03])
def test_no_closed_form_is_much_better(head, penalty, sd):
    chi, field, mask = head
    field = field + noise(sd)

    def error(lambda_):
        return nrmse(invert_tikhonov(field, mask, VOXEL_SIZE, b0_dir=B0_DIR, regularization=penalty, lambda_=lambda_),
                     chi, mask)

    best = min(error(lambda_) for lambda_ in np.geomspace(1e-4, 3, 15))
    assert error(strength(field, mask, penalty)) < 1.08 * best


@pytest.mark.parametrize('sd', [0.002, 0.02])
def test_no_total_variation_is_much_better(head, sd):
    chi, field, mask = head
    field, chosen = field + noise(sd), strength(field + noise(sd), mask, 'tv')
    errors = [nrmse(invert_tv(field, mask, VOXEL_SIZE, b0_dir=B0_DIR, lambda_=factor * chosen), chi, mask)
              for factor in (1, 0.4, 2.5)]
    assert errors[0] < 1.05 * min(errors)


@pytest.mark.parametrize('penalty', PENALTIES)
def test_more_noise_more_strength(head, penalty):
    _, field, mask = head
    found = np.array([strength(field + noise(sd), mask, penalty) for sd in (0.003, 0.01, 0.03)])
    # Of iterations, strong means few.
    change = np.diff(found) * (-1 if penalty in ('descent', 'lsqr') else 1)
    assert np.all(change >= 0) and change[0] > 0 and np.all(found >= (1 if penalty in ('descent', 'lsqr') else 0))


@pytest.mark.parametrize('penalty', PENALTIES)
def test_scale_and_what_lies_outside(head, penalty):
    _, field, mask = head
    field = field + noise(0.01)
    found = strength(field, mask, penalty)
    assert strength(np.where(mask, -7 * field, np.nan), mask, penalty) == pytest.approx(
        found * (7 if penalty == 'tv' else 1), rel=1e-5)


def test_bad_voxels_without_weight_do_not_count(head):
    _, field, mask = head
    field = field + noise(0.005)
    weight = (np.random.default_rng(2).random(SHAPE) > 0.02).astype(np.float32)
    bad = np.where(weight > 0, field, 0.5)
    clean = automatic_strength(field, mask, VOXEL_SIZE, b0_dir=B0_DIR, weight=weight)
    assert automatic_strength(bad, mask, VOXEL_SIZE, b0_dir=B0_DIR, weight=weight) == pytest.approx(clean)
    assert strength(bad, mask, 'tv') > 2 * clean


def test_bad_input(head):
    _, field, mask = head
    with pytest.raises(ValueError, match='penalty'):
        automatic_strength(field, mask, VOXEL_SIZE, penalty='entropy')
    with pytest.raises(ValueError, match='field is zero'):
        automatic_strength(np.zeros_like(field), mask, VOXEL_SIZE)
    with pytest.raises(ValueError, match='weight'):
        automatic_strength(field, mask, VOXEL_SIZE, weight=2 * np.ones_like(field))
