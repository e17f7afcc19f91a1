"""What must hold for every inversion."""

import numpy as np
import pytest

from qsmbids.core.dipole import forward_field
from qsmbids.core.methods import INVERSION
from qsmbids.core.threads import use_threads

pytestmark = pytest.mark.parametrize('method', [method.load() for method in INVERSION.values()], ids=INVERSION)

# Least correlation with simulated shapes, and how far their values may be off. The linear ones are listed first.
LINEAR = {'tkd': (0.9, 0.3), 'tsvd': (0.85, 0.5)}
LEAST = LINEAR | {'tv': (0.97, 0.1), 'star': (0.97, 0.1), 'hdqsm': (0.97, 0.1), 'nltv': (0.97, 0.1),
                  'whqsm': (0.95, 0.15), 'medi': (0.95, 0.15), 'medi0': (0.95, 0.15), 'tgv': (0.95, 0.15),
                  'rts': (0.9, 0.3), 'ilsqr': (0.9, 0.4), 'ndi': (0.85, 0.5), 'tikhonov': (0.85, 0.4),
                  'pocsnet2': (0.95, 0.6), 'dll2': (0.95, 0.4), 'fine': (0.95, 0.6)}
# Networks without a step on the data promise nothing about what they were not trained with.
ALONE = 'deepqsm', 'autoqsm'


def grids(shape, voxel_size):
    return np.meshgrid(*((np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, voxel_size)),
                       indexing='ij', sparse=True)


def shapes(shape, voxel_size):
    """A sphere of 0.1 ppm, an oblique cylinder of 0.2, ellipsoids of 0.05, 0.3 and -0.1; and the inside of each."""
    x, y, z = grids(shape, voxel_size)
    pieces = [(((x - 9) ** 2 + y ** 2 + (z + 8) ** 2) / 49, 0.1),
              (((x + 12) ** 2 + (0.8 * y + 0.6 * z) ** 2) / 20 + (y ** 2 + z ** 2 > 196), 0.2)]
    pieces += [(((x - a) / 5) ** 2 + ((y - b) / 7) ** 2 + ((z - c) / 6) ** 2, value)
               for a, b, c, value in ((4, 14, 8, 0.05), (6, -15, 7, 0.3), (-1, 0, 16, -0.1))]
    chi = sum(np.float32(value) * (level <= 1) for level, value in pieces)
    return chi, [(level <= 0.5, value) for level, value in pieces]


def ball(shape, voxel_size, radius):
    return sum(g ** 2 for g in grids(shape, voxel_size)) <= radius ** 2


@pytest.fixture(scope='module')
def small():
    return scene((1, 1, 1), (0, 0, 1))


def scene(voxel_size, b0_dir):
    """A small ball of noise in the susceptibility: its field and mask."""
    shape = (21, 24, 20)
    chi = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    mask = ball(shape, (1, 1, 1), 9)
    return forward_field(0.1 * chi * mask, voxel_size, b0_dir), mask


@pytest.mark.parametrize('voxel_size, b0_dir', [((1, 1, 1), (0, 0, 1)), ((0.9, 1.1, 1.5), (0, 0.5, 0.866))])
def test_simulated_shapes(method, voxel_size, b0_dir):
    if name(method) in ALONE:
        pytest.skip('a network alone')
    # The truth is finer than the grid: no inverse crime.
    coarse = [int(64 / step) for step in voxel_size]
    fine = np.array(voxel_size) / 2
    chi, pieces = shapes([2 * n for n in coarse], fine)
    field = forward_field(chi, fine, b0_dir, margin=24)
    chi, field = (halve(v) for v in (chi, field))
    mask = ball(coarse, voxel_size, 30)
    field += 0.001 * np.random.default_rng(0).standard_normal(coarse).astype(np.float32)
    found = method(field, mask, voxel_size, b0_dir=b0_dir)
    correlation, tolerance = LEAST[name(method)]
    assert np.corrcoef(found[mask], chi[mask])[0, 1] > correlation
    empty = mask & (chi == 0)
    for inside, value in pieces:
        found_value = found[halve(inside.astype(np.float32)) == 1].mean() - found[empty].mean()
        assert found_value == pytest.approx(value, rel=tolerance, abs=0.005)


def name(method):
    return next(key for key, value in INVERSION.items() if value.load() is method)


