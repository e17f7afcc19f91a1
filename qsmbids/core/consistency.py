"""Whether a susceptibility map makes the field that it was computed from: the dipole kernel, measured backwards.

In k-space the field over the map is the dipole kernel, whatever method made the map. Averaged over all frequencies at
one angle to B0 it is a curve that shows what is wrong: a map that is too weak stretches it, noise flattens it, a wrong
direction of B0 smears it. A map that was inverted with a wrong direction agrees with that direction by construction,
though: on the field of the 2016 challenge and 20 degrees off, the axis that fits a map best turned by 1 to 6 degrees
only, and by less where the fit saw nothing but the cone of that direction (Tikhonov, thresholded division, TV).

The field alone tells the direction as well: its spectrum is dark on the cone where the kernel is zero. That needs no
map, and so nothing that was made with the direction in question.
"""

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numba import njit, prange
from scipy.optimize import minimize

from qsmbids.core.checks import check_mask, check_volume, check_voxel_size
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import frequencies, irfftn, rfftn
from qsmbids.core.grid import bounding_box, embed, embed_mask, padded_size

ANGLES = 20
"""Bins of equal width in the cosine of the angle to B0."""
CELLS = 48
"""Cells along each side of a slice through k-space."""
LEAST_CONTRAST = 0.1
"""Below this contrast a field does not tell the direction of B0."""
# Cycles/mm. Below, the mask's own spectrum blurs all others; above, in vivo, there is mostly noise.
_LOWEST, _HIGHEST = 0.02, 0.4
_SHELLS = 24
# Cycles/mm to either side of a slice.
_HALF_SLAB = 0.02
# SD of D^2 over all directions.
_SPREAD = np.sqrt(16 / 945 - 16 / 2025)
_MONOMIALS = np.array([(i, j, 4 - i - j) for i in range(5) for j in range(5 - i)])


@dataclass(frozen=True)
class FieldAxis:
    """Where B0 points, as the field alone tells.

    Attributes
    ----------
    direction : tuple of float
        Unit vector in voxel axes; its sign means nothing.
    contrast : float
        Correlation of the logarithm of the field's power with ``D^2``, 0 to 1; below `LEAST_CONTRAST` the direction
        is not known.
    """

    direction: tuple
    contrast: float


@dataclass(frozen=True)
class BackwardKernel:
    """How field and map are related in k-space, and what follows from it; nan where there is nothing to tell it from.

    Attributes
    ----------
    angle : ndarray, shape (ANGLES,)
        Degrees between k and B0, middle of each bin.
    measured, theory : ndarray, shape (ANGLES,)
        Field over map, averaged, as measured and as it would be for the map's own field; both see the mask alike.
    rms_difference : float
        Of `measured` from `theory`, each bin by the map's power in it.
    gain, offset : float
        ``measured = offset + gain * theory`` at best: by how much the map is too weak, 1 if it is not.
    coherence : float
        How much of the field goes with the map, 0 to 1.
    axis : tuple of float
        B0 as field and map together tell, unit vector in voxel axes; its sign means nothing.
    axis_angle : float
        Degrees between `axis` and the given direction.
    field_nrmse : float
        Error of the map's field relative to the measured one, both without their means.
    slices : ndarray, shape (3, CELLS, CELLS)
        A slice through k-space, B0 upwards: field over map as measured, the same for the map's own field, and the
        logarithm (base 10) of the field's power relative to the other frequencies of the same magnitude.
    reach : float
        Cycles/mm from the middle of a slice to its edge.
    """

    angle: np.ndarray
    measured: np.ndarray
    theory: np.ndarray
    rms_difference: float
    gain: float
    offset: float
    coherence: float
    axis: tuple
    axis_angle: float
    field_nrmse: float
    slices: np.ndarray
    reach: float


class Flag(NamedTuple):
    """What is wrong with a map: `severity` is 'warn' or 'fail', `reason` a sentence."""

    severity: str
    reason: str


