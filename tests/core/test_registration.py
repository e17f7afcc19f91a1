import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from qsmbids.core.registration import LEAST_GAIN, align_rigid, resample_labels

SHAPE = (48, 56, 40)
STEP = 3.


def rigid(degrees, shift, centre=(0, 0, 0)):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(degrees, degrees=True).as_matrix()
    matrix[:3, 3] = np.array(centre) - matrix[:3, :3] @ centre + shift
    return matrix


def head(points):
    """Return the tissue at points in mm: a brain with ventricles and two nuclei, which no turn maps on itself."""
    def ball(centre, axes):
        return sum(((p - c) / a) ** 2 for p, c, a in zip(points, centre, axes)) < 1
    tissue = np.zeros(points.shape[1:], np.int16)
    for number, (centre, axes) in enumerate((((0, 0, 0), (58, 70, 50)), ((0, 5, 4), (45, 54, 36)),
                                             ((-9, 5, 8), (6, 22, 8)), ((9, 3, 8), (6, 24, 8)),
                                             ((-24, 8, 0), (7, 16, 10)), ((24, 6, 2), (7, 18, 10)),
                                             ((5, -40, -20), (20, 14, 12))), 1):
        tissue[ball(centre, axes)] = number
    return tissue


def sampled(affine, shape, matrix=np.eye(4)):
    """Return the tissue on a grid whose mm are taken to the head's by a matrix."""
    whole = matrix @ affine
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij'))
    return head(np.tensordot(whole[:3, :3], grid, 1) + whole[:3, 3].reshape(3, 1, 1, 1))


def contrast(tissue, values):
    rng = np.random.default_rng(0)
    return ndimage.gaussian_filter(np.array(values, np.float32)[tissue], .5) + 2 * rng.standard_normal(tissue.shape)


AFFINE = np.diag([STEP, STEP, STEP, 1.])
AFFINE[:3, 3] = -STEP * np.array(SHAPE) / 2


@pytest.mark.parametrize('pose', [rigid((0, 0, 0), (0, 0, 0)), rigid((6, -4, 9), (5, -8, 3)),
                                  rigid((-10, 3, 2), (-4, 10, 12))])
def test_a_rigid_motion_between_contrasts_is_found(pose):
    fixed = contrast(sampled(AFFINE, SHAPE), (0, 60, 100, 20, 20, 140, 140, 80))
    moving = contrast(sampled(AFFINE, SHAPE, np.linalg.inv(pose)), (10, 90, 60, 200, 200, 30, 30, 120))
    found = align_rigid(fixed, AFFINE, moving, AFFINE, sampled(AFFINE, SHAPE) > 0)
    corners = np.array([[x, y, z, 1.] for x in (-50, 50) for y in (-60, 60) for z in (-40, 40)]).T
    assert np.abs((found.matrix - pose) @ corners)[:3].max() < .5 * STEP
    assert found.gain > LEAST_GAIN


def test_a_start_helps_where_headers_mislead():
    pose = rigid((0, 0, 0), (90, 0, 60))
    fixed = contrast(sampled(AFFINE, SHAPE), (0, 60, 100, 20, 20, 140, 140, 80))
    far = AFFINE.copy()
    far[:3, 3] += pose[:3, 3]
    found = align_rigid(fixed, AFFINE, fixed, far, sampled(AFFINE, SHAPE) > 0, starts=[rigid((0, 0, 0), (80, 5, 52))])
    assert np.abs(found.matrix - pose).max() < 1


def test_noise_gains_nothing():
    rng = np.random.default_rng(1)
    fixed, moving = rng.standard_normal((2, *SHAPE)).astype(np.float32)
    assert align_rigid(fixed, AFFINE, moving, AFFINE, np.ones(SHAPE, bool)).gain < LEAST_GAIN


def test_input_is_checked():
    image = np.ones(SHAPE, np.float32)
    with pytest.raises(ValueError, match='^fixed is 1 everywhere'):
        align_rigid(image, AFFINE, image, AFFINE, image > 0)
    with pytest.raises(ValueError, match='^fixed has shape'):
        align_rigid(image, AFFINE, image, AFFINE, image[1:] > 0)
    with pytest.raises(ValueError, match='^labels has shape'):
        resample_labels(image[0], AFFINE, SHAPE, AFFINE)


def test_the_same_grid_changes_nothing():
    labels = sampled(AFFINE, SHAPE)
    found, shares = resample_labels(labels, AFFINE, SHAPE, AFFINE)
    assert np.array_equal(found, labels)
    assert all(np.array_equal(share > .5, labels == index) for index, share in shares.items())


def test_labels_follow_axes_and_offsets():
    labels = sampled(AFFINE, SHAPE)
    turned = np.zeros((4, 4))
    turned[0, 2], turned[1, 0], turned[2, 1], turned[3, 3] = -1, 1, 1, 1   # new axes (y, z, -x)
    there = np.ascontiguousarray(labels.transpose(1, 2, 0)[:, :, ::-1])
    affine = AFFINE @ np.array([[0, 0, -1, SHAPE[0] - 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.]])
    found, _ = resample_labels(labels, AFFINE, there.shape, affine)
    assert np.array_equal(found, there)


def test_labels_on_thick_voxels_keep_their_volume_and_shares_add_up():
    fine_affine, fine_shape = AFFINE.copy(), (144, 168, 120)
    fine_affine[:3, :3] /= 3
    labels = sampled(fine_affine, fine_shape)
    thick = AFFINE @ np.diag([1 / 3, 1 / 3, 1., 1.])
    found, shares = resample_labels(labels, fine_affine, (144, 168, 40), thick)
    for index in range(1, 8):
        volume = (labels == index).sum()
        assert 3 * shares[index].sum() == pytest.approx(volume, rel=.01)
        assert 3 * (found == index).sum() == pytest.approx(volume, rel=.04)
    total = sum(shares.values())
    assert total.max() <= 1.0001 and total[found > 0].min() > .3


def test_what_lies_outside_of_the_new_grid_is_left_out():
    labels = sampled(AFFINE, SHAPE)
    near = AFFINE.copy()
    near[2, 3] += 60
    found, shares = resample_labels(labels, AFFINE, (48, 56, 20), near)
    assert 7 not in shares and 3 in shares and np.array_equal(found, labels[:, :, 20:])
