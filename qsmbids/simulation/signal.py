"""From a head to the complex images of a multi-echo gradient-echo scan.

The object is sampled on a grid that is finer than the scan's; its field, its echoes and their sum over each voxel are
computed there. Leaving all but the central part of k-space away then brings what it does in a scanner: dephasing
within voxels and Gibbs ringing. Phase grows with positive field: ``phase = offset + 2 pi f TE``.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft

from qsmbids.core.dipole import b0_direction, voxel_size_of
from qsmbids.core.phase import center_frequency, ppm_to_radians
from qsmbids.core.threads import over_slabs
from qsmbids.simulation.artefacts import Bipolar, Motion, alternate, disturb, leave_out
from qsmbids.simulation.coils import combined_sensitivity, from_middle, harmonics, sensitivities
from qsmbids.simulation.field import block_mean, enclosed_field, object_field

SLAB_VOXELS = 1_000_000


@dataclass(frozen=True)
class Sequence:
    """What the scanner is told: grid, echo train, excitation, field strength and noise.

    Attributes
    ----------
    shape : tuple of int
        ``(nx, ny, nz)``.
    affine : ndarray, shape (4, 4)
        Voxel to scanner, mm; B0 points along the scanner's z.
    echo_times : tuple of float
        s.
    repetition_time, flip_angle : float
        s and degrees.
    b0_tesla : float
        Nominal field strength.
    imaging_frequency_mhz : float, optional
        The true centre frequency, where the magnet is not what its name says.
    snr : float, optional
        Mean magnitude of the brain in the first echo over the SD of the noise in the real part. No noise if None.
    supersampling : int
        Fine voxels per voxel along each axis.
    shim_order : int, optional
        Highest order of the shim, 0 to 2. No shim if None.
    coil : bool
        Whether the receive coils, combined, add a phase and a sensitivity of their own.
    channels : int
        How many coils there are to look at one by one (see `Scan.channels`); 0 for their combination alone.
    readout, phase_encoding : {0, 1, 2}
        Axes of the grid: along a line of k-space, and from one to the next in the slower loop.
    bipolar : Bipolar, optional
        Every other echo is read with the opposite gradient.
    motion : Motion, optional
        The object moves during the scan.
    drift_hz : float
        How much the main field rises during the scan.
    partial_fourier : float
        Share of the phase-encoding lines that are taken; the others are filled with zeros.
    """

    shape: tuple
    affine: np.ndarray
    echo_times: tuple
    repetition_time: float = .05
    flip_angle: float = 15.
    b0_tesla: float = 3.
    imaging_frequency_mhz: float | None = None
    snr: float | None = 80.
    supersampling: int = 3
    shim_order: int | None = 2
    coil: bool = True
    channels: int = 0
    readout: int = 0
    phase_encoding: int = 1
    bipolar: Bipolar | None = None
    motion: Motion | None = None
    drift_hz: float = 0.
    partial_fourier: float = 1.

    @property
    def voxel_size(self):
        """mm per voxel along each axis."""
        return voxel_size_of(self.affine)

    @property
    def b0_dir(self):
        """Unit vector of the main field in voxel axes."""
        return b0_direction(self.affine)

    @property
    def center_frequency_hz(self):
        """Of the main field, Hz."""
        return center_frequency(self.b0_tesla, self.imaging_frequency_mhz)


@dataclass(frozen=True)
class Scan:
    """A simulated scan with its ground truth, all on the scan's grid.

    Attributes
    ----------
    sequence : Sequence
    signal : ndarray, complex64, shape (nx, ny, nz, ne)
        Of all coils, combined as their sensitivities ask for.
    field : ndarray, float32, shape (nx, ny, nz)
        The total field after the shim, ppm; mean over each voxel.
    local_field : ndarray, float32, shape (nx, ny, nz)
        The field of the susceptibility inside the brain alone, ppm.
    chi, chi_positive, r2star : ndarray, float32, shape (nx, ny, nz)
        Means over each voxel, ppm and 1/s. `chi_positive` is of the paramagnetic sources alone.
    labels : ndarray, uint8, shape (nx, ny, nz)
        The tissue that fills most of each voxel.
    mask : ndarray, bool, shape (nx, ny, nz)
        Voxels of which more than half is brain.
    channels : ndarray, complex64, shape (nx, ny, nz, ne, nc), optional
        What each coil receives, if `Sequence.channels` asks for it.
    """

    sequence: Sequence
    signal: np.ndarray
    field: np.ndarray
    local_field: np.ndarray
    chi: np.ndarray
    chi_positive: np.ndarray
    r2star: np.ndarray
    labels: np.ndarray
    mask: np.ndarray
    channels: np.ndarray | None = None


def simulate(sample, sequence, seed=0, surround_mm=80.):
    """Scan an object.

    Parameters
    ----------
    sample : callable
        ``sample(shape, affine) -> Head``: the object on any grid, as `digital_head` gives it.
    sequence : Sequence
    seed : int, default 0
        Of coil and noise.
    surround_mm : float, default 80
        How far beyond the field of view the object still makes field; the rest of a body is cut off there.

    Returns
    -------
    Scan

    Raises
    ------
    ValueError
        If `sequence` cannot be: no echo, a negative echo time, a supersampling below 1, fewer than 0 channels, no more
        than half of the lines, or an axis that is none.

    Notes
    -----
    Slabs and transforms use the threads that `qsmbids.core.threads.use_threads` allows; the result is the same for
    any number of them.

    Examples
    --------
    >>> import numpy as np
    >>> from qsmbids.simulation.head import digital_head
    >>> affine = np.diag([8., 8., 8., 1.])
    >>> affine[:3, 3] = -88, -112, -76
    >>> sequence = Sequence((22, 25, 21), affine, (.004, .012), snr=40, supersampling=1)
    >>> scan = simulate(lambda shape, grid: digital_head(shape, grid, seed=5), sequence, seed=1, surround_mm=0)
    >>> scan.signal.shape, scan.signal.dtype, scan.chi.shape
    ((22, 25, 21, 2), dtype('complex64'), (22, 25, 21))
    """
    _check(sequence)
    factor = sequence.supersampling
    fine_affine, fine_shape = fine_grid(sequence)
    head, field = object_field(sample, fine_affine, fine_shape, sequence.b0_dir, surround_mm)
    brain = head.map('brain')
    _shim(field, brain, fine_affine, sequence.shim_order)
    local = enclosed_field(head.chi * brain, np.array(sequence.voxel_size) / factor, sequence.b0_dir)
    signal, channels = acquire(head, field, sequence, seed)

    def mean(of_slab):
        return _by_blocks(lambda slab: block_mean(of_slab(slab), factor), fine_shape, factor)

    return Scan(sequence, signal, mean(lambda slab: field[slab]), mean(lambda slab: local[slab]),
                mean(lambda slab: head.chi[slab]), mean(lambda slab: head[slab].chi_positive()),
                mean(lambda slab: head[slab].map('r2star')),
                _by_blocks(lambda slab: _majority(head.labels[slab], factor), fine_shape, factor, np.uint8),
                _brain_mask(head, factor), channels)


def _check(sequence):
    for name, wrong, must in (
            ('supersampling', sequence.supersampling < 1, 'at least 1'),
            ('echo_times', not sequence.echo_times or min(sequence.echo_times) < 0, 'one or more times >= 0 s'),
            ('channels', sequence.channels < 0, 'at least 0'),
            ('readout', sequence.readout not in (0, 1, 2), 'an axis: 0, 1 or 2'),
            ('phase_encoding', sequence.phase_encoding not in {0, 1, 2} - {sequence.readout},
             'an axis beside the readout: 0, 1 or 2'),
            ('partial_fourier', not .5 < sequence.partial_fourier <= 1, 'above 0.5 and at most 1')):
        if wrong:
            raise ValueError(f'sequence.{name} is {getattr(sequence, name)}, must be {must}')


def rotation(axis, degrees):
    """Return the matrix that turns about an axis, shape (3, 3)."""
    angle = np.deg2rad(degrees)
    x, y, z = np.asarray(axis, float) / np.sqrt(np.sum(np.square(axis)))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    # Rounded, so that header fields do not depend on the processor.
    return np.round(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross, 12)


def centred_affine(axes, voxel_size, shape, middle):
    """Return the affine of a grid with given unit axes (columns) whose middle lies at a position in mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(axes) * voxel_size
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def fine_grid(sequence):
    """Return the affine and the shape (ndarray) of the grid that splits each voxel of a sequence into equal parts."""
    factor = sequence.supersampling
    affine = np.array(sequence.affine, float)
    affine[:3, 3] += affine[:3, :3] @ np.full(3, (1 / factor - 1) / 2)
    affine[:3, :3] /= factor
    return affine, np.array(sequence.shape) * factor


