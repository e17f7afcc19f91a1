import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from qsmbids.bids import find_subjects
from qsmbids.cli.slurm import main, representatives
from qsmbids.files import read_tsv
from qsmbids.reports.status import latest_states, write_status

TESTBIDS = Path(__file__).parents[2] / 'data' / 'testbids'


@pytest.fixture
def cohort(bids_root, add_echoes):
    """Five participants: 0 to 3 small, 4 large; and 5 without images."""
    for label in '0123':
        add_echoes(bids_root, label)
    add_echoes(bids_root, '4', shape=(16, 16, 16))
    (bids_root / 'sub-5').mkdir()
    return bids_root


@pytest.fixture
def submit(cohort, tmp_path, monkeypatch, capsys):
    """Call qsmbids-slurm with commands of SLURM that keep a diary; return exit code, prints, the newest folder."""
    programs = tmp_path / 'bin'
    programs.mkdir()
    for name, text in (('sbatch', f'echo "$@" >> {tmp_path}/sbatch.log; wc -l < {tmp_path}/sbatch.log'),
                       ('squeue', f'cat {tmp_path}/queue 2> /dev/null || true'),
                       ('scontrol', 'echo "MaxArraySize = 4"')):
        (programs / name).write_text(f'#!/bin/sh\n{text}\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{programs}:{os.environ["PATH"]}')

    def call(*flags):
        before = set((tmp_path / 'out' / 'logs').glob('slurm-*'))
        code = main([str(cohort), str(tmp_path / 'out'), '-w', str(tmp_path / 'work'), *flags])
        new = set((tmp_path / 'out' / 'logs').glob('slurm-*')) - before
        return code, capsys.readouterr(), new.pop() if new else None
    return call


def report(tmp_path, **states):
    write_status(tmp_path / 'out', f'2026-{time.time_ns()}', [
        {'participant': f'sub-{label}', 'acquisition': f'sub-{label}', 'state': state}
        for label, state in ((name.strip('_'), state) for name, state in states.items())])


def test_tasks_fit_into_the_array_and_a_group_job_follows(submit, tmp_path):
    code, said, folder = submit()
    assert code == 0, said.err
    # Six participants, at most three tasks.
    assert '--array=0-2\n' in (folder / 'participant.sh').read_text()
    first, second = (tmp_path / 'sbatch.log').read_text().splitlines()
    assert first == f'--parsable {folder}/participant.sh'
    assert second == f'--parsable --dependency=afterany:1 {folder}/group.sh'
    assert json.loads((folder / 'submission.json').read_text())['per_task'] == 2
    assert (folder / 'participants.txt').read_text().split() == list('012345')
    for script in folder.glob('*.sh'):
        subprocess.run(['bash', '-n', script], check=True)


def test_flags_reach_sbatch_and_qsmbids(submit):
    _, _, folder = submit('--sbatch=--partition=long --account="a b"', '--at-once', '2', '--mem', '2', '--minutes', '7',
                          '--cpus', '1', '--no-group', '--', '--inversion', 'tkd', 'tv')
    text = (folder / 'participant.sh').read_text()
    for line in ('--partition=long', '--account=a b', '--array=0-2%2', '--mem=1908M', '--time=14', '--cpus-per-task=1'):
        assert f'#SBATCH {line}\n' in text or f"#SBATCH '{line}'\n" in text, line
    assert '--inversion tkd tv' in text and '--nprocs 1' in text


def test_only_what_is_neither_complete_nor_waiting_is_submitted(submit, tmp_path):
    submit()
    report(tmp_path, _0='complete', _1='failed', _2='running', _3='unusable')
    (tmp_path / 'queue').write_text('1 2\n')  # the third task of job 1: participants 4 and 5
    code, said, folder = submit()
    assert (folder / 'participants.txt').read_text().split() == ['1', '2']
    assert 'complete' in said.out and 'in the queue' in said.out and '--all' in said.out
    (tmp_path / 'queue').write_text('1 0\n3 0\n3 1\n')  # 0 and 1; 1 and 2
    _, _, folder = submit('--all')
    assert (folder / 'participants.txt').read_text().split() == ['3', '4', '5']
    report(tmp_path, **{f'_{n}': 'complete' for n in range(6)})
    assert submit()[2] is None


