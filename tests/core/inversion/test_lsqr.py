import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, lsqr

from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import irfftn, rfftn
from qsmbids.core.inversion import lsqr as module
from qsmbids.core.grid import squared_gradient
from qsmbids.core.inversion.lsqr import invert_rts
from qsmbids.core.inversion.variational import minimize_tv

SIZE = (12, 10, 14)


def test_the_first_step_is_lsqr():
    rng = np.random.default_rng(0)
    kernel = dipole_kernel(SIZE, (1, 1, 1), (0, 0.6, 0.8))
    data, weight = rng.standard_normal(SIZE).astype(np.float32), rng.random(SIZE).astype(np.float32)

    def convolve(v):
        return irfftn(rfftn(v.reshape(SIZE), SIZE) * kernel, SIZE)

    operator = LinearOperator((data.size,) * 2, matvec=lambda v: (weight * convolve(v)).ravel(),
                              rmatvec=lambda v: convolve(weight * v.reshape(SIZE)).ravel())
    for iterations in (1, 4, 8):
        expected = lsqr(operator, (weight * data).ravel(), atol=0, btol=0, iter_lim=iterations)[0].reshape(SIZE)
        found = module.least_squares(data, weight, kernel, iterations)
        assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


def test_the_second_step_fills_and_does_not_touch():
    known = np.zeros(SIZE, np.float32)
    known[3:8, 2:7, 4:10] = 1
    well = np.abs(dipole_kernel(SIZE, (1, 1, 1))) > 0.15

    def spectrum(volume):
        return rfftn(volume, SIZE)

    update = module._filling_update(irfftn(spectrum(known) * well, SIZE), well, squared_gradient(SIZE, (1, 1, 1)))
    start = update(None)
    filled = minimize_tv(update, SIZE, (1, 1, 1), 0.1, SIZE, 0., 100)
    assert np.allclose((spectrum(filled) - spectrum(known))[well], 0, atol=1e-3)
    # A block is what has the least total variation among all with its well-conditioned part.
    truth = known - known.mean()
    assert np.linalg.norm(filled - truth) < 0.2 * np.linalg.norm(start - truth)


@pytest.mark.parametrize('wrong', [{'delta': 0}, {'lsqr_iterations': 0}, {'tv_iterations': -1},
                                   {'weight': np.zeros((4, 4, 4))}])
def test_bad_parameters(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        invert_rts(np.ones((4, 4, 4)), np.ones((4, 4, 4), bool), (1, 1, 1), **wrong)
