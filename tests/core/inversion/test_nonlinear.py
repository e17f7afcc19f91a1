import numpy as np
import pytest

from qsmbids.core.dipole import dipole_kernel, forward_field
from qsmbids.core.fourier import irfftn, rfftn
from qsmbids.core.grid import squared_gradient
from qsmbids.core.inversion import nonlinear
from qsmbids.core.inversion.nonlinear import invert_nltv, invert_whqsm
from qsmbids.core.inversion.variational import invert_tv, minimize_tv

SHAPE = (32, 32, 32)


def ball(radius):
    return sum(np.square(np.arange(n) - n / 2).reshape([-1 if i == a else 1 for i in range(3)])
               for a, n in enumerate(SHAPE)) < radius ** 2


@pytest.fixture(scope='module')
def blocks():
    chi = np.zeros(SHAPE, np.float32)
    for corner, value in (((8, 10, 9), 0.1), ((18, 10, 16), -0.05), ((12, 18, 14), 0.2)):
        chi[tuple(slice(c, c + 6) for c in corner)] = value
    noise = 0.001 * np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    return chi, forward_field(chi, (1, 1, 1)) + noise, ball(14)


def error(found, chi, mask):
    difference = (found - chi)[mask]
    return np.linalg.norm(difference - difference.mean()) / np.linalg.norm(chi[mask] - chi[mask].mean())


@pytest.mark.parametrize('squared', [0., 0.1, 0.7, 1.])
def test_the_multiplier_is_that_of_the_nearest_minimum(squared):
    distance = np.linspace(-12, 12, 241, dtype=np.float32)
    state, target = np.zeros((2, 1, 1, 241), np.float32)
    nonlinear._relax_phase(distance.reshape(1, 1, -1), np.zeros_like(state), np.full_like(state, squared), state,
                           target, np.float32(1), np.float32(1))
    found = (state - target).ravel() / 2
    y = np.linspace(-15, 15, 30001)
    cost = squared * (1 - np.cos(y)) + 0.5 * np.square(y - distance[:, None].astype(float))
    best = cost.min(axis=1)
    reached = squared * (1 - np.cos(distance - found)) + 0.5 * np.square(found)
    assert np.all(reached <= best + 1e-4)
    assert np.allclose(squared * np.sin(distance - found), found, atol=1e-3)


def test_small_phases_make_it_the_linear_inversion(blocks):
    chi, field, mask = blocks
    settings = {'lambda_': 1e-3, 'tol': 1e-6, 'max_iterations': 300}
    linear = invert_tv(field, mask, (1, 1, 1), **settings)
    found = invert_nltv(field, mask, (1, 1, 1), phase_scale=0.01, **settings)
    # They may take what lies outside the mask differently.
    assert np.linalg.norm(found - linear) < 0.05 * np.linalg.norm(linear)


def test_the_cost_is_stationary(blocks):
    _, field, _ = blocks
    size, scale, lambda_ = SHAPE, 20., 1e-3
    rng = np.random.default_rng(1)
    data = (scale * (field + 0.02 * rng.standard_normal(size))).astype(np.float32)
    squared = rng.uniform(0.1, 1, size).astype(np.float32)
    kernel = dipole_kernel(size, (1, 1, 1))
    update = nonlinear._phase_update(data, squared, None, kernel, squared_gradient(size, (1, 1, 1)),
                                     np.float32(scale * lambda_ / 0.2))
    phase = minimize_tv(update, size, (1, 1, 1), 0.2, size, 0., 100)

    def cost(volume):
        residual = irfftn(rfftn(volume, size) * kernel, size) - data
        steps = [np.roll(volume, -1, axis) - volume for axis in range(3)]
        return (np.sum(squared * (1 - np.cos(residual)), dtype=float)
                + scale * lambda_ * np.linalg.norm(steps, axis=0).sum(dtype=float))

    for direction in (rng.standard_normal(size), phase / phase.std()):
        for step in (1e-1, 1e-2, -1e-2, -1e-1):
            assert cost(phase) <= cost((phase + step * direction).astype(np.float32)) * (1 + 1e-5)


def test_whole_turns_do_no_harm_and_outliers_less_than_to_the_linear_inversion(blocks):
    chi, field, mask = blocks
    rng = np.random.default_rng(1)
    bad = rng.random(SHAPE) < 0.01
    turn = np.float32(2 * np.pi / nonlinear.PHASE_SCALE)
    found, turned = (error(invert_nltv(data, mask, (1, 1, 1), lambda_=1e-3), chi, mask)
                     for data in (field, field + turn * bad))
    assert turned == pytest.approx(found, rel=0.02)
    hit = field + turn * (bad * rng.uniform(-0.5, 0.5, SHAPE)).astype(np.float32)
    found, linear = (error(method(hit, mask, (1, 1, 1), lambda_=1e-3, tol=1e-3, max_iterations=100), chi, mask)
                     for method in (invert_nltv, invert_tv))
    assert found < 0.5 * linear


def test_the_phase_is_what_must_stay_the_same(blocks):
    _, field, mask = blocks
    chi = invert_nltv(field, mask, (1, 1, 1), max_iterations=10, lambda_=3e-4)
    found = invert_nltv(4 * field, mask, (1, 1, 1), max_iterations=10, phase_scale=nonlinear.PHASE_SCALE / 4,
                        lambda_=4 * 3e-4)
    assert np.allclose(found, 4 * chi, atol=1e-5)


def test_the_harmonic_part_takes_what_is_left_of_a_background(blocks):
    chi, field, mask = blocks
    x, y, z = (np.arange(32, dtype=np.float32).reshape([-1 if i == a else 1 for i in range(3)]) - 16 for a in range(3))
    saddle = 1e-3 * (x ** 2 - z ** 2) + 5e-3 * y
    air = np.where(ball(14), np.float32(0), 2.5 * ((x - 13) ** 2 + y ** 2 + (z - 13) ** 2 < 9))
    for rest in (saddle, forward_field(air, (1, 1, 1))):
        with_part, without = (error(method(field + rest, mask, (1, 1, 1), lambda_=3e-4, max_iterations=100), chi,
                                    mask)
                              for method in (invert_whqsm, invert_nltv))
        assert with_part < 0.8 * without


@pytest.mark.parametrize('wrong', [{'lambda_': -1}, {'phase_scale': 0}, {'beta': 0}, {'tol': 0}, {'max_iterations': 0},
                                   {'weight': np.full((4, 4, 4), 2)}])
def test_bad_parameters(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        invert_whqsm(np.ones((4, 4, 4)), np.ones((4, 4, 4), bool), (1, 1, 1), **wrong)
