import json
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest

from qsmbids.bids import find_acquisitions, find_subjects, load_layout
from qsmbids.cli import simulate
from qsmbids.cli.simulate import main
from qsmbids.files import read_tsv
from qsmbids.simulation.bids import VENDORS
from qsmbids.simulation.cohort import COHORTS, draw_participant
from qsmbids.simulation.disease import PATTERNS
from qsmbids.simulation.lesions import CLASSES, LESION_COLUMNS
from qsmbids.simulation.tissues import LABELS

COARSE = ['--voxel-size', '9', '9', '10', '--echo-times', '.005', '.02', '--nprocs', '1']


@pytest.fixture(scope='module')
def cohort(tmp_path_factory):
    out = tmp_path_factory.mktemp('simulated') / 'bids'
    assert main([str(out), '--participants', '2', '--cohort', 'parkinson', '--tilt', '15', '--vendor', 'philips',
                 *COARSE]) == 0
    return out


def contents(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob('*') if p.is_file()}


def test_the_data_set_and_its_truth_are_valid(cohort, validator_errors):
    assert validator_errors(cohort) == []
    assert validator_errors(cohort / 'derivatives' / 'truth') == []


def test_qsmbids_reads_it_without_problems(cohort):
    subjects = find_subjects(cohort)
    found = find_acquisitions(load_layout(cohort, subjects), subjects)
    assert [a.entities['subject'] for a in found] == ['01', '02']
    for acquisition in found:
        assert acquisition.problems == () and acquisition.warnings == ()
        assert acquisition.echo_times == (.005, .02) and acquisition.b0_tesla == 3
        assert acquisition.b0_dir[2] == pytest.approx(np.cos(np.deg2rad(15)), abs=1e-3)
        assert acquisition.voxel_size == pytest.approx((9, 9, 10), rel=1e-3)


def test_the_table_says_who_is_who(cohort):
    rows = read_tsv(cohort / 'participants.tsv')
    assert [(r['participant_id'], r['group']) for r in rows] == [('sub-01', 'parkinson'), ('sub-02', 'control')]
    assert all(50 <= int(r['age']) <= 80 and r['sex'] in 'FM' for r in rows)


def test_the_truth_is_that_of_a_head(cohort):
    anat = cohort / 'derivatives' / 'truth' / 'sub-01' / 'anat'
    mask, chi = (nib.load(anat / f'sub-01_desc-{name}.nii.gz').get_fdata() for name in ('brain_mask', 'truth_Chimap'))
    assert 1000 < mask.sum() * .81 < 2000
    assert abs(chi[mask > 0].mean()) < .05


def test_a_second_run_adds_and_changes_nothing(cohort, tmp_path, monkeypatch):
    again, one = tmp_path / 'again', ['--cohort', 'parkinson', '--tilt', '15', '--vendor', 'philips', *COARSE]
    assert main([str(again), '--participants', '1', *one]) == 0
    first = contents(again)
    # A run that was stopped between truth and images leaves the truth alone.
    (again / 'derivatives' / 'truth' / 'sub-02').mkdir()
    assert main([str(again), '--participants', '2', *one]) == 0
    second = contents(again)
    assert second == contents(cohort)
    assert all(second[name] == first[name] for name in first if name != 'participants.tsv')
    monkeypatch.setattr(simulate, '_write_participant', None)
    assert main([str(again), '--participants', '1', *one]) == 0
    assert contents(again) == second


def test_what_does_not_fit_is_refused(cohort, tmp_path, capsys):
    assert main([str(cohort), '--participants', '1', '--seed', '4', *COARSE]) == 1
    assert 'another' in (message := capsys.readouterr().err) and 'seed' in message
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'file').write_text('mine')
    assert main([str(tmp_path / 'other'), '--participants', '1', *COARSE]) == 1
    assert 'empty folder' in capsys.readouterr().err
    nib.save(nib.Nifti1Image(np.zeros((5, 5, 5), np.int16), np.eye(4)), tmp_path / 'empty.nii.gz')
    anatomy = ['--anatomy', str(tmp_path / 'empty.nii.gz')]
    assert main([str(tmp_path / 'new'), '--participants', '1', *anatomy, *COARSE]) == 1
    assert 'empty.nii.gz: labels has no voxel of thalamus' in capsys.readouterr().err


