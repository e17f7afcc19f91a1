import nibabel
import numpy as np
import pytest

from qsmbids.core.labels import BY_NAME
from qsmbids.files import write_tsv
from qsmbids.reports.longitudinal import common_means

SHAPE = (36, 40, 32)


@pytest.fixture
def scan(tmp_path):
    """Write a session whose head is shifted by some voxels; return what the tables know of it."""
    def write(session, shift, value):
        stem, anat = f'sub-1_ses-{session}', tmp_path / f'ses-{session}' / 'anat'
        anat.mkdir(parents=True)
        grid = np.ogrid[tuple(map(slice, SHAPE))]

        def ball(centre, axes):
            return sum(((g - c - s) / a) ** 2 for g, c, s, a in zip(grid, centre, (shift, 0, 0), axes)) < 1
        brain, nucleus = ball((17, 20, 16), (12, 15, 12)), ball((12, 22, 16), (4, 5, 4))
        chi = value * nucleus + .1 * ball((24, 20, 18), (3, 6, 4)) - .05 * ball((17, 12, 12), (5, 4, 6))
        for name, volume in (('desc-brain_mask', brain), ('desc-qsm_mask', brain), ('desc-tv_Chimap', chi),
                             ('seg-subcortical_desc-given_dseg', BY_NAME['Caudate_L'].index * nucleus)):
            volume = volume.astype(np.float32 if name.endswith('Chimap') else np.uint8)
            nibabel.save(nibabel.Nifti1Image(volume, np.diag([3., 3., 3., 1.])), anat / f'{stem}_{name}.nii.gz')
        write_tsv(anat / f'{stem}_seg-subcortical_desc-given_stats.tsv', [], ['roi'])
        return {'folder': anat.parent, 'stem': stem, 'values': [{'metric': 'chi', 'map': 'tv'}]}
    return write


def test_from_the_output_directory(scan):
    means, flag = common_means([scan('a', 0, .06), scan('b', 2, .09)])
    key = ('chi', 'tv', 'Caudate', 'L')
    assert set(means[0]) == {key} and not flag
    assert means[1][key] / means[0][key] == pytest.approx(1.5, rel=.05)


def test_what_is_missing_is_said(scan):
    scans = [scan('a', 0, .06), scan('b', 2, .09)]
    (scans[1]['folder'] / 'anat' / 'sub-1_ses-b_desc-brain_mask.nii.gz').unlink()
    means, flag = common_means(scans)
    assert means == [{}, {}] and 'brain_mask' in flag
