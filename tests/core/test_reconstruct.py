from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from qsmbids import QSMResult, reconstruct
from qsmbids.core.dipole import forward_field
from qsmbids.core.echoes import combine_magnitude
from qsmbids.core.inversion.solve import solve
from qsmbids.core.methods import INVERSION
from qsmbids.core.phase import center_frequency, ppm_to_radians

CHI, ECHO_TIMES, SNR = 0.1, (0.004, 0.012, 0.020), 40
SIZE, HALF = 96, 47.5


def scan(shape_of, b0_dir=(0.0, 0.0, 1.0)):
    """A shape of 0.1 ppm in a ball of water, an air bubble outside, noise. Returns phase, magnitude, mask, distance."""
    x, y, z = np.meshgrid(*(np.arange(SIZE) - HALF,) * 3, indexing='ij', sparse=True)
    distance = shape_of(x - 6, y + 5, z - 4)
    mask = x ** 2 + y ** 2 + z ** 2 < 42 ** 2
    bubble = x ** 2 + (y - 44) ** 2 + (z + 16) ** 2 < 16
    chi = np.clip(0.5 - distance, 0, 1) * CHI + np.where(bubble & ~mask, 9.0, 0)
    field = forward_field(chi, (1, 1, 1), b0_dir)
    phase = np.stack([ppm_to_radians(field, t, center_frequency(3.0)) for t in ECHO_TIMES], -1)
    magnitude = 100 * mask[..., None] * np.exp(-20 * np.array(ECHO_TIMES))
    rng = np.random.default_rng(0)
    noise = 100 / SNR * (rng.standard_normal(phase.shape) + 1j * rng.standard_normal(phase.shape))
    signal = magnitude * np.exp(1j * phase) + noise
    return np.angle(signal).astype(np.float32), np.abs(signal).astype(np.float32), mask, distance


def sphere(x, y, z):
    return np.sqrt(x ** 2 + y ** 2 + z ** 2) - 8


def cylinder(x, y, z):
    """A rod of 6 mm radius along y, across B0, 36 mm long."""
    return np.maximum(np.hypot(x, z) - 6, np.abs(y) - 18)


@pytest.mark.parametrize('shape_of', [sphere, cylinder])
def test_the_whole_chain_gives_back_what_was_put_in(shape_of):
    phase, magnitude, mask, distance = scan(shape_of)
    before = phase.copy()
    result = reconstruct(phase, magnitude, ECHO_TIMES, b0_tesla=3, voxel_size=(1, 1, 1), mask=mask,
                         phase_units='rad')
    assert np.array_equal(phase, before)
    surround = result.qsm_mask & (distance > 3) & (distance < 14)
    inside = result.chi[distance < -2] - result.chi[surround].mean()
    assert inside.mean() == pytest.approx(CHI, rel=0.1)
    assert inside.std() < 0.1 * CHI
    assert not result.chi[~result.qsm_mask].any()
    assert result.relaxation.r2star[mask].mean() == pytest.approx(20, rel=0.1)


def test_the_direction_of_the_field_is_taken_from_the_affine():
    phase, magnitude, mask, distance = scan(sphere, b0_dir=(0, 1, 0))
    affine = np.eye(4)[[0, 2, 1, 3]]
    result = reconstruct(phase, magnitude, ECHO_TIMES, b0_tesla=3, affine=affine, mask=mask, phase_units='rad')
    inside = result.chi[distance < -2] - result.chi[result.qsm_mask & (distance > 3)].mean()
    assert inside.mean() == pytest.approx(CHI, rel=0.1)


def test_a_single_echo_is_enough():
    phase, magnitude, mask, distance = scan(sphere)
    result = reconstruct(phase[..., 1], magnitude[..., 1], ECHO_TIMES[1:2], b0_tesla=3, voxel_size=(1, 1, 1), mask=mask,
                         phase_units='rad', inversion='tikhonov', reference='csf')
    assert isinstance(result, QSMResult) and result.relaxation is None and result.csf_mask is None
    assert result.reference == 'wholebrain' and any('CSF' in text for text in result.warnings)


def test_the_weight_is_used_and_the_result_says_by_what_it_was_made():
    phase, magnitude, mask, _ = (v[28:68, 28:68, 28:68] for v in scan(sphere))
    # Where the echoes contradict each other, the field is wrong.
    phase = phase.copy()
    phase[18:22, 10:12, 18:22, 1] += 2
    common = dict(b0_tesla=3, voxel_size=(1, 1, 1), mask=mask, phase_units='rad', bipolar='no',
                  background='vsharp', background_parameters={'max_radius': 4}, threads=1)
    plain, *weighed = (reconstruct(phase, magnitude, ECHO_TIMES, weighting=weighting, **common)
                       for weighting in ('none', 'residual', 'certainty'))
    for result in weighed:
        assert np.array_equal(result.local_field, plain.local_field) and not np.array_equal(result.chi, plain.chi)
        assert result.automatic == ('lambda',) and result.parameters['lambda'] != plain.parameters['lambda']
    again = reconstruct(phase, magnitude, ECHO_TIMES, weighting='none', inversion_parameters=plain.parameters,
                        **common)
    assert np.array_equal(again.chi, plain.chi) and again.automatic == ()
    common |= {'background': 'pdf', 'background_parameters': None, 'inversion': 'tkd'}
    fields = [reconstruct(phase, magnitude, ECHO_TIMES, weighting=weighting, **common).local_field
              for weighting in ('none', 'residual', 'certainty')]
    assert not np.array_equal(fields[0], fields[1]) and np.array_equal(fields[1], fields[2])
    with pytest.raises(ValueError, match='weighting'):
        reconstruct(phase, magnitude, ECHO_TIMES, weighting='some', **common)


