import numpy as np
import pytest

from qsmbids.simulation import head as module
from qsmbids.simulation.head import ELLIPSOID_NUCLEI, digital_head
from qsmbids.simulation.tissues import LABELS, LIKE, NUCLEI, RELAXIVITY, TISSUES, VOLUMES

STEP = 1.5
SHAPE = (98, 124, 100)
AFFINE = np.diag([STEP, STEP, STEP, 1])
AFFINE[:3, 3] = np.array([0, -17, 6]) - STEP * (np.array(SHAPE) - 1) / 2
@pytest.fixture(scope='module', params=[0, 1, 5])
def head(request):
    return digital_head(SHAPE, AFFINE, request.param)


def volumes(head, names, step=STEP):
    """mL on both sides."""
    middle = head.labels.shape[0] // 2
    inside = np.isin(head.labels, [LABELS[name] for name in names])
    return [np.count_nonzero(side) * step ** 3 / 1000 for side in (inside[:middle], inside[middle:])]


def test_nuclei_have_the_volumes_of_real_ones_on_both_sides(head):
    for name in NUCLEI:
        low, high = VOLUMES[name]
        assert all(low < volume < high for volume in volumes(head, [name])), name


def test_nuclei_lie_where_they_belong(head):
    for name, (centre, _, _) in ELLIPSOID_NUCLEI.items():
        positions = np.argwhere(head.labels == LABELS[name]) @ AFFINE[:3, :3] + AFFINE[:3, 3]
        for side in (1, -1):
            found = positions[positions[:, 0] * side > 0].mean(axis=0)
            assert np.linalg.norm(found - np.multiply(centre, (side, 1, 1))) < 5, name


def test_tissues_have_the_values_of_the_table(head):
    r2star = head.map('r2star')
    for name in NUCLEI + ('cortex', 'white_matter', 'bone', 'air', 'ventricle'):
        region = head.labels == LABELS[name]
        assert head.chi[region].mean() == pytest.approx(TISSUES[name].chi, rel=.15, abs=.004), name
        assert r2star[region].mean() == pytest.approx(TISSUES[name].r2star, rel=.15), name


def test_the_brain_has_the_size_of_a_brain(head):
    brain = head.map('brain')
    upper = brain[:, :, int((5 - AFFINE[2, 3]) / STEP):]
    extent = [np.ptp(np.flatnonzero(upper.any(axis=other))) * STEP for other in ((1, 2), (0, 2))]
    assert extent == pytest.approx([140, 176], rel=.06)
    assert 1.3e6 < np.count_nonzero(brain) * STEP ** 3 < 1.8e6
    cortex, white = (np.count_nonzero(head.labels == LABELS[name]) for name in ('cortex', 'white_matter'))
    assert .7 < cortex / white < 1.6


def test_maps_are_compact_arrays(head):
    assert head.labels.dtype == np.uint8
    assert head.chi.dtype == head.map('m0').dtype == np.float32
    assert head.map('brain').dtype == bool
    assert head.chi.flags.c_contiguous and head.chi.shape == SHAPE


SMALL = (30, 36, 32)
COARSE = np.diag([6., 6, 6, 1])
COARSE[:3, 3] = -87, -122, -93


def test_a_seed_is_a_person_whatever_the_slabs(monkeypatch):
    first = digital_head(SMALL, COARSE, 3)
    monkeypatch.setattr(module, 'SLAB_VOXELS', 5000)
    again, other = digital_head(SMALL, COARSE, 3), digital_head(SMALL, COARSE, 4)
    assert np.array_equal(first.labels, again.labels) and np.array_equal(first.chi, again.chi)
    assert np.mean(first.labels != other.labels) > .02


def test_any_grid_shows_the_same_head():
    straight = digital_head(SMALL, COARSE, 3)
    turned = digital_head((32, 30, 36), COARSE @ np.eye(4)[:, [2, 0, 1, 3]], 3)
    assert np.mean(straight.labels.transpose(2, 0, 1) != turned.labels) < 1e-3
    flip = np.diag([-1., 1, 1, 1])
    flip[0, 3] = SMALL[0] - 1
    assert np.mean(straight.labels[::-1] != digital_head(SMALL, COARSE @ flip, 3).labels) < 1e-3


def test_the_pose_moves_the_head_with_its_labels():
    pose = np.eye(4)
    pose[:2, :2] = [[.8, -.6], [.6, .8]]
    pose[:3, 3] = 5, -7, 11
    moved = digital_head(SMALL, pose @ COARSE, 3, pose)
    assert np.mean(moved.labels != digital_head(SMALL, COARSE, 3).labels) < 1e-3
    with pytest.raises(ValueError, match='pose'):
        digital_head(SMALL, COARSE, 3, 2 * pose)


