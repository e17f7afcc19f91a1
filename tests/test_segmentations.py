from dataclasses import replace

import nibabel
import numpy as np
import pytest

from qsmbids.ages import Age
from qsmbids.bids import Acquisition
from qsmbids.core.labels import BY_NAME, label_rows
from qsmbids.files import FileError, write_tsv
from qsmbids.segmentations import Source, choose_source, find_given, read_table


def image(path, shape=(4, 5, 6), shift=0.):
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.eye(4)
    affine[0, 3] = shift
    kind = nibabel.MGHImage if path.suffix == '.mgz' else nibabel.Nifti1Image
    nibabel.save(kind(np.ones(shape, np.uint8), affine), path)
    return path


@pytest.fixture
def acquisition(tmp_path):
    magnitude = image(tmp_path / 'raw' / 'sub-01_ses-a_part-mag_MEGRE.nii.gz')
    return Acquisition({'subject': '01', 'session': 'a'}, 'MEGRE', {'mag': (str(magnitude),), 'phase': ('x',)},
                       echo_times=(.01, .02), shape=(4, 5, 6))


def table(path, rows=None):
    write_tsv(path, label_rows() if rows is None else rows, ['index', 'name'])
    return path


def test_a_bids_dseg_with_its_table_and_image(tmp_path, acquisition):
    anat = tmp_path / 'x' / 'sub-01' / 'ses-a' / 'anat'
    path = image(anat / 'sub-01_ses-a_desc-nuclei_dseg.nii.gz', shift=3)
    rows = table(anat / 'sub-01_ses-a_desc-nuclei_dseg.tsv')
    t1w = image(anat / 'sub-01_ses-a_desc-preproc_T1w.nii.gz', shift=3)
    # Tissue classes, another space and another session are no segmentation of these nuclei.
    image(anat / 'sub-01_ses-a_dseg.nii.gz')
    image(anat / 'sub-01_ses-a_space-MNI152NLin2009cAsym_desc-aseg_dseg.nii.gz')
    image(tmp_path / 'x' / 'sub-01' / 'anat' / 'sub-01_ses-b_desc-aseg_dseg.nii.gz')
    found = find_given({'mine': tmp_path / 'x'}, acquisition)
    assert found == Source('given', 'mine', str(path), str(rows), str(t1w), False)


def test_tables_are_inherited_and_a_segmentation_on_the_grid_is_aligned(tmp_path, acquisition):
    path = image(tmp_path / 'x' / 'sub-01' / 'anat' / 'sub-01_desc-nuclei_dseg.nii.gz')
    rows = table(tmp_path / 'x' / 'desc-nuclei_dseg.tsv')
    found = find_given({'mine': tmp_path / 'x'}, acquisition)
    assert (found.path, found.table, found.aligned) == (str(path), str(rows), True)


@pytest.mark.parametrize('name', ['sub-01_ses-a', 'sub-01', '01'])
def test_freesurfer_subjects(tmp_path, acquisition, name):
    mri = tmp_path / 'fs' / name / 'mri'
    image(mri / 'aseg.mgz')
    path = image(mri / 'aparc.DKTatlas+aseg.deep.mgz', shift=9)
    t1w = image(mri / 'T1.mgz')
    found = find_given({'fastsurfer': tmp_path / 'fs'}, acquisition)
    assert found == Source('given', 'fastsurfer', str(path), None, str(t1w), False)


def test_synthseg_and_a_raw_image(tmp_path, acquisition):
    path = image(tmp_path / 's' / 'sub-01_ses-a_T1w_synthseg.nii.gz', shift=3)
    t1w = image(tmp_path / 'raw' / 'sub-01' / 'ses-a' / 'anat' / 'sub-01_ses-a_T1w.nii.gz')
    found = find_given({'synthseg': tmp_path / 's'}, acquisition, tmp_path / 'raw')
    assert (found.path, found.table, found.image) == (str(path), None, str(t1w))


def test_what_tables_mean(tmp_path):
    rows = [{'index': 5, 'name': 'left red nucleus'}, {'index': 6, 'name': 'liver'}, {'index': 7, 'name': 'SN_R'}]
    assert read_table(table(tmp_path / 'a.tsv', rows)) == {5: BY_NAME['RedNucleus_L'].index,
                                                           7: BY_NAME['SubstantiaNigra_R'].index}
    write_tsv(tmp_path / 'b.tsv', [{'index': 1, 'name': 'ROI a', 'mapping': 12}], ['index', 'name', 'mapping'])
    assert read_table(tmp_path / 'b.tsv') == {1: BY_NAME['Putamen_L'].index}
    assert read_table(None)[49] == BY_NAME['Thalamus_R'].index
    write_tsv(tmp_path / 'c.tsv', [{'number': 1}], ['number'])
    with pytest.raises(FileError, match='index and name'):
        read_table(tmp_path / 'c.tsv')
    with pytest.raises(FileError, match='no number'):
        read_table(table(tmp_path / 'd.tsv', [{'index': 'x', 'name': 'SN_R'}]))


@pytest.mark.parametrize('years, wanted, found', ((.4, 'auto', False), (.4, 'network', True), (1.5, 'auto', True)))
def test_the_network_is_not_asked_for_infants(acquisition, monkeypatch, years, wanted, found):
    monkeypatch.setattr('qsmbids.networks.shipped.shipped', lambda name: name)
    source, skipped = choose_source(wanted, {}, replace(acquisition, age=Age(years, 'x')))
    assert (source is not None) == found and any('0.4 years' in reason for reason in skipped) != found


def test_the_ladder_says_why(tmp_path, acquisition, monkeypatch):
    monkeypatch.setattr('qsmbids.networks.shipped.shipped', lambda name: name)
    given = {'mine': tmp_path / 'x'}
    source, skipped = choose_source('auto', given, acquisition)
    assert source.rung == 'network' and len(skipped) == 1 and 'no segmentation' in skipped[0]
    atlas = tmp_path / 'atlas'
    for name in ('tpl-x_T1w.nii.gz', 'tpl-x_dseg.nii.gz'):
        image(atlas / name)
    monkeypatch.setattr('qsmbids.segmentations.check_engine', lambda: None)
    source, _ = choose_source('auto', given, acquisition, atlas=str(atlas))
    assert source.rung == 'atlas' and source.path == source.template.labels and source.name == 'atlas'
    monkeypatch.undo()
    monkeypatch.setattr('qsmbids.networks.shipped.shipped', lambda name: name)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    source, skipped = choose_source('auto', {}, acquisition, atlas=str(atlas))
    assert source.rung == 'network' and "pip install 'qsmbids[atlas]'" in skipped[0]
    assert choose_source('none', given, acquisition) == (None, ())
    magnitude = Acquisition({'subject': '01'}, 'MEGRE', {'mag': acquisition.files['mag']})
    source, skipped = choose_source('auto', {}, magnitude)
    assert source is None and 'no phase' in skipped[0]

    def missing(name):
        raise FileError(f'{name}: no weights')
    monkeypatch.setattr('qsmbids.networks.shipped.shipped', missing)
    assert choose_source('network', {}, acquisition) == (None, ('network: dgm: no weights',))
    image(tmp_path / 'x' / 'sub-01' / 'anat' / 'sub-01_desc-aseg_dseg.nii.gz')
    assert choose_source('auto', given, acquisition)[0].rung == 'given'
