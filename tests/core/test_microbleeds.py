import numpy as np
import pytest

from qsmbids.core.labels import BY_NAME
from qsmbids.core.lesiontable import COLUMNS
from qsmbids.core.microbleeds import darkness_of, find_microbleeds

SHAPE = (56, 52, 48)
AFFINE = np.array([[1., 0, 0, -28], [0, 1, 0, -20], [0, 0, 1, -15], [0, 0, 0, 1]])
# Centre, radius, chi.
BLEEDS = (((15, 16, 17), 1.8, .8), ((38, 36, 14), 3., .5), ((40, 15, 33), 2.2, 1.5))
STONE, VEIN = ((16, 36, 32), 2.5, -1.), ((28, 26, 24), 1.2, .3)


@pytest.fixture(scope='module')
def head(paint):
    """A round brain with noise, three microbleeds, a calcification and a vein through its middle."""
    rng = np.random.default_rng(3)
    mask = paint(SHAPE, (28, 26, 24), 23.) > .5
    chi = rng.normal(0, .02, SHAPE)
    r2star = rng.normal(20, 2, SHAPE)
    for centre, radius, value in (*BLEEDS, STONE):
        ball = paint(SHAPE, centre, radius)
        chi += value * ball
        r2star += 137 * abs(value) * ball
    tube = paint(SHAPE, VEIN[0], VEIN[1], stretch=16.)
    return ((chi + VEIN[2] * tube) * mask).astype(np.float32), mask, ((r2star + 20 * tube) * mask).astype(np.float32)


def places(census, kind, least=.5):
    return [np.array([row[f'{axis}_ras_mm'] for axis in 'xyz']) for row in census.lesions
            if row['class'] == kind and row['probability'] >= least]


def missed(census, kind, lesions, affine=AFFINE, tolerance=1.5):
    """Return how many lesions of a class have no match, and how many matches are of none."""
    found = places(census, kind)
    points = [affine[:3, :3] @ centre + affine[:3, 3] for centre, *_ in lesions]
    near = np.array([[np.linalg.norm(a - b) < tolerance for b in found] for a in points])
    near = near.reshape(len(points), len(found))
    return int((~near.any(axis=1)).sum()), int((~near.any(axis=0)).sum())


def test_lesions_are_found_told_apart_and_measured(head):
    chi, mask, r2star = head
    census = find_microbleeds(chi, mask, AFFINE, r2star=r2star)
    assert missed(census, 'cmb', BLEEDS) == (0, 0) and missed(census, 'calcification', [STONE]) == (0, 0)
    assert all(list(row) == list(COLUMNS) for row in census.lesions) and not census.low_confidence
    rows = [row for row in census.lesions if row['certainty'] == 'definite' and row['class'] == 'cmb']
    assert len(rows) == 3 and [row['index'] for row in census.lesions] == list(range(1, 1 + len(census.lesions)))
    for centre, radius, value in (*BLEEDS, STONE):
        point = AFFINE[:3, :3] @ centre + AFFINE[:3, 3]
        row = min(census.lesions, key=lambda row: np.linalg.norm(point - [row[f'{axis}_ras_mm'] for axis in 'xyz']))
        assert row['moment_ppm_mm3'] == pytest.approx(value * 4 / 3 * np.pi * radius ** 3, rel=.1)
        assert abs(row['moment_ppm_mm3']) > 20 * row['moment_error_ppm_mm3'] > 0
        assert row['hemisphere'] == ('L' if point[0] < 0 else 'R') and row['r2star_contrast'] > 40
        assert census.labels[centre] == row['index']
    assert census.mask.sum() == sum(np.count_nonzero(census.labels == row['index']) for row in rows)
    assert np.array_equal(census.probability > 0, np.isin(census.labels, [row['index'] for row in census.lesions
                                                                          if row['class'] == 'cmb']))


@pytest.mark.parametrize('shift, gain', [(.11, 1.), (-.4, 1.), (0., .6), (.05, 1.5)])
def test_zero_and_amplitude_of_the_map_do_not_matter(head, shift, gain):
    chi, mask, r2star = head
    census = find_microbleeds(np.where(mask, gain * chi + shift, 0), mask, AFFINE, r2star=r2star)
    assert missed(census, 'cmb', BLEEDS) == (0, 0) and missed(census, 'calcification', [STONE]) == (0, 0)


def test_a_mirrored_sign_swaps_microbleeds_and_calcifications(head):
    chi, mask, _ = head
    census = find_microbleeds(-chi, mask, AFFINE)
    assert missed(census, 'calcification', BLEEDS) == (0, 0) and missed(census, 'cmb', [STONE]) == (0, 0)


def test_an_even_brain_has_none(head):
    _, mask, _ = head
    noise = np.random.default_rng(0).normal(0, .02, SHAPE).astype(np.float32) * mask
    census = find_microbleeds(noise, mask, AFFINE)
    assert not places(census, 'cmb') and not census.mask.any()