def field_axis(field, mask, voxel_size):
    """Find the direction of B0 in a local field.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
        Local field in any unit. Values outside the mask are not used.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the field is known.
    voxel_size : sequence of float
        mm.

    Returns
    -------
    FieldAxis

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, or the field is not finite inside the mask.

    Notes
    -----
    The direction is the b for which ``D^2`` correlates best with the logarithm of the field's power, relative to its
    mean in shells of equal \\|k\\|: the logarithm, so that the dark cone counts and not the few brightest frequencies.
    ``D^2`` is of fourth order in the direction of k, so that 15 moments of the power hold all that is needed. The
    anatomy's own spectrum turns the result by up to 4 degrees in simulated heads and in fields of measured maps, of
    tilts from 0 to 40 degrees and voxels from 1 to 3 mm; in the field of the 2016 challenge by 1 degree.
    One Fourier transform; 3 volumes.
    """
    mask, voxel_size = check_mask(mask), check_voxel_size(voxel_size)
    field = check_volume('field', field, mask)
    spectrum = rfftn(_centred(field, mask), _size(mask))
    lines = [line.ravel() for line in frequencies(_size(mask), voxel_size)]
    # Beyond, shells are no longer whole.
    highest = min(_HIGHEST, *(0.5 / step for step in voxel_size))
    # Not zero, so that it has a logarithm.
    least = 1e-12 * max(float(np.square(np.abs(spectrum)).max()), 1e-30)
    sums = _sum_moments(spectrum, *lines, _MONOMIALS, highest, least, _size(mask)[2]).sum(axis=0)
    count, total, square = sums[:, :3].T
    mean = total / np.maximum(count, 1)
    moments = (sums[:, 18:] - mean[:, None] * sums[:, 3:18]).sum(axis=0)
    spread = np.sqrt(max(np.sum(square - mean * total), 0) / max(count.sum(), 1))
    best, power = _best_direction(moments)
    norm = spread * _SPREAD * count.sum()
    return FieldAxis(tuple(best.tolist()), float(power / norm) if norm > 0 else 0.)


def backward_kernel(field, chi, mask, voxel_size, *, b0_dir=(0., 0., 1.), toward=None):
    """Measure the dipole kernel that relates a field to a map.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
        Local field in ppm. Values outside the mask are not used, nor is the mean.
    chi : ndarray, shape (nx, ny, nz)
        Susceptibility in ppm. Values outside the mask are not used, nor is the mean: whatever it refers to.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where both are known.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float, default (0, 0, 1)
        Unit vector of the main field in voxel axes.
    toward : sequence of float, optional
        A direction, such as that of `field_axis`, in whose plane with `b0_dir` the slices lie. By default the voxel
        axis that is farthest from B0. It lies in the right half of the slices.

    Returns
    -------
    BackwardKernel

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, or field or map are not finite inside the mask.

    Notes
    -----
    With X, Y and Z the spectra of the map, of the field and of the map's field, each inside the mask, ``measured`` is
    ``sum Re(Y X*) / sum |X|^2`` over a bin and ``theory`` the same with Z. The coherence is ``|sum Re(Y X*)|`` over the
    root of ``sum |X|^2 sum |Y|^2``, numerator and denominator summed over the bins. The axis is the eigenvector of the
    smallest eigenvalue of the Q for which ``k.Q k / |k|^2`` fits Y / X best, weighted by ``|X|^2``.
    Two pairs of Fourier transforms; 8 volumes.

    Examples
    --------
    >>> import numpy as np
    >>> from qsmbids.core.dipole import forward_field
    >>> chi = np.zeros((32, 32, 32), np.float32)
    >>> chi[12:20, 12:20, 12:20] = .1
    >>> mask = np.ones(chi.shape, bool)
    >>> field = forward_field(chi, (1, 1, 1))
    >>> for factor in (1, .5):
    ...     kernel = backward_kernel(field, factor * chi, mask, (1, 1, 1))
    ...     print(round(kernel.gain, 2), [flag.severity for flag in consistency_flags(kernel)])
    0.99 []
    1.98 ['fail']
    """
    mask, voxel_size = check_mask(mask), check_voxel_size(voxel_size)
    field, chi = check_volume('field', field, mask), check_volume('chi', chi, mask)
    size = _size(mask)
    kernel = dipole_kernel(size, voxel_size, b0_dir)
    b = np.asarray(b0_dir, float) / np.linalg.norm(b0_dir)
    measured = _centred(field, mask)
    map_spectrum, field_spectrum = rfftn(_centred(chi, mask), size), rfftn(measured, size)
    kernel = map_spectrum * kernel
    inside = embed_mask(mask, bounding_box(mask), size)
    made = irfftn(kernel, size)
    made = np.where(inside, made - made[inside].mean(), np.float32(0))
    nrmse = _ratio(np.linalg.norm(measured - made), np.linalg.norm(measured))
    del measured, kernel
    spectra = map_spectrum, field_spectrum, rfftn(made, size)
    lines = [line.ravel() for line in frequencies(size, voxel_size)]
    bins, normal, right = (part.sum(axis=0) for part in _sum_bins(*spectra, *lines, b, size[2]))
    reach = min(_HIGHEST, max(0.5 / step for step in voxel_size))
    slices = _average_slices(_sum_slices(*spectra, *lines, *_plane(b, toward), reach, size[2]))
    axis = _fitted_axis(normal, right)
    return BackwardKernel(
        **_curve(*bins.T), axis=axis, axis_angle=angle_between(axis, b), field_nrmse=nrmse, slices=slices, reach=reach)


