"""Many jobs at once on one output directory and one index: readers see whole files only, and nothing is lost."""

import json
import multiprocessing
import os
import signal
import time
from types import SimpleNamespace

from qsmbids.bids import find_acquisitions, load_layout
from qsmbids.cli.group import run as run_group
from qsmbids.files import read_json, read_tsv, write_json
from qsmbids.reports.dataset import write_dataset_files
from qsmbids.reports.status import latest_states, write_status

JOBS, ROUNDS = 4, 12
FORK = multiprocessing.get_context('fork')


def at_once(work, *arguments):
    """Run ``work(number, *arguments)`` in several processes that begin together."""
    barrier = FORK.Barrier(JOBS)

    def begin(number):
        barrier.wait()
        work(number, *arguments)

    jobs = [FORK.Process(target=begin, args=(number,)) for number in range(JOBS)]
    for job in jobs:
        job.start()
    return jobs


def finish(jobs):
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0] * JOBS


def read_index(number, root, index, found):
    acquisitions = find_acquisitions(load_layout(root, ['01', '02'], database_dir=index), ['01', '02'])
    (found / str(number)).write_text(' '.join(a.name for a in acquisitions if not a.problems))


def test_an_index_is_made_whole_by_whoever_is_first(bids_root, add_echoes, tmp_path):
    for subject in ('01', '02'):
        add_echoes(bids_root, subject)
    found = tmp_path / 'found'
    found.mkdir()
    finish(at_once(read_index, bids_root, tmp_path / 'index', found))
    assert {path.read_text() for path in found.iterdir()} == {'sub-01 sub-02'}
    assert [p.name for p in tmp_path.iterdir() if 'index' in p.name] == ['index']


def test_a_kill_while_indexing_leaves_no_half_index(bids_root, add_echoes, tmp_path):
    for number in range(20):
        add_echoes(bids_root, f'{number:02d}', echo_times=(0.01,))
    job = FORK.Process(target=load_layout, args=(bids_root, ['00']), kwargs={'database_dir': tmp_path / 'index'})
    job.start()
    while job.is_alive() and not list(tmp_path.glob('.index-*/*')):
        time.sleep(0.001)
    os.kill(job.pid, signal.SIGKILL)
    job.join()
    assert job.exitcode == -signal.SIGKILL and not (tmp_path / 'index').exists()
    assert len(load_layout(bids_root, ['00'], database_dir=tmp_path / 'index').get_subjects()) == 20


def write_outputs(number, out):
    """What a job writes, again and again: files of its own, and those that all jobs share."""
    for turn in range(ROUNDS):
        row = {'participant': f'sub-{number}', 'acquisition': f'sub-{number}', 'session': 'n/a', 'run': 'n/a'}
        write_dataset_files(out, '/data', {f'name{n}': 'x' * 1000 for n in range(50 + turn)})
        write_status(out, f'2026-{turn:03d}-{number}', [row | {'state': 'complete' if turn else 'running'}])
        write_json(out / f'sub-{number}' / 'anat' / f'sub-{number}_desc-qsm_qc.json',
                   {'metrics': {'brain_volume_ml': 1000.0 + turn}, 'warnings': ['x' * 500] * 40})


def test_readers_and_the_group_level_see_whole_files_only(tmp_path):
    jobs = at_once(write_outputs, tmp_path)
    looks = 0
    while any(job.is_alive() for job in jobs) or not looks:
        for path in tmp_path.glob('**/[!.]*.json'):
            assert read_json(path), path
        for path in tmp_path.glob('descriptions.tsv'):
            assert all(len(row['description']) == 1000 for row in read_tsv(path))
        if latest_states(tmp_path):
            assert run_group(SimpleNamespace(output_dir=tmp_path, bids_dir=None, longitudinal=False)) == 0
            looks += 1
    finish(jobs)
    assert run_group(SimpleNamespace(output_dir=tmp_path, bids_dir=None, longitudinal=False)) == 0
    rows = read_tsv(tmp_path / 'group_qc.tsv')
    assert [(row['participant'], row['state'], row['brain_volume_ml']) for row in rows] == [
        (f'sub-{number}', 'complete', f'{1000 + ROUNDS - 1}') for number in range(JOBS)]
    assert not [path for path in tmp_path.rglob('.*') if path.name != '.bidsignore'], 'a temporary file was left'


def test_a_writer_that_is_killed_leaves_whole_files(tmp_path):
    jobs = at_once(write_outputs, tmp_path)
    while not list(tmp_path.glob('sub-*/anat/*.json')):
        time.sleep(0.001)
    for job in jobs:
        os.kill(job.pid, signal.SIGKILL)
        job.join()
    for path in tmp_path.glob('**/[!.]*.json'):
        assert json.loads(path.read_text())
    for path in (tmp_path / 'logs').glob('status-*.tsv'):
        assert read_tsv(path)[0]['state'] in ('running', 'complete')
    finish(at_once(write_outputs, tmp_path))
    assert {row['state'] for row in latest_states(tmp_path)} == {'complete'}
