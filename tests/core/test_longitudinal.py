import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from qsmbids.core.longitudinal import Session, common_values, midpoint

SHAPE, STEP = (44, 50, 38), 3.


def rigid(degrees, shift):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(degrees, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def session(pose, left=.05, labels=True):
    """Return a head with two nuclei, moved by a pose; the values of the left one are given."""
    affine = np.diag([STEP] * 3 + [1.])
    affine[:3, 3] = -STEP * np.array(SHAPE) / 2
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing='ij'))
    to_head = np.linalg.inv(pose) @ affine
    points = np.tensordot(to_head[:3, :3], grid, 1) + to_head[:3, 3].reshape(3, 1, 1, 1)

    def ball(centre, axes):
        return sum(((p - c) / a) ** 2 for p, c, a in zip(points, centre, axes)) < 1
    brain, fluid = ball((0, 0, 0), (54, 64, 46)), ball((0, 8, 8), (10, 26, 9))
    one, two = ball((-24, 4, 0), (9, 16, 11)), ball((24, 10, 4), (10, 14, 10))
    image = 100. * brain + 60 * fluid - 40 * one - 45 * two + 20 * ball((12, -38, -18), (20, 12, 12))
    chi = np.where(brain, left * one + .1 * two - .02 * fluid, 0)
    rng = np.random.default_rng(abs(int(pose[0, 3] * 10)))
    return Session(ndimage.gaussian_filter(image, .4) + rng.standard_normal(SHAPE), brain,
                   (one + 2 * two) * labels, {'chi': (chi.astype(np.float32), brain)}, affine)


def test_the_middle_of_two_is_half_the_way():
    there = rigid((0, 0, 10), (4, 0, -2))
    frame = midpoint([np.eye(4), there], (0, 0, 0))
    assert np.allclose(Rotation.from_matrix(frame[:3, :3]).as_rotvec(degrees=True), (0, 0, 5))
    assert np.allclose(frame[:3, 3], (2, 0, -1))
    # The other way round the frame lies at the same place of the head.
    back = midpoint([np.eye(4), np.linalg.inv(there)], (4, 0, -2))
    assert np.allclose(back @ there, frame, atol=1e-9)


def test_the_same_head_has_the_same_values_wherever_it_lies():
    values, gains = common_values([session(np.eye(4)), session(rigid((4, -3, 6), (5, -4, 3)))])
    assert min(gains) > 1.2 and set(values[0]) == {('chi', 1), ('chi', 2)}
    for key in values[0]:
        assert values[1][key] == pytest.approx(values[0][key], abs=.003)


def test_a_change_is_seen_and_the_order_does_not_matter():
    heads = session(np.eye(4)), session(rigid((4, -3, 6), (5, -4, 3)), left=.08)
    (first, later), _ = common_values(heads)
    (later_again, first_again), _ = common_values(heads[::-1])
    change = later['chi', 1] - first['chi', 1]
    assert change == pytest.approx(.03 * first['chi', 1] / .05, abs=.003)
    assert later_again['chi', 1] - first_again['chi', 1] == pytest.approx(change, abs=.003)
    assert later['chi', 2] - first['chi', 2] == pytest.approx(0, abs=.003)



def test_one_session_is_refused():
    with pytest.raises(ValueError, match='^sessions are 1'):
        common_values([session(np.eye(4))])
