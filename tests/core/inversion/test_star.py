import numpy as np
import pytest

from qsmbids.core.dipole import forward_field
from qsmbids.core.inversion.star import invert_star
from qsmbids.core.inversion.variational import invert_tv


def scene():
    """A bleed of 2 ppm beside tissue of 0.02 ppm."""
    chi = np.zeros((40, 36, 38), np.float32)
    chi[8:30, 8:28, 8:30] = 0.02
    chi[17:21, 16:20, 18:22] = 2
    return chi, forward_field(chi, (1, 1, 1)), np.ones(chi.shape, bool)


def test_weak_sources_beside_a_strong_one():
    chi, field, mask = scene()
    field = field + 0.002 * np.random.default_rng(0).standard_normal(chi.shape).astype(np.float32)
    strong = chi == 2
    errors = [np.linalg.norm((invert(field, mask, (1, 1, 1), lambda_=1e-3) - chi)[~strong])
              for invert in (invert_star, invert_tv)]
    assert errors[0] < 1.02 * errors[1]
    found = invert_star(field, mask, (1, 1, 1), lambda_=1e-3)
    assert found[strong].mean() == pytest.approx(2, rel=0.1)


def test_two_levels():
    # The second level sees what the first one leaves.
    _, field, mask = scene()
    first = invert_tv(field, mask, (1, 1, 1), lambda_=4e-3)
    rest = invert_tv(field - forward_field(first, (1, 1, 1), margin=20), mask, (1, 1, 1), lambda_=1e-3)
    assert np.allclose(invert_star(field, mask, (1, 1, 1), lambda_=1e-3, strong=4), first + rest, atol=1e-5)


@pytest.mark.parametrize('wrong', [{'lambda_': -1}, {'strong': 0}, {'tol': 0}, {'max_iterations': 0},
                                   {'weight': np.full((4, 4, 4), 2)}])
def test_bad_parameters(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        invert_star(np.ones((4, 4, 4)), np.ones((4, 4, 4), bool), (1, 1, 1), **wrong)
