import numpy as np
import pytest

from qsmbids.core.dipole import forward_field
from qsmbids.core.inversion import tgv
from qsmbids.core.inversion.tgv import invert_tgv, invert_tgv_phase
from qsmbids.core.phase import center_frequency, ppm_to_radians, wrap

SHAPE = (26, 25, 24)
B0_DIR = (0, 0.6, 0.8)


@pytest.fixture(scope='module')
def blocks():
    chi = np.zeros(SHAPE, np.float32)
    for corner, value in (((6, 6, 8), 0.1), ((14, 8, 12), -0.05), ((9, 14, 9), 0.2)):
        chi[tuple(slice(c, c + 5) for c in corner)] = value
    mask = sum(np.square(np.arange(n) - n / 2).reshape([-1 if i == a else 1 for i in range(3)])
               for a, n in enumerate(SHAPE)) < 11.5 ** 2
    return chi, forward_field(chi, (1, 1, 1)), mask


def grid_without_steps(voxel_size):
    return tgv._grid(voxel_size, B0_DIR)._replace(steps=np.ones(6, np.float32))


def test_the_steps_down_are_the_adjoint_of_the_steps_up():
    rng = np.random.default_rng(0)
    inside = np.pad(rng.random((9, 8, 7)) < 0.9, 1)
    inner = inside & (rng.random(inside.shape) < 0.7)
    grid = grid_without_steps((1, 1.25, 2))

    def random(*channels, where):
        return rng.standard_normal((*channels, *inside.shape)).astype(np.float32) * where

    chi, psi, vector = random(where=inside), random(where=inside), random(3, where=inside)
    constraint, slope, bend = (np.zeros((n, *inside.shape), np.float32) for n in (1, 3, 6))
    nothing = np.zeros_like(chi)
    far = np.float32(1e9)
    tgv._raise_duals(chi, vector, psi, nothing, inside, inner, *grid, far, far, constraint[0], slope, bend)
    # Multipliers that the steps up would keep: none across the border.
    duals = random(1, where=inner), random(3, where=slope != 0), random(6, where=inside)
    found_chi, found_psi, found_vector = nothing.copy(), nothing.copy(), np.zeros_like(vector)
    tgv._lower_primals(duals[0][0], *duals[1:], inside, *grid, found_chi, found_vector, found_psi, nothing.copy(),
                       np.zeros_like(vector), nothing.copy())
    twice = np.array([1, 1, 1, 2, 2, 2]).reshape(-1, 1, 1, 1)
    up = np.vdot(constraint, duals[0]) + np.vdot(slope, duals[1]) + np.vdot(bend * twice, duals[2])
    # The step of psi is halved by its own weight.
    down = np.vdot(found_chi, chi) + 2 * np.vdot(found_psi, psi) + np.vdot(found_vector, vector)
    assert up == pytest.approx(-down, rel=1e-4)


def test_the_wave_operator_makes_the_laplacian_of_the_field():
    x, y, z = np.meshgrid(*(np.arange(48) - 24.,) * 3, indexing='ij')
    chi = np.exp(-(x ** 2 + y ** 2 + z ** 2) / 72).astype(np.float32)
    field = forward_field(chi, (1, 1, 1), B0_DIR)
    inner = np.zeros(chi.shape, bool)
    inner[8:-8, 8:-8, 8:-8] = True
    grid, zero = grid_without_steps((1, 1, 1)), np.zeros_like(chi)
    laplacian = tgv._laplacian(field, inner, (1, 1, 1), np.asarray)
    constraint, far = np.zeros_like(chi), np.float32(1e9)
    tgv._raise_duals(chi, np.zeros((3, *chi.shape), np.float32), zero, laplacian, np.ones(chi.shape, bool), inner,
                     *grid, far, far, constraint, *(np.zeros((n, *chi.shape), np.float32) for n in (3, 6)))
    assert np.abs(constraint[inner]).max() < 0.03 * np.abs(laplacian).max()


def test_a_background_does_not_matter(blocks):
    _, field, mask = blocks
    x, y, z = (np.arange(n, dtype=np.float32).reshape([-1 if i == a else 1 for i in range(3)])
               for a, n in enumerate(SHAPE))
    settings = {'lambda_': 1e-3, 'max_iterations': 200}
    local = invert_tgv(field, mask, (1, 1, 1), **settings)
    total = invert_tgv(field + 0.01 * (x ** 2 - z ** 2) + 0.2 * y, mask, (1, 1, 1), **settings)
    assert np.abs(total - local).max() < 0.01 * np.abs(local).max()


def test_wrapped_phase_gives_what_its_field_does(blocks):
    _, field, mask = blocks
    time, frequency = 0.02, center_frequency(3)
    ramp = 0.05 * np.arange(SHAPE[0], dtype=np.float32).reshape(-1, 1, 1)
    phase = wrap(ppm_to_radians(field + ramp, time, frequency))
    assert np.abs(np.diff(phase, axis=0)).max() > 5
    settings = {'lambda_': 1e-3, 'max_iterations': 200}
    found = invert_tgv_phase(phase, mask, (1, 1, 1), echo_time=time, center_frequency=frequency, **settings)
    assert np.allclose(found, invert_tgv(field, mask, (1, 1, 1), **settings), atol=1e-3)


def test_it_nears_the_truth(blocks):
    chi, field, mask = blocks
    found = invert_tgv(field, mask, (1, 1, 1), lambda_=3e-4, max_iterations=2000)
    assert np.corrcoef(found[mask], chi[mask])[0, 1] > 0.95


@pytest.mark.parametrize('wrong', [{'lambda_': -1}, {'ratio': 0}, {'max_iterations': 0}])
def test_bad_parameters(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        invert_tgv(np.ones((6, 6, 6)), np.ones((6, 6, 6), bool), (1, 1, 1), **wrong)


def test_a_mask_too_thin():
    mask = np.zeros((8, 8, 8), bool)
    mask[2:4] = True
    with pytest.raises(ValueError, match='thicker'):
        invert_tgv(np.ones(mask.shape), mask, (1, 1, 1), lambda_=1e-3)
