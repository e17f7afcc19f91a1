"""The backward kernel of maps whose field is known, and the direction of B0 from fields of known tilt."""

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest

from qsmbids.core.consistency import (ANGLES, CELLS, LEAST_CONTRAST, FieldAxis, angle_between, backward_kernel,
                                      consistency_flags, field_axis, field_flags)
from qsmbids.core.dipole import dipole_kernel, forward_field
from qsmbids.core.fourier import irfftn, rfftn

SHAPE, VOXEL_SIZE = (41, 52, 37), (1.0, 1.2, 1.5)
NUMBERS = ('rms_difference', 'gain', 'offset', 'coherence', 'axis_angle', 'field_nrmse')


def tilted(degrees, axis=0):
    b = np.zeros(3)
    b[axis], b[2] = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return tuple(b)


def ellipsoid(shape):
    x, y, z = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    return (x / 0.9) ** 2 + (y / 0.85) ** 2 + (z / 0.95) ** 2 < 1


@pytest.fixture(scope='module')
def brain():
    """A map of balls of all sizes, zero on average, and its mask. Balls have no direction of their own."""
    rng = np.random.default_rng(0)
    mask, chi = ellipsoid(SHAPE), np.zeros(SHAPE)
    grids = np.ogrid[tuple(slice(0, n * step, step) for n, step in zip(SHAPE, VOXEL_SIZE))]
    for _ in range(200):
        middle, radius = rng.uniform(0, np.multiply(SHAPE, VOXEL_SIZE)), rng.uniform(1.5, 6)
        distance = np.sqrt(sum((grid[:n] - m) ** 2 for grid, n, m in zip(grids, SHAPE, middle)))
        # Smooth at its surface, which otherwise is as square as its voxels.
        chi += rng.normal(0, 0.1) * np.clip(radius - distance + 0.5, 0, 1)
    return np.where(mask, chi - chi[mask].mean(), 0).astype(np.float32), mask


def numbers(kernel):
    return np.array([getattr(kernel, name) for name in NUMBERS])


@pytest.mark.parametrize('b0_dir', [(0, 0, 1), (1, 0, 0), tilted(20), (0.3, -0.5, 0.8)])
def test_a_map_of_its_own_field_has_no_fault(brain, b0_dir):
    chi, mask = brain
    found = backward_kernel(forward_field(chi, VOXEL_SIZE, b0_dir), chi, mask, VOXEL_SIZE, b0_dir=b0_dir)
    # The padding of the forward field is not that of the measure.
    assert found.rms_difference < 0.005 and found.field_nrmse < 0.03
    assert found.gain == pytest.approx(1, abs=0.01) and found.offset == pytest.approx(0, abs=0.005)
    assert found.coherence > 0.8 and found.axis_angle < 2
    assert consistency_flags(found) == []


def test_without_the_mask_the_kernel_is_that_of_theory(brain):
    # Infinite in the eyes of the transform: no edge, no leakage.
    chi = np.random.default_rng(1).standard_normal((40, 40, 40)).astype(np.float32)
    found = backward_kernel(forward_field(chi, (1, 1, 1)), chi, np.ones(chi.shape, bool), (1, 1, 1))
    expected = 1 / 3 - np.cos(np.radians(found.angle)) ** 2
    assert found.measured == pytest.approx(expected, abs=0.05) and found.coherence > 0.93
    assert found.angle[0] > found.angle[-1] and found.angle.shape == (ANGLES,)


def test_the_gain_is_how_much_the_map_is_too_weak(brain):
    chi, mask = brain
    field = forward_field(chi, VOXEL_SIZE)
    for factor in (0.5, -1, 2):
        found = backward_kernel(field, factor * chi, mask, VOXEL_SIZE)
        assert found.gain == pytest.approx(1 / factor, rel=0.01)
        assert found.coherence > 0.8 and (found.axis_angle < 2 or factor < 0)


def test_units_cancel(brain):
    chi, mask = brain
    field = forward_field(chi, VOXEL_SIZE) + 0.01 * np.random.default_rng(2).standard_normal(SHAPE)
    small, large = (numbers(backward_kernel(s * field, s * chi, mask, VOXEL_SIZE)) for s in (1, 1000))
    assert large == pytest.approx(small, rel=1e-3, abs=1e-4)
    one, other = (field_axis(s * field, mask, VOXEL_SIZE) for s in (1, 1000))
    assert one.contrast == pytest.approx(other.contrast, rel=1e-4)
    assert angle_between(one.direction, other.direction) < 0.1


