import json

import nibabel
import numpy as np
import pytest

from qsmbids.files import FileError
from qsmbids.interfaces.relaxometry import R2Prime


@pytest.fixture
def paths(tmp_path):
    def write(name, volume, affine=np.eye(4)):
        path = tmp_path / name
        nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), affine), path)
        return str(path)
    return write


def subtract(tmp_path, paths, **known):
    mask = np.ones((4, 5, 6))
    done = R2Prime(r2star=paths('r2star.nii', 20 * mask), mask=paths('mask.nii', mask), **known).run(cwd=tmp_path)
    return nibabel.load(done.outputs.r2prime).get_fdata()


@pytest.mark.parametrize('name, value, sidecar', [
    ('sub-01_R2map.nii.gz', 12.5, None), ('sub-01_T2map.nii.gz', .08, {'Units': 's'}), ('sub-01_T2map.nii', .08, None),
    ('sub-01_desc-x_T2map.nii.gz', 80, {'Units': 'ms'})])
def test_either_map_gives_the_difference(tmp_path, paths, name, value, sidecar):
    path = paths(name, np.full((4, 5, 6), value))
    if sidecar:
        (tmp_path / f'{name.split(".")[0]}.json').write_text(json.dumps(sidecar))
    assert subtract(tmp_path, paths, r2_map=path) == pytest.approx(7.5, rel=1e-5)


def test_one_value_stands_in_for_a_map(tmp_path, paths):
    assert subtract(tmp_path, paths, r2=12.5) == pytest.approx(7.5)


@pytest.mark.parametrize('name, value, shape, text', [
    ('sub-01_T2map.nii', 80, (4, 5, 6), 'must be in'), ('sub-01_R2map.nii', .08, (4, 5, 6), 'must be in'),
    ('sub-01_R2map.nii', 0, (4, 5, 6), 'must be in'), ('sub-01_R2map.nii', 12, (5, 5, 6), 'another grid')])
def test_what_is_no_r2_on_this_grid_is_refused_by_name(tmp_path, paths, name, value, shape, text):
    with pytest.raises(FileError, match=f'{name}.*{text}'):
        subtract(tmp_path, paths, r2_map=paths(name, np.full(shape, value)))
