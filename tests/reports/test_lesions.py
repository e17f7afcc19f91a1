from types import SimpleNamespace

from qsmbids.core.lesiontable import COLUMNS, COUNT_COLUMNS
from qsmbids.files import write_tsv
from qsmbids.reports import lesions
from qsmbids.reports.lesions import lesion_section

ACQUISITION = SimpleNamespace(name='sub-1', path=lambda suffix: f'sub-1/anat/sub-1_{suffix}')


def lesion(index, kind='cmb', probability=.9, certainty='definite', **more):
    place = {'x_ras_mm': index, 'y_ras_mm': 0., 'z_ras_mm': -1.}
    return {'index': index, 'class': kind, 'probability': probability, 'certainty': certainty, **place, **more}


def store(folder, rows, counts=()):
    stem = folder / 'sub-1' / 'anat' / 'sub-1_desc-cmb_'
    write_tsv(f'{stem}lesions.tsv', rows, list(COLUMNS))
    write_tsv(f'{stem}counts.tsv', counts, list(COUNT_COLUMNS))


def test_what_counts_comes_first_and_nothing_else(tmp_path):
    store(tmp_path, [lesion(1, 'calcification'), lesion(2, probability=.6, certainty='possible'),
                     lesion(3, bombs_region='lobar', hemisphere='L'), lesion(4, certainty='unlikely'),
                     lesion(5, 'vessel')],
          [{'class': 'cmb', 'region': 'all', 'definite': 1, 'possible': 1, 'total': 2, 'pattern': 'strictly lobar'}])
    found = lesion_section(tmp_path, ACQUISITION)
    assert [row['index'] for row in found['rows']] == ['3', '2', '1'] and found['more'] == 0
    assert found['rows'][0]['where'] == 'lobar, L' and found['rows'][0]['place'] == [3., 0., -1.]
    assert found['pattern'] == 'strictly lobar' and found['counts'] == [('cmb', 'all', '1', '1', '2')]


def test_many_are_cut_off_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(lesions, 'MOST', 3)
    store(tmp_path, [lesion(index, probability=index / 10) for index in range(5, 10)])
    found = lesion_section(tmp_path, ACQUISITION)
    assert [row['index'] for row in found['rows']] == ['9', '8', '7'] and found['more'] == 2


def test_without_a_census_there_is_nothing(tmp_path):
    assert lesion_section(tmp_path, ACQUISITION) is None
