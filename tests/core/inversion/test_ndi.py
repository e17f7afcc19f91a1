import numpy as np
import pytest

from qsmbids.core.dipole import dipole_kernel, forward_field
from qsmbids.core.fourier import irfftn, rfftn
from qsmbids.core.inversion import ndi as module
from qsmbids.core import grid
from qsmbids.core.inversion.ndi import invert_ndi
from qsmbids.core.inversion.strength import DESCENT_STEP


def cube():
    chi = np.zeros((30, 30, 30), np.float32)
    chi[12:18, 11:19, 13:17] = 0.2
    return chi, np.ones(chi.shape, bool)


def test_the_misfit_is_the_derivative_of_the_cost():
    rng = np.random.default_rng(0)
    induced, data, direction = (0.1 * rng.standard_normal((3, 8, 9, 10))).astype(np.float32)
    squared, scale = rng.random(data.shape).astype(np.float32), 20.

    def cost(field):
        return 0.5 * np.sum(squared * np.abs(np.exp(1j * scale * field) - np.exp(1j * scale * data)) ** 2) / scale ** 2

    slope = induced.copy()
    module._phase_misfit(slope, data, squared, np.float32(scale))
    induced, direction = induced.astype(float), direction.astype(float)
    numeric = (cost(induced + 1e-4 * direction) - cost(induced - 1e-4 * direction)) / 2e-4
    assert np.vdot(slope, direction) == pytest.approx(numeric, rel=1e-3)


def test_a_weak_field_is_filtered_in_closed_form(monkeypatch):
    # Without a margin and with phases far below a turn, n steps are 1 - (1 - step D^2)^n over D.
    monkeypatch.setattr(grid, 'MARGIN', 0)
    chi, mask = cube()
    kernel = dipole_kernel(chi.shape, (1, 1, 1)).astype(float)
    field = irfftn(rfftn(chi, chi.shape) * kernel, chi.shape).astype(np.float32)
    found = invert_ndi(field, mask, (1, 1, 1), phase_scale=1e-2, lambda_=1e-9, iterations=12)
    passed = 1 - (1 - DESCENT_STEP * kernel ** 2) ** 12
    assert np.allclose(found, irfftn(rfftn(chi, chi.shape) * passed, chi.shape), atol=1e-4)


def test_a_turn_more_does_not_matter():
    chi, mask = cube()
    field = forward_field(chi, (1, 1, 1))
    wrapped = field + 2 * np.pi / 20 * (np.random.default_rng(0).random(chi.shape) < 0.05)
    maps = [invert_ndi(f, mask, (1, 1, 1), iterations=15) for f in (field, wrapped)]
    assert np.abs(maps[0] - maps[1]).max() < 1e-4 * np.abs(maps[0]).max()


@pytest.mark.parametrize('wrong', [{'phase_scale': 0}, {'lambda_': -1}, {'iterations': 0},
                                   {'weight': np.full((4, 4, 4), 2)}])
def test_bad_parameters(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        invert_ndi(np.ones((4, 4, 4)), np.ones((4, 4, 4), bool), (1, 1, 1), **wrong)
