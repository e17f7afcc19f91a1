import numpy as np
import pytest

from qsmbids.core.dipole import dipole_kernel, forward_field
from qsmbids.core.fourier import irfftn, rfftn
from qsmbids.core.inversion import medi
from qsmbids.core.inversion.medi import invert_medi, invert_medi0, smooth_steps
from qsmbids.core.inversion.variational import invert_tv

SHAPE = (28, 30, 26)


@pytest.fixture(scope='module')
def blocks():
    chi = np.zeros(SHAPE, np.float32)
    for corner, value in (((7, 8, 8), 0.1), ((16, 9, 13), -0.05), ((10, 17, 12), 0.2)):
        chi[tuple(slice(c, c + 6) for c in corner)] = value
    mask = sum(np.square(np.arange(n) - n / 2).reshape([-1 if i == a else 1 for i in range(3)])
               for a, n in enumerate(SHAPE)) < 12.5 ** 2
    noise = 0.004 * np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    return chi, forward_field(chi, (1, 1, 1)) + noise, mask


def error(found, chi, mask):
    difference = (found - chi)[mask]
    return np.linalg.norm(difference - difference.mean()) / np.linalg.norm(chi[mask] - chi[mask].mean())


def penalty(rng, size=SHAPE, voxel_size=(1, 1.25, 2)):
    smooth, fluid = rng.random((3, *size)) < 0.7, rng.random(size) < 0.1
    return smooth, fluid, medi._Penalty(smooth, fluid, voxel_size, 0.3, 0.5)


def test_the_penalty_is_the_gradient_of_its_cost():
    rng = np.random.default_rng(0)
    voxel_size, rounding = (1, 1.25, 2), 0.5
    smooth, fluid, found = penalty(rng)
    volume, direction = rng.standard_normal((2, *SHAPE)).astype(np.float32)

    def cost(v):
        lengths = sum(np.sqrt(np.square((np.roll(v, -1, axis) - v) / step) + rounding ** 2)[smooth[axis]].sum()
                      for axis, step in enumerate(voxel_size))
        return 0.3 * lengths + 0.25 * np.sum(np.square(v[fluid] - v[fluid].mean()))

    found.linearize(volume, rounding)
    gradient = np.zeros(SHAPE, np.float32)
    found.add(volume, gradient)
    slope = (cost(volume + 1e-3 * direction.astype(float)) - cost(volume - 1e-3 * direction.astype(float))) / 2e-3
    assert np.vdot(gradient, direction) == pytest.approx(slope, rel=1e-3)


def test_the_penalty_is_symmetric_and_its_diagonal_right():
    rng = np.random.default_rng(0)
    _, fluid, found = penalty(rng)
    x, y = rng.standard_normal((2, *SHAPE)).astype(np.float32)
    found.linearize(x, 0.1)
    images = np.zeros((2, *SHAPE), np.float32)
    for volume, image in zip((x, y), images):
        found.add(volume, image)
    assert np.vdot(x, images[1]) == pytest.approx(np.vdot(y, images[0]), rel=1e-3)
    for voxel in ((0, 0, 0), (5, 6, 7), (27, 29, 25)):
        unit, image = np.zeros((2, *SHAPE), np.float32)
        unit[voxel] = 1
        found.add(unit, image)
        assert fluid[voxel] or image[voxel] == pytest.approx(found.diagonal()[voxel], rel=1e-4)


def test_the_cost_is_stationary(blocks):
    rng = np.random.default_rng(1)
    _, field, _ = blocks
    smooth, fluid, quadratic = penalty(rng, voxel_size=(1, 1, 1))
    data, squared = 20 * field, rng.uniform(0.1, 1, SHAPE).astype(np.float32)
    kernel, rounding = dipole_kernel(SHAPE, (1, 1, 1)), medi._ROUNDING
    phase = np.zeros(SHAPE, np.float32)
    medi._gauss_newton(phase, data, squared, kernel, quadratic, None, 1., 1e-4, 100, 1e-3, 30)

    def cost(v):
        residual = irfftn(rfftn(v, SHAPE) * kernel, SHAPE) - data
        steps = [np.roll(v, -1, axis) - v for axis in range(3)]
        return (np.sum(squared * (1 - np.cos(residual)), dtype=float)
                + 0.3 * sum(np.sqrt(np.square(d.astype(float)) + rounding ** 2)[m].sum() for d, m in zip(steps, smooth))
                + 0.25 * np.sum(np.square(v[fluid] - v[fluid].mean()), dtype=float))

    for direction in (rng.standard_normal(SHAPE), phase / phase.std()):
        for step in (0.1, 0.01, -0.01, -0.1):
            assert cost(phase) <= cost((phase + step * direction).astype(np.float32)) * (1 + 1e-5)


