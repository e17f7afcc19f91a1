import itertools

import numpy as np
import pytest
from scipy import ndimage

from qsmbids.core.background import balls
from qsmbids.core.background.lbv import remove_background_lbv
from qsmbids.core.background.resharp import remove_background_ismv
from qsmbids.core.background.sharp import remove_background_vsharp
from qsmbids.core.methods import BACKGROUND
from qsmbids.core.dipole import forward_field
from qsmbids.core.fourier import irfftn
from qsmbids.core.threads import use_threads

METHODS = pytest.mark.parametrize('method', [method.load() for method in BACKGROUND.values()], ids=BACKGROUND)

# What each may leave of the background and err in the local field, as parts of the local field; what it has to keep of
# the mask; what rounding may change (conjugate gradients on a problem as ill-posed as that of PDF amplify it).
LIMITS = {'vsharp': (0.1, 0.25, 0.8, 1e-5), 'sharp': (0.1, 0.1, 0.5, 1e-5), 'resharp': (0.1, 0.2, 0.5, 1e-5),
          'ismv': (0.1, 0.1, 0.5, 1e-5), 'pdf': (0.3, 0.35, 0.99, 5e-3), 'lbv': (0.3, 0.35, 0.8, 1e-5),
          'pocsnet1': (0.1, 0.35, 0.8, 1e-4)}


def limits(method):
    return LIMITS[method.__name__.removeprefix('remove_background_')]


def ellipsoid(shape, voxel_size, radii, center=(0, 0, 0)):
    grids = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, voxel_size)]
    return sum(np.square((grid.reshape([-1 if i == axis else 1 for i in range(3)]) - c) / r)
               for axis, (grid, r, c) in enumerate(zip(grids, radii, center))) <= 1


def head(voxel_size, extent=(80, 84, 76)):
    """A mask, the field of small sources in it, and that of air spheres next to it."""
    shape = tuple(int(length / step) for length, step in zip(extent, voxel_size))
    mask = ellipsoid(shape, voxel_size, (30, 33, 28))
    chi = np.zeros(shape, np.float32)
    for center, value in (((12, 0, 0), 0.1), ((-8, 9, 5), 0.2), ((0, -12, -7), -0.1), ((2, 3, 12), 0.15)):
        chi[ellipsoid(shape, voxel_size, (4, 5, 4), center)] = value
    outer = sum(air_sphere(shape, voxel_size, 6, center) for center in ((0, 0, -35), (25, -28, 0), (-35, 0, 15)))
    return mask, forward_field(chi, voxel_size, margin=40), outer.astype(np.float32)


def air_sphere(shape, voxel_size, radius, center):
    """The field outside a sphere of 9 ppm: 9/3 (r/d)^3 (3 cos^2 - 1)."""
    x, y, z = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * step - c for n, step, c in zip(shape, voxel_size, center)),
                          indexing='ij', sparse=True)
    squared = np.maximum(x ** 2 + y ** 2 + z ** 2, radius ** 2)
    return 3 * radius ** 3 / squared ** 1.5 * (3 * z ** 2 / squared - 1)


@pytest.fixture(scope='module')
def small():
    rng = np.random.default_rng(0)
    shape = (27, 30, 25)
    return rng.standard_normal(shape).astype(np.float32), ellipsoid(shape, (1, 1, 1), (11, 12.5, 10.2))


@METHODS
@pytest.mark.parametrize('voxel_size', [(1, 1, 1), (1, 1.25, 2.5)])
def test_the_background_goes_and_the_local_field_stays(method, voxel_size):
    mask, local, outer = head(voxel_size)
    most_left, error, coverage, _ = limits(method)
    found, eroded = method(local + outer, mask, voxel_size)
    left, _ = method(outer, mask, voxel_size)
    scale = np.linalg.norm(local[eroded])
    assert np.linalg.norm(outer[eroded]) > 8 * scale
    assert np.linalg.norm(left[eroded]) < most_left * scale
    assert np.linalg.norm((found - local)[eroded]) < error * scale
    assert eroded.sum() > coverage * mask.sum()


