import json

import pytest

from qsmbids.core.statistics import COLUMNS
from qsmbids.files import read_tsv, write_json, write_tsv
from qsmbids.reports.change import DETECTABLE, PUBLISHED_SD
from qsmbids.reports.cohort import write_group_regions

TABLES = ('group_subcortical', 'group_subcortical_wide', 'group_subcortical_change')


def state(participant, session='n/a', run='n/a', kind='complete', reason=''):
    stem = participant + (f'_ses-{session}' if session != 'n/a' else '') + (f'_run-{run}' if run != 'n/a' else '')
    return {'participant': participant, 'session': session, 'run': run, 'acquisition': stem, 'state': kind,
            'reason': reason}


def rows(mean, name='tv', metric='chi'):
    unit, ref = ('ppm', 'wholebrain') if metric == 'chi' else ('1/s', None)
    common = dict.fromkeys(COLUMNS) | {'roi': 'Putamen', 'metric': metric, 'map': name, 'unit': unit, 'ref': ref,
                                       'qc': 'pass', 'volume_mm3': 4000, 'mean_ref-csf': mean - .01}
    return [common | {'hemi': hemi, 'erosion_mm': erosion, 'mean': mean + shift} for hemi, shift in
            (('L', 0), ('R', .001), ('B', .0005)) for erosion in (0., 1.)]


@pytest.fixture
def study(tmp_path):
    """Write the tables of acquisitions; return a function that adds one, and the tables as they become."""
    out, raw = tmp_path / 'out', tmp_path / 'raw'
    states = []

    def add(one, found=None, desc='given', evidence=None):
        states.append(one)
        folder = out / one['participant'] / ('' if one['session'] == 'n/a' else f'ses-{one["session"]}') / 'anat'
        if found is not None:
            identity = {name: one[name] for name in ('participant', 'session', 'run', 'acquisition')}
            identity |= {'seg_source': desc, 'atlas': 'x'}
            write_tsv(folder / f'{one["acquisition"]}_seg-subcortical_desc-{desc}_stats.tsv',
                      [identity | row for row in found], [*identity, *COLUMNS])
            write_json(folder / f'{one["acquisition"]}_desc-qsm_qc.json', {'metrics': {'brain_volume_ml': 1234.5}})
            if evidence:
                write_json(folder / f'{one["acquisition"]}_desc-consensus_compliance.json',
                           {'C12': {'evidence': evidence}})

    def tables(**options):
        write_group_regions(out, states, raw, **options)
        return [read_tsv(out / f'{name}.tsv') for name in TABLES]
    add.tables, add.out, add.raw = tables, out, raw
    return add


def test_long_and_wide_with_people_and_failures(study):
    write_tsv(study.raw / 'participants.tsv', [{'participant_id': 'sub-1', 'age': 61, 'sex': 'F'}],
              ['participant_id', 'age', 'sex'])
    study(state('sub-1'), rows(.05) + rows(20., 'arlo', 'R2star'))
    study(state('sub-2', kind='failed', reason='no echo time'))
    study(state('sub-3'))
    long, wide, change = study.tables()
    assert len(long) == 12 + 2 and change == []
    assert (long[0]['age'], long[0]['brain_volume_ml'], long[0]['mean']) == ('61', '1234.5', '0.05')
    assert [(row['state'], row['roi'], row['mean'], row['age']) for row in long[12:]] == [
        ('failed', 'n/a', 'n/a', 'n/a'), ('complete', 'n/a', 'n/a', 'n/a')]
    assert long[12]['reason'] == 'no echo time' and 'no table' in long[13]['reason']
    first, failed, _ = wide
    assert first['chi_mean_Putamen_L'] == '0.05' and first['R2star_mean_Putamen_R'] == '20.001'
    assert first['volume_Putamen_L'] == '4000' and first['chi_meanrefcsf_Putamen_L'] == '0.04'
    assert failed['chi_mean_Putamen_L'] == 'n/a' and failed['state'] == 'failed'
    assert not any(name.startswith('R2star_meanref') for name in first)


def test_every_column_is_described_and_twice_is_the_same(study):
    write_tsv(study.raw / 'participants.tsv', [{'participant_id': 'sub-1', 'dose': 3}], ['participant_id', 'dose'])
    study(state('sub-1', 'a'), rows(.05))
    study(state('sub-1', 'b'), rows(.06))
    found = study.tables()
    for name, table in zip(TABLES, found):
        described = json.loads((study.out / f'{name}.json').read_text())
        assert list(described) == list(table[0]) and all(entry['Description'] for entry in described.values())
    before = [(study.out / f'{name}.{ending}').read_bytes() for name in TABLES for ending in ('tsv', 'json')]
    study.tables()
    assert before == [(study.out / f'{name}.{ending}').read_bytes() for name in TABLES for ending in ('tsv', 'json')]


def test_a_second_map_of_the_same_kind_has_its_own_columns(study):
    study(state('sub-1'), rows(.05) + rows(.04, 'medi'))
    _, (row,), _ = study.tables()
    assert (row['chi_mean_Putamen_L'], row['chi-medi_mean_Putamen_L']) == ('0.05', '0.04')


