import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from qsmbids.simulation.age import Stature
from qsmbids.simulation.deformation import (ORIGIN, SHAPE, STEP, Form, age_deformation, compose, displace, follow,
                                            grid_points, random_affine, random_deformation, smooth_noise)


def moved(points, deformation):
    points = np.array(points, np.float32)
    displace(points, deformation)
    return points


def jacobian(deformation, step=1.):
    """Determinants of the map all over the head, by differences over `step` mm: as fine as voxels see it."""
    grid = np.random.Generator(np.random.PCG64(0)).uniform([[-80], [-110], [-70]], [[80], [80], [85]], (3, 40000))
    base = moved(grid, deformation)
    columns = [(moved(grid + step * np.eye(3)[axis][:, None], deformation) - base) / step for axis in range(3)]
    return np.linalg.det(np.stack(columns, axis=-1).transpose(1, 0, 2))


def test_smooth_noise_is_that_of_periodic_cubic_splines():
    rng = np.random.Generator(np.random.PCG64(0))
    lattice = rng.standard_normal((9, 12, 10)).astype(np.float32)
    points = rng.uniform(-100, 100, (3, 20000)).astype(np.float32)
    noise = smooth_noise(lattice, points, 5.5)
    peer = map_coordinates(lattice.astype(float), points / np.float32(5.5), order=3, prefilter=False, mode='grid-wrap')
    assert noise.dtype == np.float32 and noise == pytest.approx(peer * (315 / 151) ** 1.5, abs=2e-6)
    assert noise.std() == pytest.approx(1, rel=.1)
    period = np.array([[9], [24], [-10]], np.float32) * 8
    assert smooth_noise(lattice, points + period, 8) == pytest.approx(smooth_noise(lattice, points, 8), abs=1e-4)


@pytest.mark.parametrize('sd_mm', [4., 8.])
def test_random_deformations_can_be_undone(sd_mm):
    volume = jacobian(random_deformation(1, sd_mm))
    assert volume.min() > .2 and volume.max() < 4
    assert np.log(volume).std() > .02 * sd_mm


def test_following_the_opposite_velocity_leads_back():
    velocity = np.zeros((3, *SHAPE), np.float32)
    points = grid_points()
    lattice = np.random.Generator(np.random.PCG64(0)).standard_normal((3, 16, 16, 16)).astype(np.float32)
    for part, numbers in zip(velocity, lattice):
        part[:] = 4 * smooth_noise(numbers, points, 60.).reshape(SHAPE)
    there_and_back = compose(follow(velocity), follow(-velocity))
    inside = there_and_back[:, 8:-8, 8:-8, 8:-8]
    assert np.abs(inside).max() < .1 < 3 < np.abs(follow(velocity)).max()


def test_a_steady_velocity_moves_by_itself():
    velocity = np.broadcast_to(np.float32([3, -2, 1])[:, None, None, None], (3, *SHAPE)).copy()
    assert follow(velocity) == pytest.approx(velocity, abs=1e-4)


def test_the_deformation_has_the_size_and_smoothness_asked_for():
    small, large, other = random_deformation(1, 4.), random_deformation(1, 8.), random_deformation((1, 2), 4.)
    assert small.std() == pytest.approx(4, rel=.25) and large.std() == pytest.approx(8, rel=.25)
    assert np.abs(small - other).std() > 2


def test_points_of_the_grid_get_its_values_and_others_go_on_as_the_edge():
    deformation = random_deformation(1, 4.)
    node = (20, 30, 40)
    at = (ORIGIN + STEP * np.array(node))[:, None]
    assert moved(at, deformation)[:, 0] == pytest.approx(at[:, 0] + deformation[(slice(None), *node)], abs=1e-3)
    edge, beyond = np.array([[0.], [0], [-192]]), np.array([[0.], [0], [-400]])
    assert moved(edge, deformation) - edge == pytest.approx(moved(beyond, deformation) - beyond, abs=1e-3)


def test_linear_maps_stay_within_their_limits():
    maps = np.array([random_affine(np.random.Generator(np.random.PCG64(seed))) for seed in range(300)])
    stretch = maps[:, range(3), range(3)]
    assert .85 <= stretch.min() < .9 and 1.1 < stretch.max() <= 1.15 + 1e-6
    assert np.linalg.det(maps).min() > .6


def test_a_form_scales_then_maps_then_deforms():
    points = np.random.Generator(np.random.PCG64(2)).uniform(-60, 60, (3, 50)).astype(np.float32)
    scale, linear = np.float32([1.1, .9, 1]), random_affine(np.random.Generator(np.random.PCG64(3)))
    deformation = random_deformation(1, 4.)
    whole = Form(scale, linear, deformation).original(points)
    assert whole == pytest.approx(moved(linear @ (points / scale[:, None]), deformation), abs=1e-3)
    assert Form(np.ones(3, np.float32)).original(points) == pytest.approx(points)


def ball(radius):
    return lambda points: np.sqrt((points * points).sum(axis=0)) - np.float32(radius)


@pytest.mark.parametrize('widening', [3., -1.])
def test_ventricles_widen_by_what_is_asked(widening):
    deformation = age_deformation(Stature(widening=widening), ball(14), ball(70))
    assert jacobian(deformation).min() > .3
    wall = np.array([[14. + widening, 0, 0], [0, 14 + widening, 0]]).T
    assert np.linalg.norm(moved(wall, deformation), axis=0) == pytest.approx([14, 14], abs=.5)
    far = np.array([[60.], [0], [0]])
    assert moved(far, deformation) == pytest.approx(far, abs=.01)


def test_the_skull_gets_thinner_by_what_is_asked():
    deformation = age_deformation(Stature(skull_loss=3.), ball(10), ball(60))
    inner, outer = np.array([[0.], [0], [60]]), np.array([[0.], [0], [72 - 3]])
    assert moved(inner, deformation)[2] == pytest.approx(60, abs=.4)
    assert moved(outer, deformation)[2] == pytest.approx(72, abs=.6)
    assert age_deformation(Stature(), ball(10), ball(60)) is None
