import numpy as np
import pytest

from qsmbids.simulation import head as module
from qsmbids.simulation.head import ELLIPSOID_NUCLEI, digital_head
from qsmbids.simulation.tissues import LABELS, LIKE, NUCLEI, TISSUES

STEP = 1.5
SHAPE = (98, 124, 100)
AFFINE = np.diag([STEP, STEP, STEP, 1])
AFFINE[:3, 3] = np.array([0, -17, 6]) - STEP * (np.array(SHAPE) - 1) / 2
# mL per side, subcortical_microbleeds.md section 4: six label maps (Th, CN, Pu), MuSus-100 (GP, SN, RN), dentate.
VOLUMES = {'thalamus': (5.7, 9.8), 'caudate': (3.0, 4.7), 'putamen': (4.0, 6.2), 'pallidum': (1.0, 2.5),
           'substantia_nigra': (.3, .6), 'red_nucleus': (.2, .5), 'dentate': (.6, 1.05)}


@pytest.fixture(scope='module', params=[0, 1, 5])
def head(request):
    return digital_head(SHAPE, AFFINE, request.param)


def test_nuclei_have_the_volumes_of_real_ones_on_both_sides(head):
    assert set(VOLUMES) == set(NUCLEI)
    middle = SHAPE[0] // 2
    for name, (low, high) in VOLUMES.items():
        for side in (slice(None, middle), slice(middle, None)):
            volume = np.count_nonzero(head.labels[side] == LABELS[name]) * STEP ** 3 / 1000
            assert low < volume < high, name


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
    volumes = {'pallidum': (.7, 2.2), 'pallidum_internal': (.25, .8), 'subthalamic': (.05, .16),
               'hippocampus': (2.2, 4.5), 'amygdala': (.8, 1.9), 'thalamus': (5.7, 9.8), 'substantia_nigra': (.3, .6), 'red_nucleus': (.2, .5)}
    middle = SHAPE[0] // 2
    for name, (low, high) in volumes.items():
        for side in (slice(None, middle), slice(middle, None)):
            assert low < np.count_nonzero(fine.labels[side] == LABELS[name]) * STEP ** 3 / 1000 < high, name
    added = np.isin(fine.labels, [LABELS[name] for name in LIKE])
    assert not np.isin(plain.labels, [LABELS[name] for name in LIKE]).any()
    assert np.array_equal(plain.labels[~added], fine.labels[~added])
