import os
import signal

import numpy as np

from qsmbids.cli import participant
from qsmbids.cli.parser import parse
from qsmbids.reports.status import latest_states


def test_an_error_inside_one_batch_is_in_the_table_and_the_next_goes_on(bids_root, add_echoes, tmp_path, monkeypatch):
    for number in range(12):
        add_echoes(bids_root, f'{number:02d}', echo_times=(None,))
    monkeypatch.setattr(participant.os, 'chdir', lambda folder: None)
    batches = []

    def run_batch(run, subjects):
        batches.append(subjects)
        if len(batches) == 1:
            raise np.exceptions.AxisError('broken')
        return real(run, subjects)

    real = participant._Run._run_batch
    monkeypatch.setattr(participant._Run, '_run_batch', run_batch)
    code = participant.run(parse([str(bids_root), str(tmp_path / 'out'), 'participant', '-w', str(tmp_path / 'work'),
                                  '--nprocs', '1']))
    assert code == participant.EXIT_INTERNAL
    states = {row['participant']: row for row in latest_states(tmp_path / 'out')}
    assert [states[f'sub-{n:02d}']['state'] for n in range(12)] == ['failed'] * 8 + ['unusable'] * 4
    assert 'broken' in states['sub-00']['reason']


def test_a_time_limit_is_in_the_table(bids_root, add_echoes, tmp_path, monkeypatch):
    add_echoes(bids_root, '01')
    monkeypatch.setattr(participant.os, 'chdir', lambda folder: None)
    monkeypatch.setattr(participant._Run, '_compute', lambda run, usable: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    code = participant.run(parse([str(bids_root), str(tmp_path / 'out'), 'participant', '-w', str(tmp_path / 'work'),
                                  '--nprocs', '1']))
    (row,) = latest_states(tmp_path / 'out')
    assert code == participant.EXIT_FAILED and row['state'] == 'failed' and 'time limit' in row['reason']
    assert signal.getsignal(signal.SIGTERM) == before
