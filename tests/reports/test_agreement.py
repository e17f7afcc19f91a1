from qsmbids.bids import Acquisition
from qsmbids.core.statistics import COLUMNS
from qsmbids.files import write_tsv
from qsmbids.reports.agreement import agreement_section

ACQUISITION = Acquisition({'subject': '01'}, 'MEGRE', {})
ROWS = [{'map': 'tv', 'against': 'pocsnet2', 'low_ppm': low, 'high_ppm': high, 'voxels': 7, 'difference_ppm': .01,
         'rms_ppm': .02} for low, high in ((None, -.1), (-.1, .05), (.05, None))]


def test_one_map_has_nothing_to_agree_with(tmp_path):
    assert agreement_section(tmp_path, ACQUISITION, []) is None


def test_levels_are_told_without_a_table_of_regions(tmp_path):
    found = agreement_section(tmp_path, ACQUISITION, ROWS)
    assert [row[2] for row in found['levels']] == ['below -0.1', '-0.1 to 0.05', 'above 0.05']
    assert found['levels'][0] == ('tv', 'pocsnet2', 'below -0.1', 7, '+0.0100', '0.0200') and found['regions'] == []


def test_regions_are_those_of_both_maps(tmp_path):
    def row(roi, hemi, name, mean, erosion=0.):
        return dict.fromkeys(COLUMNS) | {'seg_source': 'given', 'atlas': 'a', 'roi': roi, 'hemi': hemi, 'metric': 'chi',
                                         'map': name, 'mean': mean, 'erosion_mm': erosion}
    write_tsv(tmp_path / 'sub-01' / 'anat' / 'sub-01_seg-subcortical_desc-given_stats.tsv',
              [row('Putamen', 'L', 'pocsnet2', .05), row('Putamen', 'L', 'tv', .04), row('Putamen', 'L', 'tv', .9, 1.),
               row('Putamen', 'B', 'pocsnet2', .05), row('Caudate', 'R', 'pocsnet2', .03),
               row('Dentate', 'R', 'tv', .03), row('Thalamus', 'R', 'pocsnet2', None)],
              ['seg_source', 'atlas', *COLUMNS])
    found = agreement_section(tmp_path, ACQUISITION, ROWS)
    assert found['first'] == 'pocsnet2' and found['others'] == ['tv']
    assert found['regions'] == [('Putamen L', '0.0500', ['-0.0100']), ('Caudate R', '0.0300', ['n/a'])]
