import re
from xml.etree import ElementTree

import pytest

from qsmbids.bids import Acquisition
from qsmbids.core.statistics import COLUMNS
from qsmbids.files import write_tsv
from qsmbids.reports.regions import region_section


def row(roi, hemi, mean, qc='pass', reason='', metric='chi', erosion=0.):
    return dict.fromkeys(COLUMNS) | {'roi': roi, 'hemi': hemi, 'metric': metric, 'map': 'tv', 'mean': mean, 'sd': .01,
                                     'erosion_mm': erosion, 'qc': qc, 'qc_reason': reason, 'n_vox': 50,
                                     'volume_mm3': 400., 'unit': 'ppm'}


@pytest.fixture
def acquisition():
    return Acquisition({'subject': '01'}, 'MEGRE', {})


def write(folder, rows):
    identity = {'seg_source': 'given', 'atlas': 'fastsurfer'}
    write_tsv(folder / 'sub-01' / 'anat' / 'sub-01_seg-subcortical_desc-given_stats.tsv',
              [identity | one for one in rows], [*identity, *COLUMNS])


def widths(svg, kind):
    return {re.search(r'<title>(.*?):', found[0])[1]: float(found[2]) for found in re.finditer(
        rf'<rect class="({kind}) \w+" x="[\d.]+" y="[\d.]+" width="([\d.]+)".*?</rect>', svg)}


def test_no_table_no_section(tmp_path, acquisition):
    assert region_section(tmp_path, acquisition) is None


def test_rows_flags_and_bars(tmp_path, acquisition):
    write(tmp_path, [row('Putamen', 'L', .04), row('Putamen', 'R', .08, 'fail', 'in <2> pieces'),
                     row('Putamen', 'L', .5, erosion=1.), row('Putamen', 'B', .06), row('Thalamus', 'L', -.04),
                     row('Dentate', 'L', None, 'missing', 'the segmentation does not tell this region'),
                     row('Caudate', 'L', None, 'missing', 'cropped')])
    found = region_section(tmp_path, acquisition)
    assert found['source'] == 'given: fastsurfer' and found['unknown'] == ['Dentate L'] and not found['others']
    states = {name: (values[0], state, reason) for name, _, _, values, state, reason in found['rows']}
    assert states['Putamen L'] == ('0.04 ± 0.01', 'pass', '')
    assert states['Putamen R'][1:] == ('fail', 'in <2> pieces') and states['Caudate L'] == ('n/a', 'missing', 'cropped')
    (svg,) = found['bars'].values()
    ElementTree.fromstring(svg)
    left, right = widths(svg, 'L'), widths(svg, 'R')
    assert right['Putamen R'] == pytest.approx(2 * left['Putamen L'], rel=.02)
    assert left['Thalamus L'] == pytest.approx(left['Putamen L'], rel=.02) and 'Caudate L' not in left
    assert 'class="group"' not in svg


def test_the_cohort_without_the_participant(tmp_path, acquisition):
    write(tmp_path, [row('Putamen', 'L', .04)])
    others = [{'participant': f'sub-{n:02d}', 'chi_mean_Putamen_L': value} for n, value in
              enumerate((99., .04, .05, .06), 1)]
    write_tsv(tmp_path / 'group_subcortical_wide.tsv', others, ['participant', 'chi_mean_Putamen_L'])
    found = region_section(tmp_path, acquisition)
    (svg,) = found['bars'].values()
    assert found['others'] and svg.count('class="group"') == 2
    # One SD of the others, .01, is a quarter of the bar of .04; the band spans two.
    band = float(re.search(r'<rect class="group".*?width="([\d.]+)"', svg)[1])
    assert band == pytest.approx(widths(svg, 'L')['Putamen L'] / 2, rel=.02)


def test_two_others_are_no_cohort(tmp_path, acquisition):
    write(tmp_path, [row('Putamen', 'L', .04)])
    write_tsv(tmp_path / 'group_subcortical_wide.tsv', [{'participant': 'sub-2', 'chi_mean_Putamen_L': .05}] * 2,
              ['participant', 'chi_mean_Putamen_L'])
    assert not region_section(tmp_path, acquisition)['others']
