"""From the numbers that a scanner stored to magnitude and phase in radians, with every repair noted."""

from dataclasses import dataclass

import numpy as np

from qsmbids.core.methods import PHASE_SIGNS
from qsmbids.core.phase import (complex_to_polar, has_alternating_slices, phase_to_radians, repair_nonfinite,
                                undo_alternating_slices)


@dataclass(frozen=True)
class Echoes:
    """Magnitude and phase of all echoes.

    Attributes
    ----------
    magnitude : ndarray, float32, shape (nx, ny, nz, ne)
        Arbitrary units, not negative.
    phase : ndarray, float32, shape (nx, ny, nz, ne), or None
        rad in (-pi, pi], growing where the field is stronger; None for magnitude-only input.
    notes : tuple of str
        What was done to the input.
    warnings : tuple of str
        What the user should check.
    """

    magnitude: np.ndarray
    phase: np.ndarray | None
    notes: tuple = ()
    warnings: tuple = ()


def prepare_echoes(magnitude=None, phase=None, real=None, imaginary=None, *, phase_units=None, manufacturer=None,
                   phase_sign='auto', phase_extremes=None):
    """Return magnitude and phase in radians from what the scanner stored.

    Parameters
    ----------
    magnitude, phase, real, imaginary : ndarray, shape (nx, ny, nz) or (nx, ny, nz, ne), optional
        Either `magnitude`, with or without `phase`, or `real` and `imaginary`.
    phase_units : {'rad', 'arbitrary'}, optional
        ``Units`` of the phase sidecar.
    manufacturer : str, optional
        ``Manufacturer`` of the sidecar.
    phase_sign : {'auto', '+', '-'}
        Whether the stored phase grows (+) or falls (-) where the field is stronger. ``'auto'`` means +, except for
        data that carry GE's alternating slices, whose handedness is opposite too.
    phase_extremes : tuple of float, optional
        As `extremes` of `phase.phase_to_radians`, for one of several channels.

    Returns
    -------
    Echoes

    Raises
    ------
    ValueError
        If neither form of input is complete, shapes differ, or the magnitude is zero everywhere.
    """
    if phase_sign not in PHASE_SIGNS:
        raise ValueError(f'phase_sign is {phase_sign!r}, must be one of {", ".join(PHASE_SIGNS)}')
    if magnitude is None and (real is None or imaginary is None):
        raise ValueError('give magnitude (and phase), or both real and imaginary')
    notes, warnings = [], []
    given = {name: _repaired(name, volume, notes, warnings) for name, volume in
             dict(magnitude=magnitude, phase=phase, real=real, imaginary=imaginary).items() if volume is not None}
    shapes = {name: volume.shape for name, volume in given.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f'the shapes differ: {shapes}')
    if 'real' in given:
        polar = complex_to_polar(given['real'], given['imaginary'])
        magnitude, phase = given.get('magnitude', polar[0]), polar[1]
        notes.append('phase is the angle of real and imaginary part')
    else:
        magnitude, phase = given['magnitude'], given.get('phase')
    if not magnitude.any():
        raise ValueError('the magnitude is zero everywhere, or not finite')
    # Squares must stay within float32.
    if not 1e-15 < (largest := float(np.abs(magnitude).max())) < 1e15:
        raise ValueError(f'the largest magnitude is {largest:g}, must lie between 1e-15 and 1e15; is the slope of the '
                         'header (scl_slope) wrong?')
    if 'phase' in given and 'real' not in given:
        phase, rule, warning = phase_to_radians(phase, phase_units, manufacturer, phase_extremes)
        notes.append(f'phase to radians: {rule}')
        warnings += [warning] if warning else []
    if magnitude.min() < 0:
        warnings.append('the magnitude has negative values; their absolute value is used')
        magnitude = np.abs(magnitude)
    if phase is not None:
        phase = _oriented(phase, magnitude, manufacturer, phase_sign, notes, warnings)
    return Echoes(magnitude, phase, tuple(notes), tuple(warnings))


def _repaired(name, volume, notes, warnings):
    volume = np.asarray(volume, dtype=np.float32)
    if volume.ndim not in (3, 4):
        raise ValueError(f'{name} has {volume.ndim} dimensions, must have 3, or 4 with the echo last')
    volume, count = repair_nonfinite(volume if volume.ndim == 4 else volume[..., None])
    if count:
        warnings.append(f'{count} voxels of the {name} were not finite and are set to zero')
    return np.ascontiguousarray(volume)


def _oriented(phase, magnitude, manufacturer, phase_sign, notes, warnings):
    """Undo alternating slices and bring the sign to the convention of the package."""
    alternating = has_alternating_slices(phase, magnitude)
    if alternating:
        phase = undo_alternating_slices(phase)
        notes.append('every other slice was shifted by pi (GE); undone')
    falls = alternating if phase_sign == 'auto' else phase_sign == '-'
    if falls:
        phase = -phase
        notes.append('phase sign inverted, ' + ('as GE stores it' if phase_sign == 'auto' else 'as requested'))
    elif phase_sign == 'auto' and 'GE' in (manufacturer or '').upper().split():
        warnings.append('a GE scan without alternating slices: check that veins are bright in the susceptibility map; '
                        'if they are dark, use --phase-sign -')
    return phase


def combine_magnitude(magnitude):
    """Return the root mean square over echoes of a magnitude of shape ``(nx, ny, nz, ne)``, shape ``(nx, ny, nz)``."""
    return np.sqrt(np.einsum('...e,...e->...', magnitude, magnitude) / np.float32(magnitude.shape[-1]))
