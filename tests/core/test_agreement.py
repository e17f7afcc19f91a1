"""Agreement of two maps."""

import numpy as np
import pytest

from qsmbids.core.agreement import LEVELS, compare_maps

SHAPE = (30, 28, 25)


@pytest.fixture(scope='module')
def mask():
    mask = np.zeros(SHAPE, bool)
    mask[2:-2, 3:, 1:-4] = True
    return mask


@pytest.fixture(scope='module')
def chi():
    return (.06 * np.random.default_rng(0).standard_normal(SHAPE)).astype(np.float32)


@pytest.mark.parametrize('slope', [.3, 1., 1.7])
def test_a_map_and_its_multiple(chi, mask, slope):
    found = compare_maps(chi, np.where(mask, slope * chi + .2, np.nan), mask)
    assert found.slope == pytest.approx(slope, rel=1e-4) and found.correlation == pytest.approx(1, abs=1e-6)
    assert found.rms == pytest.approx(abs(slope - 1) * chi[mask].std(), rel=1e-3, abs=1e-7)


def test_errors_of_neither_map_make_the_slope_smaller(chi, mask):
    rng = np.random.default_rng(1)
    one, two = (chi + .03 * rng.standard_normal(SHAPE) for _ in range(2))
    found, back = compare_maps(one, two, mask), compare_maps(two, one, mask)
    assert found.slope == pytest.approx(1, abs=.02) and found.slope * back.slope == pytest.approx(1, rel=1e-6)
    assert np.polyfit(one[mask], two[mask], 1)[0] < .85
    assert found.rms == back.rms == pytest.approx(.03 * 2 ** .5, rel=.03)


def test_levels_hold_every_voxel_once_and_what_differs_there(chi, mask):
    found = compare_maps(chi, chi * np.where(chi > .05, 2, 1), mask)
    assert sum(level.voxels for level in found.levels) == mask.sum()
    assert [level.low for level in found.levels] == list(LEVELS[:-1])
    assert found.levels[-1].difference > .05 > abs(found.levels[2].difference)
    assert sum(level.voxels * level.rms ** 2 for level in found.levels) / mask.sum() == pytest.approx(found.rms ** 2)


def test_a_constant_map_has_no_slope(chi, mask):
    for pair in ((chi, 0 * chi), (0 * chi, chi)):
        found = compare_maps(*pair, mask)
        assert np.isnan(found.slope) and np.isnan(found.correlation) and found.rms > 0


def test_errors_are_named(chi, mask):
    with pytest.raises(ValueError, match='other has shape'):
        compare_maps(chi, chi[1:], mask)
    with pytest.raises(ValueError, match='first has 1 non-finite'):
        broken = chi.copy()
        broken[5, 5, 5] = np.nan
        compare_maps(broken, chi, mask)