def test_axes_of_the_scan_do_not_matter(head):
    chi, mask, r2star = head
    turned = [np.ascontiguousarray(volume.transpose(2, 0, 1)[::-1]) for volume in (chi, mask, r2star)]
    to_old = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [-1, 0, 0, SHAPE[2] - 1], [0, 0, 0, 1.]])
    one = find_microbleeds(chi, mask, AFFINE, r2star=r2star)
    other = find_microbleeds(turned[0], turned[1], AFFINE @ to_old, r2star=turned[2])
    assert np.allclose(sorted(map(tuple, places(one, 'cmb'))), sorted(map(tuple, places(other, 'cmb'))), atol=.1)


def test_a_void_is_seen_in_the_decay(head):
    chi, mask, r2star = head
    centre, radius, _ = BLEEDS[1]
    hole = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - centre, axis=-1) <= radius + 1.2
    census = find_microbleeds(np.where(hole, 0, chi), mask, AFFINE, r2star=r2star)
    assert missed(census, 'cmb', BLEEDS) == (0, 0)
    row = next(row for row in census.lesions if row['seen_in'] == 'void')
    assert row['certainty'] == 'possible' and row['low_confidence'] == 'yes' and row['moment_ppm_mm3'] is None


def test_decay_alone_gives_possible_lesions_of_unknown_sign(head):
    _, mask, r2star = head
    weighted = np.where(mask, 100 * np.exp(-.02 * r2star), 0).astype(np.float32)
    for dark in (r2star, darkness_of(weighted, mask, (1., 1., 1.))):
        census = find_microbleeds(None, mask, AFFINE, r2star=dark)
        assert missed(census, 'cmb', (*BLEEDS, STONE))[0] == 0 and census.low_confidence
        assert {row['certainty'] for row in census.lesions} <= {'possible', 'unlikely'}
        assert all(row['chi_peak'] is None and row['moment_ppm_mm3'] is None for row in census.lesions)


def test_regions_are_told_and_deep_lesions_kept(head):
    chi, mask, r2star = head
    regions = np.zeros(SHAPE, np.uint8)
    regions[10:22, 10:22, 10:24] = BY_NAME['Thalamus_L'].index
    census = find_microbleeds(chi, mask, AFFINE, r2star=r2star, regions=regions)
    assert census.located and missed(census, 'cmb', BLEEDS) == (0, 0)
    row = next(row for row in census.lesions if row['deep_nucleus'])
    assert (row['bombs_region'], row['mars_region'], row['certainty']) == ('deep', 'thalamus', 'definite')


def test_thick_slices_are_worked_on_with_low_confidence(head):
    chi, mask, _ = head
    thick = np.stack([chi[..., k:k + 3].mean(axis=-1) for k in range(0, SHAPE[2], 3)], axis=-1)
    affine = AFFINE @ np.diag([1, 1, 3, 1])
    affine[2, 3] += 1
    census = find_microbleeds(thick, thick != 0, affine)
    assert census.low_confidence and missed(census, 'cmb', BLEEDS[1:2], AFFINE, 3.)[0] == 0
    assert all(row['low_confidence'] == 'yes' for row in census.lesions)


@pytest.mark.parametrize('change, name', [
    (dict(chi=None), 'r2star'), (dict(chi=np.zeros(SHAPE)), 'chi'), (dict(mask=np.zeros(SHAPE, bool)), 'mask'),
    (dict(r2star=np.zeros((3, 3, 3))), 'r2star'), (dict(regions=np.zeros((3, 3, 3), int)), 'regions')])
def test_bad_input_is_refused(head, change, name):
    given = dict(chi=head[0], mask=head[1], affine=AFFINE) | change
    with pytest.raises(ValueError, match=name):
        find_microbleeds(given.pop('chi'), given.pop('mask'), given.pop('affine'), **given)


def test_a_classifier_grades_in_the_place_of_the_rules(head):
    chi, mask, r2star = head
    ruled = find_microbleeds(chi, mask, AFFINE, r2star=r2star)

    def classify(scene, blobs):
        assert scene.brain.any() and len(blobs) >= len(ruled.lesions)
        return np.tile([.6, .3, .1], (len(blobs), 1))
    census = find_microbleeds(chi, mask, AFFINE, r2star=r2star, classify=classify)
    assert {row['class'] for row in census.lesions} == {'cmb', 'calcification'}
    assert {row['probability'] for row in census.lesions if row['class'] == 'cmb'} == {.6}
    moments = {tuple(row[f'{axis}_ras_mm'] for axis in 'xyz'): row['volume_mm3'] for row in census.lesions}
    assert all(moments[tuple(row[f'{axis}_ras_mm'] for axis in 'xyz')] == row['volume_mm3'] for row in ruled.lesions)


def test_rules_grade_what_only_decay_shows(head):
    _, mask, r2star = head
    ruled, asked = (find_microbleeds(None, mask, AFFINE, r2star=r2star, classify=each) for each in (None, pytest.fail))
    assert ruled.lesions == asked.lesions
