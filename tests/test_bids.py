import json

import nibabel
import numpy as np
import pytest

from qsmbids.bids import (Acquisition, BIDSInputError, check_sessions, find_acquisitions, find_brain_mask, find_chi_map,
                          find_r2_map, find_subjects, load_layout, read_filter)


def discover(root, subjects=('01',), **options):
    return find_acquisitions(load_layout(root, list(subjects)), list(subjects), **options)


def only_problem(root):
    (acquisition,) = discover(root)
    assert len(acquisition.problems) == 1
    return acquisition.problems[0]


def test_magnitude_and_phase(bids_root, add_echoes):
    affine = np.diag([0.8, 0.8, 3, 1])
    add_echoes(bids_root, affine=affine, sidecar={'ImagingFrequency': 123.25, 'Manufacturer': 'Siemens'})
    (acquisition,) = discover(bids_root)
    assert not acquisition.problems
    assert acquisition.echo_times == (0.004, 0.012, 0.020)
    assert acquisition.voxel_size == pytest.approx((0.8, 0.8, 3))
    assert acquisition.b0_dir == (0, 0, 1)
    assert acquisition.center_frequency_hz == pytest.approx(123.25e6)
    assert (acquisition.phase_units, acquisition.manufacturer) == ('rad', 'Siemens')
    assert len(acquisition.files['mag']) == len(acquisition.files['phase']) == 3
    assert acquisition.sources[0] == 'bids:raw:sub-01/anat/sub-01_echo-1_part-mag_MEGRE.nii.gz'


def test_ages_come_along_and_a_wrong_one_is_no_obstacle(bids_root, add_echoes):
    add_echoes(bids_root)
    table = bids_root / 'participants.tsv'
    for age, years in (('n/a', None), ('40', 40), ('0.5', .5), ('unknown', None)):
        table.write_text(f'participant_id\tage\nsub-01\t{age}\n')
        (acquisition,) = discover(bids_root)
        assert not acquisition.problems and (acquisition.age.years if acquisition.age else None) == years
        assert any('no region is judged' in note for note in acquisition.notes) == (age == '0.5')
        assert any('participants.tsv' in warning for warning in acquisition.warnings) == (age == 'unknown')


def test_echoes_are_in_numerical_order(bids_root, add_echoes):
    times = tuple(0.004 * i for i in range(1, 12))
    add_echoes(bids_root, echo_times=times)
    (acquisition,) = discover(bids_root)
    assert not acquisition.problems
    assert acquisition.echo_times == times
    assert 'echo-10' in acquisition.files['mag'][9]


def test_real_and_imaginary(bids_root, add_echoes):
    add_echoes(bids_root, parts=('real', 'imag'))
    (acquisition,) = discover(bids_root)
    assert not acquisition.problems and acquisition.has_phase


def test_a_fourth_axis_of_several_echoes_holds_channels(bids_root, add_echoes):
    add_echoes(bids_root, shape=(6, 7, 8, 4))
    (acquisition,) = discover(bids_root)
    assert not acquisition.problems and acquisition.shape == (6, 7, 8) and len(acquisition.echo_times) == 3
    assert any('4 uncombined channels' in note for note in acquisition.notes)


def test_channels_without_phase_cannot_be_combined(bids_root, add_echoes):
    add_echoes(bids_root, shape=(6, 7, 8, 4), parts=('mag',))
    (acquisition,) = discover(bids_root)
    assert any('part-phase' in problem for problem in acquisition.problems)


def test_sessions_runs_and_acquisitions_are_told_apart(bids_root, add_echoes):
    for session in ('a', 'b'):
        for extra in ('_run-1', '_run-2', '_acq-hi_run-1'):
            add_echoes(bids_root, session=session, extra=extra)
    found = discover(bids_root)
    assert [a.name for a in found] == [
        'sub-01_ses-a_acq-hi_run-1', 'sub-01_ses-a_run-1', 'sub-01_ses-a_run-2',
        'sub-01_ses-b_acq-hi_run-1', 'sub-01_ses-b_run-1', 'sub-01_ses-b_run-2']
    assert len(discover(bids_root, sessions=['ses-b'])) == 3
    assert len(discover(bids_root, bids_filter={'acquisition': 'hi'})) == 2


def test_sidecars_are_inherited(bids_root, add_echoes):
    add_echoes(bids_root, inherit=True)
    (acquisition,) = discover(bids_root)
    assert not acquisition.problems
    assert acquisition.echo_times == (0.004, 0.012, 0.020)
    assert acquisition.b0_tesla == 3


