"""Phase as scanners store it to phase in radians, repairs of what vendors do to it, and conversion of units.

Unit conversion of the whole package happens here and nowhere else.
"""

from typing import NamedTuple

import numpy as np

GAMMA_HZ_PER_TESLA = 42.577e6
"""Gyromagnetic ratio of the proton over 2 pi."""

_PI = np.float32(np.pi)
_TWO_PI = np.float32(2 * np.pi)


def center_frequency(b0_tesla, imaging_frequency_mhz=None):
    """Return the frequency that 1 ppm is a millionth of.

    Parameters
    ----------
    b0_tesla : float
        Nominal field strength.
    imaging_frequency_mhz : float, optional
        What the scanner was tuned to. It wins: a magnet sold as 3 T may be one of 2.89 T.

    Returns
    -------
    float
        Hz.

    Raises
    ------
    ValueError
        If the field is not positive, or if both disagree by more than 10 %.

    Examples
    --------
    >>> round(center_frequency(3) / 1e6, 2)
    127.73
    >>> center_frequency(3, 123.2) / 1e6
    123.2
    """
    if not (np.isfinite(b0_tesla) and b0_tesla > 0):
        raise ValueError(f'b0_tesla is {b0_tesla}, must be positive')
    nominal = GAMMA_HZ_PER_TESLA * b0_tesla
    if imaging_frequency_mhz is None:
        return nominal
    measured = imaging_frequency_mhz * 1e6
    if not abs(measured - nominal) <= 0.1 * nominal:
        raise ValueError(f'imaging_frequency_mhz is {imaging_frequency_mhz}, must be within 10 % of '
                         f'{nominal / 1e6:.2f} MHz, the proton frequency at {b0_tesla} T')
    return measured


def hz_to_ppm(field_hz, center_frequency_hz):
    """Convert a field from Hz to ppm of B0.

    Examples
    --------
    >>> round(hz_to_ppm(12.773, 127.73e6), 6)
    0.1
    """
    return field_hz * (1e6 / center_frequency_hz)


def ppm_to_hz(field_ppm, center_frequency_hz):
    """Convert a field from ppm of B0 to Hz."""
    return field_ppm * (1e-6 * center_frequency_hz)


def radians_to_ppm(phase, echo_time, center_frequency_hz):
    """Convert a phase that grew over `echo_time` (s) to the field in ppm; an echo time of 1 converts from rad/s."""
    return phase * (1e6 / (2 * np.pi * echo_time * center_frequency_hz))


def ppm_to_radians(field_ppm, echo_time, center_frequency_hz):
    """Convert a field in ppm to the phase that grows over `echo_time` (s); an echo time of 1 converts to rad/s."""
    return field_ppm * (2e-6 * np.pi * echo_time * center_frequency_hz)


def wrap(phase):
    """Return `phase` in float32, wrapped into (-pi, pi].

    Examples
    --------
    >>> import numpy as np
    >>> wrap(np.array([0., 4., -7.])).round(3)
    array([ 0.   , -2.283, -0.717], dtype=float32)
    """
    phase = np.asarray(phase, dtype=np.float32)
    turns = np.rint(phase / _TWO_PI)
    turns *= -_TWO_PI
    turns += phase
    turns[turns <= -_PI] = _PI
    np.minimum(turns, _PI, out=turns)
    return turns


class _Scale(NamedTuple):
    """A way to store phase: values from `low` to `high`, a turn every `period`, zero phase at `zero`."""
    rule: str
    low: float
    high: float
    period: float
    zero: float = 0.


def _levels(bits):
    n = 2 ** bits
    return (_Scale(f'{n} levels from 0', 0, n - 1, n, n / 2),
            _Scale(f'{n} levels around 0', -n / 2, n / 2 - 1, n))


_RADIANS = (_Scale('radians', -np.pi, np.pi, 2 * np.pi), _Scale('radians', 0, 2 * np.pi, 2 * np.pi))
_MILLIRADIANS = _Scale('milliradians', -1000 * np.pi, 1000 * np.pi, 2000 * np.pi)
_VENDORS = {'siemens': (_levels(12)[0], _levels(13)[1]), 'ge': (_MILLIRADIANS,), 'philips': _RADIANS}
_KNOWN = sorted([*_RADIANS, _MILLIRADIANS, *(scale for bits in range(8, 17) for scale in _levels(bits))],
                key=lambda scale: scale.period)