def test_coils_motion_and_a_bipolar_readout_make_a_valid_data_set(tmp_path, validator_errors):
    out = tmp_path / 'bids'
    assert main([str(out), '--participants', '1', '--coils', '3', '--motion', '--bipolar', '3', '--partial-fourier',
                 '.75', *COARSE]) == 0
    assert validator_errors(out) == []
    settings = json.loads((out / 'simulation.json').read_text())
    assert (settings['coils'], settings['motion'], settings['bipolar']) == (3, 2, 3)
    anat = out / 'sub-01' / 'anat'
    assert json.loads((anat / 'sub-01_echo-1_part-mag_MEGRE.json').read_text())['PartialFourier'] == .75
    coils = nib.load(out / 'sourcedata' / 'channels' / 'sub-01' / 'anat' / 'sub-01_echo-2_part-mag_MEGRE.nii.gz')
    assert coils.shape == (*nib.load(anat / 'sub-01_echo-2_part-mag_MEGRE.nii.gz').shape, 3)
    subjects = find_subjects(out)
    assert [a.problems for a in find_acquisitions(load_layout(out, subjects), subjects)] == [()]
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == ['derivatives', 'sourcedata', 'sub-01']


@pytest.mark.parametrize('tesla', ['1.5', '7'])
def test_any_field_strength(tmp_path, tesla):
    assert main([str(tmp_path / 'bids'), '--participants', '1', '--b0', tesla, *COARSE]) == 0
    anat = tmp_path / 'bids' / 'derivatives' / 'truth' / 'sub-01' / 'anat'
    mask, r2star = (nib.load(anat / f'sub-01_desc-{name}.nii.gz').get_fdata()
                    for name in ('brain_mask', 'truth_R2starmap'))
    low, high = {'1.5': (8, 17), '7': (20, 50)}[tesla]
    assert low < np.median(r2star[mask > 0]) < high
    fields = json.loads((tmp_path / 'bids' / 'sub-01' / 'anat' / 'sub-01_echo-1_part-mag_MEGRE.json').read_text())
    assert fields['MagneticFieldStrength'] == float(tesla)


def test_a_full_disk_leaves_nothing_half_done(cohort, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr('qsmbids.simulation.bids.write_truth', full)
    assert main([str(tmp_path / 'bids'), '--participants', '1', *COARSE]) == 1
    assert 'No space left' in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / 'bids').iterdir()) == ['.bidsignore', 'README.md',
                                                                     'dataset_description.json', 'simulation.json']


def test_patients_with_small_vessel_disease_have_microbleeds(tmp_path, validator_errors):
    out, asked = tmp_path / 'svd', ['--participants', '2', '--seed', '3', '--tilt', '20', '--variation', '0', *COARSE]
    assert main([str(out), '--cohort', 'svd', '--pattern', 'deep', *asked]) == 0
    truth = out / 'derivatives' / 'truth'
    assert validator_errors(out) == [] and validator_errors(truth) == []
    for person in read_tsv(out / 'participants.tsv'):
        anat = truth / person['participant_id'] / 'anat'
        stem = f'{person["participant_id"]}_desc-truth'
        rows = read_tsv(anat / f'{stem}_lesions.tsv')
        assert all(list(row) == list(LESION_COLUMNS) for row in rows)
        assert {kind: sum(row['class'] == kind for row in rows) for kind in CLASSES} == {
            kind: int(person[kind]) for kind in CLASSES}
        assert (int(person['cmb']) > 0) == (person['group'] == 'svd')
        assert int(person['calcification']) > 0 and int(person['vessel']) > 0
        assert all(row['region'] != 'lobar' for row in rows if row['class'] == 'cmb')
        assert json.loads((anat / f'{stem}_lesions.json').read_text()).keys() == LESION_COLUMNS.keys()
        labels = nib.load(anat / f'{person["participant_id"]}_seg-lesions_desc-truth_dseg.nii.gz')
        mask = nib.load(anat / f'{person["participant_id"]}_desc-brain_mask.nii.gz')
        assert labels.shape == mask.shape and np.array_equal(labels.affine, mask.affine)
        for row in rows:
            place = [float(row[f'{axis}_ras_mm']) for axis in 'xyz']
            index = np.linalg.solve(labels.affine, [*place, 1])[:3]
            assert np.all(index > -.5) and np.all(index < np.array(labels.shape) - .5)


