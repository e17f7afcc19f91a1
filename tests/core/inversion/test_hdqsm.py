import numpy as np
import pytest

from qsmbids.core.dipole import forward_field
from qsmbids.core.inversion.hdqsm import invert_hdqsm
from qsmbids.core.inversion.variational import invert_tv


def scene():
    chi = np.zeros((32, 32, 32), np.float32)
    chi[12:18, 11:19, 13:17], chi[20:24, 8:12, 20:25] = 0.2, -0.1
    return chi, forward_field(chi, (1, 1, 1)), np.ones(chi.shape, bool)


def test_the_end_is_that_of_total_variation():
    _, field, mask = scene()
    common = {'lambda_': 1e-3, 'tol': 1e-9}
    expected = invert_tv(field, mask, (1, 1, 1), max_iterations=150, **common)
    found = invert_hdqsm(field, mask, (1, 1, 1), max_iterations=150, **common)
    assert np.linalg.norm(found - expected) < 5e-3 * np.linalg.norm(expected)


def test_bad_voxels_do_little_harm_to_the_first_stage():
    chi, field, mask = scene()
    bad = np.random.default_rng(0).random(chi.shape) < 0.01
    field = np.where(bad, 0.5, field)
    errors = [np.linalg.norm(invert(field, mask, (1, 1, 1), lambda_=1e-3, **more) - chi)
              for invert, more in ((invert_hdqsm, {'l1_iterations': 60, 'max_iterations': 1}), (invert_tv, {}))]
    assert errors[0] < 0.3 * errors[1]


@pytest.mark.parametrize('wrong', [{'lambda_': -1}, {'tol': 0}, {'max_iterations': 0}, {'l1_iterations': 0},
                                   {'weight': np.full((4, 4, 4), 2)}])
def test_bad_parameters(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        invert_hdqsm(np.ones((4, 4, 4)), np.ones((4, 4, 4), bool), (1, 1, 1), **wrong)
