import numpy as np
import pytest

from qsmbids.core.echoes import combine_magnitude, prepare_echoes
from qsmbids.core.phase import wrap

SHAPE = (12, 14, 16)


@pytest.fixture(scope='module')
def clean():
    """Smooth phase over three echoes, and a magnitude."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing='ij')
    field = 2 * x * y + z
    phase = wrap(np.stack([field * t for t in (1, 3, 5)], -1)).astype(np.float32)
    return phase, np.full(phase.shape, 100, np.float32)


def test_real_and_imaginary_are_magnitude_and_phase(clean):
    phase, magnitude = clean
    signal = magnitude * np.exp(1j * phase)
    echoes = prepare_echoes(real=signal.real, imaginary=signal.imag)
    assert np.allclose(echoes.phase, phase, atol=1e-4) and np.allclose(echoes.magnitude, magnitude, rtol=1e-5)


def test_alternating_slices_of_ge_are_undone_and_the_sign_inverted(clean):
    phase, magnitude = clean
    signal = magnitude * np.exp(-1j * phase) * (-1) ** np.arange(SHAPE[2])[:, None]
    echoes = prepare_echoes(real=signal.real, imaginary=signal.imag, manufacturer='GE MEDICAL SYSTEMS')
    turns = np.exp(1j * (echoes.phase - phase))
    assert np.allclose(turns, turns.mean(), atol=1e-3), 'equal up to one constant phase'
    assert len([note for note in echoes.notes if 'GE' in note]) == 2
    kept = prepare_echoes(real=signal.real, imaginary=signal.imag, phase_sign='+')
    assert np.allclose(np.exp(1j * kept.phase), np.exp(-1j * echoes.phase), atol=1e-3)


def test_a_ge_scan_without_the_pattern_is_to_be_checked(clean):
    phase, magnitude = clean
    assert any('--phase-sign' in text for text in
               prepare_echoes(magnitude, phase, phase_units='rad', manufacturer='GE').warnings)
    assert not prepare_echoes(magnitude, phase, phase_units='rad', manufacturer='Siemens').warnings


def test_the_sign_can_be_set(clean):
    phase, magnitude = clean
    echoes = prepare_echoes(magnitude, phase, phase_units='rad', phase_sign='-')
    assert np.allclose(echoes.phase, -phase, atol=1e-5)
    with pytest.raises(ValueError, match='phase_sign'):
        prepare_echoes(magnitude, phase, phase_sign='x')


def test_what_is_not_finite_becomes_zero_with_a_warning(clean):
    phase, magnitude = (volume.copy() for volume in clean)
    phase[0, 0, 0] = np.nan
    magnitude[1, 1, 1, 1] = np.inf
    echoes = prepare_echoes(magnitude, phase, phase_units='rad')
    assert np.isfinite(echoes.phase).all() and np.isfinite(echoes.magnitude).all()
    assert '3 voxels of the phase' in ' '.join(echoes.warnings) and '1 voxels of the mag' in ' '.join(echoes.warnings)


def test_combined_magnitude_is_the_root_mean_square():
    assert combine_magnitude(np.array([[[[3.0, 4.0]]]])) == pytest.approx(np.sqrt(12.5))
