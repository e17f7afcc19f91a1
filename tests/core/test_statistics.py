import numpy as np
import pytest

from qsmbids.core.labels import BY_NAME, CSF
from qsmbids.core.statistics import COLUMNS, Map, Segmentation, describe_columns, extreme_voxels, region_statistics

SHAPE = (64, 60, 40)
STEP = (1., 1., 1.)


def ball(centre, radius):
    grids = np.ogrid[tuple(map(slice, SHAPE))]
    return sum((g - c) ** 2 for g, c in zip(grids, centre)) < radius ** 2


@pytest.fixture(scope='module')
def head():
    """Caudates of 9 and 10 voxels' radius, ventricles, noise about known means."""
    rng = np.random.default_rng(0)
    labels = np.zeros(SHAPE, np.int16)
    labels[ball((15, 20, 20), 9)] = BY_NAME['Caudate_L'].index
    labels[ball((47, 20, 20), 9.3)] = BY_NAME['Caudate_R'].index
    labels[ball((32, 45, 20), 8)] = CSF
    labels[ball((12, 45, 12), 3.2)] = BY_NAME['RedNucleus_L'].index
    chi = .02 * rng.standard_normal(SHAPE).astype(np.float32)
    for name, mean in (('Caudate_L', .06), ('Caudate_R', .04), ('RedNucleus_L', -.05)):
        chi[labels == BY_NAME[name].index] += mean
    mask = np.ones(SHAPE, bool)
    mask[:2] = False
    return chi, labels, mask


def rows_of(head, unit='ppm', **options):
    chi, labels, mask = head
    volume = Map('chi', chi, unit, 'tv', 'wholebrain')
    rows = region_statistics([volume], Segmentation(labels, options.pop('probabilities', {})), mask, STEP, **options)
    return {(r['roi'], r['hemi'], r['erosion_mm'] > 0): r for r in rows}


def test_every_row_has_every_column_and_every_region_its_rows(head):
    rows = rows_of(head)
    assert all(list(row) == list(COLUMNS) for row in rows.values())
    assert len(rows) == 2 * (13 * 3 + 1)
    assert set(describe_columns()) == set(COLUMNS)


def test_values_are_those_of_the_voxels(head):
    chi, labels, mask = head
    row = rows_of(head)['Caudate', 'L', False]
    values = chi[labels == BY_NAME['Caudate_L'].index].astype(float)
    assert row['n_vox'] == values.size and row['volume_mm3'] == values.size
    for name, expected in (('mean', values.mean()), ('sd', values.std()), ('median', np.median(values)),
                           ('p05', np.percentile(values, 5)), ('p95', np.percentile(values, 95)),
                           ('iqr', np.subtract(*np.percentile(values, (75, 25)))),
                           ('mad', np.median(abs(values - np.median(values))))):
        assert row[name] == pytest.approx(expected, rel=1e-6), name
    assert row['hi_iron_mean'] > row['p75'] and row['qc'] == 'pass' and row['coverage'] == 1
    assert abs(row['trimmed_mean'] - row['mean']) < .002


def test_zeros_and_negative_values_count(head):
    chi, labels, mask = head
    region = labels == BY_NAME['Caudate_L'].index
    assert (chi[region] < 0).any()
    zeroed = np.where(np.arange(SHAPE[2]) < 20, 0, chi)
    row = rows_of((zeroed, labels, mask))['Caudate', 'L', False]
    assert row['n_vox'] == region.sum() and row['mean'] == pytest.approx(zeroed[region].mean(), rel=1e-5)


def test_adding_a_constant_moves_values_and_not_what_is_relative(head):
    chi, labels, mask = head
    one, two = rows_of(head), rows_of((chi + .5, labels, mask))
    for key, row in one.items():
        if row['mean'] is not None:
            assert two[key]['mean'] == pytest.approx(row['mean'] + .5, abs=1e-6)
            for name in ('mean_ref-wholebrain', 'mean_ref-ventricles', 'ref-ventricles_mean', 'sd', 'mad',
                         'left_minus_right'):
                assert two[key][name] == (None if row[name] is None else pytest.approx(row[name], abs=1e-6)), name


def test_references_need_enough_fluid(head):
    chi, labels, mask = head
    csf = ball((32, 45, 20), 6)
    row = rows_of(head, csf=csf)['Caudate', 'L', False]
    assert row['ref-csf_mean'] == pytest.approx(chi[csf].mean() - chi[mask].mean(), abs=1e-6)
    assert row['mean_ref-csf'] == pytest.approx(row['mean'] - chi[csf].mean(), abs=1e-6)
    assert row['ref-wholebrain_mean'] == 0 and row['ref_reason'] == ''
    poor = rows_of(head, csf=ball((32, 45, 20), 4))['Caudate', 'L', False]
    assert poor['mean_ref-csf'] is None and 'csf: 0.25 mL' in poor['ref_reason']
    assert poor['mean_ref-ventricles'] is not None