def angle_between(first, second):
    """Return the angle between two axes, whatever their signs: 0 to 90 degrees, nan if one of them is not known."""
    first, second = (np.asarray(axis, float) for axis in (first, second))
    cosine = abs(first @ second) / (np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.degrees(np.arccos(min(cosine, 1.)))) if np.isfinite(cosine) else float('nan')


def consistency_flags(kernel):
    """Say what is wrong with a map.

    Parameters
    ----------
    kernel : BackwardKernel

    Returns
    -------
    list of Flag
        'warn' for a gain more than 0.25 from 1, a coherence below 0.6 or an axis more than 8 degrees from B0; 'fail'
        for a gain more than 0.5 from 1 or a coherence below 0.3. What is not known raises no flag.
    """
    flags, gain = [], kernel.gain
    if abs(gain - 1) > 0.25:
        what = 'the map has the opposite sign of its field' if gain < 0 else (
            f'the field is {gain:.2f} times what the map makes: the map is '
            + ('too weak, as from too much regularisation' if gain > 1 else 'too strong, as from amplified errors'))
        flags.append(Flag('fail' if abs(gain - 1) > 0.5 else 'warn', what))
    if kernel.coherence < 0.6:
        flags.append(Flag('fail' if kernel.coherence < 0.3 else 'warn',
                          f'only {kernel.coherence:.0%} of the field goes with the map: noise, background that was '
                          'left, or a wrong direction of B0'))
    if kernel.axis_angle > 8:
        flags.append(Flag('warn', f'field and map agree best for a B0 that is {kernel.axis_angle:.0f} degrees from '
                                  'that of the header'))
    return flags


def field_flags(axis, b0_dir):
    """Say whether a field contradicts the direction of B0: a list of `Flag`, with one from 8 degrees on.

    Parameters
    ----------
    axis : FieldAxis
        As from `field_axis`.
    b0_dir : sequence of float
        As the header says, in voxel axes.
    """
    angle = angle_between(axis.direction, b0_dir)
    if axis.contrast < LEAST_CONTRAST or not angle > 8:
        return []
    return [Flag('warn', f'the spectrum of the local field points to a B0 that is {angle:.0f} degrees from that of the '
                         'header')]


def _size(mask):
    return padded_size(mask[bounding_box(mask)].shape)


def _centred(volume, mask):
    """Return the volume inside the mask, less its mean there, on the padded grid."""
    return embed(volume - volume[mask].mean(), mask, bounding_box(mask), _size(mask))


def _ratio(part, whole):
    return float(part / whole) if whole > 0 else float('nan')


