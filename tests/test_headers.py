import nibabel
import numpy as np
import pytest

from qsmbids.files import FileError
from qsmbids.headers import check_grid, load_image

AFFINE = np.diag((1., 1, 2, 1))


@pytest.fixture
def image(tmp_path):
    def write(name, shape=(4, 5, 6), affine=AFFINE):
        nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.float32), affine), tmp_path / name)
        return str(tmp_path / name)
    return write


def test_echoes_and_rounding_make_no_other_grid(image):
    rounded = AFFINE.copy()
    rounded[0, 3] = 1e-3
    check_grid(image('a.nii', (4, 5, 6, 3), rounded), image('b.nii.gz'))


@pytest.mark.parametrize('shape, scale, text', [((4, 5, 7), 1, r'shapes are \(4, 5, 7\) and \(4, 5, 6\)'),
                                                ((4, 5, 6), 1.1, 'affines differ')])
def test_both_files_and_the_remedy_are_named(image, shape, scale, text):
    with pytest.raises(FileError, match=f'a.nii: .* than .*b.nii: .*{text}.*Resample'):
        check_grid(image('a.nii', shape, AFFINE * (scale, 1, 1, 1)), image('b.nii'))


def test_what_cannot_be_opened_is_named(tmp_path):
    (tmp_path / 'text.nii').write_text('not an image')
    for name, text in (('text.nii', 'cannot be read as NIfTI'), ('gone.nii', 'there is no such file')):
        with pytest.raises(FileError, match=f'{name}: {text}'):
            load_image(tmp_path / name)
