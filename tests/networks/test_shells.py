"""The projection of POCSnet1: its operator, its slope, and what it is without a network."""

import numpy as np
import pytest
import torch

from qsmbids.core.background.resharp import remove_background_resharp
from qsmbids.core.dipole import forward_field
from qsmbids.networks.shells import Balls, POCSnet1, Projection, SHARQnet, begin, make_balls, solve

VOXEL_SIZE = (1., 1.2, 1.6)
RADII = 4., 3., 2.


def ellipsoid(shape, voxel_size, radii):
    grids = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, voxel_size)), indexing='ij',
                        sparse=True)
    return sum((grid / radius) ** 2 for grid, radius in zip(grids, radii)) <= 1


@pytest.fixture(scope='module')
def masks():
    shape = (21, 18, 15)
    return [ellipsoid(shape, VOXEL_SIZE, (9., 9., 10.)), ellipsoid(shape, (1, 1, 1), (9.5, 7.5, 6.5))]


@pytest.fixture(scope='module')
def balls(masks):
    return Balls(*(volumes.double() for volumes in make_balls(masks, [VOXEL_SIZE, (1., 1., 1.)], RADII)))


def volumes(balls, count):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(balls.mask.shape, generator=generator, dtype=balls.mask.dtype) for _ in range(count)]


def product(one, other):
    return float((one * other).sum())


def test_shells_are_disjoint_and_hold_what_fits(balls, masks):
    shells = balls.shells[0].bool().numpy()
    assert shells.sum(0).max() == 1 and shells.any(axis=(1, 2, 3)).all()
    ball = ellipsoid((9, 7, 5), VOXEL_SIZE, (4.001,) * 3)
    x, y, z = np.argwhere(shells[0])[0]
    assert masks[0][x - 4:x + 5, y - 3:y + 4, z - 2:z + 3][ball].all()


@pytest.mark.parametrize('slow', [0., 100.])
def test_the_operator_is_its_own_adjoint_and_has_no_negative_part(balls, slow):
    one, other = (volume * balls.mask for volume in volumes(balls, 2))
    image = balls.normal(one, slow)
    assert product(image, other) == pytest.approx(product(one, balls.normal(other, slow)), rel=1e-9)
    assert product(image, one) > 0
    assert not (image * (1 - balls.mask)).any()


def test_samples_of_a_batch_do_not_mix(balls):
    volume, = volumes(balls, 1)
    alone = Balls(*(part[1:] for part in balls))
    both, single = (solve(b, b.normal(v), 0., .1, 5) for b, v in ((balls, volume), (alone, volume[1:])))
    assert torch.allclose(both[1:], single, atol=1e-12)


@pytest.mark.parametrize('slow', [0., 1.])
def test_slope_is_that_of_the_iterations(balls, slow):
    proposed, measured, direction = volumes(balls, 3)
    data, iterations = balls.normal(measured), 60
    slopes = []
    for project in (lambda x: Projection.apply(x, data, balls, slow, .1, iterations),
                    lambda x: solve(balls, data + .1 * x * balls.mask, slow, .1, iterations)):
        x = proposed.clone().requires_grad_()
        (project(x) * direction).sum().backward()
        slopes.append(x.grad)
    assert slopes[1].abs().max() > .01
    assert torch.allclose(*slopes, atol=1e-6)


def test_few_iterations_are_enough_for_the_slope_to_point_downwards(balls):
    proposed, measured, truth = volumes(balls, 3)
    data = balls.normal(measured)

    def error(x):
        return (Projection.apply(x, data, balls, 0., .1, 5) - truth).square().sum()
    x = proposed.clone().requires_grad_()
    before = error(x)
    before.backward()
    assert error(proposed - .1 * x.grad) < before


def test_without_a_network_one_ball_is_resharp(masks):
    mask = masks[0]
    field = np.random.default_rng(0).standard_normal(mask.shape).astype(np.float32)
    balls = make_balls([mask], [VOXEL_SIZE], [3.])
    data = balls.normal(torch.from_numpy(field * mask)[None, None])
    found = solve(balls, data, 0., .01, 200)[0, 0].numpy()
    expected, eroded = remove_background_resharp(field, mask, VOXEL_SIZE, radius=3., lambda_=.01, tol=1e-6,
                                                 max_iterations=200)
    assert np.array_equal(eroded, balls.known[0, 0].numpy() > 0)
    assert np.allclose(found[eroded], expected[eroded], atol=1e-3 * np.abs(expected).max())


def test_begin_removes_the_field_of_outer_sources_and_keeps_that_of_inner_ones():
    shape, voxel_size = (45, 40, 33), (1., 1.2, 1.4)
    mask = ellipsoid(shape, voxel_size, (20, 21, 20))
    outer = np.zeros(shape, np.float32)
    outer[:3, 18:24, 14:20] = 9
    inner = np.zeros(shape, np.float32)
    inner[20:25, 18:22, 15:18] = .1
    background = forward_field(outer, voxel_size) * mask
    left, _ = begin(background, mask, voxel_size)
    assert left.scale < .03 * background[mask].std()
    local = forward_field(inner, voxel_size) * mask
    found, _ = begin(background + local, mask, voxel_size)
    side = tuple(slice(s.stop - s.start) for s in found.box)
    wanted, got, known = local[found.box], (found.scale * found.first)[side], found.known[side]
    assert np.linalg.norm((got - wanted)[known]) < .35 * np.linalg.norm(wanted[known])


def test_mask_without_room_for_a_ball_is_refused():
    mask = np.zeros((9, 9, 9), bool)
    mask[3:5, 3:5, 3:5] = True
    with pytest.raises(ValueError, match='no ball'):
        begin(np.ones(mask.shape, np.float32), mask, (1., 1., 1.))


def test_warm_start_needs_fewer_iterations(balls):
    proposed, measured = volumes(balls, 2)
    data = balls.normal(measured)
    exact = Projection.apply(proposed, data, balls, 0., .1, 80)
    cold, warm = (Projection.apply(proposed, data, balls, 0., .1, 3, begin) for begin in (None, exact + .1 * proposed))
    assert (warm - exact).norm() < .3 * (cold - exact).norm()


@pytest.mark.parametrize('kind', [POCSnet1, SHARQnet])
def test_training_inputs_are_those_of_whole_volumes(kind, masks):
    """A patch that is a whole volume gives the same maps in training as in inference."""
    rng = np.random.default_rng(1)
    batch = {name: rng.standard_normal((1, *masks[1].shape)).astype(np.float32) * masks[1] for name in
             ('total', 'first', 'local')}
    batch |= {'mask': masks[1][None], 'known': masks[1][None], 'scale': np.array([2.], np.float32),
              'voxel_size': np.ones((1, 3)), 'b0_dir': np.array([[0., 0., 1.]])}
    network = kind(width=4)
    torch.nn.init.normal_(network.backbone.last.weight, std=.1)
    inputs, truth, known = network.prepare(batch, 'cpu')
    assert torch.allclose(2 * truth[0, 0], torch.from_numpy(batch['local'][0]))
    maps = network(**inputs)
    (maps[0] * truth * known).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert all(not (volume * (1 - inputs['mask'])).any() for volume in maps)
