import pytest

from qsmbids.__main__ import main
from qsmbids.cli.plan import batches


@pytest.fixture
def dry_run(bids_root, add_echoes, tmp_path, capsys):
    add_echoes(bids_root, '01')
    add_echoes(bids_root, '02', echo_times=(0.02,), suffix='T2starw')
    add_echoes(bids_root, '03', echo_times=(None,))

    def call(*flags):
        code = main([str(bids_root), str(tmp_path / 'out'), 'participant', '-w', str(tmp_path / 'work'), '--dry-run',
                     *flags])
        return code, capsys.readouterr()
    return call


def test_every_acquisition_has_a_line_and_nothing_is_written(dry_run, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    code, said = dry_run()
    assert code == 0
    lines = {line.split()[0]: line for line in said.out.splitlines() if line.startswith('sub-')}
    assert '6x7x8' in lines['sub-01'] and ' 3 ' in lines['sub-01'] and ' 1 ' in lines['sub-02']
    assert 'EchoTime is missing' in lines['sub-03']
    assert 'in all 2 acquisitions' in said.out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')} == before


def test_what_is_done_and_what_does_not_fit_is_said(dry_run, tmp_path):
    from qsmbids.reports.status import write_status
    write_status(tmp_path / 'out', '20260101-000000-x', [
        {'participant': 'sub-01', 'acquisition': 'sub-01', 'state': 'complete'}])
    code, said = dry_run('--mem', '0.4')
    lines = {line.split()[0]: line for line in said.out.splitlines() if line.startswith('sub-')}
    assert 'was complete before' in lines['sub-01'] and 'was complete' not in lines['sub-02']
    assert 'more memory than the 0.4 GB' in lines['sub-02']


def test_what_would_fail_does_not_end_the_plan(dry_run, monkeypatch):
    from qsmbids.workflows import base

    def refuse(config, acquisition, threads):
        if acquisition.subject == '01':
            raise ValueError('a mask on\nanother grid')
        return real(config, acquisition, threads)

    real = base.init_single_wf
    monkeypatch.setattr(base, 'init_single_wf', refuse)
    code, said = dry_run()
    assert code == 0 and 'would fail: a mask on another grid' in said.out and 'in all 1 acquisitions' in said.out


def test_nothing_usable_and_wrong_labels(dry_run):
    assert dry_run('--participant-label', '03')[0] == 65
    code, said = dry_run('--participant-label', '99')
    assert code == 2 and 'no participant 99' in said.err


def test_batches_hold_everybody_once():
    subjects = [str(n) for n in range(41)]
    assert sum(batches(subjects, 8), []) == subjects
    assert {len(b) for b in batches(subjects, 1)[:-1]} == {8}


def test_what_needs_more_than_mem_is_refused_with_the_figures(bids_root, add_echoes, tmp_path, monkeypatch):
    from qsmbids.cli import participant
    from qsmbids.reports.status import latest_states
    monkeypatch.setattr(participant.os, 'chdir', lambda folder: None)
    add_echoes(bids_root)
    code = main([str(bids_root), str(tmp_path / 'out'), 'participant', '-w', str(tmp_path / 'work'), '--mem', '0.3',
                 '--nprocs', '1'])
    (row,) = latest_states(tmp_path / 'out')
    assert code == 1 and row['state'] == 'failed'
    assert '--mem' in row['reason'] and '0.3 GB' in row['reason'] and '--dry-run' in row['reason']