def test_fine_nuclei_are_an_option():
    plain, fine = (digital_head(SHAPE, AFFINE, 1, fine=choice) for choice in (False, True))
    for name, (low, high) in VOLUMES.items():
        parts = [name, 'pallidum_internal'] if name == 'pallidum' else [name]
        assert all(low < volume < high for volume in volumes(fine, parts)), name
    added = np.isin(fine.labels, [LABELS[name] for name in LIKE])
    assert not np.isin(plain.labels, [LABELS[name] for name in LIKE]).any()
    assert np.array_equal(plain.labels[~added], fine.labels[~added])


def test_age_changes_size_shape_and_tissue():
    newborn, adult, old = (digital_head(SMALL, COARSE, 3, age=age) for age in (0, 40, 85))
    assert np.array_equal(adult.labels, digital_head(SMALL, COARSE, 3).labels)
    brain = [np.count_nonzero(head.map('brain')) for head in (newborn, adult, old)]
    assert brain[0] / brain[1] == pytest.approx(.66 ** 3, rel=.05) and brain[2] == pytest.approx(brain[1], rel=.02)
    for name, factor in (('ventricle', 1.4), ('sulcus', 1.15)):
        assert np.count_nonzero(old.labels == LABELS[name]) > factor * np.count_nonzero(adult.labels == LABELS[name])
    white, cortex = (newborn.labels == LABELS[name] for name in ('white_matter', 'cortex'))
    assert newborn.map('t1')[white].mean() > newborn.map('t1')[cortex].mean()
    assert adult.map('t1')[adult.labels == LABELS['white_matter']].mean() < 1
    assert newborn.chi[white].mean() > adult.chi[adult.labels == LABELS['white_matter']].mean() + .01


def test_the_skull_of_the_newborn_is_thin():
    shape, affine = (3, 3, 120), np.diag([1., 1, 1, 1])
    affine[:3, 3] = 8, -12, -20
    thickness = {age: np.count_nonzero(digital_head(shape, affine, 3, age=age).labels[1, 1] == LABELS['bone'])
                 for age in (0, 40)}
    assert 1 <= thickness[0] <= 3 and 5 <= thickness[40] <= 7


def test_variation_is_a_form_and_texture_of_the_same_person():
    plain, varied, other = (digital_head(SMALL, COARSE, seed, variation=variation)
                            for seed, variation in ((3, 0), (3, 4.), (4, 4.)))
    assert .05 < np.mean(plain.labels != varied.labels) < .4 and np.mean(other.labels != varied.labels) > .05
    assert [t.chi for t in plain.tissues] == [t.chi for t in varied.tissues]
    brain = [np.count_nonzero(head.map('brain')) for head in (plain, varied)]
    assert brain[1] == pytest.approx(brain[0], rel=.35)
    for quantity in ('r2star', 'm0'):
        spread = [np.std(head.map(quantity)[head.labels == LABELS['white_matter']]) for head in (plain, varied)]
        assert spread[0] < 1e-5 and spread[1] > .005
    assert np.array_equal(varied.chi, digital_head(SMALL, COARSE, 3, variation=4.).chi)


@pytest.mark.parametrize('b0_tesla', [1.5, 3., 7.])
def test_r2star_is_r2_and_what_both_sources_make(b0_tesla):
    head = digital_head(SMALL, COARSE, 3, age=25, variation=4., b0_tesla=b0_tesla)
    positive = head.chi_positive()
    negative = head.chi - positive
    assert positive.min() >= 0 and negative.max() <= 1e-6
    rest = head.map('r2star') - RELAXIVITY * b0_tesla / 3 * (positive - negative)
    for name in NUCLEI + ('cortex', 'white_matter'):
        inside = (head.labels == LABELS[name])
        # One R2 for each tissue, but where texture outweighs the weaker source.
        assert np.percentile(np.abs(rest[inside] - np.median(rest[inside])), 95) < .01, name


def test_the_field_strength_changes_relaxation_alone():
    low, high = (digital_head(SMALL, COARSE, 3, b0_tesla=b0) for b0 in (3., 7.))
    assert np.array_equal(low.labels, high.labels) and np.array_equal(low.chi, high.chi)
    brain = low.map('brain')
    assert np.all(high.map('r2star')[brain] > low.map('r2star')[brain])
    assert np.all(high.map('t1')[brain] >= low.map('t1')[brain]) and np.array_equal(high.map('m0'), low.map('m0'))


@pytest.mark.parametrize('wrong', [{'age': -1}, {'variation': 20}, {'variation': -1}, {'b0_tesla': 0}])
def test_what_no_head_has_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        digital_head(SMALL, COARSE, 3, **wrong)
