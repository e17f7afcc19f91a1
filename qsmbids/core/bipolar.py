"""Bipolar readouts: every other echo is read the other way round, and its phase is off by the gradients' delays.

References
----------
.. [1] Li J, Chang S, Liu T, et al. Phase-corrected bipolar gradients in multi-echo gradient-echo sequences for
   quantitative susceptibility mapping. MAGMA 2015;28:347-355.
"""

from dataclasses import dataclass, replace

import numpy as np

from qsmbids.core.grid import bounding_box
from qsmbids.core.methods import BIPOLAR
from qsmbids.core.phase import wrap
from qsmbids.core.unwrap import check_echoes

LEAST = 0.03        # rad; RMS of a phase that is worth taking out.
COHERENT = 0.5      # share of the signal that must agree on one plane.
ENOUGH = 200_000    # voxels from which on every other along each axis will do.
EVEN = 0.01         # how far, in echo spacings, the middle one of three echoes may lie from the middle.


@dataclass(frozen=True)
class Alternation:
    """A phase that is added to the first echo, taken from the second, and so on.

    Attributes
    ----------
    constant : float
        rad, in the middle of the volume.
    slope : tuple of float
        rad per voxel along each axis.
    rms : float
        rad, over the mask.
    """

    constant: float
    slope: tuple
    rms: float

    @property
    def note(self):
        """What was found, in words."""
        return (f'bipolar readout: a phase of {self.rms:.2f} rad RMS that alternates between the echoes was taken out, '
                'with a slope of ' + ', '.join(f'{1e3 * rate:.1f}' for rate in self.slope) + ' mrad per voxel')

    def phase(self, shape):
        """Return the phase in rad, float32, shape (nx, ny, nz)."""
        rates = [rate * along for rate, along in zip(self.slope, _from_middle(shape))]
        return (self.constant + rates[0] + rates[1] + rates[2]).astype(np.float32)


def find_alternation(phase, magnitude, mask, echo_times):
    """Find the phase that alternates between the echoes of a bipolar readout [1]_.

    In ``phase1 - 2 phase2 + phase3`` of three evenly spaced echoes field and offset cancel, and four times the
    alternating phase is left. All such triples together, signs turned, are fitted by a constant and a slope along each
    axis: most of it lies along the readout, some along the slices. The mean step from voxel to voxel gives the slope
    without unwrapping, least squares make it precise.

    The constant is known up to a quarter of a turn: more of it cannot be told from a field of half a turn per echo
    spacing. The smallest one is taken, as scanners tune to the head.

    Parameters
    ----------
    phase : ndarray, shape (nx, ny, nz, ne)
        rad, wrapped or not.
    magnitude : ndarray, same shape, or None
    mask : ndarray of bool, shape (nx, ny, nz)
    echo_times : sequence of float
        s.

    Returns
    -------
    Alternation or None
        None if no three neighbouring echoes are evenly spaced, or their phase follows no plane.

    Raises
    ------
    ValueError
        If the input does not fit.
    """
    echoes = check_echoes(phase, mask, echo_times, magnitude)
    spacing = np.diff(echoes.times)
    first = np.flatnonzero(np.abs(np.diff(spacing)) < 2 * EVEN * spacing[1:]) if echoes.times.size > 2 else ()
    if len(first) == 0:
        return None
    stride = 2 if np.count_nonzero(echoes.mask) > ENOUGH else 1
    box = tuple(slice(part.start, part.stop, stride) for part in bounding_box(echoes.mask))
    phase, magnitude, inside = echoes.phase[box], echoes.magnitude[box], echoes.mask[box]
    signal = np.zeros(inside.shape, np.complex64)
    for echo in first:
        bend = phase[..., echo] - 2 * phase[..., echo + 1] + phase[..., echo + 2]
        turned = np.exp(1j * (-bend if echo % 2 else bend))
        signal += magnitude[..., echo] * magnitude[..., echo + 2] * inside * turned
    constant, *slope = _fit_plane(signal, _middle(echoes.mask.shape, box), stride) / 4
    found = Alternation(float(constant), tuple(map(float, slope)), 0.)
    plane = found.phase(echoes.mask.shape)[box]
    agreement = (signal * np.exp(-4j * plane)).sum(dtype=complex).real / max(np.abs(signal).sum(dtype=float), 1e-30)
    if agreement < COHERENT:
        return None
    return replace(found, rms=float(np.sqrt(np.mean(np.square(plane[inside], dtype=float)))))


def correct_bipolar(phase, magnitude, mask, echo_times, bipolar='auto'):
    """Take the phase that alternates between the echoes out.

    Parameters
    ----------
    phase, magnitude, mask, echo_times
        As for `find_alternation`.
    bipolar : {'auto', 'yes', 'no'}
        Auto corrects what is found and has an RMS of 0.03 rad or more; yes corrects any.

    Returns
    -------
    phase : ndarray, float32, shape (nx, ny, nz, ne)
        rad; wrapped if it was corrected.
    found : Alternation or None
        What was taken out.

    Raises
    ------
    ValueError
        If `bipolar` is unknown, or is 'yes' where nothing can be found.
    """
    if bipolar not in BIPOLAR:
        raise ValueError(f'bipolar is {bipolar!r}, must be one of {", ".join(BIPOLAR)}')
    found = None if bipolar == 'no' else find_alternation(phase, magnitude, mask, echo_times)
    if bipolar == 'yes' and found is None:
        raise ValueError("bipolar is 'yes', but needs three evenly spaced echoes whose phase alternates in one plane")
    if found is None or (bipolar == 'auto' and found.rms < LEAST):
        return np.asarray(phase, dtype=np.float32), None
    sign = np.where(np.arange(np.shape(phase)[3]) % 2, -1, 1).astype(np.float32)
    return wrap(phase - found.phase(np.shape(phase)[:3])[..., None] * sign), found


def _from_middle(shape):
    """Return the three open grids of voxel indices, counted from the middle."""
    return [at - (count - 1) / 2 for at, count in zip(np.ogrid[tuple(slice(count) for count in shape)], shape)]


def _middle(shape, box):
    """Return where the middle of a volume lies, in voxels from the start of a box in it."""
    return [(count - 1) / 2 - part.start for count, part in zip(shape, box)]


def _fit_plane(signal, middle, stride):
    """Return constant (in the middle) and slopes per voxel of the angle of a volume, every `stride`-th voxel of it."""
    plane = np.zeros(4)
    for axis in range(3):
        along = np.moveaxis(signal, axis, 0)
        plane[1 + axis] = np.angle((along[1:] * along[:-1].conj()).sum(dtype=complex)) / stride
    where = np.nonzero(signal)
    terms = np.stack([np.ones(where[0].size), *(stride * at - centre for at, centre in zip(where, middle))])
    values = signal[where].astype(complex)
    plane[0] = np.angle(np.sum(values * np.exp(-1j * (plane @ terms))))
    weight = np.abs(values)
    normal = (terms * weight) @ terms.T + 1e-9 * weight.sum() * np.eye(4)
    for _ in range(3):
        plane += np.linalg.solve(normal, (terms * weight) @ np.angle(values * np.exp(-1j * (plane @ terms))))
    plane[0] = np.angle(np.exp(1j * plane[0]))
    return plane
