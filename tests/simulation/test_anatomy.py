from functools import partial

import nibabel as nib
import numpy as np
import pytest

from qsmbids.files import FileError
from qsmbids.simulation.anatomy import HULL_STEP, PLACED, _clear_specks, _hull, head_from_labels, load_labels
from qsmbids.simulation.head import digital_head
from qsmbids.simulation.signal import Sequence, simulate
from qsmbids.simulation.tissues import LABELS, RELAXIVITY, TISSUES

STEP = 3.
SHAPE = (58, 76, 74)
AFFINE = np.diag([STEP, STEP, STEP, 1])
AFFINE[:3, 3] = np.array([0, -10, -10]) - STEP * (np.array(SHAPE) - 1) / 2
IDS = {'fat': (511, 511), 'muscle': (507, 507), 'bone': (515, 515), 'vitreous': (506, 506), 'csf': (24, 24),
       'sulcus': (24, 24), 'dural_sinus': (514, 514), 'ventricle': (4, 43), 'cortex': (3, 42), 'white_matter': (2, 41),
       'caudate': (11, 50), 'putamen': (12, 51), 'pallidum': (13, 52), 'thalamus': (10, 49), 'red_nucleus': (28, 60),
       'substantia_nigra': (28, 60), 'dentate': (7, 46), 'vein': (2, 41)}


def ellipsoid(position, centre, axes):
    return sum(((p - c) / a) ** 2 for p, c, a in zip(position, centre, axes)) < 1


@pytest.fixture(scope='module')
def label_map():
    """What a segmentation would make of the parametric head, on few voxels."""
    head = digital_head(SHAPE, AFFINE, 3)
    position = [np.arange(n).reshape([-1 if i == axis else 1 for i in range(3)]) * STEP + AFFINE[axis, 3]
                for axis, n in enumerate(SHAPE)]
    labels = np.zeros(SHAPE, np.int16)
    for side in (0, 1):
        half = np.broadcast_to((position[0] > 0) == side, SHAPE)
        for name, ids in IDS.items():
            labels[(head.labels == LABELS[name]) & half] = ids[side]
        x = (-1, 1)[side]
        solid = half & np.isin(head.labels, [LABELS[name] for name in ('white_matter', 'cortex', 'red_nucleus',
                                                                       'substantia_nigra', 'dentate', 'sulcus')])
        labels[solid & ellipsoid(position, (x * 16, -57, -34), (14, 14, 9))] = (7, 46)[side]
        labels[solid & ellipsoid(position, (0, -28, -28), (15, 14, 34))] = 16
        labels[solid & ellipsoid(position, (x * 10, -14, -7), (9, 12, 8))] = (28, 60)[side]
    return labels


@pytest.fixture(scope='module')
def sample(label_map):
    return head_from_labels(label_map, AFFINE)


GRID = np.diag([1.5, 1.5, 1.5, 1])
GRID[:3, 3] = -50, -85, -55
VIEW = (67, 72, 56)


@pytest.fixture(scope='module')
def head(sample):
    return sample(VIEW, GRID, 1, variation=0.)


def test_the_tissues_of_the_map_come_back(sample, label_map):
    head = sample(SHAPE, AFFINE, 1)
    for name in ('thalamus', 'putamen', 'caudate', 'bone', 'fat'):
        made, given = (np.count_nonzero(m) for m in (head.labels == LABELS[name], np.isin(label_map, IDS[name])))
        assert made == pytest.approx(given, rel=.3), name
    # Of the fluid around the brain the sulci belong to it, and no more.
    solid, all_of_it = ((label_map > 0) & (label_map < 500) & (label_map != leave) for leave in (24, 0))
    assert solid.sum() < head.map('brain').sum() < .5 * (solid.sum() + all_of_it.sum())
    assert head.chi_outside == TISSUES['air'].chi


