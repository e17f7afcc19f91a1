"""From NIfTI in to NIfTI out: sign, scale and orientation, whatever way the voxel axes point."""

import itertools

import nibabel
import numpy as np
import pytest

from qsmbids.cli.tool import main as tool
from qsmbids.core.dipole import b0_direction, forward_field
from qsmbids.core.phase import center_frequency, ppm_to_radians

CHI = 0.1  # ppm
RADIUS = 8.0  # mm
ECHO_TIMES = (0.004, 0.012, 0.020)


def tilt(degrees):
    angle = np.deg2rad(degrees)
    return np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])


AXES = [np.eye(3)[:, list(order)] * signs for order in itertools.permutations(range(3))
        for signs in itertools.product((1, -1), repeat=3)]
GRIDS = [(axes, (1.0, 1.0, 1.0)) for axes in AXES] + [
    (tilt(30) @ axes, (1.0, 1.0, 1.5)) for axes in AXES[::9]]


def sphere_in_a_ball(axes, voxel_size):
    """A paramagnetic sphere, off centre along the world's axes, in a ball of water."""
    shape = tuple(int(n) for n in np.round(np.array([44, 44, 44]) / voxel_size))
    affine = np.eye(4)
    affine[:3, :3] = axes * voxel_size
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij'), -1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    centre = np.array([3.0, -2.0, 4.0])
    distance = np.linalg.norm(world - centre, axis=-1)
    chi = np.clip(RADIUS - distance + 0.5, 0, 1).astype(np.float32) * CHI
    mask = np.linalg.norm(world, axis=-1) < 20.5
    return affine, chi, mask, distance


@pytest.mark.parametrize('axes, voxel_size', GRIDS)
def test_a_paramagnetic_sphere_comes_back(axes, voxel_size, tmp_path):
    affine, chi, mask, distance = sphere_in_a_ball(axes, voxel_size)
    field = forward_field(chi, voxel_size, b0_direction(affine))
    phase = np.stack([ppm_to_radians(field, t, center_frequency(3.0)) for t in ECHO_TIMES], -1)
    wrapped = np.angle(np.exp(1j * phase)).astype(np.float32)
    names = {name: str(tmp_path / f'{name}.nii') for name in ('phase', 'mag', 'mask', 'total', 'chi')}
    for name, volume in (('phase', wrapped), ('mag', np.repeat(mask[..., None] * 100.0, 3, -1)),
                         ('mask', mask.astype(np.uint8))):
        nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), affine), names[name])
    assert tool(['field', '--phase', names['phase'], '--magnitude', names['mag'], '--mask', names['mask'],
                 '--echo-times', *map(str, ECHO_TIMES), '--b0', '3', '-o', names['total'], '--nthreads', '1',
                 '--phase-units', 'rad']) == 0
    assert tool(['invert', '--field', names['total'], '--mask', names['mask'], '-o', names['chi'],
                 '--nthreads', '1']) == 0
    image = nibabel.load(names['chi'])
    assert np.allclose(image.affine, affine)
    found = image.get_fdata()
    surround = found[mask & (distance > RADIUS + 2)].mean()
    inside = found[distance < RADIUS - 2] - surround
    assert inside.mean() == pytest.approx(CHI, rel=0.1)
    # The direction of the field matters: with a wrong one the sphere comes back distorted.
    assert inside.std() < 0.1 * CHI
