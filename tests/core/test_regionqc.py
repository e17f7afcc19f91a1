import numpy as np
import pytest

from qsmbids.core.labels import BY_NAME
from qsmbids.core.regionqc import judge_regions, region_masks

SHAPE = (60, 60, 40)


def ball(centre, radius, shape=SHAPE):
    grids = np.ogrid[tuple(map(slice, shape))]
    return sum((g - c) ** 2 for g, c in zip(grids, centre)) < radius ** 2


@pytest.fixture
def labels():
    """Both caudates of 3 mL, both parts of the left pallidum, and a red nucleus on the right."""
    volume = np.zeros(SHAPE, np.int16)
    for name, centre, radius in (('Caudate_L', (15, 30, 20), 9), ('Caudate_R', (45, 30, 20), 9),
                                 ('PallidumExternal_L', (15, 10, 12), 6), ('PallidumInternal_L', (24, 10, 12), 4),
                                 ('RedNucleus_R', (45, 12, 12), 4)):
        volume[ball(centre, radius)] = BY_NAME[name].index
    return volume


def judged(labels, mask=None, voxel_size=(1, 1, 1), **options):
    mask = np.ones(labels.shape, bool) if mask is None else mask
    found = judge_regions(region_masks(labels), mask, voxel_size, **options)
    return {label.name: verdict for label, verdict in found.items()}


def test_the_union_has_the_voxels_of_its_parts(labels):
    masks = {label.name: mask for label, mask in region_masks(labels).items()}
    assert np.array_equal(masks['Pallidum_L'], masks['PallidumExternal_L'] | masks['PallidumInternal_L'])
    undivided = np.where(labels == BY_NAME['Caudate_L'].index, BY_NAME['Pallidum_L'].index, 0)
    masks = {label.name: mask for label, mask in region_masks(undivided).items()}
    assert masks['Pallidum_L'].sum() == (undivided > 0).sum() and not masks['PallidumExternal_L'].any()


def test_what_is_as_expected_passes(labels):
    found = judged(labels)
    assert found['Caudate_L'].state == found['Caudate_R'].state == found['Pallidum_L'].state == 'pass'


def test_no_child_is_judged_by_the_volumes_of_adults(labels):
    small = np.where(labels == BY_NAME['Caudate_L'].index, 0, labels)
    small[10:13, 10:13, 10:13] = BY_NAME['Caudate_L'].index
    assert any('mL' in reason for reason in judged(small)['Caudate_L'].reasons)
    assert not any('mL' in reason for verdict in judged(small, adult=False).values() for reason in verdict.reasons)


def test_what_is_not_there_says_whether_it_could_have_been(labels):
    known = [BY_NAME[name].index for name in ('Caudate_L', 'Putamen_L')]
    found = judged(labels, known=known)
    assert found['Putamen_L'].state == found['Thalamus_L'].state == 'missing'
    assert 'found no' in found['Putamen_L'].reasons[0] and 'does not tell' in found['Thalamus_L'].reasons[0]


def test_the_edge_of_the_image_crops(labels):
    assert 'cropped' in judged(labels[7:])['Caudate_L'].reasons[0]
    assert judged(labels[6:])['Caudate_L'].state == 'pass'


def test_coverage(labels):
    mask = np.ones(SHAPE, bool)
    mask[:14] = False
    found = judged(labels, mask)
    assert found['Caudate_L'].state == 'warn' and '%' in found['Caudate_L'].reasons[0]
    mask[:18] = False
    assert judged(labels, mask)['Caudate_L'].state == 'missing'
    excluded = judged(labels, exclude=~mask)
    assert excluded['Caudate_L'].state == 'missing' and 'lesions' in excluded['Caudate_L'].reasons[0]


def test_small_large_and_lopsided_regions_fail(labels):
    assert judged(labels, voxel_size=(2, 2, 2))['Caudate_L'].state == 'fail'
    labels[ball((45, 30, 20), 9) & ~ball((45, 30, 20), 7.)] = 0
    found = judged(labels)
    assert any('times' in reason for reason in found['Caudate_L'].reasons + found['Caudate_R'].reasons)
    labels[ball((45, 30, 20), 9)] = 0
    labels[45, 30, 20:25] = BY_NAME['Caudate_R'].index
    assert 'fewer' in judged(labels)['Caudate_R'].reasons[0]


def test_a_region_in_pieces_fails(labels):
    labels[ball((15, 48, 20), 7)] = BY_NAME['Caudate_L'].index
    assert any('pieces' in reason for reason in judged(labels)['Caudate_L'].reasons)


def test_thick_slices_are_said_for_small_nuclei_only(labels):
    found = judged(labels[:, :, ::2], voxel_size=(1, 1, 2.5))
    assert any('2.5 mm' in reason for reason in found['RedNucleus_R'].reasons)
    assert not any('2.5 mm' in reason for reason in found['Caudate_L'].reasons)


def test_a_region_that_the_mask_cuts_off_may_be_larger(labels):
    mask = np.ones(SHAPE, bool)
    mask[:, :, :16] = False
    seen = np.where(mask, labels, 0)
    found = judged(seen, mask)
    assert found['Caudate_L'].state == 'warn' and 'of its surface' in found['Caudate_L'].reasons[0]
    assert judged(labels, mask)['Caudate_L'].state == 'warn'
    assert judged(seen)['Caudate_L'].state == 'pass'


@pytest.mark.parametrize('radius, state', ((2, 'pass'), (5, 'fail'), (8.5, 'missing')))
def test_blood_is_no_iron_of_a_nucleus(labels, radius, state):
    verdict = judged(labels, extreme=ball((15, 30, 20), radius))['Caudate_L']
    assert verdict.state == state and (state == 'pass' or 'blood or calcium' in verdict.reasons[0])
    assert judged(labels, extreme=ball((15, 30, 20), radius))['Caudate_R'].state == 'pass'


def test_blood_that_is_left_out_as_a_lesion_does_not_count_twice(labels):
    blood = ball((15, 30, 20), 5)
    assert judged(labels, extreme=blood, exclude=blood)['Caudate_L'].state == 'pass'