def test_erosion_takes_the_rim_off_and_stops_at_small_regions(head):
    chi, labels, mask = head
    rows = rows_of(head)
    whole, core = rows['Caudate', 'L', False], rows['Caudate', 'L', True]
    assert core['n_vox'] < whole['n_vox'] and core['erosion_mm'] == 1 and core['volume_mm3'] == whole['volume_mm3']
    assert rows['RedNucleus', 'L', False]['mean'] is not None
    small = np.where(labels == BY_NAME['RedNucleus_L'].index, ball((12, 45, 12), 2.2) * labels, labels)
    row = rows_of((chi, small, mask))['RedNucleus', 'L', True]
    assert row['mean'] is None and row['qc'] == 'missing' and 'erosion' in row['qc_reason']


def test_thick_slices_are_not_eroded_across(head):
    chi, labels, mask = head
    volume = Map('chi', chi, 'ppm', 'tv', 'wholebrain')
    counts = {}
    for step in ((1, 1, 1), (1, 1, 3)):
        rows = region_statistics([volume], Segmentation(labels), mask, step)
        counts[step] = next(r['n_vox'] for r in rows if r['roi'] == 'Caudate' and r['hemi'] == 'L' and r['erosion_mm'])
    assert counts[1, 1, 3] > counts[1, 1, 1]


def test_microbleeds_and_their_neighbours_are_left_out(head):
    chi, labels, mask = head
    bleed = np.zeros(SHAPE, bool)
    bleed[15, 20, 20] = True
    spoiled = chi + 5 * bleed
    row = rows_of((spoiled, labels, mask), lesions=bleed)['Caudate', 'L', False]
    clean = rows_of(head)['Caudate', 'L', False]
    assert row['n_excluded_cmb'] == 27 and row['n_vox'] == clean['n_vox'] - 27
    assert row['mean'] == pytest.approx(clean['mean'], abs=1e-3) and row['volume_mm3'] == clean['volume_mm3']


def test_sides_are_compared_where_their_mean_can_be_divided_by(head):
    rows = rows_of(head)
    both, left, right = (rows['Caudate', side, False] for side in 'BLR')
    assert both['left_minus_right'] == pytest.approx(left['mean'] - right['mean'])
    assert both['asymmetry'] == pytest.approx((left['mean'] - right['mean']) / ((left['mean'] + right['mean']) / 2))
    assert both['n_vox'] == left['n_vox'] + right['n_vox'] and both['index'] is None
    assert rows['RedNucleus', 'B', False]['mean'] is None  # the right one is missing
    chi, labels, mask = head
    opposite = chi - .1 * (labels == BY_NAME['Caudate_R'].index)
    assert rows_of((opposite, labels, mask))['Caudate', 'B', False]['asymmetry'] is None


def test_missing_regions_have_a_reason_and_no_value(head):
    rows = rows_of(head)
    for row in rows.values():
        if row['qc'] == 'missing':
            assert row['mean'] is None and row['volume_mm3'] is None and row['qc_reason']
    assert rows['Putamen', 'L', False]['qc'] == 'missing'


def test_probabilities_weigh(head):
    chi, labels, mask = head
    region = labels == BY_NAME['Caudate_L'].index
    certain = region.astype(np.float32)
    row = rows_of(head, probabilities={BY_NAME['Caudate_L'].index: certain})['Caudate', 'L', False]
    assert row['pv_mean'] == pytest.approx(row['mean'], rel=1e-5)
    core = certain * np.where(ball((15, 20, 20), 4), 1, .01)
    row = rows_of(head, probabilities={BY_NAME['Caudate_L'].index: core})['Caudate', 'L', False]
    assert row['pv_mean'] == pytest.approx((chi * core).sum() / core.sum(), rel=1e-4)
    assert rows_of(head)['Caudate', 'L', False]['pv_mean'] is None


def test_signal_to_noise(head):
    row = rows_of(head, magnitude=np.full(SHAPE, 50, np.float32), noise=2.)['Caudate', 'L', False]
    assert row['snr'] == 25


def test_maps_without_a_reference_have_none(head):
    chi, labels, mask = head
    rows = region_statistics([Map('R2star', 20 + chi, '1/s', 'arlo')], Segmentation(labels), mask, STEP)
    row = next(r for r in rows if r['roi'] == 'Caudate')
    assert row['ref'] is None and row['mean_ref-wholebrain'] is None and row['unit'] == '1/s' and row['mean'] > 19


def test_shapes_must_agree(head):
    chi, labels, mask = head
    with pytest.raises(ValueError, match='^labels has shape'):
        region_statistics([], Segmentation(labels[1:]), mask, STEP)


@pytest.mark.parametrize('sign', (1, -1))
def test_a_bleed_or_calcification_has_no_value_and_a_reason(head, sign):
    chi, labels, mask = head
    bled = np.where(ball((15, 20, 20), 8.5), np.float32(sign), chi)
    rows = rows_of((bled, labels, mask))
    left, right = (rows['Caudate', side, False] for side in 'LR')
    assert left['mean'] is None and 'blood or calcium' in left['qc_reason'] and right['mean'] is not None


def test_only_what_all_maps_show_is_extreme():
    shown, noise = np.zeros((2, 5, 5, 5), np.float32)
    shown[2:] = 1
    noise[0] = noise[3] = -1
    assert np.array_equal(extreme_voxels([shown, noise]), (shown > 0) & (noise < 0)) and extreme_voxels([]) is None
