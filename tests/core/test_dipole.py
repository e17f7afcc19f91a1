import itertools

import numpy as np
import pytest

from qsmbids.core.dipole import b0_direction, dipole_kernel, forward_field
from qsmbids.core.fourier import irfftn, rfftn


def rotation(axis, degrees):
    angle = np.deg2rad(degrees)
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@pytest.mark.parametrize('order', list(itertools.permutations(range(3))))
@pytest.mark.parametrize('signs', list(itertools.product((1, -1), repeat=3)))
def test_b0_direction_follows_the_world_z_axis(order, signs):
    voxel_size = np.array([0.8, 0.8, 3.0])
    tilt = rotation((1, 0.3, 0.1), 32)
    affine = tilt @ (np.eye(3)[:, order] * signs) * voxel_size
    b = np.array(b0_direction(affine))
    assert np.linalg.norm(b) == pytest.approx(1)
    # Moving along b in mm moves along world z and nowhere else.
    assert affine @ (b / voxel_size) == pytest.approx([0, 0, 1], abs=1e-9)


@pytest.mark.parametrize('affine', [np.diag([1, 0, 1]), np.diag([1, np.nan, 1]), [[1, .5, 0], [0, 1, 0], [0, 0, 1]]])
def test_b0_direction_refuses_what_has_none(affine):
    with pytest.raises(ValueError, match='affine'):
        b0_direction(affine)


@pytest.mark.parametrize('size', [(8, 9, 10), (7, 12, 9)])
@pytest.mark.parametrize('b0_dir', [(0, 0, 1), (0.3, -0.5, 0.8)])
def test_kernel_is_a_real_self_adjoint_operator(size, b0_dir):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, *size)).astype(np.float32)
    kernel = dipole_kernel(size, (1, 1.5, 0.7), b0_dir)

    def apply(v):
        return irfftn(rfftn(v, size) * kernel, size)

    assert np.vdot(apply(x), y) == pytest.approx(np.vdot(x, apply(y)), rel=1e-4)
    # A half spectrum that is not Hermitian would lose a part in the way back.
    assert np.allclose(rfftn(apply(x), size), rfftn(x, size) * kernel, atol=1e-3)


def test_kernel_values():
    kernel = dipole_kernel((8, 8, 8), (1, 1, 2))
    assert kernel.dtype == np.float32
    assert kernel[0, 0, 0] == 0
    assert kernel[0, 0, 1:] == pytest.approx(-2 / 3)
    assert kernel[1:, :, 0] == pytest.approx(1 / 3)


@pytest.mark.parametrize('b0_dir', [(0, 0, 1), (1, 0, 0), (0, np.sin(np.pi / 6), np.cos(np.pi / 6))])
@pytest.mark.parametrize('voxel_size', [(1, 1, 1), (1, 1, 1.5)])
def test_field_of_a_sphere_is_the_analytic_dipole(sphere_truth, b0_dir, voxel_size):
    # Sampled at half the voxel size and averaged: a scanner's voxels have no sharp edges at their Nyquist frequency.
    fine = np.array(voxel_size) / 2
    chi, analytic, edge = sphere_truth((96, 96, 80), fine, 10.0, b0_dir, margin=1.5 * max(voxel_size))
    field, analytic = (_halve(v) for v in (forward_field(chi, fine, b0_dir, margin=128), analytic))
    outside_edge = _halve(edge) == 0
    error = (field - analytic)[outside_edge]
    assert np.linalg.norm(error) < 0.02 * np.linalg.norm(analytic[outside_edge])
    assert np.abs(error).max() < 0.02 * 2 / 3


def _halve(volume):
    nx, ny, nz = (n // 2 for n in volume.shape)
    return volume.reshape(nx, 2, ny, 2, nz, 2).mean(axis=(1, 3, 5))


def test_field_of_a_cylinder_across_the_field():
    # A long cylinder at angle theta to B0: inside chi/6 (3 cos^2 theta - 1), outside chi/2 (a/r)^2 sin^2 theta cos 2phi
    chi = np.zeros((96, 96, 16), np.float32)
    x, y = np.meshgrid(*(np.arange(96) - 47.5,) * 2, indexing='ij')
    fine = np.linspace(-0.5, 0.5, 11)[1::2]
    cover = np.mean([(x + i) ** 2 + (y + j) ** 2 <= 100 for i in fine for j in fine], axis=0)
    chi[:] = cover[..., None]
    # Periodic along its axis: the cylinder has no ends.
    field = forward_field(chi, (1, 1, 1), (1, 0, 0), margin=(96, 96, 0))[:, :, 8]
    radius = np.hypot(x, y)
    analytic = np.where(radius < 10, -1 / 6, 0.5 * (100 / radius ** 2) * (x ** 2 - y ** 2) / radius ** 2)
    far_from_edge = (np.abs(radius - 10) > 1.5) & (radius < 40)
    assert np.linalg.norm((field - analytic)[far_from_edge]) < 0.02 * np.linalg.norm(analytic[far_from_edge])


