import numpy as np
import pytest

from qsmbids.core.dipole import b0_direction, forward_field
from qsmbids.core.threads import use_threads
from qsmbids.simulation.field import block_mean, coarse_affine, enclosed_field, object_field
from qsmbids.simulation.head import Head, digital_head
from qsmbids.simulation.tissues import Tissue

AIR = 9.2
WATER = Tissue(0, 0, 1, 1)
# Centre (mm), radius and chi: inside the field of view, across its edge, near it, and far from it.
SPHERES = (((0, 2, -3), 9, .0), ((-26, 5, 4), 8, -2.), ((6, -31, 6), 7, 3.), ((10, 14, 52), 12, 1.))


def spheres(shape, affine):
    """Spheres with soft edges in air, at any place and resolution."""
    index = np.indices(shape).reshape(3, -1)
    position = affine[:3, :3] @ index + affine[:3, 3:]
    step = np.linalg.norm(affine[:3, :3], axis=0).max()
    chi = np.full(shape, AIR)
    for centre, radius, value in SPHERES:
        distance = np.linalg.norm(position - np.reshape(centre, (3, 1)), axis=0).reshape(shape)
        same_volume = radius - step ** 2 / (12 * radius)
        chi += (value - AIR) * np.clip((same_volume - distance) / step + .5, 0, 1)
    return Head(np.zeros(shape, np.uint8), chi.astype(np.float32), (WATER,), AIR)


def grid(shape, voxel_size, degrees):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) * voxel_size
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def analytic(shape, affine):
    """The field of the spheres, and where no surface is near."""
    position = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    field, clear = np.zeros(shape), np.ones(shape, bool)
    for centre, radius, value in SPHERES:
        way = position - centre
        distance = np.linalg.norm(way, axis=-1)
        outside = (value - AIR) / 3 * radius ** 3 * (3 * (way[..., 2] / distance) ** 2 - 1) / distance ** 3
        field += np.where(distance < radius, 0, outside)
        clear &= np.abs(distance - radius) > 2.5 * np.linalg.norm(affine[:3, :3], axis=0).max()
    return field, clear


@pytest.mark.parametrize('voxel_size, degrees, factor', [
    ((1, 1, 1), 0, 2), ((1, 1, 1), 45, 2), ((1, 1, 2), 25, 2), ((.8, .8, 2.4), -35, 3), ((2, 2, 2), 54.7, 2)])
def test_a_sphere_in_air_has_its_analytic_field(voxel_size, degrees, factor):
    # Bone in air, with the sharp edges of label maps, and so large that periodic images of it would show.
    radius, centre, step = 16., (.3, -.2, .4), max(voxel_size)
    shape = factor * np.rint(48 / np.array(voxel_size)).astype(int)
    affine = grid(shape, np.array(voxel_size) / factor, degrees)

    def distance_and_height(shape, affine):
        x, y, z = np.tensordot(affine[:3, :3], np.indices(shape), 1) + np.reshape(
            affine[:3, 3] - centre, (3, 1, 1, 1))
        return np.sqrt(x * x + y * y + z * z), z

    def ball(shape, affine):
        inside = distance_and_height(shape, affine)[0] < radius
        return Head(inside.astype(np.uint8), np.where(inside, np.float32(-9), np.float32(AIR)), (WATER, WATER), AIR)

    field = object_field(ball, affine, shape, b0_direction(affine), 80.)[1]
    distance, height = distance_and_height(shape, affine)
    truth = np.where(distance < radius, 0,
                     (-9 - AIR) / 3 * radius ** 3 * (3 * (height / distance) ** 2 - 1) / distance ** 3)
    field, truth, distance = (block_mean(volume, factor) for volume in (field, truth, distance))
    error, away = field - truth, np.abs(distance - radius)
    outside_rim, far = away > step, away > 4 * step
    assert np.linalg.norm(error[outside_rim]) < .02 * np.linalg.norm(truth[outside_rim])
    assert np.linalg.norm(error[far]) < .005 * np.linalg.norm(truth[far])
    assert np.abs(error[away > 2 * step]).max() < .02 * np.abs(truth).max()


@pytest.mark.parametrize('shape, voxel_size, degrees', [((50, 54, 46), (1, 1, 1), 0), ((47, 50, 25), (1, 1, 2), 25)])
def test_near_and_far_field_together_are_the_field(shape, voxel_size, degrees):
    affine = grid(shape, voxel_size, degrees)
    head, field = object_field(spheres, affine, shape, b0_direction(affine), 60.)
    assert head.chi.shape == field.shape == shape
    assert np.array_equal(head.chi, spheres(shape, affine).chi)
    truth, clear = analytic(shape, affine)
    assert clear.mean() > .5
    assert np.linalg.norm((field - truth)[clear]) < .025 * np.linalg.norm(truth[clear])
    # The whole of it on the fine grid, with four times its size around it.
    before = np.ceil(45 / np.array(voxel_size)).astype(int)
    wide = affine.copy()
    wide[:3, 3] -= affine[:3, :3] @ before
    chi = spheres(tuple(2 * before + shape), wide).chi - np.float32(AIR)
    direct = forward_field(chi, voxel_size, b0_direction(affine), tuple(2 * n for n in chi.shape))
    direct = direct[tuple(slice(m, m + n) for m, n in zip(before, shape))]
    assert difference(field, direct) < .01


def difference(field, truth):
    """Relative difference of means over 2 x 2 x 2 voxels: at its Nyquist frequencies no grid tells a tilted dipole."""
    even = tuple(slice(n // 2 * 2) for n in field.shape)
    field, truth = (block_mean(volume[even], 2) for volume in (field, truth))
    return np.linalg.norm(field - truth) / np.linalg.norm(truth)


def test_the_enclosed_field_is_that_of_a_widely_padded_volume():
    affine = np.diag([3., 3, 4, 1])
    affine[:3, 3] = -80, -110, -50
    head = digital_head((54, 62, 33), affine, 2)
    chi = head.chi * head.map('brain')
    b0_dir = (0., .6, .8)
    direct = forward_field(chi, (3, 3, 4), b0_dir, tuple(3 * n for n in chi.shape))
    assert difference(enclosed_field(chi, np.array([3., 3, 4]), b0_dir), direct) < .01


def test_threads_do_not_change_the_result():
    shape = (20, 24, 18)
    affine = grid(shape, (8, 8, 8), 10)
    results = []
    for count in (1, 2):
        with use_threads(count):
            head, field = object_field(digital_head, affine, shape, b0_direction(affine), 60.)
        results.append((head.labels, head.chi, field))
    assert all(np.array_equal(a, b) for a, b in zip(*results))


def test_a_coarse_voxel_holds_its_fine_ones():
    affine = grid((6, 6, 6), (1, 2, 3), 20)
    coarse = coarse_affine(affine, (2, 3, 1))
    fine = np.moveaxis(np.indices((2, 3, 1)), 0, -1).reshape(-1, 3) @ affine[:3, :3].T + affine[:3, 3]
    assert coarse[:3, 3] == pytest.approx(fine.mean(axis=0))
    assert block_mean(np.arange(8.).reshape(2, 2, 2), (2, 1, 2)).ravel() == pytest.approx([2.5, 4.5])
