import numpy as np
import pytest

from qsmbids.simulation.coils import combined_sensitivity, from_middle, harmonics, sensitivities

SHAPE = (21, 17, 13)
AFFINE = np.array([[0, -9, 0, 5], [8, 0, 0, -7], [0, 0, 10, 1], [0, 0, 0, 1.]])


def array(count, seed=0):
    return np.stack(list(sensitivities(count, SHAPE, AFFINE, np.random.default_rng(seed))), axis=-1)


def test_harmonics_have_no_laplacian():
    position = from_middle(np.ogrid[:9, :9, :9], (9, 9, 9), np.diag([10., 10, 10, 1]))
    for term in harmonics(position, 2):
        laplacian = sum(np.diff(term, 2, axis=axis)[tuple(slice(None) if i == axis else slice(1, -1) for i in range(3))]
                        for axis in range(3))
        assert np.abs(laplacian).max() < 1e-12


def test_positions_are_scanner_coordinates_from_the_middle():
    x, y, z = from_middle(np.ogrid[:21, :17, :13], SHAPE, AFFINE)
    assert [p[10, 8, 6] for p in (x, y, z)] == [0, 0, 0]
    assert (x[0, 16, 0], y[0, 16, 0], z[0, 0, 12]) == pytest.approx((-.72, -.8, .6))


@pytest.mark.parametrize('count', [1, 3, 8])
def test_squared_sensitivities_sum_up_to_one(count):
    coils = array(count)
    assert coils.shape == (*SHAPE, count) and coils.dtype == np.complex64
    assert (np.abs(coils) ** 2).sum(axis=-1) == pytest.approx(1, abs=1e-5)


def test_coils_are_smooth_differ_and_see_what_is_near():
    coils = array(8)
    for axis in range(3):
        lower, upper = (np.take(coils, range(first, SHAPE[axis] - 1 + first), axis) for first in (0, 1))
        assert np.abs(np.angle(upper * lower.conj())).max() < .5
        assert np.abs(np.abs(upper) - np.abs(lower)).max() < .15
    # Each has a phase of its own and its own place of highest sensitivity, at the rim.
    middle = np.angle(coils[10, 8, 6])
    assert np.ptp(middle) > 2
    peaks = {np.unravel_index(np.abs(coil).argmax(), SHAPE) for coil in np.moveaxis(coils, -1, 0)}
    assert len(peaks) >= 6
    assert all(any(at in (0, n - 1) for at, n in zip(peak, SHAPE)) for peak in peaks)


def test_the_seed_decides():
    assert np.array_equal(array(3), array(3)) and not np.array_equal(array(3), array(3, 1))


def test_the_combination_is_smooth_and_near_one():
    coil = combined_sensitivity(SHAPE, AFFINE, np.random.default_rng(0))
    assert coil.shape == SHAPE and .3 < np.abs(coil).min() and np.abs(coil).max() < 3
    assert np.ptp(np.angle(coil)) > .2
    assert np.abs(np.angle(coil[1:] * coil[:-1].conj())).max() < .5
