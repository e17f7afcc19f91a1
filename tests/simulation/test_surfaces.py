import numpy as np
import pytest

from qsmbids.simulation.surfaces import balls, ellipsoid, norm, smooth_min, tube


@pytest.fixture
def points():
    return np.random.Generator(np.random.PCG64(0)).uniform(-30, 30, (3, 9001)).astype(np.float32)


def test_a_ball_has_its_distance_everywhere(points):
    centre = np.array([3., -2, 5])
    truth = np.linalg.norm(points - centre[:, None], axis=0) - 7
    assert ellipsoid(points, centre, (7, 7, 7)) == pytest.approx(truth, abs=1e-4)
    assert ellipsoid(tuple(points), centre, (7, 7, 7)).dtype == np.float32


def test_the_distance_to_an_ellipsoid_holds_near_its_surface(points):
    axes = np.array([8., 12, 5])
    direction = points / np.linalg.norm(points, axis=0)
    surface = direction / np.linalg.norm(direction / axes[:, None], axis=0)
    normal = surface / axes[:, None] ** 2
    normal /= np.linalg.norm(normal, axis=0)
    for distance in (-.3, .3):
        moved = (surface + distance * normal).astype(np.float32)
        assert ellipsoid(moved, (0, 0, 0), axes) == pytest.approx(np.full(len(moved.T), distance), abs=.03)


def test_a_tube_has_round_ends_and_a_radius_that_changes(points):
    path = [(-10, 0, 0, 2), (10, 0, 0, 4)]
    x, y, z = points.astype(float)
    t = np.clip((x + 10) / 20, 0, 1)
    truth = np.sqrt((x + 10 - 20 * t) ** 2 + y ** 2 + z ** 2) - (2 + 2 * t)
    assert tube(points, path) == pytest.approx(truth, abs=1e-4)
    bent = path + [(10, 20, 0, 1)]
    assert np.array_equal(tube(points, bent), np.minimum(tube(points, path), tube(points, bent[1:])))


def test_lengths_of_two_and_three_components(points):
    assert norm(points) == pytest.approx(np.linalg.norm(points, axis=0), rel=1e-6)
    assert norm(points[:2]) == pytest.approx(np.linalg.norm(points[:2], axis=0), rel=1e-6)


def test_a_rounded_minimum_is_the_minimum_where_distances_differ_much(points):
    a, b = points[:2]
    rounded, apart = smooth_min(a, b, 8), np.abs(a - b) >= 8
    assert np.array_equal(rounded[apart], np.minimum(a, b)[apart])
    assert np.all(rounded[~apart] <= np.minimum(a, b)[~apart])
    assert np.array_equal(rounded, smooth_min(b, a, 8))
    assert smooth_min(a, a, 8) == pytest.approx(a - 2, abs=1e-5)


def test_points_inside_balls_are_all_found(points):
    rng = np.random.Generator(np.random.PCG64(1))
    centres = np.column_stack([rng.uniform(-25, 25, (300, 3)), rng.uniform(.3, 3, 300)])
    distance = np.linalg.norm(points[:, :, None] - centres[:, :3].T[:, None], axis=0)
    nearest = distance.argmin(axis=1)
    truth = np.flatnonzero(distance.min(axis=1) < centres[nearest, 3])
    assert 100 < truth.size < .5 * points.shape[1]
    assert np.array_equal(np.sort(balls(centres).inside(points)), truth)


def test_every_point_is_rounded_alike_wherever_it_lies_in_the_array(points):
    path = [(-10, 0, 0, 2), (10, 0, 0, 4), (10, 20, 0, 1)]
    for distance in (lambda p: ellipsoid(p, (1, 2, 3), (9, 4, 6)), lambda p: tube(p, path), norm):
        whole = distance(points)
        for part in (slice(0, 1), slice(3, 4), slice(5, 4101)):
            assert np.array_equal(distance(points[:, part]), whole[part])