def test_single_echo(bids_root, add_echoes):
    add_echoes(bids_root, suffix='T2starw', echo_times=(0.02,))
    (acquisition,) = discover(bids_root)
    assert not acquisition.problems
    assert acquisition.suffix == 'T2starw' and any('single echo' in text for text in acquisition.warnings)


def test_four_dimensional_file(bids_root, add_echoes):
    folder = add_echoes(bids_root, suffix='T2starw', echo_times=(0.02,), shape=(6, 7, 8, 3))
    for sidecar in folder.glob('*.json'):
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), 'EchoTime': [0.004, 0.012, 0.02]}))
    (acquisition,) = discover(bids_root)
    assert not acquisition.problems
    assert acquisition.echo_times == (0.004, 0.012, 0.02) and acquisition.shape == (6, 7, 8)


def test_four_dimensional_file_with_one_echo_time(bids_root, add_echoes):
    add_echoes(bids_root, suffix='T2starw', echo_times=(0.02,), shape=(6, 7, 8, 3))
    assert 'as a list' in only_problem(bids_root)


def test_magnitude_only(bids_root, add_echoes):
    add_echoes(bids_root, parts=('mag',))
    (acquisition,) = discover(bids_root)
    assert not acquisition.problems and not acquisition.has_phase
    assert any('magnitude only' in text for text in acquisition.warnings)


@pytest.mark.parametrize('echo_times, text', [
    ((None, 0.012), 'EchoTime is missing'), ((4, 12), 'milliseconds'), ((0.01, 0.01), 'same EchoTime'),
    ((0.012, 0.004), 'do not rise'), (('abc', 0.012), 'not a number'), ((0.0, 0.01), 'too short')])
def test_wrong_echo_times_name_the_file(bids_root, add_echoes, echo_times, text):
    add_echoes(bids_root, echo_times=echo_times)
    problem = only_problem(bids_root)
    assert text in problem and 'sub-01_echo-1_part-mag_MEGRE.nii.gz' in problem


@pytest.mark.parametrize('sidecar, text', [
    ({'MagneticFieldStrength': None}, 'MagneticFieldStrength'), ({'ImagingFrequency': 42.0}, 'frequency')])
def test_wrong_field_strength(bids_root, add_echoes, sidecar, text):
    add_echoes(bids_root, sidecar=sidecar)
    assert text in only_problem(bids_root)


def test_missing_files(bids_root, add_echoes):
    folder = add_echoes(bids_root)
    (folder / 'sub-01_echo-2_part-phase_MEGRE.nii.gz').unlink()
    assert 'a file is missing' in only_problem(bids_root)
    for path in folder.glob('*part-mag*'):
        path.unlink()
    assert 'no magnitude' in only_problem(bids_root)


def test_other_grid(bids_root, add_echoes):
    folder = add_echoes(bids_root)
    path = folder / 'sub-01_echo-2_part-phase_MEGRE.nii.gz'
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 7, 9), np.float32), np.eye(4)), path)
    assert str(path) in only_problem(bids_root)
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 7, 8), np.float32), np.diag([1, 1, 2, 1])), path)
    assert 'affine' in only_problem(bids_root)


def test_unreadable_header(bids_root, add_echoes):
    folder = add_echoes(bids_root)
    path = folder / 'sub-01_echo-1_part-mag_MEGRE.nii.gz'
    path.write_bytes(b'')
    problem = only_problem(bids_root)
    assert str(path) in problem and 'again' in problem


def test_one_bad_acquisition_does_not_hide_the_other(bids_root, add_echoes):
    add_echoes(bids_root, session='a')
    add_echoes(bids_root, session='b', echo_times=(None, 0.01))
    good, bad = discover(bids_root)
    assert not good.problems and bad.problems


def test_derivatives_never_collide(bids_root, add_echoes):
    add_echoes(bids_root)
    add_echoes(bids_root, suffix='T2starw', echo_times=(0.02,))
    megre, t2starw = discover(bids_root)
    assert not megre.problems and 'same names' in t2starw.problems[0]
    (chosen,) = discover(bids_root, bids_filter={'suffix': 'T2starw'})
    assert not chosen.problems


def test_only_the_wanted_participants_are_indexed(bids_root, add_echoes):
    for subject in ('1', '12', '123'):
        add_echoes(bids_root, subject)
    layout = load_layout(bids_root, ['12'])
    assert layout.get_subjects() == ['12']


def test_subjects_are_checked(bids_root, add_echoes):
    add_echoes(bids_root, '01')
    assert find_subjects(bids_root) == find_subjects(bids_root, ['sub-01']) == ['01']
    with pytest.raises(BIDSInputError, match='no participant 02.*it has: 01'):
        find_subjects(bids_root, ['02'])
    with pytest.raises(BIDSInputError, match='dataset_description'):
        find_subjects(bids_root / 'sub-01')