def test_the_reference_and_what_lies_outside_do_not_matter(brain):
    chi, mask = brain
    field = forward_field(chi, VOXEL_SIZE)
    shifted = np.where(mask, chi + 0.05, np.nan), np.where(mask, field - 0.02, np.inf)
    plain = backward_kernel(field, chi, mask, VOXEL_SIZE)
    moved = backward_kernel(shifted[1], shifted[0], mask, VOXEL_SIZE)
    assert numbers(moved) == pytest.approx(numbers(plain), abs=1e-4)


def test_noise_lowers_the_coherence_and_leaves_the_gain(brain):
    chi, mask = brain
    field = forward_field(chi, VOXEL_SIZE)
    noise = field[mask].std() * np.random.default_rng(3).standard_normal(SHAPE)
    clean, noisy = (backward_kernel(f, chi, mask, VOXEL_SIZE) for f in (field, field + noise))
    assert noisy.coherence < clean.coherence - 0.1
    assert noisy.gain == pytest.approx(1, abs=0.05)
    assert noisy.field_nrmse == pytest.approx(1 / np.sqrt(2), abs=0.03)


def test_a_strongly_regularised_map_is_too_weak(brain):
    chi, mask = brain
    field = np.where(mask, forward_field(chi, VOXEL_SIZE), 0)
    kernel = dipole_kernel(SHAPE, VOXEL_SIZE)
    weak = irfftn(rfftn(field, SHAPE) * kernel / (kernel ** 2 + 0.1), SHAPE)
    found = backward_kernel(field, weak, mask, VOXEL_SIZE)
    assert found.gain > 1.5 and found.rms_difference > 0.1
    (flag,) = consistency_flags(found)
    assert flag.severity == 'fail' and 'too weak' in flag.reason


@pytest.mark.parametrize('degrees', [0, 10, 20, 40])
@pytest.mark.parametrize('axis', [0, 1])
def test_the_axis_is_that_of_the_field_not_of_the_header(brain, degrees, axis):
    chi, mask = brain
    true = tilted(degrees, axis)
    field = forward_field(chi, VOXEL_SIZE, true)
    found = backward_kernel(field, chi, mask, VOXEL_SIZE)
    assert angle_between(found.axis, true) < 2
    assert found.axis_angle == pytest.approx(degrees, abs=2)
    alone = field_axis(field, mask, VOXEL_SIZE)
    assert angle_between(alone.direction, true) < 3 and alone.contrast > 2 * LEAST_CONTRAST
    assert bool(field_flags(alone, (0, 0, 1))) == (degrees > 8)
    assert not field_flags(alone, true)


@pytest.mark.parametrize('order', list(itertools.permutations(range(3))))
def test_turning_everything_turns_the_axes(brain, order):
    chi, mask = brain
    b = np.array((0.3, -0.5, 0.8))
    field = forward_field(chi, VOXEL_SIZE, b)
    plain = backward_kernel(field, chi, mask, VOXEL_SIZE, b0_dir=b)
    step = tuple(VOXEL_SIZE[axis] for axis in order)
    turned = backward_kernel(field.transpose(order), chi.transpose(order), mask.transpose(order), step,
                             b0_dir=b[list(order)])
    assert numbers(turned) == pytest.approx(numbers(plain), abs=2e-3)
    assert angle_between(turned.axis, np.array(plain.axis)[list(order)]) < 0.2
    first = field_axis(field, mask, VOXEL_SIZE)
    second = field_axis(field.transpose(order), mask.transpose(order), step)
    assert angle_between(second.direction, np.array(first.direction)[list(order)]) < 0.2


@pytest.mark.parametrize('shape', [(24, 25, 26), (25, 24, 23)])
def test_odd_and_even_sizes(shape):
    chi = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    mask = ellipsoid(shape)
    found = backward_kernel(forward_field(chi * mask, (2, 2, 2)), chi, mask, (2, 2, 2))
    assert found.gain == pytest.approx(1, abs=0.05) and found.slices.shape == (3, CELLS, CELLS)


def test_noise_has_no_direction():
    noise, mask = np.random.default_rng(5).standard_normal(SHAPE), ellipsoid(SHAPE)
    found = field_axis(noise, mask, VOXEL_SIZE)
    assert found.contrast < LEAST_CONTRAST / 2
    assert field_flags(found, (0, 0, 1)) == field_flags(found, (1, 0, 0)) == []