@METHODS
def test_contract(method, small):
    field, mask = small
    given = field.copy(), mask.copy()
    local, eroded = method(field, mask, (1, 1, 1))
    assert np.array_equal(field, given[0]) and np.array_equal(mask, given[1])
    assert local.dtype == np.float32 and eroded.dtype == bool and eroded.any()
    assert not np.any(eroded & ~mask) and not np.any(local[~eroded])
    double, _ = method(2 * field, mask, (1, 1, 1))
    assert np.allclose(double, 2 * local, atol=1e-5)
    outside = np.where(mask, field, np.nan)
    assert np.array_equal(method(outside, mask, (1, 1, 1))[0], local)


@METHODS
def test_threads_do_not_change_the_result(method, small):
    results = []
    for count in (1, 2):
        with use_threads(count):
            results.append(method(*small, (1, 1, 1))[0])
    assert np.abs(results[0] - results[1]).max() <= 1e-4 * np.abs(results[0]).max()


@METHODS
@pytest.mark.parametrize('axes', list(itertools.permutations(range(3)))[1:])
def test_axes_have_no_privilege(method, small, axes):
    voxel_size, b0_dir = np.array((1, 1.3, 1.6)), np.array((0, 0.6, 0.8))
    turned, mask = method(*(v.transpose(axes) for v in small), voxel_size[list(axes)], b0_dir=b0_dir[list(axes)])
    local, eroded = method(*small, voxel_size, b0_dir=b0_dir)
    assert np.array_equal(mask, eroded.transpose(axes))
    assert np.allclose(turned, local.transpose(axes), atol=limits(method)[3])


@METHODS
def test_a_mask_that_fills_the_array(method):
    field = np.ones((24, 21, 26), np.float32)
    local, eroded = method(field, np.ones(field.shape, bool), (1, 1, 1))
    assert eroded[12, 10, 13] and np.abs(local).max() < 0.01


def test_pdf_leaves_alone_what_has_no_weight():
    mask, local, outer = head((2, 2, 2))
    pdf, field = BACKGROUND['pdf'].load(), local + outer
    plain, _ = pdf(field, mask, (2, 2, 2))
    weight = (np.random.default_rng(0).random(mask.shape) > 0.02).astype(np.float32)
    assert np.array_equal(pdf(field, mask, (2, 2, 2), weight=mask.astype(np.float32))[0], plain)
    weighed, _ = pdf(field, mask, (2, 2, 2), weight=weight)
    wrong, _ = pdf(np.where(weight, field, field + 5), mask, (2, 2, 2), weight=weight)
    kept = mask & (weight > 0)
    assert np.allclose(wrong[kept], weighed[kept], atol=1e-5)
    assert np.allclose(wrong[mask & ~kept], weighed[mask & ~kept] + 5, atol=1e-4)
    assert np.linalg.norm((weighed - plain)[kept]) < 0.1 * np.linalg.norm(plain[kept])
    with pytest.raises(ValueError, match='weight is'):
        pdf(field, mask, (2, 2, 2), weight=2 * weight)


@METHODS
def test_bad_input(method, small):
    field, mask = small
    with pytest.raises(ValueError, match='field has shape'):
        method(field[1:], mask, (1, 1, 1))
    with pytest.raises(ValueError, match='empty'):
        method(field, mask & False, (1, 1, 1))
    with pytest.raises(ValueError, match='non-finite'):
        method(np.where(field > 2, np.nan, field), mask, (1, 1, 1))


@pytest.mark.parametrize('voxel_size', [(1, 1, 1), (0.5, 0.7, 1.1), (1, 1, 3)])
def test_depth_and_balls_agree_exactly(small, voxel_size):
    mask = small[0] < 2.5
    depth = balls.depth(mask, voxel_size)
    for radius in balls.ball_radii(4, 1, 0.5, voxel_size):
        reach = [int(radius / step) for step in voxel_size]
        grids = np.meshgrid(*(np.arange(-n, n + 1) * step for n, step in zip(reach, voxel_size)), indexing='ij')
        fits = ndimage.binary_erosion(mask, sum(g ** 2 for g in grids) <= radius ** 2)
        assert np.array_equal(depth > radius, fits)


