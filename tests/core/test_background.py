import itertools

import numpy as np
import pytest
from scipy import ndimage

from qsmbids.core import background
from qsmbids.core.background import remove_background_vsharp
from qsmbids.core.methods import BACKGROUND
from qsmbids.core.dipole import forward_field
from qsmbids.core.fourier import irfftn
from qsmbids.core.threads import use_threads

METHODS = pytest.mark.parametrize('method', [method.load() for method in BACKGROUND.values()], ids=BACKGROUND)


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
    found, eroded = method(local + outer, mask, voxel_size)
    left, _ = method(outer, mask, voxel_size)
    scale = np.linalg.norm(local[eroded])
    assert np.linalg.norm(outer[eroded]) > 10 * scale
    assert np.linalg.norm(left[eroded]) < 0.1 * scale
    assert np.linalg.norm((found - local)[eroded]) < 0.25 * scale
    assert eroded.sum() > 0.8 * mask.sum()


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
    assert np.allclose(*results, atol=1e-5)


@METHODS
@pytest.mark.parametrize('axes', list(itertools.permutations(range(3)))[1:])
def test_axes_have_no_privilege(method, small, axes):
    voxel_size, b0_dir = np.array((1, 1.3, 1.6)), np.array((0, 0.6, 0.8))
    turned, mask = method(*(v.transpose(axes) for v in small), voxel_size[list(axes)], b0_dir=b0_dir[list(axes)])
    local, eroded = method(*small, voxel_size, b0_dir=b0_dir)
    assert np.array_equal(mask, eroded.transpose(axes))
    assert np.allclose(turned, local.transpose(axes), atol=1e-5)


@METHODS
def test_a_mask_that_fills_the_array(method):
    field = np.ones((24, 21, 26), np.float32)
    local, eroded = method(field, np.ones(field.shape, bool), (1, 1, 1))
    assert np.array_equal(eroded, np.pad(np.ones((22, 19, 24), bool), 1))
    assert np.abs(local).max() < 1e-4


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
    depth = background._depth(mask, voxel_size)
    for radius in background._radii(4, 1, 0.5, voxel_size):
        reach = [int(radius / step) for step in voxel_size]
        grids = np.meshgrid(*(np.arange(-n, n + 1) * step for n, step in zip(reach, voxel_size)), indexing='ij')
        fits = ndimage.binary_erosion(mask, sum(g ** 2 for g in grids) <= radius ** 2)
        assert np.array_equal(depth > radius, fits)


def test_every_ball_passes_no_quadratic_harmonic():
    voxel_size, size = (0.6, 0.8, 2), (60, 50, 30)
    x, y, z = np.meshgrid(*((np.arange(n) - n // 2) * step for n, step in zip(size, voxel_size)), indexing='ij')
    center = tuple(n // 2 for n in size)
    for radius in background._radii(12, 1, 1, voxel_size):
        kernel = np.fft.ifftshift(irfftn(background._high_pass(radius, size, voxel_size) + 0j, size)).astype(float)
        for harmonic in (x * 0 + 1, x + y - z, x * y + y * z, x ** 2 - y ** 2, 2 * z ** 2 - x ** 2 - y ** 2):
            assert abs((kernel * harmonic).sum()) < 1e-4 * radius ** 2
        assert kernel[center] > 0.8 and np.delete(kernel.ravel(), np.ravel_multi_index(center, size)).max() < 1e-6


def test_radii_follow_the_voxel_size():
    assert background._radii(12, 1, 1, (1, 1, 1)) == pytest.approx(np.arange(12, 0, -1), abs=2e-3)
    assert background._radii(5, 1, 1, (1, 1, 2.5)) == pytest.approx([5, 4, 3, 2.5], abs=2e-3)
    with pytest.raises(ValueError, match='max_radius'):
        background._radii(3, 1, 1, (1, 1, 4))
    with pytest.raises(ValueError, match='radius_step'):
        background._radii(3, 1, 0, (1, 1, 1))


def test_a_mask_too_thin_for_any_ball(small):
    mask = np.zeros(small[1].shape, bool)
    mask[10:12] = True
    with pytest.raises(ValueError, match='mask is 1.00 mm deep'):
        remove_background_vsharp(small[0], mask, (1, 1, 1))