def test_slices_show_the_cone(brain):
    chi, mask = brain
    b = tilted(30, 1)
    found = backward_kernel(forward_field(chi, VOXEL_SIZE, b), chi, mask, VOXEL_SIZE, b0_dir=b)
    middle = (CELLS - 1) / 2
    row, column = np.indices((CELLS, CELLS)) - middle
    radius = np.hypot(row, column)
    kernel = 1 / 3 - (row / radius) ** 2
    measured, theory, power = found.slices
    ring = (radius > 8) & (radius < middle) & np.isfinite(measured)
    assert np.corrcoef(kernel[ring], measured[ring])[0, 1] > 0.9
    assert np.corrcoef(theory[ring], measured[ring])[0, 1] > 0.99
    assert np.corrcoef(np.log(kernel[ring] ** 2 + 0.01), power[ring])[0, 1] > 0.5
    mirrored = ring & np.isfinite(measured[::-1, ::-1])
    assert np.corrcoef(measured[mirrored], measured[::-1, ::-1][mirrored])[0, 1] > 0.99
    assert found.reach == pytest.approx(0.4)


def test_slices_turn_towards_what_is_given(brain):
    chi, mask = brain
    field, true = forward_field(chi, VOXEL_SIZE, tilted(30, 1)), tilted(30, 1)
    found = backward_kernel(field, chi, mask, VOXEL_SIZE, toward=true).slices[0]
    row, column = np.indices((CELLS, CELLS)) - (CELLS - 1) / 2
    radius = np.hypot(row, column)
    along = (row * np.cos(np.radians(30)) + column * np.sin(np.radians(30))) / radius
    ring = (radius > 8) & np.isfinite(found)
    assert np.corrcoef((1 / 3 - along ** 2)[ring], found[ring])[0, 1] > 0.9


@pytest.mark.parametrize(('changes', 'severities', 'word'), [
    ({'gain': 1.2}, [], ''), ({'gain': 1.3}, ['warn'], 'too weak'), ({'gain': 0.7}, ['warn'], 'too strong'),
    ({'gain': 1.6}, ['fail'], 'too weak'), ({'gain': 0.4}, ['fail'], 'too strong'),
    ({'gain': -1.0}, ['fail'], 'opposite sign'), ({'coherence': 0.55}, ['warn'], 'only 55%'),
    ({'coherence': 0.2}, ['fail'], 'only 20%'), ({'axis_angle': 12.0}, ['warn'], '12 degrees'),
    ({'gain': 2.0, 'coherence': 0.5, 'axis_angle': 9.0}, ['fail', 'warn', 'warn'], ''),
    ({'gain': np.nan, 'coherence': np.nan, 'axis_angle': np.nan}, [], '')])
def test_flags_say_what_is_wrong(brain, changes, severities, word):
    chi, mask = brain
    good = backward_kernel(forward_field(chi, VOXEL_SIZE), chi, mask, VOXEL_SIZE)
    found = consistency_flags(replace(good, **changes))
    assert [flag.severity for flag in found] == severities
    assert all(word in flag.reason for flag in found)


def test_a_field_without_contrast_contradicts_nothing():
    assert field_flags(FieldAxis(tilted(30), 2 * LEAST_CONTRAST), (0, 0, 1))[0].severity == 'warn'
    assert field_flags(FieldAxis(tilted(30), LEAST_CONTRAST / 2), (0, 0, 1)) == []


@pytest.mark.parametrize('empty', ['chi', 'field', 'both'])
def test_nothing_gives_nothing(brain, empty):
    chi, mask = brain
    field, zero = forward_field(chi, VOXEL_SIZE), np.zeros(SHAPE)
    found = backward_kernel(zero if empty != 'chi' else field, zero if empty != 'field' else chi, mask, VOXEL_SIZE)
    assert all(np.isnan(getattr(found, name)) for name in NUMBERS if name != 'field_nrmse')
    assert consistency_flags(found) == [] and all(f.name in found.__dict__ for f in fields(found))
    assert field_axis(zero, mask, VOXEL_SIZE).contrast == 0


def test_inputs_stay_and_bad_ones_are_named(brain):
    chi, mask = brain
    field = forward_field(chi, VOXEL_SIZE)
    before = field.copy(), chi.copy()
    backward_kernel(field, chi, mask, VOXEL_SIZE)
    field_axis(field, mask, VOXEL_SIZE)
    assert np.array_equal(field, before[0]) and np.array_equal(chi, before[1])
    bad = np.where(mask, np.nan, 0)
    for arguments, name in (((bad, chi, mask, VOXEL_SIZE), 'field'), ((field, bad, mask, VOXEL_SIZE), 'chi'),
                            ((field, chi, ~(mask | ~mask), VOXEL_SIZE), 'mask'),
                            ((field, chi, mask, (1, 1)), 'voxel_size'), ((field, chi[1:], mask, VOXEL_SIZE), 'chi')):
        with pytest.raises(ValueError, match=name):
            backward_kernel(*arguments)
    with pytest.raises(ValueError, match='b0_dir'):
        backward_kernel(field, chi, mask, VOXEL_SIZE, b0_dir=(0, 0, 0))
