import nibabel
import numpy as np
import pytest

from qsmbids.files import FileError, read_tsv
from qsmbids.interfaces.microbleeds import RULES, FindMicrobleeds, grading, take_census

AFFINE = np.diag([1., 1., 1., 1.])
SHAPE = (40, 40, 36)


@pytest.fixture(scope='module')
def scan(tmp_path_factory):
    """A microbleed and a calcification in even tissue, as files."""
    folder = tmp_path_factory.mktemp('cmb')
    grids = np.ogrid[tuple(map(slice, SHAPE))]

    def ball(centre, radius):
        return np.clip(radius + .5 - np.sqrt(sum((g - c) ** 2 for g, c in zip(grids, centre))), 0, 1)

    mask = ball((20, 20, 18), 16) > .5
    noise = np.random.default_rng(0).normal(0, .02, SHAPE)
    chi = (noise + .8 * ball((14, 20, 18), 2) - .8 * ball((27, 20, 18), 2)) * mask
    r2star = (20 + 110 * (ball((14, 20, 18), 2) + ball((27, 20, 18), 2))) * mask
    regions = np.zeros(SHAPE)
    regions[24:30, 17:23, 15:21] = 10
    volumes = {'chi': chi, 'mask': mask, 'r2star': r2star, 'regions': regions, 'swi': np.exp(-.02 * r2star) * mask,
               'other': chi[:-1]}
    for name, volume in volumes.items():
        nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), AFFINE), folder / f'{name}.nii')
    return folder


def test_the_node_writes_maps_and_tables_that_agree(scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    node = FindMicrobleeds(chi=str(scan / 'chi.nii'), mask=str(scan / 'mask.nii'), r2star=str(scan / 'r2star.nii'))
    out = node.run(cwd=str(tmp_path)).outputs
    rows = read_tsv(out.lesions)
    labels, mask, score = (np.asarray(nibabel.load(getattr(out, name)).dataobj) for name in ('dseg', 'mask', 'probseg'))
    assert [(row['class'], row['certainty']) for row in rows] == [('cmb', 'definite'), ('calcification', 'definite')]
    assert labels[14, 20, 18] == 1 and labels[27, 20, 18] == 2 and np.array_equal(mask > 0, labels == 1)
    assert score.max() == pytest.approx(float(rows[0]['probability']))
    assert [row['index'] for row in read_tsv(out.labels)] == ['1', '2']
    counts = {(row['class'], row['region']): row for row in read_tsv(out.counts)}
    assert counts['cmb', 'all']['total'] == counts['calcification', 'all']['total'] == '1'
    assert out.metrics == {'microbleeds_definite': 1, 'microbleeds_possible': 0}
    assert out.metadata == {'Inputs': ['chi', 'r2star'], 'LowConfidence': False, 'Grading': RULES}


def test_a_map_of_another_software_takes_the_place_of_ours(scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    even = tmp_path / 'even.nii'
    noise = np.random.default_rng(1).normal(0, .02, SHAPE).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(noise * nibabel.load(scan / 'mask.nii').get_fdata(), AFFINE), even)
    node = FindMicrobleeds(chi=str(even), other_chi=str(scan / 'chi.nii'), mask=str(scan / 'mask.nii'))
    out = node.run(cwd=str(tmp_path)).outputs
    assert out.metrics['microbleeds_definite'] == 1 and out.metadata['Inputs'] == ['chi']
    assert out.metadata['SusceptibilityMap'] == (scan / 'chi.nii').as_uri()
    node.inputs.other_chi = str(scan / 'other.nii')
    with pytest.raises(FileError, match='other.nii: lies on another grid'):
        node.run(cwd=str(tmp_path))


def test_a_label_map_is_read_by_its_table_or_as_that_of_freesurfer(scan, tmp_path):
    regions = np.asarray(nibabel.load(scan / 'regions.nii').dataobj)
    for index, table in ((10, None), (4, 'index\tname\n4\tLeft-Thalamus\n')):
        path = tmp_path / f'd{index}.nii'
        nibabel.save(nibabel.Nifti1Image(np.where(regions > 0, index, 0).astype(np.int16), AFFINE), path)
        if table:
            path.with_suffix('.tsv').write_text(table)
        census = take_census(scan / 'mask.nii', chi=scan / 'chi.nii', regions=path)
        assert [row['deep_nucleus'] for row in census.lesions] == [None, 'Thalamus']


def test_several_volumes_are_refused(scan, tmp_path):
    path = tmp_path / 'two.nii'
    nibabel.save(nibabel.Nifti1Image(np.zeros((*SHAPE, 2), np.float32), AFFINE), path)
    with pytest.raises(FileError, match='two.nii: must be 3D'):
        take_census(scan / 'mask.nii', chi=path)


def test_a_weighted_image_alone_gives_low_confidence(scan):
    census = take_census(scan / 'mask.nii', weighted=scan / 'swi.nii')
    assert census.low_confidence and len(census.lesions) == 2


def test_another_grid_is_refused(scan):
    with pytest.raises(FileError, match='another grid'):
        take_census(scan / 'mask.nii', chi=scan / 'other.nii')


def test_the_network_that_comes_along_finds_both_and_is_named(scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    node = FindMicrobleeds(chi=str(scan / 'chi.nii'), mask=str(scan / 'mask.nii'), r2star=str(scan / 'r2star.nii'),
                           weights='cmb')
    out = node.run(cwd=str(tmp_path)).outputs
    counted = [row['class'] for row in read_tsv(out.lesions) if row['certainty'] != 'unlikely']
    assert counted == ['cmb', 'calcification']
    assert out.metadata['Grading'] == 'network cmb' and len(out.metadata['WeightsSHA256']) == 64


def test_rules_grade_where_there_is_no_susceptibility_or_no_network():
    for weights, chi in (('cmb', None), (None, 'chi.nii'), ('', 'chi.nii')):
        assert grading(weights, chi) == ({'Grading': RULES}, None)
