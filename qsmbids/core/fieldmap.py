"""The total field from the phase of the echoes: offset removal, unwrapping, echo combination, and how far to trust it.

References
----------
.. [1] Eckstein K, Dymerska B, Bachrata B, et al. Computationally efficient combination of multi-channel phase data
   from multi-echo acquisitions (ASPIRE). Magn Reson Med 2018;79:2996-3006. Eq. 3 and 4 (MCPC-3D-S).
.. [2] Liu T, Wisnieff C, Lou M, Chen W, Spincemaille P, Wang Y. Nonlinear formulation of the magnetic field to source
   relationship for robust quantitative susceptibility mapping. Magn Reson Med 2013;69:467-476. Eq. 2.
.. [3] Biondetti E, Karsa A, Grussu F, et al. Multi-echo quantitative susceptibility mapping: how to combine echoes for
   accuracy and precision at 3 Tesla. Magn Reson Med 2022;88:2101-2116.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange

from qsmbids.core.bipolar import correct_bipolar
from qsmbids.core.checks import check_same_shape, check_voxel_size
from qsmbids.core.grid import bounding_box
from qsmbids.core.methods import ECHO_FITS, OFFSETS, UNWRAPPING
from qsmbids.core.phase import radians_to_ppm
from qsmbids.core.unwrap import best_turns, check_echoes, romeo_quality, unwrap_and_rate, unwrap_romeo


COARSE_MM = 2.      # edge of the blocks in which the difference of two echoes is unwrapped.


@dataclass(frozen=True)
class FieldMap:
    """What `total_field` returns; all arrays float32, zero outside the mask.

    Attributes
    ----------
    field : ndarray, shape (nx, ny, nz)
        Total field in ppm of B0, positive where it is stronger.
    residual : ndarray, shape (nx, ny, nz)
        Relative misfit of the complex signal, 0 (all echoes agree) to 2. Zero for a single echo, which cannot disagree.
    quality : ndarray, shape (nx, ny, nz)
        ROMEO quality of the phase, 0 to 1.
    unwrapped : ndarray, shape (nx, ny, nz, ne)
        Unwrapped phase without the offset, rad.
    offset : ndarray, shape (nx, ny, nz), or None
        Phase at echo time zero that was taken out, rad.
    notes : tuple of str
        What else was done to the phase.
    """

    field: np.ndarray
    residual: np.ndarray
    quality: np.ndarray
    unwrapped: np.ndarray
    offset: np.ndarray | None
    notes: tuple = ()


def total_field(phase, magnitude, echo_times, mask, voxel_size, center_frequency_hz, *, offset='mcpc3ds',
                unwrapping='romeo', fit='nonlinear', bipolar='auto'):
    """Return the total field from the wrapped phase of one or more echoes.

    Parameters
    ----------
    phase : ndarray, shape (nx, ny, nz, ne)
        rad, wrapped or not.
    magnitude : ndarray, same shape, or None
        Arbitrary units. Without it all voxels and echoes count alike.
    echo_times : sequence of float
        s, increasing.
    mask : ndarray of bool, shape (nx, ny, nz)
    voxel_size : sequence of float
        mm.
    center_frequency_hz : float
        What 1 ppm is a millionth of (`phase.center_frequency`).
    offset : {'mcpc3ds', 'none'}
        How to remove the phase at echo time zero. Needs two echoes; a single echo keeps its offset.
    unwrapping : {'romeo', 'laplacian'}
        Laplacian phase is not exact: it lacks a harmonic part, which background field removal would take out.
    fit : {'nonlinear', 'linear'}
        How to combine the echoes.
    bipolar : {'auto', 'yes', 'no'}
        Whether to take out a phase that alternates between the echoes (`bipolar.correct_bipolar`).

    Returns
    -------
    FieldMap

    Raises
    ------
    ValueError
        If shapes disagree, the mask is empty, values are not finite, the echo times do not fit, or a method is unknown.

    Notes
    -----
    Peak memory beyond the input is 3.6 times that of `phase`, output included: 235 MB for 160^3 voxels and 4 echoes.

    Examples
    --------
    >>> import numpy as np
    >>> times = [.004, .008, .012]
    >>> true = np.broadcast_to(np.linspace(-.4, .4, 24)[:, None, None], (24, 24, 24))
    >>> phase = np.angle(np.exp(2j * np.pi * 127.73 * true[..., None] * np.array(times)))
    >>> mask = np.ones(true.shape, bool)
    >>> found = total_field(phase, None, times, mask, (1, 1, 1), 127.73e6, offset='none')
    >>> bool(np.abs(found.field - true).max() < 1e-4), float(found.residual.max().round(3))
    (True, 0.0)
    """
    for name, value, known in (('offset', offset, OFFSETS), ('unwrapping', unwrapping, UNWRAPPING),
                               ('fit', fit, ECHO_FITS)):
        if value not in known:
            raise ValueError(f'{name} is {value!r}, must be one of {", ".join(known)}')
    if np.ndim(phase) != 4:
        raise ValueError(f'phase has shape {np.shape(phase)}, must be (nx, ny, nz, ne)')
    if not (np.isfinite(center_frequency_hz) and center_frequency_hz > 0):
        raise ValueError(f'center_frequency_hz is {center_frequency_hz}, must be positive')
    echo_times = np.zeros(0) if echo_times is None else echo_times
    phase, mask, times, magnitude = check_echoes(phase, mask, echo_times, magnitude)
    phase, alternation = correct_bipolar(phase, magnitude, mask, times, bipolar)
    shift = None
    if offset == 'mcpc3ds' and times.size > 1:
        shift = phase_offset_mcpc3ds(phase, magnitude, mask, times, voxel_size)
        phase = remove_phase_offset(phase, shift)
    if unwrapping == 'romeo':
        unwrapped, quality = unwrap_and_rate(phase, mask, times, magnitude, voxel_size=voxel_size)
    else:
        unwrapped = UNWRAPPING[unwrapping].load()(phase, mask, echo_times=times, magnitude=magnitude,
                                                  voxel_size=voxel_size)
        quality = romeo_quality(phase, mask, times, magnitude)
    field = fit_field_linear(unwrapped, magnitude, times, mask)
    if fit == 'nonlinear':
        field, residual = fit_field_nonlinear(unwrapped, magnitude, times, mask, field)
    else:
        residual = complex_residual(unwrapped, magnitude, times, mask, field)
    return FieldMap(radians_to_ppm(field, 1, center_frequency_hz), residual, quality, unwrapped, shift,
                    () if alternation is None else (alternation.note,))


def phase_offset_mcpc3ds(phase, magnitude, mask, echo_times, voxel_size, *, sigma_mm=8.):
    """Estimate the phase at echo time zero from the first two echoes (MCPC-3D-S) [1]_.

    The difference of both echoes, unwrapped, says how fast the phase grows; what is left of the first echo at time zero
    is the offset of coil and pulse, which is smooth. It is smoothed as ``exp(i offset)``, weighted by both magnitudes,
    with a Gaussian inside the mask.

    Two things differ from the paper. Its width, 10 x 10 x 5 voxels, is in mm here, the same along all axes: how fast a
    coil's phase changes does not depend on the voxels. And the Gaussian weighs a local quadratic instead of a local
    mean. At the border of the mask, where all neighbours lie on one side, a mean is off by about 0.8 sigma times the
    slope, which for a usual coil makes some Hz; the quadratic follows slope and curvature.

    Parameters
    ----------
    phase : ndarray, shape (nx, ny, nz, ne)
        rad, wrapped or not.
    magnitude : ndarray, same shape, or None
    mask : ndarray of bool, shape (nx, ny, nz)
    echo_times : sequence of float
        s, increasing; at least two. The others serve to find the whole turns of the difference.
    voxel_size : sequence of float
        mm.
    sigma_mm : float, default 8
        Standard deviation of the Gaussian.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        rad in (-pi, pi]; zero outside the mask.

    Raises
    ------
    ValueError
        If there is but one echo, or the input does not fit.
    """
    phase, mask, times, magnitude = check_echoes(phase, mask, echo_times, magnitude)
    voxel_size = check_voxel_size(voxel_size)
    if times.size < 2:
        raise ValueError('phase has one echo; an offset needs two at least')
    box = bounding_box(mask)
    phase, magnitude, inside = phase[box], magnitude[box], mask[box]
    spacing = times[1] - times[0]
    weight = magnitude[..., 0] * magnitude[..., 1] * inside
    step = _unwrap_step(phase[..., 1] - phase[..., 0], weight, inside, voxel_size)
    later = np.arange(2, times.size)
    step += np.float32(2 * np.pi) * best_turns(step, phase, magnitude, inside, (times[2:] - times[0]) / spacing, later,
                                               base=0)
    raw = phase[..., 0] - step * np.float32(times[0] / spacing)
    offset = np.zeros(mask.shape, np.float32)
    offset[box] = smooth_angle(raw, weight, inside, voxel_size, sigma_mm)
    return offset


def _unwrap_step(step, weight, mask, voxel_size):
    """Return the difference of two echoes unwrapped: in blocks of up to 2 mm first, then each voxel like its block."""
    blocks = [max(1, int(COARSE_MM / length)) for length in voxel_size]
    real, imaginary, _, count = _block_sums(step, weight, mask, blocks)
    coarse = unwrap_romeo(np.arctan2(imaginary, real), count > 0, magnitude=np.sqrt(np.hypot(real, imaginary)),
                          voxel_size=np.multiply(voxel_size, blocks))
    _follow_blocks(coarse, np.array(blocks), step)
    return step


def remove_phase_offset(phase, offset):
    """Return ``phase - offset`` of all echoes, wrapped.

    Parameters
    ----------
    phase : ndarray, shape (nx, ny, nz, ne)
        rad.
    offset : ndarray, shape (nx, ny, nz)
        rad.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz, ne)

    Raises
    ------
    ValueError
        If both differ in shape.
    """
    phase = np.asarray(phase, dtype=np.float32)
    check_same_shape(phase=phase[..., 0], offset=np.asarray(offset))
    offset = np.ascontiguousarray(offset, dtype=np.float32)
    removed = np.empty(phase.shape, np.float32)
    _subtract_offset(phase, offset, removed)
    return removed


@njit(cache=True, parallel=True)
def _subtract_offset(phase, offset, removed):
    nx, ny, nz, ne = phase.shape
    pi, turn = np.float32(np.pi), np.float32(2 * np.pi)
    for x in prange(nx):
        for y in range(ny):
            for z in range(nz):
                for e in range(ne):
                    angle = phase[x, y, z, e] - offset[x, y, z]
                    angle -= turn * np.rint(angle / turn)
                    removed[x, y, z, e] = min(angle, pi) if angle > -pi else pi


def fit_field_linear(unwrapped, magnitude, echo_times, mask):
    """Fit a line through the origin to the unwrapped phase, weighted by the variance of phase, 1 / magnitude^2.

    ``field = sum(m^2 TE phase) / sum(m^2 TE^2)``, which weighs the field of each echo by m^2 TE^2.

    Parameters
    ----------
    unwrapped : ndarray, shape (nx, ny, nz, ne)
        rad, without offset.
    magnitude : ndarray, same shape, or None
    echo_times : sequence of float
        s.
    mask : ndarray of bool, shape (nx, ny, nz)

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        rad/s; zero outside the mask.

    Raises
    ------
    ValueError
        If the input does not fit.
    """
    echoes = check_echoes(unwrapped, mask, echo_times, magnitude)
    field = np.zeros(echoes.mask.shape, np.float32)
    _fit_line(echoes.phase, echoes.magnitude, echoes.times.astype(np.float32), echoes.mask, field)
    return field


def fit_field_nonlinear(phase, magnitude, echo_times, mask, initial):
    """Fit the field to the complex signal of all echoes: minimise ``sum m^2 |exp(i phase) - exp(i field TE)|^2`` [2]_.

    Unlike a line through unwrapped phase it weighs noise as it is, on the complex signal, and a whole turn in a single
    echo does it no harm: the most precise way to combine echoes [3]_. Gauss-Newton steps for each voxel; a voxel that
    leaves its start by more than half a turn over the widest echo spacing has gone to another branch and keeps its
    start.

    Parameters
    ----------
    phase : ndarray, shape (nx, ny, nz, ne)
        rad, wrapped or not, without offset.
    magnitude : ndarray, same shape, or None
    echo_times : sequence of float
        s.
    mask : ndarray of bool, shape (nx, ny, nz)
    initial : ndarray, shape (nx, ny, nz)
        Where to start, rad/s (`fit_field_linear`).

    Returns
    -------
    field : ndarray, float32, shape (nx, ny, nz)
        rad/s; zero outside the mask.
    residual : ndarray, float32, shape (nx, ny, nz)
        Square root of the minimum over ``sum m^2``, 0 to 2; zero outside the mask.

    Raises
    ------
    ValueError
        If the input does not fit.
    """
    echoes = check_echoes(phase, mask, echo_times, magnitude)
    initial = np.asarray(initial, dtype=np.float32)
    check_same_shape(mask=echoes.mask, initial=initial)
    field = np.where(echoes.mask, initial, np.float32(0))
    spacings = np.diff(echoes.times) if echoes.times.size > 1 else echoes.times
    reach = np.float32(np.pi / spacings.max())
    _fit_phasors(echoes.phase, echoes.magnitude, echoes.times.astype(np.float32), echoes.mask, reach, field)
    return field, complex_residual(echoes.phase, echoes.magnitude, echoes.times, echoes.mask, field)


def complex_residual(phase, magnitude, echo_times, mask, field):
    """Return the misfit ``sqrt(sum m^2 |exp(i phase) - exp(i field TE)|^2 / sum m^2)`` of a field in rad/s, 0 to 2."""
    echoes = check_echoes(phase, mask, echo_times, magnitude)
    residual = np.zeros(echoes.mask.shape, np.float32)
    _misfit(echoes.phase, echoes.magnitude, echoes.times.astype(np.float32), echoes.mask, field, residual)
    return residual


@njit(cache=True, parallel=True)
def _fit_line(phase, magnitude, times, mask, field):
    nx, ny, nz = mask.shape
    for x in prange(nx):
        for y in range(ny):
            for z in range(nz):
                if not mask[x, y, z]:
                    continue
                rise, run = np.float32(0), np.float32(1e-20)
                for e in range(times.size):
                    weight = magnitude[x, y, z, e] ** 2 * times[e]
                    rise += weight * phase[x, y, z, e]
                    run += weight * times[e]
                field[x, y, z] = rise / run


@njit(cache=True, parallel=True)
def _fit_phasors(phase, magnitude, times, mask, reach, field):
    nx, ny, nz = mask.shape
    for x in prange(nx):
        for y in range(ny):
            for z in range(nz):
                if not mask[x, y, z]:
                    continue
                start = rate = field[x, y, z]
                for _ in range(20):
                    slope, curvature = np.float32(0), np.float32(1e-20)
                    for e in range(times.size):
                        weight = magnitude[x, y, z, e] ** 2 * times[e]
                        slope += weight * np.sin(phase[x, y, z, e] - rate * times[e])
                        curvature += weight * times[e]
                    step = slope / curvature
                    rate += step
                    if abs(step) * times[-1] < np.float32(1e-4):
                        break
                if abs(rate - start) <= reach:
                    field[x, y, z] = rate


@njit(cache=True, parallel=True)
def _misfit(phase, magnitude, times, mask, field, residual):
    nx, ny, nz = mask.shape
    two = np.float32(2)
    for x in prange(nx):
        for y in range(ny):
            for z in range(nz):
                if not mask[x, y, z]:
                    continue
                total, apart = np.float32(1e-20), np.float32(0)
                for e in range(times.size):
                    weight = magnitude[x, y, z, e] ** 2
                    half = np.sin((phase[x, y, z, e] - field[x, y, z] * times[e]) / two)
                    apart += weight * half * half
                    total += weight
                residual[x, y, z] = two * np.sqrt(apart / total)


def smooth_angle(phase, weight, mask, voxel_size, sigma):
    """Return the angle of exp(i phase) smoothed by local quadratics under a Gaussian; zero outside the mask.

    The quadratics are fitted at nodes half of `sigma` apart that have a voxel of the mask near, then interpolated
    linearly. What they are fitted to is summed over blocks of up to two fifths of `sigma` before.
    """
    blocks = [max(1, int(0.4 * sigma / step)) for step in voxel_size]
    pitches = [max(sigma / 2, step) for step in voxel_size]
    moments, reach = zip(*(_node_matrices(n, step, block, pitch, sigma) for n, step, block, pitch
                           in zip(phase.shape, voxel_size, blocks, pitches)))
    *signal, weight, count = _block_sums(phase, weight, mask, blocks)
    near = _contract(reach, count) > 0
    powers = [p for p in np.ndindex(3, 3, 3) if sum(p) <= 2]
    weights = _moments(moments, weight, 4, near)
    normal = np.array([[weights[tuple(np.add(p, q))] for q in powers] for p in powers])
    right = [_moments(moments, part, 2, near) for part in signal]
    right = np.array([[part[p] for part in right] for p in powers])
    # Where too few voxels are near for a quadratic this falls back to their mean.
    diagonal = np.arange(len(powers))
    normal[diagonal, diagonal] += np.where(diagonal[:, None] > 0, 1e-4, 0) * normal[0, 0] + np.finfo(np.float32).tiny
    values = np.linalg.solve(np.moveaxis(normal, -1, 0), np.moveaxis(right, -1, 0))[:, 0]
    values /= np.maximum(np.hypot(values[:, :1], values[:, 1:]), np.finfo(np.float32).tiny)
    grid = np.zeros((*near.shape, 2), np.float32)
    grid[near] = values
    angle = np.zeros(phase.shape, np.float32)
    _interpolate_angle(grid, mask, np.divide(voxel_size, pitches), angle)
    return angle


@njit(cache=True, parallel=True)
def _sum_blocks(phase, weight, mask, blocks, sums):
    bx, by, bz = blocks
    nx, ny, nz = mask.shape
    for i in prange(sums.shape[1]):
        for x in range(i * bx, min((i + 1) * bx, nx)):
            for y in range(ny):
                j = y // by
                for z in range(nz):
                    if mask[x, y, z]:
                        k, factor = z // bz, weight[x, y, z]
                        sums[0, i, j, k] += factor * np.cos(phase[x, y, z])
                        sums[1, i, j, k] += factor * np.sin(phase[x, y, z])
                        sums[2, i, j, k] += factor
                        sums[3, i, j, k] += np.float32(1)


def _block_sums(phase, weight, mask, blocks):
    """Sum weight cos(phase), weight sin(phase), weight and voxels of the mask over blocks; the last may be cut."""
    sums = np.zeros((4, *(-(-n // block) for n, block in zip(mask.shape, blocks))), np.float32)
    _sum_blocks(phase, weight, mask, np.array(blocks), sums)
    return sums


@njit(cache=True, parallel=True)
def _follow_blocks(coarse, blocks, phase):
    """Take each voxel of `phase` to the branch closest to its block, in place."""
    nx, ny, nz = phase.shape
    turn = np.float32(2 * np.pi)
    for x in prange(nx):
        for y in range(ny):
            for z in range(nz):
                block = coarse[x // blocks[0], y // blocks[1], z // blocks[2]]
                phase[x, y, z] += turn * np.rint((block - phase[x, y, z]) / turn)


@njit(cache=True, parallel=True)
def _interpolate_angle(grid, mask, scales, angle):
    """Write the angle of the linearly interpolated vectors of a grid; voxel x lies at node ``scales[0] x``."""
    nx, ny, nz = mask.shape
    one = np.float32(1)
    for x in prange(nx):
        i, fx = int(x * scales[0]), np.float32(x * scales[0] % 1)
        for y in range(ny):
            j, fy = int(y * scales[1]), np.float32(y * scales[1] % 1)
            for z in range(nz):
                if not mask[x, y, z]:
                    continue
                k, fz = int(z * scales[2]), np.float32(z * scales[2] % 1)
                real, imaginary = np.float32(0), np.float32(0)
                for a, wx in ((i, one - fx), (i + 1, fx)):
                    for b, wy in ((j, one - fy), (j + 1, fy)):
                        for c, wz in ((k, one - fz), (k + 1, fz)):
                            real += wx * wy * wz * grid[a, b, c, 0]
                            imaginary += wx * wy * wz * grid[a, b, c, 1]
                angle[x, y, z] = np.arctan2(imaginary, real)


def _node_matrices(count, step, block, pitch, sigma):
    """Return what takes an axis to Gaussian moments at its nodes, `pitch` mm apart, and which blocks are near them.

    An axis of `count` voxels, summed over blocks, goes to the moments 0 to 4.
    """
    starts = np.arange(0, count, block)
    centres = (starts + np.minimum(starts + block, count) - 1) / 2 * step
    # One more than there are voxels to reach, for interpolation.
    nodes = np.arange(int((count - 1) * step / pitch) + 2) * pitch
    away = (centres - nodes[:, None]) / sigma
    gauss = np.exp(-away ** 2 / 2) * (np.abs(away) <= 4)
    moments = [(gauss * away ** power).astype(np.float32) for power in range(5)]
    return moments, (np.abs(away) * sigma < pitch + block * step / 2).astype(np.float32)


def _moments(matrices, volume, degree, near):
    """Return ``{(p, q, r): moments at the nodes near}`` for all powers that sum up to `degree` at most."""
    moments = {}
    for p in range(degree + 1):
        along_x = _turn(matrices[0][p], volume)
        for q in range(degree + 1 - p):
            along_xy = _turn(matrices[1][q], along_x)
            for r in range(degree + 1 - p - q):
                moments[p, q, r] = _turn(matrices[2][r], along_xy)[near].astype(np.float64)
    return moments


def _contract(matrices, volume):
    """Apply a matrix along each axis."""
    for matrix in matrices:
        volume = _turn(matrix, volume)
    return volume


def _turn(matrix, volume):
    """Apply a matrix along the first axis and make that the last: three turns are through with a volume."""
    product = np.zeros((len(matrix), volume[0].size), np.float32)
    _multiply(np.ascontiguousarray(matrix), volume.reshape(len(volume), -1), product)
    return np.ascontiguousarray(product.T).reshape(volume.shape[1:] + (len(matrix),))


@njit(cache=True, parallel=True)
def _multiply(matrix, rows, product):
    """Add ``matrix @ rows`` to `product`. Most of the matrix is zero, and BLAS would not mind the thread limit."""
    for i in prange(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            factor = matrix[i, j]
            if factor != 0:
                for k in range(rows.shape[1]):
                    product[i, k] += factor * rows[j, k]