def test_estimates_are_those_of_the_largest_participant(submit):
    needs = {}
    for label in '04':
        _, said, folder = submit('--participant-label', label, '--all')
        text = (folder / 'participant.sh').read_text()
        needs[label] = [int(line.split('=')[1].strip('M')) for line in text.splitlines() if '--mem=' in line
                        and line.startswith('#')]
    _, _, folder = submit('--all')
    assert f'--mem={needs["4"][0]}M' in (folder / 'participant.sh').read_text()


def test_representatives_are_one_of_a_kind_the_largest_first(cohort):
    assert representatives(cohort, find_subjects(cohort)) == ['4', '0']


def test_a_wrong_flag_for_qsmbids_is_found_before_anything_is_submitted(submit, tmp_path, capsys):
    with pytest.raises(SystemExit):
        submit('--', '--inversion', 'magic')
    assert 'magic' in capsys.readouterr().err and not (tmp_path / 'sbatch.log').exists()
    assert submit('--participant-label', '9')[0] == 2


def test_without_slurm_it_says_so(cohort, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('PATH', '/usr/bin/none')
    assert main([str(cohort), str(tmp_path / 'out'), '-w', str(tmp_path / 'work')]) == 1
    assert 'sbatch is not on this machine' in capsys.readouterr().err
    assert main([str(cohort), str(tmp_path / 'out'), '-w', str(tmp_path / 'work'), '--dry-run']) == 0
    assert 'sbatch --parsable' in capsys.readouterr().out


def run_task(folder, task, **environment):
    return subprocess.run(['bash', folder / 'participant.sh'], capture_output=True, text=True,
                          env=os.environ | {'SLURM_ARRAY_TASK_ID': str(task)} | environment)


def test_a_task_runs_its_participants_and_tells_the_failure_of_any(submit, tmp_path):
    fake = tmp_path / 'fake qsmbids'
    fake.write_text('#!/bin/sh\necho "$5" "$7"\ntouch "$7/state"\n[ "$5" != 2 ]\n')
    fake.chmod(0o755)
    _, _, folder = submit('--command', shlex.quote(str(fake)))
    done = run_task(folder, 1)
    assert done.stdout.splitlines() == [f'{n} {tmp_path}/work/sub-{n}' for n in '23'], done.stderr
    assert done.returncode == 1
    # What failed goes on from its folder; what is complete leaves nothing.
    assert [p.name for p in (tmp_path / 'work').iterdir()] == ['sub-2']
    assert run_task(folder, 0).returncode == 0


def test_variables_of_the_node_stand_in_the_work_directory_and_nothing_is_executed(cohort, submit, tmp_path):
    fake = tmp_path / 'fake'
    fake.write_text('#!/bin/sh\necho "$7"\n')
    fake.chmod(0o755)
    folder = submit('--command', str(fake), '-w', f'{tmp_path}/$PLACE/`id`$(id)"a b', '--keep-work')[2]
    done = run_task(folder, 0, PLACE='here')
    assert done.stdout.splitlines()[0] == f'{tmp_path}/here/`id`$(id)"a b/sub-0', done.stderr
    assert (tmp_path / 'here').is_dir()


def test_the_image_sees_what_it_must_and_no_more(cohort, submit, tmp_path):
    (tmp_path / 'masks').mkdir()
    (tmp_path / 'filter.json').write_text('{}')
    fake = tmp_path / 'bin' / 'apptainer'
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    image = tmp_path / 'qsm bids.sif'
    _, _, folder = submit('--image', str(image), '--', '-d', f'm={tmp_path}/masks', '--bids-filter-file',
                          str(tmp_path / 'filter.json'))
    words = run_task(folder, 0).stdout.splitlines()
    run = words[:words.index('run', 1)] if 'run' in words[1:] else words
    assert run[:2] == ['run', '--containall']
    binds = [word for before, word in zip(run, run[1:]) if before == '--bind']
    assert set(','.join(binds).split(',')) == {
        f'{cohort}:{cohort}:ro', f'{tmp_path}/masks:{tmp_path}/masks:ro',
        f'{tmp_path}/filter.json:{tmp_path}/filter.json:ro', f'{tmp_path}/out', f'{tmp_path}/work/sub-0'}
    assert str(image) in run and 'QSMBIDS_CONTAINER_TAG=qsm bids.sif' in run
    assert run[run.index(str(image)) + 1:][:3] == [str(cohort), str(tmp_path / 'out'), 'participant']


def test_a_path_that_cannot_be_bound_is_refused(submit, tmp_path):
    (tmp_path / 'a:b').mkdir()
    code, said, _ = submit('--image', 'x.sif', '--bind', str(tmp_path / 'a:b'))
    assert code == 1 and 'colon' in said.err


def test_images_that_cannot_be_read_do_not_stop_the_estimate(cohort):
    (cohort / 'sub-0' / 'anat' / 'sub-0_echo-1_part-mag_MEGRE.nii.gz').write_bytes(b'nonsense')
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4))
    nibabel.save(image, cohort / 'sub-0' / 'anat' / 'sub-0_T2starw.nii')
    assert representatives(cohort, ['0', '4'])[0] == '4'