def _divide(part, whole):
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _curve(power, cross, theory, field_power):
    """Return what the sums over the bins tell, by the names of `BackwardKernel`."""
    measured, expected = _divide(cross, power), _divide(theory, power)
    found = {'angle': np.degrees(np.arccos((np.arange(ANGLES) + 0.5) / ANGLES)), 'measured': measured,
             'theory': expected, 'coherence': _ratio(np.abs(cross).sum(), np.sqrt(power * field_power).sum())}
    known = (power > 0) & (field_power > 0)
    weight, y, x = power[known], measured[known], expected[known]
    if not known.any():
        return found | dict.fromkeys(('rms_difference', 'gain', 'offset'), float('nan'))
    weight = weight / weight.sum()
    gain = _ratio(weight @ ((x - weight @ x) * y), weight @ (x - weight @ x) ** 2)
    return found | {'rms_difference': float(np.sqrt(weight @ (y - x) ** 2)), 'gain': gain,
                    'offset': float(weight @ y - gain * (weight @ x))}


def _fitted_axis(normal, right):
    """Return the axis of the quadratic form of least squares; nan if it is not determined."""
    if not right.any() or np.linalg.cond(normal) > 1e12:
        return (float('nan'),) * 3
    xx, yy, zz, xy, xz, yz = np.linalg.solve(normal, right)
    _, vectors = np.linalg.eigh(((xx, xy, xz), (xy, yy, yz), (xz, yz, zz)))
    return tuple(vectors[:, 0].tolist())


def _best_direction(moments):
    """Return the b whose ``D^2`` has the largest product with the power of these moments, and that product."""
    tensor = np.empty((3,) * 4)
    for index in product(range(3), repeat=4):
        powers = [index.count(axis) for axis in range(3)]
        tensor[index] = moments[np.flatnonzero((_MONOMIALS == powers).all(axis=1))[0]]

    def explained(b):
        b = b / np.linalg.norm(b, axis=-1, keepdims=True)
        kernel = np.eye(3) / 3 - b[..., :, None] * b[..., None, :]
        return np.einsum('...ij,ijkl,...kl', kernel, tensor, kernel, optimize=True)

    # A spiral over half of the sphere, 5 degrees apart; then the exact maximum.
    height = (np.arange(1000) + 0.5) / 1000
    turn, radius = np.pi * (1 + 5 ** 0.5) * np.arange(1000), np.sqrt(1 - height ** 2)
    starts = np.stack((radius * np.cos(turn), radius * np.sin(turn), height), axis=1)
    scale = np.abs(tensor).max() or 1.
    found = minimize(lambda b: -explained(b) / scale, starts[np.argmax(explained(starts))], method='BFGS').x
    return found / np.linalg.norm(found), float(explained(found))


def _plane(b, toward):
    """Return two unit vectors, B0 and what is across it in the plane of `toward`, and the normal of that plane."""
    toward = np.zeros(3) if toward is None else np.asarray(toward, float)
    toward = -toward if toward @ b < 0 else toward
    across = toward - (toward @ b) * b
    # A degree: what is nearer says nothing about a plane.
    if not np.linalg.norm(across) > 0.02:
        across = np.eye(3)[np.argmin(np.abs(b))]
        across = across - (across @ b) * b
    across = across / np.linalg.norm(across)
    return b, across, np.cross(b, across)


def _average_slices(sums):
    cross, theory, power, logarithm, count = sums
    level = _divide(logarithm, count)
    middle = (CELLS - 1) / 2
    radius = np.round(np.hypot(*(np.indices((CELLS, CELLS)) - middle))).astype(int)
    rings = _divide(np.bincount(radius.ravel(), logarithm.ravel()), np.bincount(radius.ravel(), count.ravel()))
    return np.stack((_divide(cross, power), _divide(theory, power), level - rings[radius])).astype(np.float32)


