"""The main job on data/testbids, as a user runs it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from qsmbids import reconstruct
from qsmbids.bids import find_acquisitions, load_layout
from qsmbids.core.labels import LABELS, label_named, label_rows
from qsmbids.files import read_tsv, write_tsv
from qsmbids.interfaces.images import load_echoes
from qsmbids.simulation.testbids import acquisition as simulated
from qsmbids.simulation.tissues import LABELS as TISSUES
from qsmbids.simulation.tissues import NUCLEI

TESTBIDS = Path(__file__).parents[1] / 'data' / 'testbids'
EXPECTED = {
    'anat': ['desc-brain_mask', 'desc-qsm_mask', 'desc-reliable_mask', 'desc-reference_mask', 'desc-tv_Chimap',
             'desc-arlo_R2starmap', 'desc-arlo_T2starmap', 'desc-arlo_S0map', 'desc-fit_residual', 'desc-clear_swi',
             'desc-clear_minIP', 'desc-cmb_mask', 'desc-cmb_dseg', 'desc-cmb_probseg'],
    'fmap': ['desc-total_fieldmap', 'desc-local_fieldmap', 'magnitude']}


def qsmbids(*arguments):
    return subprocess.run([sys.executable, '-m', 'qsmbids', *map(str, arguments)], capture_output=True, text=True)


def true_regions(folder):
    """Write the nuclei of sub-02 as the segmentation of another pipeline would be."""
    scan = simulated('sub-02')
    grid = np.stack(np.meshgrid(*map(np.arange, scan.labels.shape), indexing='ij'))
    right = np.tensordot(scan.sequence.affine[0, :3], grid, 1) + scan.sequence.affine[0, 3] > 0
    labels = np.zeros(scan.labels.shape, np.uint8)
    for name in NUCLEI:
        for side, where in (('L', ~right), ('R', right)):
            labels[(scan.labels == TISSUES[name]) & where] = label_named(name, side).index
    folder = folder / 'sub-02' / 'anat'
    folder.mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(labels, scan.sequence.affine), folder / 'sub-02_desc-nuclei_dseg.nii.gz')
    write_tsv(folder / 'sub-02_desc-nuclei_dseg.tsv', label_rows(LABELS), ['index', 'name'])


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp('run')
    true_regions(root / 'regions')
    done = qsmbids(TESTBIDS, root / 'out', 'participant', '-w', root / 'work', '--nprocs', 2,
                   '-d', f'truth={root / "regions"}')
    return root, done


def status(root):
    newest = max((root / 'out' / 'logs').glob('status-*.tsv'))
    return {row['acquisition']: row for row in read_tsv(newest)}


def node_results(root):
    """Times at which the nodes that compute were done; those that write to the output look again at each run."""
    return {str(p): p.stat().st_mtime_ns for p in (root / 'work').rglob('result_*.pklz')
            if not p.parent.name.startswith(('ds_', 'draw'))}


def test_the_broken_participant_gets_its_reason_and_the_others_complete(run):
    root, done = run
    assert done.returncode == 1, done.stderr
    rows = status(root)
    broken = rows.pop('sub-broken')
    assert broken['state'] == 'unusable' and 'EchoTime is missing' in broken['reason']
    assert sorted(rows) == ['sub-01_ses-baseline', 'sub-01_ses-followup', 'sub-02', 'sub-03']
    assert {row['state'] for row in rows.values()} == {'complete'}, done.stdout
    assert 'EchoTime is missing' in done.stdout


@pytest.mark.parametrize('stem, folder', [('sub-01_ses-baseline', 'sub-01/ses-baseline'), ('sub-02', 'sub-02')])
def test_outputs_and_sidecars(run, stem, folder):
    out = run[0] / 'out'
    for datatype, names in EXPECTED.items():
        found = {p.name.removesuffix('.nii.gz') for p in (out / folder / datatype).glob('*.nii.gz')
                 if '_seg-' not in p.name}
        assert found == {f'{stem}_{name}' for name in names}
        for name in names:
            sidecar = json.loads((out / folder / datatype / f'{stem}_{name}.json').read_text())
            assert sidecar['Sources'] and sidecar['GeneratedBy'][0]['Version']
    chi = json.loads((out / folder / 'anat' / f'{stem}_desc-tv_Chimap.json').read_text())
    assert chi['Units'] == 'ppm' and chi['SkullStripped'] is True
    assert chi['SusceptibilityReference'] == 'wholebrain'
    assert chi['EstimationParameters']['lambda'] > 0 and chi['BackgroundRemoval']['margin'] == 16.0
    assert {'wholebrain', 'csf'} <= set(chi['References'])
    assert (out / f'{folder.split("/")[0]}.html').is_file()
    compliance = json.loads((out / folder / 'anat' / f'{stem}_desc-consensus_compliance.json').read_text())
    assert list(compliance) == [f'C{i}' for i in range(1, 14)]
    assert compliance['C3']['state'] == 'met'


def test_a_single_echo_has_no_relaxometry(run):
    names = {p.name for p in (run[0] / 'out' / 'sub-03' / 'anat').glob('*.nii.gz')}
    assert 'sub-03_desc-tv_Chimap.nii.gz' in names and not any('R2star' in name for name in names)


def test_outputs_pass_the_validator(run, validator_errors):
    assert validator_errors(run[0] / 'out') == []


def test_chi_is_what_was_simulated(run):
    truth = simulated('sub-01_ses-baseline')
    folder = run[0] / 'out' / 'sub-01' / 'ses-baseline' / 'anat'
    chi = nibabel.load(folder / 'sub-01_ses-baseline_desc-tv_Chimap.nii.gz').get_fdata()
    mask = nibabel.load(folder / 'sub-01_ses-baseline_desc-qsm_mask.nii.gz').get_fdata() > 0
    brain = nibabel.load(folder / 'sub-01_ses-baseline_desc-brain_mask.nii.gz').get_fdata() > 0
    assert chi[~mask].any() == np.False_
    assert abs(chi[mask].mean()) < 1e-4
    assert np.corrcoef(chi[mask & truth.mask], truth.chi[mask & truth.mask])[0, 1] > 0.5
    assert 2 * (brain & truth.mask).sum() / (brain.sum() + truth.mask.sum()) > 0.9


def test_regions_of_a_given_segmentation_have_the_values_that_were_simulated(run):
    truth, folder = simulated('sub-02'), run[0] / 'out' / 'sub-02' / 'anat'
    rows = read_tsv(folder / 'sub-02_seg-subcortical_desc-given_stats.tsv')
    assert {row['metric'] for row in rows} == {'chi', 'R2star'} and {row['atlas'] for row in rows} == {'truth'}
    found = {(row['metric'], row['roi']): row for row in rows if row['hemi'] == 'B' and row['erosion_mm'] == '0'}
    for tissue in ('putamen', 'pallidum', 'thalamus', 'dentate'):
        region = truth.labels == TISSUES[tissue]
        row = found['chi', tissue.capitalize()]
        expected = truth.chi[region].mean() - truth.chi[truth.mask].mean()
        assert float(row['mean_ref-wholebrain']) == pytest.approx(expected, abs=.015)
        assert float(found['R2star', tissue.capitalize()]['mean']) == pytest.approx(truth.r2star[region].mean(), rel=.2)
    assert found['chi', 'Amygdala']['qc'] == 'missing' and found['chi', 'Amygdala']['mean'] == 'n/a'
    assert (folder / 'sub-02_seg-subcortical_desc-given_dseg.tsv').is_file()
    assert 'Values of regions' in (run[0] / 'out' / 'sub-02.html').read_text()


def test_a_notebook_gets_the_same_map(run):
    (found, *_) = find_acquisitions(load_layout(TESTBIDS, ['01']), ['01'])
    image = nibabel.load(found.files['mag'][0])
    result = reconstruct(load_echoes(found.files['phase']), load_echoes(found.files['mag']), found.echo_times,
                         b0_tesla=found.b0_tesla, affine=image.affine, phase_units=found.phase_units,
                         imaging_frequency_mhz=found.metadata['ImagingFrequency'], manufacturer=found.manufacturer)
    folder = run[0] / 'out' / 'sub-01' / 'ses-baseline' / 'anat'
    for name, volume in (('desc-tv_Chimap', result.chi), ('desc-arlo_R2starmap', result.relaxation.r2star),
                         ('desc-qsm_mask', result.qsm_mask)):
        stored = nibabel.load(folder / f'sub-01_ses-baseline_{name}.nii.gz').get_fdata(dtype=np.float32)
        assert np.array_equal(stored, volume.astype(np.float32)), name
    sidecar = json.loads((folder / 'sub-01_ses-baseline_desc-tv_Chimap.json').read_text())
    assert sidecar['EstimationParameters'] == result.parameters
    assert tuple(sidecar['AutomaticParameters']) == result.automatic == ('lambda',)


def test_a_second_run_computes_nothing_and_restores_what_was_deleted(run):
    root, _ = run
    before = node_results(root)
    lost = root / 'out' / 'sub-02' / 'anat' / 'sub-02_desc-tv_Chimap.nii.gz'
    lost.unlink()
    kept = root / 'out' / 'sub-02' / 'anat' / 'sub-02_desc-brain_mask.nii.gz'
    stamp = kept.stat().st_mtime_ns
    again = qsmbids(TESTBIDS, root / 'out', 'participant', '-w', root / 'work', '--nprocs', 1,
                    '-d', f'truth={root / "regions"}',
                    '--participant-label', '02', 'sub-03')
    assert again.returncode == 0, again.stderr
    assert node_results(root) == before
    assert lost.is_file() and kept.stat().st_mtime_ns == stamp


def test_group_level(run):
    root, _ = run
    done = qsmbids('nowhere', root / 'out', 'group')
    assert done.returncode == 0, done.stderr
    rows = {row['acquisition']: row for row in read_tsv(root / 'out' / 'group_qc.tsv')}
    assert len(rows) == 5
    wide = {row['acquisition']: row for row in read_tsv(root / 'out' / 'group_subcortical_wide.tsv')}
    assert float(wide['sub-02']['chi_mean_Pallidum_L']) > .05 and wide['sub-broken']['chi_mean_Pallidum_L'] == 'n/a'
    assert rows['sub-broken']['brain_volume_ml'] == 'n/a'
    assert 700 < float(rows['sub-01_ses-baseline']['brain_volume_ml']) < 2500
    for name in ('sub-01_ses-baseline', 'sub-02', 'sub-03'):
        assert float(rows[name]['chi_tv_kernel_gain']) == pytest.approx(1, abs=0.15)
        assert rows[name]['chi_tv_flag'] == '0' and float(rows[name]['field_b0_angle_deg']) < 4
        assert len(list((root / 'out').glob(f'sub-*/figures/{name}_desc-kerneltv_figure.png'))) == 1


def test_reports_only_and_boilerplate_only(run):
    root, _ = run
    page = root / 'out' / 'sub-02.html'
    page.unlink()
    done = qsmbids(TESTBIDS, root / 'out', 'participant', '-w', root / 'work', '--reports-only',
                   '--participant-label', '02')
    assert done.returncode == 0, done.stderr + done.stdout
    assert page.is_file()
    done = qsmbids(TESTBIDS, root / 'text', 'participant', '-w', root / 'work2', '--boilerplate-only')
    assert done.returncode == 0, done.stderr
    assert 'projection onto dipole fields' in (root / 'text' / 'logs' / 'CITATION.md').read_text()
    assert not list((root / 'text').glob('sub-*'))


@pytest.fixture
def two_participants(tmp_path):
    """Two single-echo participants (the smallest of the data set), to damage one of them."""
    root = tmp_path / 'bids'
    root.mkdir()
    shutil.copy(TESTBIDS / 'dataset_description.json', root)
    for label in ('03', '04'):
        shutil.copytree(TESTBIDS / 'sub-03', root / f'sub-{label}')
        for path in (root / f'sub-{label}' / 'anat').iterdir():
            path.rename(path.with_name(path.name.replace('sub-03', f'sub-{label}')))
    return root


def test_a_killed_run_goes_on_where_it_was(two_participants, tmp_path):
    arguments = [two_participants, tmp_path / 'out', 'participant', '-w', tmp_path / 'work', '--nprocs', 1]
    first = subprocess.Popen([sys.executable, '-m', 'qsmbids', *map(str, arguments)], start_new_session=True)
    while first.poll() is None and len(node_results(tmp_path)) < 3:
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL, 'it was over before it could be killed'
    done = node_results(tmp_path)
    assert len(done) >= 3
    again = qsmbids(*arguments)
    assert again.returncode == 0, again.stderr
    after = node_results(tmp_path)
    assert {path: after[path] for path in done} == done and len(after) > len(done)


def test_damage_is_named_and_the_others_complete(two_participants, tmp_path):
    damaged = two_participants / 'sub-03' / 'anat' / 'sub-03_part-phase_T2starw.nii.gz'
    damaged.write_bytes(damaged.read_bytes()[:5000])
    done = qsmbids(two_participants, tmp_path / 'out', 'participant', '-w', tmp_path / 'work', '--level', 'minimal')
    assert done.returncode == 1, done.stderr
    rows = status(tmp_path)
    assert rows['sub-04']['state'] == 'complete' and rows['sub-03']['state'] == 'failed'
    assert str(damaged) in rows['sub-03']['reason'] and 'again' in rows['sub-03']['reason']
    assert Path(rows['sub-03']['crashfile']).is_file()
    assert 'sub-03' in rows['sub-03']['crashfile']
    assert not list((tmp_path / 'out').rglob('.*.nii.gz'))


def test_a_full_disk_is_named_and_leaves_no_half_file(two_participants, tmp_path):
    import resource

    def small_files_only():
        # Like a quota: writing beyond it fails in the middle of a file.
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    done = subprocess.run(
        [sys.executable, '-m', 'qsmbids', two_participants, tmp_path / 'out', 'participant', '-w', tmp_path / 'work',
         '--participant-label', '03', '--nprocs', '1'], capture_output=True, text=True, preexec_fn=small_files_only)
    assert done.returncode == 1, done.stderr
    reason = status(tmp_path)['sub-03']['reason']
    assert 'magnitude.nii' in reason and 'cannot be written' in reason and 'Make room' in reason
    images = [p for folder in ('out', 'work') for p in (tmp_path / folder).rglob('*.nii*')]
    assert images == []


def test_an_empty_mask_of_another_pipeline_is_named(two_participants, tmp_path):
    image = nibabel.load(two_participants / 'sub-03' / 'anat' / 'sub-03_part-mag_T2starw.nii.gz')
    mask = tmp_path / 'masks' / 'sub-03' / 'anat' / 'sub-03_desc-brain_mask.nii.gz'
    mask.parent.mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), mask)
    done = qsmbids(two_participants, tmp_path / 'out', 'participant', '-w', tmp_path / 'work', '--participant-label',
                   '03', '-d', f'mine={tmp_path / "masks"}')
    assert done.returncode == 1
    reason = status(tmp_path)['sub-03']['reason']
    assert str(mask) in reason and 'empty' in reason


def test_input_that_cannot_be_used_at_all(bids_root, tmp_path):
    (bids_root / 'sub-1' / 'anat').mkdir(parents=True)
    assert qsmbids(bids_root, tmp_path / 'out', 'participant', '-w', tmp_path / 'w').returncode == 65
    done = qsmbids(bids_root, tmp_path / 'out', 'participant', '-w', tmp_path / 'w', '--participant-label', '7')
    assert done.returncode == 2 and 'no participant 7' in done.stderr


@pytest.mark.skipif(not Path('/proc/self').exists(), reason='/proc is a folder that nobody can write to on Linux only')
def test_a_read_only_output_directory_is_named(bids_root, tmp_path):
    (bids_root / 'sub-1' / 'anat').mkdir(parents=True)
    done = qsmbids(bids_root, '/proc/qsmbids', 'participant', '-w', tmp_path / 'w')
    assert done.returncode == 2
    assert '/proc/qsmbids' in done.stderr and 'choose another' in done.stderr