def wait_for_queue(seconds=300):
    end = time.time() + seconds
    while subprocess.run(['squeue', '--noheader'], capture_output=True, text=True, check=True).stdout.strip():
        assert time.time() < end, 'the queue does not become empty'
        time.sleep(0.5)


@pytest.mark.slow
def test_a_real_cluster_completes_a_cohort_of_which_a_job_is_killed(slurm, tmp_path, capsys):
    """Three small participants; the first call for one of them is killed, another is broken for good."""
    root, out = tmp_path / 'bids', tmp_path / 'out'
    root.mkdir()
    shutil.copy(TESTBIDS / 'dataset_description.json', root)
    for label in ('a', 'b', 'c'):
        shutil.copytree(TESTBIDS / 'sub-03', root / f'sub-{label}')
        for path in (root / f'sub-{label}' / 'anat').iterdir():
            path.rename(path.with_name(path.name.replace('sub-03', f'sub-{label}')))
    for sidecar in (root / 'sub-c').rglob('*.json'):
        sidecar.write_text('{}')
    # Kills itself in the middle of the first run for b, as a node that fails does.
    wrapper = tmp_path / 'qsmbids'
    wrapper.write_text(f"""#!/bin/bash
if [ "$5" = b ] && [ ! -e {tmp_path}/killed ]; then
  touch {tmp_path}/killed
  {shlex.quote(sys.executable)} -m qsmbids "$@" &
  until ls -d {tmp_path}/work/sub-b/qsmbids_*_wf/*/*/ > /dev/null 2>&1; do sleep 0.05; done
  kill -9 $!
  exit 137
fi
exec {shlex.quote(sys.executable)} -m qsmbids "$@"
""")
    wrapper.chmod(0o755)
    # More time than is foretold: a machine that runs tests may be a busy one.
    call = [str(root), str(out), '-w', str(tmp_path / 'work'), '--cpus', '1', '--minutes', '60', '--command',
            str(wrapper), '--', '--level', 'minimal', '--inversion', 'tkd', '--subcortical', 'none']
    assert main(call) == 0
    assert main(call) == 0 and 'in the queue' in capsys.readouterr().out
    wait_for_queue()
    states = {row['participant']: row['state'] for row in latest_states(out)}
    assert states == {'sub-a': 'complete', 'sub-b': 'running', 'sub-c': 'unusable'}
    assert [row['state'] for row in read_tsv(out / 'group_qc.tsv')] == ['complete', 'running', 'unusable']
    assert main(call) == 0
    newest = max((out / 'logs').glob('slurm-*'))
    assert (newest / 'participants.txt').read_text().split() == ['b']
    wait_for_queue()
    assert {row['state'] for row in read_tsv(out / 'group_qc.tsv')} == {'complete', 'unusable'}
    assert not list((tmp_path / 'work').glob('sub-[ab]'))
    assert len(list(out.rglob('*_Chimap.nii.gz'))) == 2
    assert slurm_logs_are_whole(newest)


def slurm_logs_are_whole(folder):
    return all('complete in' in log.read_text() for log in folder.glob('[0-9]*.log'))