def test_a_field_is_mended_unless_that_is_refused():
    phase, magnitude, mask, _ = (v[28:68, 28:68, 28:68] for v in scan(sphere))
    # A voxel of pure noise inside the mask, of which no echo knows anything.
    magnitude, phase = magnitude.copy(), phase.copy()
    magnitude[8, 20, 20] = 1e-3 * magnitude.max()
    phase[8, 20, 20] += 2.5
    mended, plain = (reconstruct(phase, magnitude, ECHO_TIMES, b0_tesla=3, voxel_size=(1, 1, 1), mask=mask,
                                 phase_units='rad', bipolar='no', mending=mending, inversion='tkd', threads=1)
                     for mending in (True, False))
    changed = mended.total_field != plain.total_field
    assert changed[8, 20, 20] and np.count_nonzero(changed) < 20 and len(mended.notes) == len(plain.notes) + 1


def test_a_given_mask_gets_a_margin_and_keeps_its_border():
    phase, magnitude, mask, distance = (v[24:72, 20:68, 24:72] for v in scan(sphere))
    tight = mask & (distance < 6)
    wide, plain, eroded = (
        reconstruct(phase, magnitude, ECHO_TIMES, b0_tesla=3, voxel_size=(1, 1, 1), mask=tight, phase_units='rad',
                    bipolar='no', inversion='tikhonov', threads=1, **options)
        for options in ({}, {'mask_margin': 0}, {'mask_margin': 0, 'erosion': True}))
    assert np.array_equal(wide.qsm_mask, tight) and np.array_equal(plain.qsm_mask, tight)
    assert np.array_equal(eroded.qsm_mask, ndimage.binary_erosion(tight))
    assert np.array_equal(wide.reliable_mask, tight) and wide.total_field[~tight].any()
    assert not wide.local_field[~tight].any() and not wide.chi[~tight].any() and not plain.total_field[~tight].any()

    def contrast(result):
        return result.chi[distance < -2].mean() - result.chi[tight & (distance > 2)].mean()

    assert abs(contrast(wide) - CHI) < abs(contrast(plain) - CHI)
    with pytest.raises(ValueError, match='margin'):
        reconstruct(phase, magnitude, ECHO_TIMES, b0_tesla=3, voxel_size=(1, 1, 1), mask=tight, mask_margin=-1)


def test_medi_gets_magnitude_and_fluid():
    phase, magnitude, mask, _ = (v[28:68, 28:68, 28:68] for v in scan(sphere))
    result = reconstruct(phase, magnitude, ECHO_TIMES, b0_tesla=3, voxel_size=(1, 1, 1), mask=mask, phase_units='rad',
                         weighting='none', background='lbv', inversion='medi0', reference='none', threads=1)
    grid = {'voxel_size': (1, 1, 1), 'csf': result.csf_mask}
    with_magnitude, without = (solve('medi0', result.local_field, result.qsm_mask, **grid, magnitude=volume).chi
                               for volume in (combine_magnitude(magnitude), None))
    assert np.allclose(result.chi, with_magnitude, atol=1e-5) and not np.allclose(result.chi, without, atol=1e-3)


def test_a_method_that_takes_the_total_field_gets_it(monkeypatch):
    phase, magnitude, mask, _ = scan(sphere)
    given = dict(b0_tesla=3, voxel_size=(1, 1, 1), mask=mask, phase_units='rad', inversion='tkd', background='vsharp',
                 reference='none')
    local = reconstruct(phase, magnitude, ECHO_TIMES, **given)
    monkeypatch.setitem(INVERSION, 'tkd', replace(INVERSION['tkd'], takes_total=True))
    total = reconstruct(phase, magnitude, ECHO_TIMES, **given)
    assert np.array_equal(local.total_field, total.total_field) and np.array_equal(local.qsm_mask, total.qsm_mask)
    assert not total.chi[~total.qsm_mask].any()
    assert np.linalg.norm(total.chi) > 2 * np.linalg.norm(local.chi)  # the bubble's field is in it


def test_what_is_missing_is_named():
    volume = np.ones((4, 4, 4), np.float32)
    with pytest.raises(ValueError, match='affine.*voxel_size'):
        reconstruct(volume, volume, [0.01], b0_tesla=3)
    with pytest.raises(ValueError, match='zero everywhere'):
        reconstruct(volume, 0 * volume, [0.01], b0_tesla=3, voxel_size=(1, 1, 1), phase_units='rad')
    with pytest.raises(ValueError, match='shapes differ'):
        reconstruct(volume, volume[:3], [0.01], b0_tesla=3, voxel_size=(1, 1, 1), phase_units='rad')