def test_every_ball_passes_no_quadratic_harmonic():
    voxel_size, size = (0.6, 0.8, 2), (60, 50, 30)
    x, y, z = np.meshgrid(*((np.arange(n) - n // 2) * step for n, step in zip(size, voxel_size)), indexing='ij')
    center = tuple(n // 2 for n in size)
    for radius in balls.ball_radii(12, 1, 1, voxel_size):
        kernel = np.fft.ifftshift(irfftn(balls.high_pass(radius, size, voxel_size) + 0j, size)).astype(float)
        for harmonic in (x * 0 + 1, x + y - z, x * y + y * z, x ** 2 - y ** 2, 2 * z ** 2 - x ** 2 - y ** 2):
            assert abs((kernel * harmonic).sum()) < 1e-4 * radius ** 2
        assert kernel[center] > 0.8 and np.delete(kernel.ravel(), np.ravel_multi_index(center, size)).max() < 1e-6


def test_radii_follow_the_voxel_size():
    assert balls.ball_radii(12, 1, 1, (1, 1, 1)) == pytest.approx(np.arange(12, 0, -1), abs=2e-3)
    assert balls.ball_radii(5, 1, 1, (1, 1, 2.5)) == pytest.approx([5, 4, 3, 2.5], abs=2e-3)
    with pytest.raises(ValueError, match='max_radius'):
        balls.ball_radii(3, 1, 1, (1, 1, 4))
    with pytest.raises(ValueError, match='radius_step'):
        balls.ball_radii(3, 1, 0, (1, 1, 1))


@pytest.mark.parametrize('name', ['vsharp', 'sharp', 'resharp', 'ismv', 'lbv'])
def test_a_mask_too_thin(small, name):
    mask = np.zeros(small[1].shape, bool)
    mask[10:12] = True
    with pytest.raises(ValueError, match='six neighbours' if name == 'lbv' else 'mask is 1.00 mm deep'):
        BACKGROUND[name].load()(small[0], mask, (1, 1, 1))


def test_balls_end_at_the_faces_of_the_array(small):
    everywhere = np.ones(small[1].shape, bool)
    for method in (remove_background_vsharp, remove_background_lbv):
        eroded = method(small[0], everywhere, (1, 1, 1))[1]
        assert np.array_equal(eroded, np.pad(everywhere[1:-1, 1:-1, 1:-1], 1))


def test_lbv_gives_back_a_field_that_is_zero_on_the_surface(small):
    rng, mask = np.random.default_rng(1), small[1]
    core = ndimage.binary_erosion(mask)
    local = np.where(core, rng.standard_normal(mask.shape), 0).astype(np.float32)
    x, y, z = np.indices(mask.shape)
    harmonic = (x * y + z ** 2 - x ** 2) / 100
    found, eroded = remove_background_lbv(local + harmonic, mask, (1, 1, 1), tol=1e-6)
    assert np.array_equal(eroded, core)
    assert np.allclose(found, local, atol=1e-4)


def test_peeled_layers_are_as_if_they_had_not_been_in_the_mask(small):
    field, mask = small[0], small[1]
    peeled = remove_background_lbv(field, mask, (1, 1, 1), peel=2)
    smaller = remove_background_lbv(field, ndimage.binary_erosion(mask, iterations=2), (1, 1, 1))
    assert all(np.array_equal(one, other) for one, other in zip(peeled, smaller))
    with pytest.raises(ValueError, match='peel is -1'):
        remove_background_lbv(field, mask, (1, 1, 1), peel=-1)


def test_ismv_reaches_the_fixed_point_of_its_iteration(small):
    field, mask = small
    found, eroded = remove_background_ismv(field, mask, (1, 1, 1), radius=3)
    radius = balls.ball_radius(3, (1, 1, 1))
    ball = balls.BallFilter(mask, radius, (1, 1, 1))
    background = np.where(mask, field, 0)
    for _ in range(300):
        background = np.where(ball.kept, background - ball(background), background)
    assert np.array_equal(eroded, ball.kept)
    assert np.allclose(found, np.where(eroded, field - background, 0), atol=0.01)


@pytest.mark.parametrize('name, parameter', [('resharp', 'lambda_'), ('resharp', 'tol'), ('ismv', 'radius'),
                                             ('pdf', 'margin'), ('pdf', 'max_iterations'), ('lbv', 'tol'),
                                             ('sharp', 'threshold')])
def test_parameters_are_positive(small, name, parameter):
    with pytest.raises(ValueError, match=f'{parameter} is 0'):
        BACKGROUND[name].load()(*small, (1, 1, 1), **{parameter: 0})
