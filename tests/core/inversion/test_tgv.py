import numpy as np
import pytest

from qsmbids.core.dipole import dipole_kernel, forward_field
from qsmbids.core.fourier import frequencies, irfftn, rfftn
from qsmbids.core.inversion import tgv
from qsmbids.core.inversion.tgv import invert_tgv
from qsmbids.core.inversion.variational import write_divergence

SHAPE = (26, 25, 24)
VOXEL_SIZE = (1, 1.25, 2)
PER_MM = np.divide(1, VOXEL_SIZE).astype(np.float32)
FAR = np.full(2, 1e9, np.float32)
EVERYWHERE = np.ones(SHAPE, bool)


def mask():
    return sum(np.square(np.arange(n) - n / 2).reshape([-1 if i == a else 1 for i in range(3)])
               for a, n in enumerate(SHAPE)) < 11.5 ** 2


@pytest.fixture(scope='module')
def blocks():
    chi = np.zeros(SHAPE, np.float32)
    for corner, value in (((6, 6, 8), 0.1), ((14, 8, 12), -0.05), ((9, 14, 9), 0.2)):
        chi[tuple(slice(c, c + 5) for c in corner)] = value
    return chi, forward_field(chi, (1, 1, 1))


def derivatives(chi, vector):
    """Return ``grad chi - w`` and ``E w``, taken from zero by a full step."""
    slope, bend = np.zeros((3, *SHAPE), np.float32), np.zeros((6, *SHAPE), np.float32)
    tgv._relax_derivatives(chi, vector, EVERYWHERE, PER_MM, FAR, np.float32(1), slope, bend)
    return slope, bend


def adjoint(slope, bend, penalties):
    """What acts on chi and w; far below the thresholds a target is minus what is kept."""
    divergence, right = np.empty(SHAPE, np.float32), np.empty((3, *SHAPE), np.float32)
    write_divergence(slope, divergence, EVERYWHERE, PER_MM, FAR[0])
    tgv._write_right_side(slope, bend, EVERYWHERE, PER_MM, FAR, penalties, right)
    return -penalties[0] * divergence, -right


def test_the_right_side_is_the_adjoint_of_the_derivatives():
    rng = np.random.default_rng(0)
    chi, *vector = rng.standard_normal((4, *SHAPE)).astype(np.float32)
    vector, penalties = np.stack(vector), np.array([0.7, 0.4], np.float32)
    slope, bend = derivatives(chi, vector)
    p, q = rng.standard_normal(slope.shape).astype(np.float32), rng.standard_normal(bend.shape).astype(np.float32)
    twice = np.array([1, 1, 1, 2, 2, 2]).reshape(-1, 1, 1, 1)
    forward = penalties[0] * np.vdot(slope, p) + penalties[1] * np.vdot(bend * twice, q)
    down, right = adjoint(p, q, penalties)
    assert np.vdot(chi, down) + np.vdot(vector, right) == pytest.approx(forward, rel=1e-3)


def test_an_affine_vector_has_a_constant_symmetric_gradient_and_a_rotation_none():
    x, y, z = np.meshgrid(*(np.arange(n, dtype=np.float32) * step for n, step in zip(SHAPE, VOXEL_SIZE)), indexing='ij')
    inner = (slice(None), *(slice(2, -2),) * 3)
    _, turned = derivatives(np.zeros(SHAPE, np.float32), np.stack([y - z, -x + 3 * z, x - 3 * y]))
    assert np.abs(turned[inner]).max() < 1e-4
    _, sheared = derivatives(np.zeros(SHAPE, np.float32), np.stack([2 * x + y, x - z, 3 * z]))
    assert np.allclose(sheared[inner], np.array([2, 0, 3, 1, 0, -0.5]).reshape(-1, 1, 1, 1), atol=1e-4)


def test_the_solution_in_fourier_space_solves_the_normal_equations():
    rng = np.random.default_rng(1)
    kernel, penalties = dipole_kernel(SHAPE, VOXEL_SIZE), np.array([0.03, 0.2], np.float32)
    target, divergence, *right = rng.standard_normal((5, *SHAPE)).astype(np.float32)
    divergence -= divergence.mean()
    spectrum, vector = rfftn(target, SHAPE), np.stack([rfftn(v, SHAPE) for v in right])
    symbols = [((np.exp(2j * np.pi * step * k.ravel()) - 1) / step).astype(np.complex64)
               for k, step in zip(frequencies(SHAPE, VOXEL_SIZE), VOXEL_SIZE)]
    tgv._solve(spectrum, rfftn(divergence, SHAPE), vector, kernel, *symbols, penalties)
    chi, vector = irfftn(spectrum.copy(), SHAPE), np.stack([irfftn(v.copy(), SHAPE) for v in vector])
    down, left = adjoint(*derivatives(chi, vector), penalties)
    misfit = irfftn((spectrum * kernel - rfftn(target, SHAPE)) * kernel, SHAPE)
    assert np.allclose(tgv._DATA_PENALTY * misfit + down, penalties[0] * divergence, atol=2e-3)
    assert np.allclose(left, np.stack(right), atol=2e-3)


def test_it_converges_as_fast_as_its_default_says(blocks):
    chi, field = blocks
    quick, long = (invert_tgv(field, mask(), (1, 1, 1), lambda_=3e-4, **more)
                   for more in ({}, {'tol': 1e-9, 'max_iterations': 500}))
    assert np.linalg.norm(quick - long) < 0.1 * np.linalg.norm(long)
    assert np.corrcoef(long[mask()], chi[mask()])[0, 1] > 0.97


def test_bad_voxels_can_be_left_out(blocks):
    _, field = blocks
    weight = (np.random.default_rng(0).random(SHAPE) > 0.02).astype(np.float32)
    settings = {'lambda_': 1e-3, 'weight': weight}
    one, other = (invert_tgv(field + bad * (weight == 0), mask(), (1, 1, 1), **settings) for bad in (0, 0.3))
    assert np.abs(one - other).max() < 0.1 * np.abs(one).max()


@pytest.mark.parametrize('wrong', [{'lambda_': -1}, {'ratio': 0}, {'tol': 0}, {'max_iterations': 0},
                                   {'weight': np.full((6, 6, 6), 2)}])
def test_bad_parameters(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        invert_tgv(np.ones((6, 6, 6)), np.ones((6, 6, 6), bool), (1, 1, 1), **wrong)
