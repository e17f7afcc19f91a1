"""What goes wrong while k-space is read: bipolar gradients, motion, drift of the field, lines left out.

All of it acts on the complex images of the whole k-space. Lines along the phase-encoding axis are taken in order, from
the most negative to the most positive frequency; the middle one is where and how the object really is.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.ndimage import affine_transform, spline_filter
from scipy.spatial.transform import Rotation

from qsmbids.core.threads import over_slabs


@dataclass(frozen=True)
class Bipolar:
    """What the even echoes differ by if they are read with the opposite gradient.

    A delay of the gradients shifts an echo in k-space, the other way where the polarity is the other: a phase that is
    linear along the readout. Eddy currents add a constant, and what is off resonance is shifted the other way.

    Attributes
    ----------
    slope : float, default 2
        rad across the field of view.
    constant : float, default 0.3
        rad.
    shift : float, default 0
        Voxels along the readout.
    """

    slope: float = 2.
    constant: float = .3
    shift: float = 0.


@dataclass(frozen=True)
class Motion:
    """Rigid steps between runs of phase-encoding lines.

    Attributes
    ----------
    steps : int, default 4
        How often the object moves, at random lines.
    shift : float, default 2
        SD of the displacement along each axis, mm.
    turn : float, default 1
        SD of the turn about each axis through the middle of the field of view, degrees.
    """

    steps: int = 4
    shift: float = 2.
    turn: float = 1.


def alternate(signal, bipolar, axis):
    """Read the even echoes (the second, the fourth, ...) with the opposite gradient, in place.

    Parameters
    ----------
    signal : ndarray, complex, shape (nx, ny, nz, ne)
    bipolar : Bipolar
    axis : {0, 1, 2}
        Of the readout.
    """
    size = signal.shape[axis]
    along = _along(axis, (np.arange(size) - (size - 1) / 2) / size)
    phase = np.exp(1j * (bipolar.constant + bipolar.slope * along))
    ramp = np.exp(-2j * np.pi * bipolar.shift * _along(axis, scipy.fft.fftfreq(size)))
    for echo in range(1, signal.shape[3], 2):
        if bipolar.shift:
            signal[..., echo] = scipy.fft.ifft(scipy.fft.fft(signal[..., echo], axis=axis) * ramp, axis=axis)
        signal[..., echo] *= phase


def disturb(signal, echo_times, voxel_size, axis, *, motion=None, drift_hz=0., rng=None):
    """Let the object move and the main field drift while the lines of k-space are taken, in place.

    Parameters
    ----------
    signal : ndarray, complex, shape (nx, ny, nz, ne)
    echo_times : sequence of float
        s.
    voxel_size : sequence of float
        mm.
    axis : {0, 1, 2}
        Of the phase encoding whose lines take longest.
    motion : Motion, optional
    drift_hz : float, default 0
        How much the main field rises from the first line to the last.
    rng : Generator
        For `motion`.

    Notes
    -----
    The images are moved as they are: that a turned head makes another field, and lies elsewhere in the coils, is left
    out. Positions between voxels are cubic splines of the complex signal.
    """
    size, voxel_size = signal.shape[axis], np.asarray(voxel_size, float)
    time = scipy.fft.fftfreq(size)  # of a line, in units of the scan, from the middle
    runs = _runs(motion, time, rng) if motion else []

    def read(echoes):
        for echo in range(echoes.start, echoes.stop):
            lines = scipy.fft.fft(signal[..., echo], axis=axis)
            for chosen, moved in _moved(signal[..., echo], voxel_size, runs):
                index = tuple(chosen if i == axis else slice(None) for i in range(3))
                lines[index] = scipy.fft.fft(moved, axis=axis)[index]
            lines *= np.exp(2j * np.pi * drift_hz * echo_times[echo] * _along(axis, time))
            signal[..., echo] = scipy.fft.ifft(lines, axis=axis)

    over_slabs(read, signal.shape[3], 1)


def leave_out(signal, fraction, axis):
    """Fill the lines with zeros that a partial Fourier scan leaves out at the start, in place.

    Parameters
    ----------
    signal : ndarray, complex, shape (nx, ny, nz, ...)
    fraction : float
        Share of the lines that are taken.
    axis : {0, 1, 2}
        Of the phase encoding.
    """
    size = signal.shape[axis]
    missing = np.argsort(scipy.fft.fftfreq(size))[:size - int(np.ceil(fraction * size))]
    for last in np.ndindex(signal.shape[3:]):
        lines = scipy.fft.fft(signal[(..., *last)], axis=axis)
        lines[tuple(missing if i == axis else slice(None) for i in range(3))] = 0
        signal[(..., *last)] = scipy.fft.ifft(lines, axis=axis)


def _runs(motion, time, rng):
    """Return lines and position (rotation, and shift in mm) of each run but that of the middle line."""
    cuts = np.sort(rng.uniform(-.5, .5, motion.steps))
    run_of_line = np.searchsorted(cuts, time)
    runs = []
    for run in range(motion.steps + 1):
        turn = Rotation.from_rotvec(motion.turn * rng.standard_normal(3), degrees=True).as_matrix()
        shift = motion.shift * rng.standard_normal(3)
        chosen = np.flatnonzero(run_of_line == run)
        if chosen.size and run != run_of_line[0]:
            runs.append((chosen, turn, shift))
    return runs


def _moved(volume, voxel_size, runs):
    """Yield the lines of each run and the volume as it lies then."""
    if not runs:
        return
    middle = (np.array(volume.shape) - 1) / 2
    weights = spline_filter(volume, 3, complex)
    for chosen, turn, shift in runs:
        matrix = turn * voxel_size / np.reshape(voxel_size, (3, 1))
        offset = middle + shift / voxel_size - matrix @ middle
        yield chosen, affine_transform(weights, matrix, offset, order=3, prefilter=False)


def _along(axis, line):
    return line.reshape([-1 if i == axis else 1 for i in range(3)])