def phase_to_radians(phase, units=None, manufacturer=None, extremes=None):
    """Convert stored phase to radians.

    The first of these rules that applies decides:

    1. `units` is 'rad', and the values can be radians.
    2. The values fill, within 1 % at both ends, a range in use: -pi..pi or 0..2 pi, milliradians, or 2^8..2^16 levels
       from 0 or around 0 (Siemens: 0..4095, or -4096..4094 with the slope of 2 that its DICOM files state).
    3. The values lie in the vendor's range and cover a quarter of it at least: a crop or a masked volume.
    4. Whole numbers that cover half of the smallest range in use which holds them, or fractions that cover half of
       the radians: that range, with a warning.
    5. The lowest value becomes -pi and the highest pi, with a warning.

    Parameters
    ----------
    phase : ndarray, shape (nx, ny, nz) or (nx, ny, nz, ne)
        Values after the slope and intercept of the file.
    units : {'rad', 'arbitrary'}, optional
        ``Units`` of the BIDS sidecar.
    manufacturer : str, optional
        ``Manufacturer`` of the BIDS sidecar; 'Siemens', 'GE' and 'Philips' are known.
    extremes : tuple of float, optional
        Lowest and highest value of all volumes that share one scale, if `phase` is but one of them.

    Returns
    -------
    phase : ndarray, float32
        rad, in (-pi, pi].
    rule : str
        What the values were taken for.
    warning : str or None
        What a person should check.

    Raises
    ------
    ValueError
        If `phase` is empty, constant or not finite, or if `units` is none of the above.

    Examples
    --------
    >>> import numpy as np
    >>> radians, rule, warning = phase_to_radians(np.arange(0, 4096, dtype=np.float32).reshape(16, 16, 16))
    >>> round(float(radians.min()), 2), round(float(radians.max()), 2), rule, warning
    (-3.14, 3.14, '4096 levels from 0', None)
    """
    if units not in (None, 'rad', 'arbitrary'):
        raise ValueError(f"units is {units!r}, must be 'rad' or 'arbitrary'")
    phase = np.asarray(phase, dtype=np.float32)
    if phase.size == 0:
        raise ValueError(f'phase is empty: its shape is {phase.shape}')
    low, high = (float(phase.min()), float(phase.max())) if extremes is None else map(float, extremes)
    if not np.isfinite(high - low):
        raise ValueError('phase holds values that are not finite; repair them first (repair_nonfinite)')
    if low == high:
        raise ValueError(f'phase is {low:g} everywhere, must vary')
    whole = max(abs(low), abs(high)) > 4 and bool(np.all(phase == np.rint(phase)))
    warning = None
    if units == 'rad':
        if not whole and max(abs(low), abs(high)) < 100:
            return wrap(phase), 'radians', None
        warning = f"Units is 'rad' but the values, {low:g} to {high:g}, are no radians"
    scale, doubt = _find_scale(low, high, whole, manufacturer)
    radians = phase * np.float32(2 * np.pi / scale.period)
    radians -= np.float32(2 * np.pi * scale.zero / scale.period)
    return wrap(radians), scale.rule, '; '.join(filter(None, (warning, doubt))) or None


def _find_scale(low, high, whole, manufacturer):
    def covers(scale, share):
        # Rounding to whole milliradians, and to float32, may leave the range by a hair.
        slack = 2e-4 * scale.period
        inside = scale.low - slack <= low and high <= scale.high + slack
        return inside and high - low >= share * scale.period

    for scale in _KNOWN:
        if max(abs(low - scale.low), abs(high - scale.high)) <= 0.01 * scale.period and covers(scale, 0.98):
            return scale, None
    for scale in _VENDORS.get(_vendor(manufacturer), ()):
        if covers(scale, 0.25):
            return scale, None
    for scale in _KNOWN if whole else _RADIANS:
        if covers(scale, 0.5):
            return scale, f'phase from {low:g} to {high:g} was taken for {scale.rule}: check its scale'
    minmax = _Scale('min/max', low, high, high - low, (low + high) / 2)
    return minmax, (f'phase from {low:g} to {high:g} is in no known unit; its extremes were taken for -pi and pi, '
                    'which is wrong if the volume is cropped or masked')


def _vendor(manufacturer):
    words = (manufacturer or '').lower().split()
    return words[0] if words else ''


def repair_nonfinite(volume):
    """Replace NaN and infinity by zero.

    Returns
    -------
    volume : ndarray, float32
        The input itself if it is float32 and nothing was to repair.
    count : int
        How many values were replaced.
    """
    volume = np.asarray(volume, dtype=np.float32)
    broken = ~np.isfinite(volume)
    count = int(np.count_nonzero(broken))
    return (np.where(broken, np.float32(0), volume), count) if count else (volume, 0)


def has_alternating_slices(phase, magnitude=None):
    """Tell whether every other slice along the third axis is shifted by pi, as GE scanners store 3D scans.

    Tissue keeps its phase from voxel to voxel along every axis. With the shift it turns by half a turn from slice to
    slice, so that the weighted mean of ``exp(i step)`` along the third axis is negative, by at least half of what it
    is in the plane. Noise makes both small, and no verdict.

    Parameters
    ----------
    phase : ndarray, shape (nx, ny, nz) or (nx, ny, nz, ne)
        rad. Of several echoes the first decides: its field gradients turn the phase least.
    magnitude : ndarray, same shape, optional
        Weighs each step by both of its ends.

    Returns
    -------
    bool
    """
    phase = phase[..., 0] if phase.ndim == 4 else phase
    if magnitude is None:
        signal = np.exp(1j * phase).astype(np.complex64)
    else:
        magnitude = magnitude[..., 0] if magnitude.ndim == 4 else magnitude
        signal = (magnitude * np.exp(1j * phase)).astype(np.complex64)
    x, y, z = (_mean_step(signal, axis) for axis in range(3))
    in_plane = min(abs(x), abs(y))
    return bool(in_plane > 0.05 and z.real < -0.5 * in_plane and abs(z.imag) < -z.real)


def _mean_step(signal, axis):
    signal = np.moveaxis(signal, axis, 0)
    steps = signal[1:] * signal[:-1].conj()
    total = np.abs(steps).sum(dtype=np.float64)
    return steps.sum(dtype=np.complex128) / total if total > 0 else 0j


def undo_alternating_slices(phase):
    """Return `phase` (rad, 3D or 4D with the echo last), wrapped, with pi added to every other slice."""
    phase = np.array(phase, dtype=np.float32)
    phase[:, :, 1::2] += _PI
    return wrap(phase)


def complex_to_polar(real, imaginary):
    """Return magnitude and phase (rad, in (-pi, pi]) of the real and imaginary part, in float32.

    Raises
    ------
    ValueError
        If both differ in shape.
    """
    real, imaginary = (np.asarray(part, dtype=np.float32) for part in (real, imaginary))
    if real.shape != imaginary.shape:
        raise ValueError(f'real has the shape {real.shape}, must be that of imaginary, {imaginary.shape}')
    return np.hypot(real, imaginary), wrap(np.arctan2(imaginary, real))