@pytest.mark.parametrize('step', [1., .8])
def test_the_hull_closes_sulci_and_leaves_the_surface_where_it_is(step):
    side = int(76 / step)
    distance = np.sqrt((((np.indices((side,) * 3) - (side - 1) / 2) * step) ** 2).sum(axis=0))
    brain = distance < 28
    brain[side // 2:side // 2 + int(5 / step), :, side // 2:] = False  # a sulcus, 5 mm wide
    hull = _hull(2 * brain.astype(np.int16), np.diag([step, step, step, 1.]))
    distance = distance[::HULL_STEP, ::HULL_STEP, ::HULL_STEP]
    near = np.abs(distance - 28) < 2
    assert np.mean(hull[near] - distance[near] + 28) == pytest.approx(0, abs=.3)
    assert hull[distance < 24].max() < -2


@pytest.mark.parametrize('name, volume', [('red_nucleus', (.15, .5)), ('substantia_nigra', (.2, .65)),
                                          ('subthalamic', (.04, .2)), ('dentate', (.4, 1.1))])
def test_fine_nuclei_have_their_size_and_place(head, name, volume):
    at = np.argwhere(head.labels == LABELS[name]) @ GRID[:3, :3] + GRID[:3, 3]
    place = {'red_nucleus': (5, -22, -9), 'substantia_nigra': (10, -17, -11), 'subthalamic': (10, -14, -7),
             'dentate': (15, -57, -34)}[name]
    for side in (1, -1):
        found = at[at[:, 0] * side > 0]
        assert volume[0] < len(found) * 1.5 ** 3 / 1000 < volume[1]
        assert np.linalg.norm(found.mean(axis=0) - np.multiply(place, (side, 1, 1))) < 8
    assert set(PLACED) <= set(TISSUES)


def test_the_inner_part_of_the_pallidum_is_inside(head):
    at = {name: np.abs((np.argwhere(head.labels == LABELS[name]) @ GRID[:3, :3] + GRID[:3, 3])[:, 0])
          for name in ('pallidum', 'pallidum_internal')}
    assert .15 < at['pallidum_internal'].size / (at['pallidum'].size + at['pallidum_internal'].size) < .4
    assert at['pallidum_internal'].mean() < at['pallidum'].mean() - 2


def test_veins_run_in_the_brain(head):
    assert np.count_nonzero(head.labels == LABELS['vein']) > 100
    assert head.chi[head.labels == LABELS['vein']].mean() == pytest.approx(.3, rel=.15)


def test_a_seed_is_a_person(sample):
    first, again, other = (sample(VIEW, GRID, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.labels, again.labels) and np.array_equal(first.chi, again.chi)
    assert .03 < np.mean(first.labels != other.labels) < .5


def test_the_pose_moves_the_head(sample):
    pose = np.eye(4)
    pose[:2, :2] = [[.8, -.6], [.6, .8]]
    pose[:3, 3] = 5, -7, 11
    assert np.mean(sample(VIEW, pose @ GRID, 1, pose).labels != sample(VIEW, GRID, 1).labels) < 1e-3


@pytest.mark.parametrize('make', [digital_head, None])
def test_iron_adds_susceptibility_and_decay(sample, make):
    make = make or sample
    plain, iron = (make(VIEW, GRID, 1, None, added) for added in (None, {'substantia_nigra': .05}))
    region = plain.labels == LABELS['substantia_nigra']
    assert np.array_equal(plain.labels, iron.labels)
    assert iron.chi[region].mean() - plain.chi[region].mean() == pytest.approx(.05, abs=1e-4)
    assert (iron.map('r2star') - plain.map('r2star'))[region].mean() == pytest.approx(.05 * RELAXIVITY, rel=1e-3)
    assert np.array_equal(plain.chi[~region], iron.chi[~region])


def test_age_and_variation_are_those_of_heads_from_code(sample):
    head = {age: sample(SHAPE, AFFINE, 1, age=age) for age in (0, 40, 85)}
    count = {age: {name: np.count_nonzero(h.labels == LABELS[name]) for name in ('ventricle', 'sulcus', 'bone')}
             for age, h in head.items()}
    brain = {age: np.count_nonzero(h.map('brain')) for age, h in head.items()}
    assert brain[0] / brain[40] == pytest.approx(.66 ** 3, rel=.12)
    assert count[85]['ventricle'] > 1.3 * count[40]['ventricle'] and count[85]['sulcus'] > 1.1 * count[40]['sulcus']
    assert count[0]['bone'] < .97 * .66 ** 3 * count[40]['bone']
    assert head[0].map('t1')[head[0].labels == LABELS['white_matter']].mean() > 2
    plain, varied = (sample(VIEW, GRID, 1, variation=variation) for variation in (0, 5.))
    assert .05 < np.mean(plain.labels != varied.labels) < .6
    assert np.std(varied.map('r2star')[varied.labels == LABELS['white_matter']]) > .3
    assert [t.r2star for t in sample(VIEW, GRID, 1, b0_tesla=7.).tissues] != [t.r2star for t in plain.tissues]
    for wrong in ({'age': -1}, {'variation': 20}, {'b0_tesla': 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            sample(VIEW, GRID, 1, **wrong)


def test_it_can_be_scanned(sample):
    affine = np.diag([8., 8, 8, 1])
    affine[:3, 3] = -76, -100, -60
    scan = simulate(partial(sample, seed=1), Sequence((20, 24, 20), affine, (.004, .012), supersampling=2))
    assert 900 < scan.mask.sum() * .512 < 2000
    assert np.isfinite(scan.field).all() and scan.local_field[scan.mask].std() > .002


def test_label_maps_are_read_in_any_order_of_axes(tmp_path, label_map):
    turned = nib.Nifti1Image(label_map, AFFINE).as_reoriented([[0, -1], [2, -1], [1, 1]])
    nib.save(turned, tmp_path / 'labels.nii.gz')
    labels, affine = load_labels(tmp_path / 'labels.nii.gz')
    assert np.array_equal(labels, label_map) and affine == pytest.approx(AFFINE)


def test_what_is_no_label_map_is_refused(tmp_path, label_map):
    with pytest.raises(ValueError, match='brainstem'):
        head_from_labels(np.where(label_map == 16, 0, label_map), AFFINE)
    with pytest.raises(ValueError, match='shape'):
        head_from_labels(label_map[0], AFFINE)
    (tmp_path / 'text.nii.gz').write_text('no image')
    with pytest.raises(FileError, match='text.nii.gz'):
        load_labels(tmp_path / 'text.nii.gz')
    with pytest.raises(FileError, match='missing.nii.gz'):
        load_labels(tmp_path / 'missing.nii.gz')
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), tmp_path / 'four.nii.gz')
    with pytest.raises(FileError, match='3D'):
        load_labels(tmp_path / 'four.nii.gz')


def test_specks_of_air_in_the_brain_become_fluid(label_map):
    """A label map of a real head has single voxels of air in the brain, which would look like microbleeds."""
    specked = label_map.copy()
    specked[tuple(np.random.default_rng(0).choice(np.argwhere((label_map > 0) & (label_map < 500)), 40).T)] = 0
    plain, cleared = (head_from_labels(labels, AFFINE)(SHAPE, AFFINE, 1, variation=0.) for labels in (label_map, specked))
    assert not np.any((cleared.labels == LABELS['air']) & plain.map('brain'))


def test_specks_of_air_in_bone_are_cleared_and_sinuses_stay():
    tissues = np.full((20, 20, 20), LABELS['bone'], np.uint8)
    tissues[:10] = LABELS['muscle']
    tissues[14:18, 3:6, 3:6] = LABELS['air']
    sinus = tissues == LABELS['air']
    tissues[15, 15, 15] = tissues[3, 3, 3] = LABELS['air']
    _clear_specks(tissues, np.eye(4))
    assert np.array_equal(tissues == LABELS['air'], sinus)
    assert tissues[15, 15, 15] == LABELS['bone'] and tissues[3, 3, 3] == LABELS['muscle']