def halve(volume):
    nx, ny, nz = (n // 2 for n in volume.shape)
    return volume.reshape(nx, 2, ny, 2, nz, 2).mean(axis=(1, 3, 5))


def test_contract(method, small):
    field, mask = small
    given = field.copy(), mask.copy()
    chi = method(field, mask, (1, 1, 1))
    assert np.array_equal(field, given[0]) and np.array_equal(mask, given[1])
    assert chi.dtype == np.float32 and chi.shape == mask.shape and np.all(np.isfinite(chi))
    assert chi[mask].all() and not chi[~mask].any()
    assert np.array_equal(method(np.where(mask, field, np.nan), mask, (1, 1, 1)), chi)


@pytest.mark.parametrize('shape', [(16, 18, 20), (17, 19, 21), (16, 17, 23)])
def test_any_size_and_a_mask_that_fills_it(method, shape):
    if name(method) in ALONE:
        pytest.skip('a network alone')
    truth = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    field = forward_field(truth, (1, 1, 1))
    chi = method(field, np.ones(shape, bool), (1, 1, 1), **same_phase(method, 50))
    induced = forward_field(chi, (1, 1, 1))
    assert np.corrcoef(induced.ravel(), field.ravel())[0, 1] > 0.5


@pytest.mark.parametrize('scale', [1e-2, -30])
def test_twice_the_field_is_twice_the_map(method, small, scale):
    field, mask = small
    if INVERSION[name(method)].weights:  # networks know that there is more iron than calcium
        scale = abs(scale)
    chi = method(field, mask, (1, 1, 1))
    scaled = method(scale * field, mask, (1, 1, 1), **same_phase(method, abs(scale)))
    # What conjugate gradients round differently grows over the steps of MEDI.
    tolerance = 1e-3 if name(method).startswith('medi') else 1e-4
    assert np.abs(scaled / scale - chi).max() < tolerance * np.abs(chi).max()


def same_phase(method, scale):
    """Return what keeps the phase that `scale` times the field makes: methods that compare phases are not linear."""
    default = INVERSION[name(method)].parameters().get('phase_scale')
    return {} if default is None else {'phase_scale': default / scale}


def test_linear(method, small):
    if name(method) not in LINEAR:
        pytest.skip('not linear: its strength follows the data')
    field, mask = small
    other = np.roll(field, 3, axis=1) * mask
    both = method(field + 2 * other, mask, (1, 1, 1))
    apart = method(field, mask, (1, 1, 1)) + 2 * method(other, mask, (1, 1, 1))
    assert np.abs(both - apart).max() < 1e-4 * np.abs(both).max()


# From these two all permutations follow.
@pytest.mark.parametrize('axes', [(1, 0, 2), (1, 2, 0)])
def test_axes_have_no_privilege(method, axes):
    voxel_size, b0_dir = np.array((1, 1.3, 1.6)), np.array((0.3, 0.5, 0.8))
    small = scene(voxel_size, b0_dir)
    chi = method(*small, voxel_size, b0_dir=b0_dir)
    turned = method(*(v.transpose(axes) for v in small), voxel_size[list(axes)], b0_dir=b0_dir[list(axes)])
    assert np.abs(turned - chi.transpose(axes)).max() < 1e-4 * np.abs(chi).max()


def test_threads_do_not_change_the_result(method, small):
    few = {'max_iterations': 10} if 'max_iterations' in INVERSION[name(method)].parameters() else {}
    results = []
    for count in (1, 2):
        with use_threads(count):
            results.append(method(*small, (1, 1, 1), **few))
    assert np.abs(results[0] - results[1]).max() < 1e-4 * np.abs(results[0]).max()


def test_no_field_no_susceptibility(method, small):
    assert not method(np.zeros_like(small[0]), small[1], (1, 1, 1)).any()


def test_bad_input(method, small):
    field, mask = small
    with pytest.raises(ValueError, match='field has shape'):
        method(field[1:], mask, (1, 1, 1))
    with pytest.raises(ValueError, match='empty'):
        method(field, mask & False, (1, 1, 1))
    with pytest.raises(ValueError, match='non-finite'):
        method(np.where(mask, np.nan, field), mask, (1, 1, 1))
    with pytest.raises(ValueError, match='voxel_size'):
        method(field, mask, (1, 0, 1))
    with pytest.raises(ValueError, match='b0_dir'):
        method(field, mask, (1, 1, 1), b0_dir=(0, 0, 0))
