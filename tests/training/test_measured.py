"""Measured fields as something to learn from."""

import nibabel as nib
import numpy as np
import pytest

from qsmbids.core.dipole import forward_field
from qsmbids.files import FileError
from qsmbids.networks.pedqnet import PedQNet
from qsmbids.training.measured import measured_head
from qsmbids.training.streams import PatchStream, make_block

AFFINE = np.diag([1., 1.1, 1.5, 1.])


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    rng = np.random.default_rng(0)
    chi = np.zeros((40, 36, 30), np.float32)
    chi[4:36, 4:32, 4:26] = .1 * rng.standard_normal((32, 28, 22))
    field = np.where(chi != 0, forward_field(chi, (1., 1.1, 1.5)), 0)
    path = tmp_path_factory.mktemp('fields') / 'sub-1_desc-local_fieldmap.nii.gz'
    nib.save(nib.Nifti1Image(field, AFFINE), path)
    return path


def test_a_field_brings_its_mask_and_geometry(path):
    head = measured_head(path)
    assert head.voxel_size == pytest.approx((1., 1.1, 1.5)) and head.b0_dir == pytest.approx((0., 0., 1.))
    assert np.array_equal(head.mask, nib.load(path).get_fdata() != 0) and not head.chi.any()


def test_patches_are_cut_from_it_in_any_unit(path, tmp_path):
    image = nib.load(path)
    hertz = tmp_path / 'hertz.nii.gz'
    nib.save(nib.Nifti1Image(np.float32(127.7 * image.get_fdata()), AFFINE), hertz)
    one, other = (make_block([str(name)], 3, 'field', 'fields', None, False, 24, 1, 4, 0).patches()
                  for name in (path, hertz))
    assert np.allclose(one['field'].astype(float), other['field'].astype(float), atol=1e-2)
    assert one['field'].shape == (4, 24, 24, 24) and one['field'].any()


def test_only_what_learns_without_a_truth_can_use_it(path):
    assert PatchStream.for_network(PedQNet(width=4), [path], 1, kind='fields')
    for anatomies, target in (([path], 'chi'), ([], 'field')):
        with pytest.raises(ValueError, match="kind is 'fields'"):
            PatchStream(anatomies, 1, target=target, kind='fields')


@pytest.mark.parametrize('volume, told', [(np.zeros((4, 4, 4)), 'zero everywhere'), (np.ones((4, 4, 4, 2)), '3D'),
                                          (np.full((4, 4, 4), np.nan), 'not finite')])
def test_unusable_fields_are_named(tmp_path, volume, told):
    path = tmp_path / 'bad.nii.gz'
    nib.save(nib.Nifti1Image(volume.astype(np.float32), AFFINE), path)
    with pytest.raises(FileError, match=f'bad.nii.gz: .*{told}'):
        measured_head(path)
