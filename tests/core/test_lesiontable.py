import numpy as np
import pytest

from qsmbids.core.lesiontable import (COLUMNS, COUNT_COLUMNS, PURPOSE, certainty_of, count_lesions, describe_counts,
                                      describe_lesions, link_lesions, pattern_of)


def row(kind='cmb', certainty='definite', region='lobar', side='L'):
    return {'class': kind, 'certainty': certainty, 'bombs_region': region, 'hemisphere': side}


def counted(rows, located=True):
    return {(each['class'], each['region']): each for each in count_lesions(rows, located)}


def test_no_lesion_is_a_table_of_zeros():
    for each in counted([]).values():
        assert (each['definite'], each['possible'], each['total']) == (0, 0, 0) and list(each) == list(COUNT_COLUMNS)
    assert counted([])['cmb', 'all']['pattern'] == 'none'


def test_regions_that_nobody_tells_are_not_zero():
    table = counted([row(region=None)], located=False)
    assert table['cmb', 'lobar']['total'] is None and table['cmb', 'all']['total'] == 1
    assert table['cmb', 'n/a']['total'] == 1 and table['cmb', 'all']['pattern'] is None


def test_each_lesion_counts_once_in_each_division():
    rows = [row(), row(certainty='possible', side='R'), row(region='deep'), row(certainty='unlikely'),
            row('calcification', region='deep'), row('vessel')]
    table = counted(rows)
    assert (table['cmb', 'all']['definite'], table['cmb', 'all']['possible'], table['cmb', 'all']['total']) == (2, 1, 3)
    for names in (('lobar', 'deep', 'infratentorial', 'n/a'), ('left', 'right')):
        assert sum(table['cmb', name]['total'] for name in names) == 3
    assert table['calcification', 'all']['total'] == 1


@pytest.mark.parametrize('regions, pattern', [(['lobar', 'lobar'], 'strictly lobar'), (['deep'], 'strictly deep'),
                                              (['lobar', 'deep'], 'mixed'), (['lobar', None], None), ([], 'none')])
def test_the_pattern_is_that_of_the_definite_ones(regions, pattern):
    rows = [row(region=region) for region in regions] + [row(certainty='possible', region='deep')]
    assert pattern_of(rows) == pattern


def test_grades():
    assert [certainty_of(score) for score in (.8, .79, .5, .49)] == ['definite', 'possible', 'possible', 'unlikely']


def test_lesions_are_found_again_one_to_one():
    first = [(0, 0, 0), (10, 0, 0), (30, 0, 0)]
    later = [(12.5, 0, 0), (1, 0, 0), (2, 0, 0), (60, 0, 0)]
    pairs = link_lesions(first, later)
    assert set(pairs) == {(0, 1), (1, 0), (2, None), (None, 2), (None, 3)}
    assert set(link_lesions(later, first)) == {(b, a) for a, b in pairs}


def test_the_most_pairs_win_over_the_nearest_one():
    assert set(link_lesions([(0, 0, 0), (2.5, 0, 0)], [(1.5, 0, 0), (5, 0, 0)])) == {(0, 0), (1, 1)}


def test_nothing_links_to_nothing():
    assert link_lesions([], []) == [] and link_lesions([], [(1, 2, 3)]) == [(None, 0)]
    assert link_lesions(np.zeros((1, 3)), []) == [(0, None)]


def test_columns_are_described_and_the_purpose_is_said():
    assert set(describe_lesions()) == set(COLUMNS) and set(describe_counts()) == set(COUNT_COLUMNS)
    for described in (describe_lesions(), describe_counts()):
        assert PURPOSE in described['class']['Description']