def test_microbleeds_in_any_cohort(tmp_path):
    out = tmp_path / 'bids'
    assert main([str(out), '--participants', '1', '--microbleeds', '4', '--variation', '0', *COARSE]) == 0
    (person,) = read_tsv(out / 'participants.tsv')
    assert [int(person[kind]) for kind in CLASSES] == [4, 0, 0, 0, 0, 0]
    assert len(read_tsv(out / 'derivatives/truth/sub-01/anat/sub-01_desc-truth_lesions.tsv')) == 4


def test_lesions_change_nothing_else_about_a_participant():
    with_them, without = draw_participant(3, 'svd', 2), draw_participant(3, 'svd', 2, 0)
    assert with_them.lesions['cmb'] > 0 == without.lesions['cmb']
    assert (with_them.head_seed, with_them.age, with_them.scan_seed) == (without.head_seed, without.age,
                                                                        without.scan_seed)
    numbers = [draw_participant(number, 'svd').lesions['cmb'] for number in range(1, 400, 2)]
    assert min(numbers) == 1 and 25 < max(numbers) <= 30 and 3 < np.median(numbers) < 8
    assert not any(draw_participant(1).lesions.values())


@pytest.mark.parametrize('wrong', [['--participants', '0'], ['--echo-times', '.02', '.01'], ['--echo-times', '5'],
                                   ['--voxel-size', '0', '1', '1'], ['--voxel-size', '20', '1', '1'],
                                   ['--tilt', '100'], ['--seed', '-1'], ['--anatomy', 'nowhere.nii.gz'],
                                   ['--vendor', 'bruker'], ['--partial-fourier', '.4'], ['--coils', '0'],
                                   ['--motion', '-1'], ['--voxel-size', '.1', '1', '1'], ['--snr', 'nan'],
                                   ['--microbleeds', '101'], ['--pattern', 'anywhere']])
def test_wrong_command_lines_end_with_2(tmp_path, wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / 'out'), '--participants', '1', *wrong])
    assert stop.value.code == 2 and wrong[0] in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_help_answers_at_once():
    start = time.perf_counter()
    run = subprocess.run([sys.executable, '-m', 'qsmbids.cli.simulate', '--help'], capture_output=True, text=True)
    assert run.returncode == 0 and '--cohort' in run.stdout
    assert time.perf_counter() - start < .5
    assert simulate.VENDORS == tuple(VENDORS) and simulate.COHORTS == tuple(COHORTS)
    assert simulate.PATTERNS == tuple(PATTERNS)


def test_patients_have_more_nigral_iron():
    people = [draw_participant(number, 'parkinson', 1) for number in range(1, 201)]
    iron = {group: np.array([p.iron['substantia_nigra'] for p in people if p.group == group])
            for group in ('parkinson', 'control')}
    assert iron['parkinson'].size == 100
    effect = (iron['parkinson'].mean() - iron['control'].mean()) / np.sqrt((iron['parkinson'].var()
                                                                            + iron['control'].var()) / 2)
    assert .8 < effect < 1.5
    assert set(people[0].iron) <= set(LABELS)
    with pytest.raises(ValueError, match='cohort'):
        draw_participant(1, 'martian')
    with pytest.raises(ValueError, match='number'):
        draw_participant(0)


def test_children_have_ages_of_children_and_heads_of_their_age(tmp_path, validator_errors):
    ages = [draw_participant(number, 'pediatric').age for number in range(1, 201)]
    assert 0 <= min(ages) < .3 and 14 < max(ages) <= 18 and np.mean(np.array(ages) < 2) > .2
    assert all(round(age, 2) == age for age in ages)
    assert all(draw_participant(number, 'pediatric').group == 'control' for number in (1, 2))
    youngest = next(number for number, age in enumerate(ages, 1) if age < 2)
    out = tmp_path / 'bids'
    assert main([str(out), '--participants', str(youngest), '--cohort', 'pediatric', *COARSE]) == 0
    assert validator_errors(out) == []
    rows = read_tsv(out / 'participants.tsv')
    volumes = {row['age']: nib.load(
        out / f'derivatives/truth/{row["participant_id"]}/anat/{row["participant_id"]}_desc-brain_mask.nii.gz'
    ).get_fdata().sum() * .81 for row in rows}
    young, old = (volumes[str(pick(ages[:youngest]))] for pick in (min, max))
    assert young < .8 * old
