import nibabel
import numpy as np
import pytest
from scipy import ndimage

from qsmbids.core.lesiontable import COLUMNS, COUNT_COLUMNS, count_lesions
from qsmbids.files import read_json, read_tsv, write_tsv
from qsmbids.reports.microbleeds import write_group_microbleeds

AFFINE = np.diag([2., 2., 2., 1.])


def state(participant, session='n/a', state='complete'):
    stem = participant + (f'_ses-{session}' if session != 'n/a' else '')
    return {'participant': participant, 'session': session, 'run': 'n/a', 'acquisition': stem, 'state': state,
            'reason': 'n/a' if state == 'complete' else 'no phase', 'crashfile': 'n/a'}


def lesion(index, place, kind='cmb', certainty='definite'):
    return dict.fromkeys(COLUMNS) | dict(zip(('x_ras_mm', 'y_ras_mm', 'z_ras_mm'), map(float, place))) | {
        'index': index, 'class': kind, 'certainty': certainty, 'hemisphere': 'L', 'bombs_region': 'lobar',
        'moment_ppm_mm3': 10. + index}


def write_scan(folder, known, lesions, located=True):
    place = folder / known['participant'] / (f'ses-{known["session"]}' if known['session'] != 'n/a' else '') / 'anat'
    write_tsv(place / f'{known["acquisition"]}_desc-cmb_lesions.tsv', lesions, list(COLUMNS))
    write_tsv(place / f'{known["acquisition"]}_desc-cmb_counts.tsv', count_lesions(lesions, located),
              list(COUNT_COLUMNS))


def test_no_lesion_is_zero_and_no_result_is_none(tmp_path):
    states = [state('sub-01'), state('sub-02'), state('sub-03', state='failed'), state('sub-04')]
    write_scan(tmp_path, states[0], [lesion(1, (0, 0, 0)), lesion(2, (9, 0, 0), certainty='possible')])
    write_scan(tmp_path, states[1], [], located=False)
    names = write_group_microbleeds(tmp_path, states)
    rows = {row['participant']: row for row in read_tsv(tmp_path / 'group_microbleeds.tsv')}
    assert [rows[f'sub-0{n}']['cmb_total_all'] for n in (1, 2, 3, 4)] == ['2', '0', 'n/a', 'n/a']
    assert rows['sub-01']['cmb_definite_lobar'] == '1' and rows['sub-02']['cmb_definite_lobar'] == 'n/a'
    assert rows['sub-03']['reason'] == 'no phase' and 'no table' in rows['sub-04']['reason']
    assert rows['sub-01']['pattern'] == 'strictly lobar'
    assert len(read_tsv(tmp_path / 'group_microbleeds_lesions.tsv')) == 2
    for name in names:
        assert set(read_json(tmp_path / name.replace('.tsv', '.json'))) == set(
            (tmp_path / name).read_text().splitlines()[0].split('\t'))


def test_without_any_counts_there_are_no_tables(tmp_path):
    assert write_group_microbleeds(tmp_path, [state('sub-01')]) == [] and not list(tmp_path.iterdir())


def changes(folder, first, later):
    states = [state('sub-01', 'a'), state('sub-01', 'b')]
    for known, lesions in zip(states, (first, later)):
        write_scan(folder, known, lesions)
    write_group_microbleeds(folder, states)
    return read_tsv(folder / 'group_microbleeds_change.tsv')


def test_lesions_are_persistent_new_or_lost(tmp_path):
    rows = changes(tmp_path, [lesion(1, (0, 0, 0)), lesion(2, (30, 0, 0)), lesion(3, (50, 0, 0), 'vessel')],
                   [lesion(1, (2, 0, 0)), lesion(2, (60, 0, 0)), lesion(3, (30, 0, 0), 'calcification')])
    assert sorted((row['class'], row['state'], row['index_from'], row['index_to']) for row in rows) == [
        ('calcification', 'new', 'n/a', '3'), ('cmb', 'lost', '2', 'n/a'), ('cmb', 'new', 'n/a', '2'),
        ('cmb', 'persistent', '1', '1')]
    assert {row['alignment'] for row in rows} == {'headers'}
    kept = next(row for row in rows if row['state'] == 'persistent')
    assert float(kept['distance_mm']) == pytest.approx(2) and kept['moment_from_ppm_mm3'] == '11'


def test_heads_that_moved_between_the_sessions_are_aligned(tmp_path):
    rng = np.random.default_rng(0)
    volume = 100 * (ndimage.gaussian_filter(rng.normal(size=(40, 44, 36)), 2.5) + .3).astype(np.float32)
    moved = AFFINE.copy()
    moved[:3, 3] = 8, -6, 5
    for session, affine in (('a', AFFINE), ('b', moved)):
        for kind, name, content in (('fmap', 'magnitude', volume), ('anat', 'desc-brain_mask', np.ones_like(volume))):
            place = tmp_path / 'sub-01' / f'ses-{session}' / kind
            place.mkdir(parents=True)
            nibabel.save(nibabel.Nifti1Image(content, affine), place / f'sub-01_ses-{session}_{name}.nii.gz')
    row, = changes(tmp_path, [lesion(1, (40, 40, 30))], [lesion(1, (48, 34, 35))])
    assert (row['state'], row['alignment']) == ('persistent', 'rigid') and float(row['distance_mm']) < 1