def test_changes_per_year(study):
    study(state('sub-1', 'b'), rows(.05))
    study(state('sub-1', 'a'), rows(.06))
    write_tsv(study.raw / 'sub-1' / 'sub-1_sessions.tsv',
              [{'session_id': 'ses-a', 'acq_time': '2022-01-01T10:00:00'},
               {'session_id': 'ses-b', 'acq_time': '2020-01-01T10:00:00'}], ['session_id', 'acq_time'])
    *_, change = study.tables()
    left = next(row for row in change if row['hemi'] == 'L')
    assert len(change) == 3 and (left['session_from'], left['session_to']) == ('b', 'a')  # by time, not by name
    assert float(left['delta']) == pytest.approx(.01) and float(left['years']) == pytest.approx(2, abs=.01)
    assert float(left['delta_per_year']) == pytest.approx(.005, rel=.01)
    assert float(left['smallest_detectable_change']) == pytest.approx(DETECTABLE * PUBLISHED_SD['ppm'][0])
    assert left['detectable'] == 'yes' and left['flags'] == 'n/a'


@pytest.mark.parametrize(('ages', 'unit', 'years'), [(('6', '18'), 'months', 1), (('60.5', '64'), None, 3.5),
                                                    (('six', '18'), 'months', None), (('6', 'n/a'), 'months', None)])
def test_ages_at_the_sessions_are_times_too(study, ages, unit, years):
    for session, mean in (('b', .05), ('a', .06)):
        study(state('sub-1', session), rows(mean))
    path = study.raw / 'sub-1' / 'sub-1_sessions.tsv'
    # One date alone is not compared with an age.
    write_tsv(path, [{'session_id': 'ses-b', 'age': ages[0], 'acq_time': '2020-01-01T10:00:00'},
                     {'session_id': 'ses-a', 'age': ages[1], 'acq_time': 'n/a'}], ['session_id', 'age', 'acq_time'])
    if unit:
        path.with_suffix('.json').write_text(json.dumps({'age': {'Units': unit}}))
    *_, change = study.tables()
    assert change[0]['years'] == 'n/a' if years is None else float(change[0]['years']) == pytest.approx(years, abs=.01)
    assert years is None or change[0]['session_from'] == 'b'


def test_times_may_be_missing(study):
    study(state('sub-1', 'a'), rows(.05))
    study(state('sub-1', 'b'), rows(.051))
    *_, change = study.tables()
    assert change[0]['years'] == change[0]['delta_per_year'] == 'n/a' and change[0]['detectable'] == 'no'


def test_what_differs_between_sessions_is_said(study):
    one = {'Manufacturer': 'A', 'EchoTimes': [.004, .008], 'VoxelSize': [1., 1., 2.]}
    study(state('sub-1', 'a'), rows(.05), evidence=one)
    study(state('sub-1', 'b'), rows(.06), desc='network', evidence=one | {'Manufacturer': 'B', 'EchoTimes': [.004]})
    *_, change = study.tables()
    for text in ('another scanner', 'another echo times', 'another source of the regions'):
        assert text in change[0]['flags']
    assert 'voxel' not in change[0]['flags'] and 'across sites' in change[0]['sd_source']


def test_another_reference_and_a_missing_region_have_no_difference(study):
    study(state('sub-1', 'a'), rows(.05))
    study(state('sub-1', 'b'), [row | {'ref': 'csf'} for row in rows(.06)])
    study(state('sub-2', 'a'), rows(.05))
    study(state('sub-2', 'b'), [row | {'mean': None, 'qc': 'missing', 'qc_reason': 'cropped'} for row in rows(.06)])
    *_, change = study.tables()
    assert {row['delta'] for row in change} == {'n/a'}
    assert 'reference' in change[0]['flags'] and 'cropped' in change[-1]['flags']


def test_repeated_runs_give_the_noise_of_the_cohort(study):
    for number in range(6):
        for run in (1, 2):
            study(state(f'sub-{number}', 'a', run), rows(.05 + .002 * (run == 2)))
    study(state('sub-0', 'b', 1), rows(.06))
    *_, change = study.tables()
    assert float(change[0]['sd_within']) == pytest.approx(.002 / 2 ** .5, rel=1e-3)
    assert change[0]['sd_source'] == '6 pairs of runs'


def test_sessions_in_one_space(study, monkeypatch):
    seen = []

    def common(scans):
        seen.append([scan['stem'] for scan in scans])
        key = ('chi', 'tv', 'Putamen', 'L')
        return [{key: .05}, {key: .058}], 'hardly'
    monkeypatch.setattr('qsmbids.reports.longitudinal.common_means', common)
    study(state('sub-1', 'a'), rows(.05))
    study(state('sub-1', 'b'), rows(.06))
    study(state('sub-2', 'a'), rows(.05))
    *_, change = study.tables()
    assert {row['common_delta'] for row in change} == {'n/a'} and seen == []
    *_, change = study.tables(longitudinal=True)
    assert seen == [['sub-1_ses-a', 'sub-1_ses-b']]
    found = {row['hemi']: row for row in change}
    assert float(found['L']['common_delta']) == pytest.approx(.008) and found['R']['common_delta'] == 'n/a'
    assert 'hardly' in found['L']['flags'] and float(found['L']['delta']) == pytest.approx(.01)
