"""The page of a cohort: what the tables hold, escaped, and drawn in a browser."""

import json
import re
from html import unescape
from types import SimpleNamespace

import numpy as np
import pytest

from qsmbids.cli.group import run
from qsmbids.core.lesiontable import COLUMNS as LESION_COLUMNS
from qsmbids.core.lesiontable import COUNT_COLUMNS
from qsmbids.core.statistics import COLUMNS, SEGMENTED
from qsmbids.files import write_json, write_text, write_tsv
from qsmbids.reports.group import write_group_page
from qsmbids.reports.status import IDENTITY, write_status

EVIL = '<script>alert("x")</script>'
FAR = 'sub-05'


@pytest.fixture(scope='module')
def cohort(tmp_path_factory):
    """The outputs of 24 participants, of whom one failed and one is far off; their folder."""
    folder = tmp_path_factory.mktemp('cohort')
    rng, out, people, states = np.random.default_rng(2), folder / 'out', [], []
    for number in range(24):
        subject = f'sub-{number:02d}'
        people.append({'participant_id': subject, 'age': 20 + number, 'sex': 'FM'[number % 2], 'note': EVIL})
        failed = number == 3
        states.append({'participant': subject, 'session': 'n/a', 'run': 'n/a', 'acquisition': subject,
                       'state': 'failed' if failed else 'complete', 'reason': f'broken {EVIL}' if failed else ''})
        write_text(out / f'{subject}.html', f'<!DOCTYPE html><title>{subject}</title>')
        if failed:
            continue
        stem = out / subject / 'anat' / subject
        volume = 3000. if subject == FAR else float(rng.normal(1400, 50))
        write_json(f'{stem}_desc-qsm_qc.json', {
            'metrics': {'brain_volume_ml': volume, 'chi_tv_sd_ppm': float(rng.normal(.03, .002))}, 'warnings': [],
            'brain_box_mm': [[-70, -100, -60], [70, 70, 75]]})
        write_json(f'{stem}_desc-consensus_compliance.json', {'C12': {'evidence': {
            'Manufacturer': EVIL if number % 3 else 'Siemens', 'MagneticFieldStrength': 3.}}})
        _write_values(stem, subject, number, rng)
        write_tsv(f'{stem}_desc-cmb_lesions.tsv', [{
            'index': 1, 'x_ras_mm': 70, 'y_ras_mm': -100, 'z_ras_mm': 7.5, 'class': 'cmb', 'certainty': 'definite'},
            {'index': 2, 'x_ras_mm': 0, 'y_ras_mm': 0, 'z_ras_mm': 0, 'class': 'vessel', 'certainty': 'definite'}]
            if number == 8 else [], list(LESION_COLUMNS))
        write_tsv(f'{stem}_desc-cmb_counts.tsv', [{'class': 'cmb', 'region': 'all', 'definite': int(number == 8),
                                                   'possible': 0, 'total': int(number == 8)}], list(COUNT_COLUMNS))
    write_status(out, '20260101-000000-x', states)
    write_tsv(folder / 'raw' / 'participants.tsv', people, ['participant_id', 'age', 'sex', 'note'])
    assert run(SimpleNamespace(output_dir=out, bids_dir=folder / 'raw', longitudinal=False)) == 0
    return out


def _write_values(stem, subject, number, rng):
    identity = dict(zip((*IDENTITY, *SEGMENTED), (subject, 'n/a', 'n/a', subject, 'network', 'dgm')))
    write_tsv(f'{stem}_seg-subcortical_desc-network_stats.tsv', [
        identity | dict.fromkeys(COLUMNS) | {
            'roi': 'Putamen', 'hemi': hemi, 'metric': 'chi', 'map': 'tv', 'unit': 'ppm', 'ref': 'wholebrain',
            'erosion_mm': 0., 'volume_mm3': 4000, 'mean': .02 + .001 * number, 'median': float(rng.normal()),
            'asymmetry': .01 * number if hemi == 'B' else None, 'qc': 'pass'} for hemi in 'LRB'], [*identity, *COLUMNS])


def content_of(out):
    text = (out / 'group.html').read_text(encoding='utf-8')
    return text, json.loads(re.search(r'id="content">(.*?)</script>', text, re.DOTALL)[1])