@njit(cache=True, parallel=True)
def _sum_moments(spectrum, x, y, z, monomials, highest, least, length):
    """Return per plane and shell: count, sum and sum of squares of log power, the 15 moments, those times log power."""
    nx, ny, nz = spectrum.shape
    sums = np.zeros((nx, _SHELLS, 33))
    for i in prange(nx):
        powers = np.ones((3, 5))
        for j in range(ny):
            for k in range(nz):
                radius = np.sqrt(x[i] * x[i] + y[j] * y[j] + z[k] * z[k])
                if radius <= _LOWEST or radius >= highest:
                    continue
                into = sums[i, int((radius - _LOWEST) / (highest - _LOWEST) * _SHELLS)]
                # The half spectrum holds one of both signs.
                times = 1. if k == 0 or 2 * k == length else 2.
                value = spectrum[i, j, k]
                level = np.log(value.real * value.real + value.imag * value.imag + least)
                into[0] += times
                into[1] += times * level
                into[2] += times * level * level
                for axis, part in enumerate((x[i], y[j], z[k])):
                    for order in range(1, 5):
                        powers[axis, order] = powers[axis, order - 1] * part / radius
                for m in range(15):
                    moment = times * (powers[0, monomials[m, 0]] * powers[1, monomials[m, 1]]
                                      * powers[2, monomials[m, 2]])
                    into[3 + m] += moment
                    into[18 + m] += moment * level
    return sums


@njit(cache=True, parallel=True)
def _sum_bins(chi, field, made, x, y, z, b, length):
    """Return, per plane: the sums in bins of the angle to B0, and the normal equations of the quadratic form."""
    nx, ny, nz = chi.shape
    bins, normal, right = np.zeros((nx, ANGLES, 4)), np.zeros((nx, 6, 6)), np.zeros((nx, 6))
    for i in prange(nx):
        form = np.empty(6)
        for j in range(ny):
            for k in range(nz):
                radius = np.sqrt(x[i] * x[i] + y[j] * y[j] + z[k] * z[k])
                # At the Nyquist frequency of an even axis both signs share one coefficient.
                if radius <= _LOWEST or radius >= _HIGHEST or 2 * i == nx or 2 * j == ny or 2 * k == length:
                    continue
                times = 1. if k == 0 else 2.
                c, f, m = chi[i, j, k], field[i, j, k], made[i, j, k]
                power = times * (c.real * c.real + c.imag * c.imag)
                cross = times * (f.real * c.real + f.imag * c.imag)
                u, v, w = x[i] / radius, y[j] / radius, z[k] / radius
                into = bins[i, min(int(abs(u * b[0] + v * b[1] + w * b[2]) * ANGLES), ANGLES - 1)]
                into[0] += power
                into[1] += cross
                into[2] += times * (m.real * c.real + m.imag * c.imag)
                into[3] += times * (f.real * f.real + f.imag * f.imag)
                form[0], form[1], form[2] = u * u, v * v, w * w
                form[3], form[4], form[5] = 2 * u * v, 2 * u * w, 2 * v * w
                for row in range(6):
                    right[i, row] += cross * form[row]
                    for column in range(6):
                        normal[i, row, column] += power * form[row] * form[column]
    return bins, normal, right


@njit(cache=True)
def _sum_slices(chi, field, made, x, y, z, up, across, normal, reach, length):
    """Return the sums in the cells of a slice: field by map, the map's field by map, power, log power, count."""
    nx, ny, nz = chi.shape
    sums = np.zeros((5, CELLS, CELLS))
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                if (abs(x[i] * normal[0] + y[j] * normal[1] + z[k] * normal[2]) > _HALF_SLAB
                        or 2 * i == nx or 2 * j == ny or 2 * k == length):
                    continue
                row = (x[i] * up[0] + y[j] * up[1] + z[k] * up[2]) / reach
                column = (x[i] * across[0] + y[j] * across[1] + z[k] * across[2]) / reach
                if abs(row) >= 1 or abs(column) >= 1:
                    continue
                c, f, m = chi[i, j, k], field[i, j, k], made[i, j, k]
                power = f.real * f.real + f.imag * f.imag
                for sign in (-1, 1):
                    p, q = int((sign * row + 1) / 2 * CELLS), int((sign * column + 1) / 2 * CELLS)
                    sums[0, p, q] += f.real * c.real + f.imag * c.imag
                    sums[1, p, q] += m.real * c.real + m.imag * c.imag
                    sums[2, p, q] += c.real * c.real + c.imag * c.imag
                    if power > 0:
                        sums[3, p, q] += np.log10(power)
                        sums[4, p, q] += 1
    return sums