def test_sessions_are_checked_over_all_participants(bids_root, add_echoes):
    add_echoes(bids_root, '01', 'a')
    add_echoes(bids_root, '02', 'b')
    check_sessions(bids_root, ['01', '02'], ['ses-b'])
    with pytest.raises(BIDSInputError, match='no session x.*have: a, b'):
        check_sessions(bids_root, ['01', '02'], ['x'])


def test_a_tilt_is_noted(bids_root, add_echoes):
    affine = np.eye(4)
    affine[:3, :3] = [[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]
    add_echoes(bids_root, affine=affine)
    (acquisition,) = discover(bids_root)
    assert acquisition.b0_dir == pytest.approx((0, 0.6, 0.8))
    assert any('36.9 degrees' in note for note in acquisition.notes)


def test_a_saved_index_is_used_again(bids_root, add_echoes, tmp_path):
    add_echoes(bids_root)
    first = find_acquisitions(load_layout(bids_root, ['01'], database_dir=tmp_path / 'index'), ['01'])
    assert list((tmp_path / 'index').iterdir())
    assert find_acquisitions(load_layout(bids_root, ['01'], database_dir=tmp_path / 'index'), ['01']) == first


def test_names_of_derivatives():
    acquisition = Acquisition({'subject': '1', 'session': 'a', 'acquisition': 'hi', 'reconstruction': 'r', 'run': '2'},
                              'MEGRE', {})
    assert acquisition.path('Chimap', desc='tv') == (
        'sub-1/ses-a/anat/sub-1_ses-a_acq-hi_rec-r_run-2_desc-tv_Chimap.nii.gz')
    assert acquisition.path('fieldmap', desc='total', datatype='fmap', extension='.json') == (
        'sub-1/ses-a/fmap/sub-1_ses-a_acq-hi_rec-r_run-2_desc-total_fieldmap.json')


def test_masks_of_other_derivatives(tmp_path):
    acquisition = Acquisition({'subject': '1'}, 'MEGRE', {})
    assert find_brain_mask({'x': tmp_path}, acquisition) is None
    path = tmp_path / 'sub-1' / 'anat' / 'sub-1_desc-brain_mask.nii.gz'
    path.parent.mkdir(parents=True)
    path.touch()
    assert find_brain_mask({'x': tmp_path}, acquisition) == str(path)


def test_r2_maps_of_other_derivatives(tmp_path):
    acquisition = Acquisition({'subject': '1', 'run': '2'}, 'MEGRE', {})
    assert find_r2_map({'x': tmp_path}, acquisition) is None
    folder = tmp_path / 'sub-1' / 'anat'
    folder.mkdir(parents=True)
    (folder / 'sub-1_run-1_R2map.nii.gz').touch()
    (folder / 'sub-1_T2starmap.nii.gz').touch()
    assert find_r2_map({'x': tmp_path}, acquisition) is None, 'of another run, or not T2'
    for name in ('sub-1_desc-fit_T2map.nii', 'sub-1_T2map.nii.gz', 'sub-1_R2map.nii.gz', 'sub-1_run-2_T2map.nii.gz'):
        (folder / name).touch()
        assert find_r2_map({'other': tmp_path / 'x', 'x': tmp_path}, acquisition) == str(folder / name)


def test_susceptibility_maps_of_other_derivatives(tmp_path):
    acquisition = Acquisition({'subject': '1', 'run': '2'}, 'MEGRE', {})
    folder = tmp_path / 'sub-1' / 'anat'
    folder.mkdir(parents=True)
    for name in ('sub-1_Chimap', 'sub-1_run-1_Chimap', 'sub-1_run-2_desc-tvpositive_Chimap', 'sub-1_run-2_R2starmap'):
        (folder / f'{name}.nii.gz').touch()
    assert find_chi_map({'x': tmp_path}, acquisition) is None, 'of another run, of one sign, or no susceptibility'
    for name in ('sub-1_run-2_desc-b_Chimap.nii.gz', 'sub-1_run-2_desc-a_Chimap.nii', 'sub-1_run-2_Chimap.nii.gz'):
        (folder / name).touch()
        assert find_chi_map({'other': tmp_path / 'x', 'x': tmp_path}, acquisition) == str(folder / name)


@pytest.mark.parametrize('content, text', [('{', 'JSON'), ('[]', 'object'), ('{"megre": {"colour": "x"}}', 'colour')])
def test_filter_files_are_checked(tmp_path, content, text):
    path = tmp_path / 'filter.json'
    path.write_text(content)
    with pytest.raises(BIDSInputError, match=text):
        read_filter(path)