def acquire(head, field, sequence, seed=0):
    """Return the complex echoes of an object whose field is known.

    Parameters
    ----------
    head : Head
        On the fine grid of the sequence (see `fine_grid`).
    field : ndarray, float32, same shape
        ppm.
    sequence : Sequence
    seed : int, default 0
        Of coil and noise.

    Returns
    -------
    signal : ndarray, complex64, shape (nx, ny, nz, ne)
        Computed in double precision, so that images stored as integers are the same on every processor.
    channels : ndarray, complex64, shape (nx, ny, nz, ne, nc), or None
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    coil = combined_sensitivity(sequence.shape, sequence.affine, rng) if sequence.coil else None
    signal = _echoes(head, field, sequence)
    if sequence.motion or sequence.drift_hz:
        disturb(signal, sequence.echo_times, sequence.voxel_size, sequence.phase_encoding, motion=sequence.motion,
                drift_hz=sequence.drift_hz, rng=rng)
    if coil is not None:
        signal *= coil[..., None]
    if sequence.bipolar:
        alternate(signal, sequence.bipolar, sequence.readout)
    sd = 0.
    if sequence.snr is not None:
        brain = _brain_mask(head, sequence.supersampling)
        sd = np.abs(signal[brain, 0]).mean() / sequence.snr
    if sequence.channels:
        return _receive(signal, sequence, sd, rng)
    _add_noise(signal, sd, rng)
    if sequence.partial_fourier < 1:
        leave_out(signal, sequence.partial_fourier, sequence.phase_encoding)
    return signal.astype(np.complex64), None


def _echoes(head, field, sequence):
    """Return what the object alone sends, complex128, on the grid of the scan."""
    shape, times = tuple(sequence.shape), sequence.echo_times
    lines = np.empty((field.shape[0], *shape[1:], len(times)), np.complex128)

    def fill(slab):
        for echo, signal in enumerate(_evolution(head[slab], field[slab], sequence)):
            for axis in (2, 1):
                signal = _low_pass(signal, axis, shape[axis])
            lines[slab, ..., echo] = signal

    over_slabs(fill, field.shape[0], max(1, SLAB_VOXELS // (field.shape[1] * field.shape[2])))
    return _low_pass(lines, 0, shape[0])


def _evolution(head, field, sequence):
    """Yield the transverse magnetisation at each echo time, from the spoiled steady state on."""
    water = head.map('m0')
    seen = np.flatnonzero(water)  # nothing else sends
    recovery = np.exp(-sequence.repetition_time / head.map('t1').ravel()[seen].astype(float))
    angle = np.deg2rad(sequence.flip_angle)
    now = (water.ravel()[seen] * np.sin(angle) * (1 - recovery) / (1 - np.cos(angle) * recovery)).astype(complex)
    rate = np.empty(seen.size, complex)
    rate.real = -head.map('r2star').ravel()[seen]
    rate.imag = ppm_to_radians(field.ravel()[seen].astype(float), 1., sequence.center_frequency_hz)
    before, step, growth = 0., None, None
    for time in sequence.echo_times:
        # Echoes at equal distances, to rounding, grow alike.
        if step is None or abs(time - before - step) > 1e-12:
            step = time - before
            growth = np.exp(rate * step)
        now *= growth
        before = time
        signal = np.zeros(field.size, complex)
        signal[seen] = now
        yield signal.reshape(field.shape)


def _receive(signal, sequence, sd, rng):
    """Return the signal combined of noisy coils, and that of every coil."""
    received = np.empty((*signal.shape, sequence.channels), np.complex64)
    combined = np.zeros(signal.shape, np.complex64)
    array = sensitivities(sequence.channels, sequence.shape, sequence.affine, rng.spawn(1)[0])  # with any noise
    for number, sensitivity in enumerate(array):
        channel = signal * sensitivity[..., None]
        _add_noise(channel, sd, rng)
        if sequence.partial_fourier < 1:
            leave_out(channel, sequence.partial_fourier, sequence.phase_encoding)
        received[..., number] = channel
        combined += received[..., number] * sensitivity.conj()[..., None]
    return combined, received


def _add_noise(signal, sd, rng):
    """Add white noise of an SD to the real and the imaginary part, in place."""
    if sd:
        for echo in range(signal.shape[3]):
            signal[..., echo].real += sd * rng.standard_normal(signal.shape[:3])
            signal[..., echo].imag += sd * rng.standard_normal(signal.shape[:3])


def _low_pass(signal, axis, size):
    """Keep the `size` lowest frequencies along an axis: the signal of coarse voxels that the fine ones fill."""
    fine = signal.shape[axis]
    index = np.rint(scipy.fft.fftfreq(size, 1 / size)).astype(int)
    kept = np.take(scipy.fft.fft(signal, axis=axis), index, axis=axis)
    # Coarse voxel j has its centre at the fine position j factor + (factor - 1) / 2.
    to_centre = np.exp(2j * np.pi * index * (fine / size - 1) / 2 / fine) * (size / fine)
    kept *= to_centre.reshape([-1 if i == axis else 1 for i in range(signal.ndim)])
    return scipy.fft.ifft(kept, axis=axis)


def _shim(field, brain, affine, order):
    """Take the best fitting low-order field in the brain out of a field, in place."""
    if order is None:
        return
    index = np.flatnonzero(brain)[::7]
    terms = harmonics(from_middle(np.unravel_index(index, field.shape), field.shape, affine), order)
    # einsum, not BLAS: one order of summation on every machine.
    weights = np.linalg.solve(np.einsum('in,jn->ij', terms, terms), np.einsum('in,n->i', terms, field.flat[index]))

    def subtract(slab):
        grid = np.ogrid[slab, :field.shape[1], :field.shape[2]]
        plane = harmonics(from_middle(grid, field.shape, affine), order)
        field[slab] -= np.einsum('i,i...->...', weights, plane).astype(np.float32)

    over_slabs(subtract, field.shape[0], 1)


def _by_blocks(reduce, shape, factor, dtype=np.float32):
    """Return what `reduce` makes of blocks of fine voxels; it gets slabs of them, as slices of the first axis."""
    result = np.empty([n // factor for n in shape], dtype)

    def fill(slab):
        result[slab] = reduce(slice(slab.start * factor, slab.stop * factor))

    over_slabs(fill, len(result), max(1, SLAB_VOXELS // (factor * shape[1] * shape[2])))
    return result


def _brain_mask(head, factor):
    return _by_blocks(lambda slab: block_mean(head[slab].map('brain'), factor) > .5, head.labels.shape, factor, bool)


def _majority(labels, factor):
    """Return the label that fills most of each block of voxels; the lowest of several."""
    most = np.zeros([n // factor for n in labels.shape], np.uint16)
    winner = np.zeros(most.shape, np.uint8)
    for label in np.unique(labels):
        count = np.zeros(most.shape, np.uint16)
        for offset in np.ndindex(factor, factor, factor):
            count += labels[tuple(slice(start, None, factor) for start in offset)] == label
        winner[count > most] = label
        np.maximum(most, count, out=most)
    return winner
