import json
from types import SimpleNamespace

import pytest

from qsmbids.cli.group import run
from qsmbids.files import read_tsv, write_json
from qsmbids.reports.status import latest_states, write_status

KERNEL = ('kernel_gain', 'kernel_offset', 'kernel_rms', 'kernel_coherence', 'kernel_angle_deg', 'field_nrmse', 'flag')


def row(participant, state, **more):
    return {'participant': participant, 'acquisition': f'{participant}_ses-a', 'session': 'a', 'state': state, **more}


@pytest.fixture
def outputs(tmp_path):
    write_status(tmp_path, '20260101-000000-x', [row('sub-1', 'failed', reason='old', crashfile='/x'),
                                                 row('sub-2', 'failed', reason='no echo time'),
                                                 {'participant': 'sub-3', 'state': 'unusable', 'reason': 'nothing'}])
    write_status(tmp_path, '20260102-000000-x', [row('sub-1', 'complete')])
    write_json(tmp_path / 'sub-1' / 'ses-a' / 'anat' / 'sub-1_ses-a_desc-qsm_qc.json',
               {'metrics': {'brain_volume_ml': 1200.0, 'chi_tv_sd_ppm': 0.04, 'field_b0_angle_deg': 1.2,
                            'field_b0_contrast': 0.3} | {f'chi_tv_{part}': 0.5 for part in KERNEL}, 'warnings': ['w']})
    return tmp_path


def test_failures_get_a_row_without_values(outputs):
    assert run(SimpleNamespace(output_dir=outputs, bids_dir=None, longitudinal=False)) == 0
    first, second, third = read_tsv(outputs / 'group_qc.tsv')
    assert (first['participant'], first['state'], first['brain_volume_ml'], first['warnings']) == (
        'sub-1', 'complete', '1200', '1')
    assert (second['state'], second['reason'], second['brain_volume_ml']) == ('failed', 'no echo time', 'n/a')
    assert (third['participant'], third['acquisition'], third['chi_tv_sd_ppm']) == ('sub-3', 'n/a', 'n/a')


def test_every_column_is_described(outputs):
    run(SimpleNamespace(output_dir=outputs, bids_dir=None, longitudinal=False))
    columns = read_tsv(outputs / 'group_qc.tsv')[0].keys()
    described = json.loads((outputs / 'group_qc.json').read_text())
    assert list(described) == list(columns)
    assert all(entry['Description'] for entry in described.values())


def test_twice_is_the_same(outputs):
    run(SimpleNamespace(output_dir=outputs, bids_dir=None, longitudinal=False))
    first = (outputs / 'group_qc.tsv').read_bytes()
    run(SimpleNamespace(output_dir=outputs, bids_dir=None, longitudinal=False))
    assert (outputs / 'group_qc.tsv').read_bytes() == first


def test_the_newest_state_counts(outputs):
    states = {r['participant']: r['state'] for r in latest_states(outputs)}
    assert states == {'sub-1': 'complete', 'sub-2': 'failed', 'sub-3': 'unusable'}


def test_without_a_participant_level_it_says_so(tmp_path, capsys):
    assert run(SimpleNamespace(output_dir=tmp_path, bids_dir=None, longitudinal=False)) == 65
    assert 'participant level first' in capsys.readouterr().err