def test_every_value_of_quality_and_regions_is_on_the_page(cohort):
    _, content = content_of(cohort)
    groups = {group['name']: {column['name']: column['values'] for column in group['columns']}
              for group in content['groups']}
    assert list(groups)[0] == 'Quality' and set(groups['Quality']) == {'brain_volume_ml', 'chi_tv_sd_ppm', 'warnings'}
    assert groups['Quality']['brain_volume_ml'][3] is None and groups['Quality']['brain_volume_ml'][5] == 3000
    assert groups['chi: mean']['chi_mean_Putamen_L'][10] == pytest.approx(.03)
    assert groups['chi: asymmetry']['chi_asymmetry_Putamen_B'][10] == pytest.approx(.1)
    assert 'volume_Putamen_R' in groups['Volumes of regions, mm3'] and 'chi: median' in groups
    assert [column['name'] for column in content['numbers']] == ['age']
    assert {category['name'] for category in content['categories']} == {'scanner', 'sex'}
    assert len(content['rows']) == 24 and content['rows'][5]['page'] == 'sub-05.html#sub-05'


def test_lesions_are_placed_in_their_brain_and_zeros_count(cohort):
    _, content = content_of(cohort)
    assert content['lesions']['scans'] == 23
    assert content['lesions']['points'] == [[8, 1.0, 0.0, .5, 0, 1]]


def test_everything_from_files_is_escaped(cohort):
    text, content = content_of(cohort)
    assert '<script>alert' not in text and content['rows'][0]['people']['note'] == EVIL
    assert EVIL in unescape(text.split('id="interactive"')[0])
    assert text.count('<script') == 2


def test_without_regions_and_lesions_there_is_still_a_page(tmp_path):
    write_tsv(tmp_path / 'group_qc.tsv', [{'participant': 'sub-1', 'state': 'unusable', 'reason': 'nothing there'}],
              [*IDENTITY, 'state', 'reason'])
    write_group_page(tmp_path, '9.9')
    text, content = content_of(tmp_path)
    assert 'nothing there' in text and '0 of 1 are complete' in text and 'id="heat"' not in text
    assert content['groups'] == [{'name': 'Quality', 'columns': []}]


def test_a_cohort_without_lesions_is_told_so(tmp_path):
    write_tsv(tmp_path / 'group_qc.tsv', [{'participant': 'sub-1', 'session': 'n/a', 'acquisition': 'sub-1',
                                           'state': 'complete'}], [*IDENTITY, 'state', 'reason'])
    write_tsv(tmp_path / 'group_microbleeds.tsv', [{'acquisition': 'sub-1', 'cmb_total_all': 0}],
              ['acquisition', 'cmb_total_all'])
    write_group_page(tmp_path, '9.9')
    text, _ = content_of(tmp_path)
    assert 'was found in the 1 scans' in text and 'id="heat"' not in text


def test_in_a_browser(cohort, visit, accessibility_errors):
    page = visit(cohort / 'group.html')
    assert page.requests == [page.url] and page.troubles == []
    rows = page.locator('#rows tbody tr')
    assert rows.count() == 24
    # The one that is far off comes first, and is linked as an outlier of the distribution.
    assert rows.first.inner_text().startswith(FAR)
    assert page.locator('#strips a').first.get_attribute('href') == f'{FAR}.html#{FAR}'
    assert page.locator('#strips .stripe').count() == 3
    assert page.locator('#lines .entry').count() == 2 and page.locator('#heat canvas').count() == 3
    assert '1 in 1 of 23' in page.locator('#burden').inner_text()
    assert accessibility_errors(page) == []
    rows.first.locator('a').click()
    assert page.title() == FAR


def test_sorting_filters_and_views_in_a_browser(cohort, visit):
    page = visit(cohort / 'group.html')
    rows = page.locator('#rows tbody tr')
    age = page.locator('#rows thead button', has_text='age')
    age.click()
    assert rows.first.inner_text().startswith('sub-23')
    page.keyboard.press('Enter')   # the heading has kept the focus
    assert rows.first.inner_text().startswith('sub-00')
    assert page.locator('#rows th[aria-sort]').get_attribute('aria-sort') == 'ascending'
    page.locator('#filter').fill('siemens')
    assert rows.count() == 7 and page.locator('#count').inner_text() == '7 of 24'
    page.locator('#filter').fill('')
    page.locator('#state').select_option('failed')
    assert rows.count() == 1 and 'broken' in rows.first.inner_text()
    page.locator('#state').select_option('')
    page.locator('#by').select_option('sex')
    assert page.locator('#strips .stripe').first.locator('.dots').count() == 2
    page.locator('#group').select_option(label='chi: mean (3)')
    assert 'chi_mean_Putamen_L' in page.locator('#strips').inner_text()
    page.locator('#y').select_option(label='chi_mean_Putamen_R')
    page.locator('#colour').select_option('')
    assert 'slope 0.001 per age' in page.locator('#lines').inner_text()
    page.locator('#kind').select_option('1')
    assert '0 in 0 of 23' in page.locator('#burden').inner_text()
    assert page.troubles == [] and page.requests == [page.url]
