import numpy as np
import pytest

from qsmbids.core.dipole import forward_field
from qsmbids.core.inversion.solve import solve
from qsmbids.core.inversion.strength import automatic_strength
from qsmbids.core.methods import INVERSION

SHAPE, GRID = (18, 20, 16), ((1, 1.2, 1.5), (0, 0.6, 0.8))


@pytest.fixture(scope='module')
def scene():
    """A noisy field in a box, and a weight that leaves out its worst voxels."""
    rng = np.random.default_rng(0)
    mask = np.zeros(SHAPE, bool)
    mask[2:-2, 2:-2, 2:-2] = True
    field = forward_field(0.1 * rng.standard_normal(SHAPE).astype(np.float32) * mask, *GRID)
    weight = (rng.random(SHAPE) > 0.1).astype(np.float32)
    return np.where(weight > 0, field, 0.5).astype(np.float32), mask, weight


@pytest.mark.parametrize('weighs', [False, True])
@pytest.mark.parametrize('name', [name for name, method in INVERSION.items() if method.automatic])
def test_what_is_reported_is_what_is_used(scene, name, weighs):
    field, mask, weight = scene
    method, given = INVERSION[name], {'weight': weight} if weighs and INVERSION[name].takes('weight') else {}
    few = {'max_iterations': 2} if method.takes('max_iterations') else {}
    found = solve(name, field, mask, GRID[0], b0_dir=GRID[1], weight=weight if weighs else None, parameters=few)
    parameter, = found.automatic
    assert found.parameters[parameter] > 0 and set(found.parameters) == set(method.parameters())
    by_itself = method.load()(field, mask, GRID[0], b0_dir=GRID[1], **given, **few)
    assert np.array_equal(found.chi, by_itself)
    again = solve(name, field, mask, GRID[0], b0_dir=GRID[1], parameters=found.parameters, **given)
    assert np.array_equal(again.chi, by_itself) and again.automatic == () and again.parameters == found.parameters


def test_the_weight_has_its_part_in_the_strength(scene):
    field, mask, weight = scene
    found = solve('tv', field, mask, GRID[0], b0_dir=GRID[1], weight=weight, parameters={'lambda': None})
    assert found.automatic == ('lambda',)
    assert found.parameters['lambda'] == automatic_strength(field, mask, GRID[0], b0_dir=GRID[1], weight=weight)
    assert found.parameters['lambda'] < 0.8 * automatic_strength(field, mask, GRID[0], b0_dir=GRID[1])


def test_a_method_without_weight_goes_without(scene):
    field, mask, weight = scene
    weighed, plain = (solve('tkd', field, mask, GRID[0], weight=w) for w in (weight, None))
    assert np.array_equal(weighed.chi, plain.chi) and weighed.automatic == ()
    with pytest.raises(ValueError, match='no parameter colour'):
        solve('tkd', field, mask, GRID[0], parameters={'colour': 1})


@pytest.mark.parametrize('name, uses', [('tv', set()), ('medi', {'magnitude'}), ('medi0', {'magnitude', 'csf'})])
def test_a_method_gets_what_it_can_use(scene, name, uses):
    field, mask, _ = scene
    beside = {'magnitude': np.random.default_rng(1).random(SHAPE, np.float32), 'csf': mask & (np.arange(SHAPE[2]) < 6)}
    few = {'lambda': 1e-3, 'max_iterations': 3}
    plain, found = (solve(name, field, mask, GRID[0], parameters=few, **given).chi for given in ({}, beside))
    assert np.array_equal(found, plain) == (not uses)
    by_itself = INVERSION[name].load()(field, mask, GRID[0], lambda_=1e-3, max_iterations=3,
                                       **{key: beside[key] for key in uses})
    assert np.array_equal(found, by_itself)
    for key in uses:
        alone = solve(name, field, mask, GRID[0], parameters=few, **{key: beside[key]}).chi
        assert not np.array_equal(alone, plain)