def test_edges_are_where_the_magnitude_changes_most():
    magnitude = np.ones((10, 10, 10))
    magnitude[5:] = 3
    mask = np.ones(magnitude.shape, bool)
    mask[-1], mask[:, -1], mask[:, :, -1] = False, False, False
    smooth = smooth_steps(magnitude, mask, (1, 1, 1), 0.2)
    assert not smooth[0, 4, 2, 2] and smooth[1:, 4, 2, 2].all() and smooth[:, 2, 2, 2].all()
    for edges in (0., 0.1, 0.3):
        found = smooth_steps(np.random.default_rng(0).random(magnitude.shape), mask, (1, 1, 2), edges)
        assert 1 - found[:, mask].mean() == pytest.approx(edges, abs=0.01)


def test_edges_of_the_magnitude_help(blocks):
    chi, field, mask = blocks
    with_edges, without = (error(invert_medi(field, mask, (1, 1, 1), magnitude=magnitude, edges=0.1, lambda_=2e-3), chi,
                                 mask) for magnitude in (1 + 5 * chi, None))
    assert with_edges < 0.8 * without


def test_it_is_no_worse_than_the_map_it_begins_with(blocks):
    chi, field, mask = blocks
    options = {'lambda_': 2e-3}
    found = invert_medi(field, mask, (1, 1, 1), magnitude=1 + 5 * chi, edges=0.1, **options)
    assert error(found, chi, mask) < error(invert_tv(field, mask, (1, 1, 1), **options), chi, mask)


def test_fluid_becomes_uniform(blocks):
    chi, field, mask = blocks
    fluid = (chi == 0) & mask & (np.arange(SHAPE[2]) < 8)
    even, free = (invert_medi0(field, mask, (1, 1, 1), csf=csf, lambda_=1e-4, csf_weight=1)[fluid].std()
                  for csf in (fluid, None))
    assert even < 0.5 * free


def test_without_fluid_there_is_nothing_to_make_uniform(blocks):
    _, field, mask = blocks
    plain = invert_medi(field, mask, (1, 1, 1), magnitude=field, lambda_=1e-3)
    for csf in (None, np.zeros_like(mask)):
        assert np.array_equal(invert_medi0(field, mask, (1, 1, 1), magnitude=field, csf=csf, lambda_=1e-3), plain)


def test_bad_voxels_lose_their_weight(blocks):
    chi, field, mask = blocks
    field = field + np.where(np.random.default_rng(1).random(SHAPE) < 0.003, np.float32(0.15), 0)
    refined, not_refined = (error(invert_medi(field, mask, (1, 1, 1), merit=merit, lambda_=2e-4), chi, mask)
                            for merit in (True, False))
    assert refined < 0.5 * not_refined


def test_the_ball_takes_what_is_left_of_a_background(blocks):
    _, field, mask = blocks
    x, z = (np.arange(n, dtype=np.float32).reshape(form) - n / 2 for n, form in ((28, (-1, 1, 1)), (26, (-1,))))
    saddle = 1e-3 * (x ** 2 - z ** 2)
    changed = []
    for radius in (4, 0):
        clean, spoilt = (invert_medi(field + more, mask, (1, 1, 1), smv_radius=radius, lambda_=2e-4)
                         for more in (0, saddle))
        changed.append(np.linalg.norm(spoilt - clean) / np.linalg.norm(clean))
    assert changed[0] < 0.07 and changed[0] < 0.4 * changed[1]


def test_sources_outside_take_what_is_left_of_a_background(blocks):
    chi, field, mask = blocks
    outer = np.zeros(SHAPE, np.float32)
    outer[2:6, 2:6, 2:6] = 3
    left = np.where(mask, forward_field(outer, (1, 1, 1)), 0)
    clean, spoilt = (error(invert_medi(field + more, mask, (1, 1, 1), lambda_=2e-4), chi, mask) for more in (0, left))
    assert left[mask].std() > 0.2 * field[mask].std() and spoilt < 1.3 * clean


@pytest.mark.parametrize('wrong', [{'lambda_': -1}, {'phase_scale': 0}, {'edges': 1}, {'smv_radius': 50},
                                   {'csf_weight': 0}, {'tol': 0}, {'weight': np.full((4, 4, 4), 2)},
                                   {'magnitude': np.ones((4, 4, 5))}, {'csf': np.ones((4, 4, 5), bool)}])
def test_bad_parameters(wrong):
    name = next(iter(wrong)).replace('smv_radius', 'mask')
    with pytest.raises(ValueError, match=name):
        invert_medi0(np.ones((4, 4, 4)), np.ones((4, 4, 4), bool), (1, 1, 1), **wrong)
