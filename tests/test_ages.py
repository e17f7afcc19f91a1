"""Ages of participants."""

import json

import pytest

from qsmbids.ages import find_age
from qsmbids.files import FileError


def table(path, key, rows, unit=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join([f'{key}\tage', *('\t'.join(row) for row in rows)]) + '\n')
    if unit:
        path.with_suffix('.json').write_text(json.dumps({'age': {'Units': unit}}))


@pytest.mark.parametrize('unit, text, years', [(None, '34', 34), ('years', '4.5', 4.5), ('weeks', '8', 56 / 365.25),
                                               ('Month', '18', 1.5), ('days', '3', 3 / 365.25), (None, '89+', 89)])
def test_units(tmp_path, unit, text, years):
    table(tmp_path / 'participants.tsv', 'participant_id', [('sub-01', text), ('sub-02', 'n/a')], unit)
    found = find_age(tmp_path, '01')
    assert found.years == pytest.approx(years) and found.is_adult == (years >= 5)
    assert text in found.said and 'participants.tsv' in found.said
    assert find_age(tmp_path, '02') is find_age(tmp_path, '03') is None


def test_the_session_comes_first(tmp_path):
    table(tmp_path / 'participants.tsv', 'participant_id', [('sub-01', '30')])
    table(tmp_path / 'sub-01' / 'sub-01_sessions.tsv', 'session_id', [('ses-a', '31'), ('ses-b', 'n/a')])
    assert [find_age(tmp_path, '01', session).years for session in ('a', 'b', 'c', None)] == [31, 30, 30, 30]


def test_a_table_that_changes_is_read_again(tmp_path):
    path = tmp_path / 'participants.tsv'
    for age in ('30', '31'):
        table(path, 'participant_id', [('sub-01', age)])
        assert find_age(tmp_path, '01').years == int(age)


def test_no_table(tmp_path):
    assert find_age(tmp_path, '01') is None


@pytest.mark.parametrize('unit, text, told', [(None, 'old', 'must be a number'), ('moons', '3', 'must be a number'),
                                              (None, '400', 'say in the Units'), (None, '-1', 'must be a number')])
def test_what_cannot_be_is_refused(tmp_path, unit, text, told):
    table(tmp_path / 'participants.tsv', 'participant_id', [('sub-01', text)], unit)
    with pytest.raises(FileError, match=f'participants.tsv.*{told}'):
        find_age(tmp_path, '01')
