import numpy as np
import pytest

from qsmbids.core.dipole import dipole_kernel, forward_field
from qsmbids.core.fourier import irfftn, rfftn
from qsmbids.core.inversion import variational
from qsmbids.core.grid import padded_size, squared_gradient
from qsmbids.core.inversion.variational import invert_tv, minimize_tv, relative_change


def blocks(shape, step=1):
    """Cuboids of the same size in mm on a grid of `step` mm."""
    chi = np.zeros(shape, np.float32)
    for corner, value in (((8, 8, 8), 0.1), ((20, 10, 18), -0.05), ((12, 22, 16), 0.2)):
        chi[tuple(slice(int(c / step), int((c + 6) / step)) for c in corner)] = value
    return chi


def gradient(volume, voxel_size):
    return np.stack([(np.roll(volume, -1, axis) - volume) / step for axis, step in enumerate(voxel_size)])


def test_gradient_and_divergence_are_adjoint():
    rng = np.random.default_rng(0)
    size, voxel_size = (7, 8, 9), (1, 1.25, 2)
    per_mm = np.divide(1, voxel_size).astype(np.float32)
    x, y = rng.standard_normal(size).astype(np.float32), rng.standard_normal((3, *size)).astype(np.float32)
    split, divergence = np.zeros_like(y), np.empty_like(x)
    everywhere = np.ones(size, bool)
    variational._relax_gradient(x, split, everywhere, per_mm, np.float32(1), np.float32(1))
    assert np.allclose(split, gradient(x, voxel_size), atol=1e-6)
    # At a threshold of zero there is no multiplier: what is left is the adjoint.
    variational.write_divergence(y, divergence, everywhere, per_mm, np.float32(0))
    assert np.vdot(x, divergence) == pytest.approx(np.vdot(split, y), rel=1e-4)
    assert np.allclose(irfftn(rfftn(x, size) * squared_gradient(size, voxel_size), size),
                       _divergence_of(split, per_mm), atol=1e-4)


def _divergence_of(vectors, per_mm):
    divergence = np.empty(vectors.shape[1:], np.float32)
    variational.write_divergence(vectors, divergence, np.ones(divergence.shape, bool), per_mm, np.float32(0))
    return divergence


def test_denoising_reaches_the_optimum():
    # 1/2 |chi - f|^2 + a sum |grad chi|, whose duality gap can be computed.
    rng = np.random.default_rng(0)
    size, voxel_size, strength, penalty = (12, 10, 14), (1, 1.25, 2), 0.3, 1.0
    data = rng.standard_normal(size).astype(np.float32)
    spectrum = rfftn(data, size)
    denominator = 1 + penalty * squared_gradient(size, voxel_size)

    def update(divergence):
        change = 0 if divergence is None else penalty * rfftn(divergence, size)
        return irfftn((spectrum + change) / denominator, size)

    def cost(chi):
        return 0.5 * np.sum((chi - data) ** 2) + strength * np.linalg.norm(gradient(chi, voxel_size), axis=0).sum()

    found = minimize_tv(update, size, voxel_size, strength / penalty, size, 0., 300)
    assert cost(found) < 0.8 * cost(data)
    for scale in (0.1, 1e-2, 1e-3):
        for _ in range(20):
            assert cost(found) <= cost(found + scale * rng.standard_normal(size)) * (1 + 1e-5)
    # At the optimum the cost is stationary along the map itself, too.
    assert cost(found) <= min(cost(1.01 * found), cost(0.99 * found)) * (1 + 1e-5)


def test_inversion_reaches_the_optimum_of_its_cost():
    rng = np.random.default_rng(0)
    shape, lambda_ = (24, 24, 24), 1e-3
    mask = np.ones(shape, bool)
    weight = rng.uniform(0.3, 1, shape).astype(np.float32)
    field = forward_field(blocks((40, 40, 40))[4:28, 4:28, 4:28], (1, 1, 1))
    field += 0.002 * rng.standard_normal(shape).astype(np.float32)
    data = np.zeros(padded_size(shape), np.float32)
    data[:24, :24, :24] = field
    squared, inside = np.zeros_like(data), np.zeros(data.shape, bool)
    squared[:24, :24, :24], inside[:24, :24, :24] = weight ** 2, True
    kernel, threshold = dipole_kernel(data.shape, (1, 1, 1)), variational.gradient_scale(field, mask)

    def cost(chi):
        residual = irfftn(rfftn(chi, chi.shape) * kernel, chi.shape) - data
        return (0.5 * np.sum(squared * residual ** 2, dtype=float)
                + lambda_ * np.linalg.norm(gradient(chi, (1, 1, 1)), axis=0)[inside].sum(dtype=float))

    def run(iterations):
        update = variational.least_squares_update(data, squared.copy(), kernel,
                                                  squared_gradient(data.shape, (1, 1, 1)), lambda_ / threshold)
        return minimize_tv(update, data.shape, (1, 1, 1), threshold, shape, 0., iterations, region=inside)

    default, best = run(40), run(250)
    assert cost(default) < 1.03 * cost(best)
    for scale in (1e-2, 1e-3, 1e-4):
        for direction in (rng.standard_normal(best.shape), best / best.std(), blocks(best.shape) / 0.1):
            for sign in (1, -1):
                assert cost(best) <= cost((best + sign * scale * direction).astype(np.float32)) * (1 + 1e-5)
    found = invert_tv(field, mask, (1, 1, 1), weight=weight, lambda_=lambda_, tol=1e-9, max_iterations=40)
    assert np.allclose(found, default[:24, :24, :24], atol=1e-5)


def test_lambda_does_not_depend_on_the_voxel_size():
    maps = []
    for step in (2, 1):
        chi = blocks([int(36 / step)] * 3, step)
        mask = np.ones(chi.shape, bool)
        found = invert_tv(forward_field(chi, (step,) * 3), mask, (step,) * 3, lambda_=3e-3)
        maps.append(found[chi == 0.2].mean() - found[chi == -0.05].mean())
    assert 0.15 < min(maps) and max(maps) < 0.22
    assert maps[0] == pytest.approx(maps[1], rel=0.05)


def test_bad_data_with_little_weight_do_little_harm():
    chi = blocks((36, 36, 36))
    mask = np.ones(chi.shape, bool)
    field = forward_field(chi, (1, 1, 1))
    weight = np.ones_like(field)
    bad = np.random.default_rng(0).random(chi.shape) < 0.01
    weight[bad], field[bad] = 0, 0.5
    with_weight, without = (np.linalg.norm(invert_tv(field, mask, (1, 1, 1), weight=w) - chi) for w in (weight, None))
    assert with_weight < 0.1 * without


@pytest.mark.parametrize('wrong', [{'lambda_': -1}, {'tol': 0}, {'max_iterations': 0},
                                   {'weight': np.full((4, 4, 4), 2)}, {'weight': np.ones((4, 4, 5))}])
def test_bad_parameters(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        invert_tv(np.ones((4, 4, 4)), np.ones((4, 4, 4), bool), (1, 1, 1), **wrong)


def test_the_change_is_measured_where_the_map_is():
    before, after = np.random.default_rng(0).standard_normal((2, 7, 9, 20)).astype(np.float32)
    inner = (slice(5), slice(8), slice(17))
    expected = np.linalg.norm((before - after)[inner]) / np.linalg.norm(after[inner])
    assert relative_change(before, after, (5, 8, 17)) == pytest.approx(expected, rel=1e-5)
    assert relative_change(0 * after, 0 * after, (5, 8, 17)) == 0
