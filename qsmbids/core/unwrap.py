"""Spatial phase unwrapping: ROMEO and best path add whole turns only; the Laplacian is smooth but not exact.

References
----------
.. [1] Dymerska B, Eckstein K, Bachrata B, et al. Phase unwrapping with a rapid opensource minimum spanning tree
   algorithm (ROMEO). Magn Reson Med 2021;85:2294-2308.
.. [2] Schofield MA, Zhu Y. Fast phase unwrapping algorithm for interferometric applications. Opt Lett
   2003;28:1194-1196. Eq. 5.
.. [3] Abdul-Rahman HS, Gdeisat MA, Burton DR, Lalor MJ, Lilley F, Moore CJ. Fast and robust three-dimensional best path
   phase unwrapping algorithm. Appl Opt 2007;46:6623-6635.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange
from scipy.ndimage import binary_erosion, label
from scipy.spatial import cKDTree

from qsmbids.core.checks import check_mask, check_same_shape, check_voxel_size
from qsmbids.core.fourier import fast_size, frequencies, irfftn, rfftn
from qsmbids.core.grid import bounding_box
from qsmbids.core.phase import wrap

_PI = np.float32(np.pi)
_TWO_PI = np.float32(2 * np.pi)
# How far the agreement of echoes, in [-1, 1], may fall below the best before it counts as worse: 0.2 rad.
_TIE = 0.02
# Voxels that are enough for the mean and the median of a whole mask.
_ENOUGH = 50_000


def unwrap_romeo(phase, mask, echo_times=None, magnitude=None, template=None, *, voxel_size=(1., 1., 1.)):
    """Unwrap phase along the most reliable paths: ``unwrapped - phase`` is a multiple of 2 pi in every voxel [1]_.

    Every pair of neighbours in the mask has the weight that `romeo_quality` describes, and the region grows over the
    best pair at hand, so that noise and steep gradients come last. Of several echoes only the template grows; each
    other echo takes the whole turns that bring it closest to the line through the origin and the echoes done before,
    in the order of their distance from the template. This needs phase without an offset at echo time zero
    (`fieldmap.remove_phase_offset`).

    Phase alone leaves whole turns free. In a mask that falls into parts each smaller part takes those that bring it
    closest to the largest one where the gap between both is narrowest. All together take those for which the echoes
    agree best with phase proportional to the echo time. Echoes cannot tell where there is but one, or where all echo
    times are multiples of the first: a field off by 1 / TE then looks the same. In such a tie the median of the
    template closest to zero decides, since scanners tune to the head.

    Parameters
    ----------
    phase : ndarray, shape (nx, ny, nz) or (nx, ny, nz, ne)
        rad, wrapped or not.
    mask : ndarray of bool, shape (nx, ny, nz)
        Voxels to unwrap.
    echo_times : sequence of float, optional
        s, increasing; needed for more than one echo.
    magnitude : ndarray, same shape as `phase`, optional
        Arbitrary units. Without it all voxels count alike.
    template : int, optional
        Index of the echo that grows. By default the first, which wraps least.
    voxel_size : sequence of float, default (1, 1, 1)
        mm; measures the gaps between the parts of a mask.

    Returns
    -------
    ndarray, float32, same shape as `phase`
        rad; zero outside the mask.

    Raises
    ------
    ValueError
        If shapes disagree, the mask is empty, values are not finite, or the echo times do not fit.

    Notes
    -----
    Peak memory beyond input and output: about 30 bytes per voxel of the mask's bounding box.

    Examples
    --------
    >>> import numpy as np
    >>> true = np.broadcast_to(np.linspace(-8, 8, 40)[:, None, None], (40, 6, 6))
    >>> wrapped = np.angle(np.exp(1j * true))
    >>> mask = np.ones(true.shape, bool)
    >>> bool(np.allclose(unwrap_romeo(wrapped, mask), true, atol=1e-5))
    True
    """
    echoes = check_echoes(phase, mask, echo_times, magnitude)
    template = _check_template(template, echoes)
    return _unwrap_weighed(echoes, template, _weigh(echoes, template), voxel_size).reshape(np.shape(phase))


def unwrap_and_rate(phase, mask, echo_times=None, magnitude=None, template=None, *, voxel_size=(1., 1., 1.)):
    """Return what `unwrap_romeo` and what `romeo_quality` returns, from pairs that are weighed once."""
    echoes = check_echoes(phase, mask, echo_times, magnitude)
    template = _check_template(template, echoes)
    weighed = _weigh(echoes, template)
    quality = _rate_weighed(echoes, weighed)
    return _unwrap_weighed(echoes, template, weighed, voxel_size).reshape(np.shape(phase)), quality


def _unwrap_weighed(echoes, template, weighed, voxel_size):
    """Return all echoes unwrapped, from what `_weigh` returned, of which the phase is used up."""
    inside, grown, weights = weighed
    parts = _grow(grown.reshape(-1), inside.reshape(-1), weights, _strides(inside))
    grown, inside = (np.ascontiguousarray(v[1:-1, 1:-1, 1:-1]) for v in (grown, inside))
    return _follow_template(echoes, template, grown, inside, parts, voxel_size)


def unwrap_bestpath(phase, mask, echo_times=None, magnitude=None, template=None, *, voxel_size=(1., 1., 1.)):
    """Unwrap phase along the most reliable paths, as scikit-image finds them [3]_.

    Reliable is here what has small second differences of the phase; magnitude and other echoes have no say in it. The
    template, the whole turns of parts and of everything, and the other echoes are as in `unwrap_romeo`.

    Parameters
    ----------
    phase, mask, echo_times, magnitude, template, voxel_size
        As for `unwrap_romeo`.

    Returns
    -------
    ndarray, float32, same shape as `phase`
        rad; zero outside the mask.

    Raises
    ------
    ValueError
        As `unwrap_romeo`.
    """
    from skimage.restoration import unwrap_phase
    echoes = check_echoes(phase, mask, echo_times, magnitude)
    template = _check_template(template, echoes)
    box = bounding_box(echoes.mask)
    inside = np.ascontiguousarray(echoes.mask[box])
    wrapped = wrap(echoes.phase[box + (template,)])
    # Padded, since axes of one voxel are refused; float64, since the turns are counted from the result.
    padded = np.ma.array(np.pad(wrapped, 1), mask=np.pad(~inside, 1, constant_values=True), dtype=float)
    grown = np.asarray(unwrap_phase(padded, rng=0), np.float32)[1:-1, 1:-1, 1:-1]
    grown = wrapped + _TWO_PI * np.rint((grown - wrapped) / _TWO_PI)
    return _follow_template(echoes, template, grown * inside, inside, label(inside)[1],
                            voxel_size).reshape(np.shape(phase))


def _follow_template(echoes, template, grown, inside, parts, voxel_size):
    """Return all echoes unwrapped, from the template `grown` in the bounding box of the mask."""
    if parts > 1:
        _join_parts(grown, inside, check_voxel_size(voxel_size))
    box, times = bounding_box(echoes.mask), echoes.times
    signal = echoes.magnitude[box]
    others = np.delete(np.arange(times.size), template)
    grown += _TWO_PI * best_turns(grown, echoes.phase[box], signal, inside, times[others] / times[template], others)
    unwrapped = np.zeros_like(echoes.phase)
    order = np.argsort(np.abs(np.arange(times.size) - template), kind='stable')
    _follow(echoes.phase[box], signal, inside, grown, times.astype(np.float32), order, unwrapped[box])
    return unwrapped


def romeo_quality(phase, mask, echo_times=None, magnitude=None, template=None):
    """Return how far each voxel's phase can be trusted: the mean weight of its pairs with neighbours in the mask.

    The weight of a pair is the product of ``0.1 + 0.9 w`` over [1]_

    - phase coherence, ``1 - |step| / pi``, with step the wrapped difference of both phases;
    - phase-gradient coherence between the template and the echo next to it,
      ``max(0, 1 - |step - step' TE / TE'|)``, where there are several echoes;
    - phase linearity, the product of ``max(0, 1 - |bend| / 2)`` over the pair's two continuations along its axis that
      lie in the mask, with bend the wrapped second difference; 0.9 for a continuation that does not;
    - magnitude coherence, ``(smaller / larger)^2``.

    Parameters
    ----------
    phase, mask, echo_times, magnitude, template
        As for `unwrap_romeo`.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        From 0 to 1 in steps of the 255 levels that unwrapping uses; zero outside the mask and for a voxel without
        a neighbour.

    Raises
    ------
    ValueError
        As `unwrap_romeo`.
    """
    echoes = check_echoes(phase, mask, echo_times, magnitude)
    return _rate_weighed(echoes, _weigh(echoes, _check_template(template, echoes)))


def _rate_weighed(echoes, weighed):
    """Return the mean weight of each voxel's pairs, from what `_weigh` returned."""
    inside, _, weights = weighed
    quality = np.zeros(inside.shape, np.float32)
    _mean_weight(inside.reshape(-1), weights, _strides(inside), quality.reshape(-1))
    volume = np.zeros(echoes.mask.shape, np.float32)
    volume[bounding_box(echoes.mask)] = quality[1:-1, 1:-1, 1:-1]
    return volume


def unwrap_laplacian(phase, mask, voxel_size, *, echo_times=None, magnitude=None):
    """Unwrap phase by inverting the Laplacian of its wrapped gradient [2]_.

    Fast, smooth and robust, but not exact: the result differs from the true phase by a function that is harmonic
    inside the mask, and where the true phase steps by more than half a turn per voxel. Background field removal takes
    the former out again. The gradient is cut off at the border of the mask, so that noise outside has no influence;
    the volume is padded with zeros, and what the periodic transform still wraps around is harmonic in the mask too.

    Parameters
    ----------
    phase : ndarray, shape (nx, ny, nz) or (nx, ny, nz, ne)
        rad, wrapped or not; each echo is unwrapped for itself.
    mask : ndarray of bool, shape (nx, ny, nz)
        Voxels to unwrap.
    voxel_size : sequence of float
        mm.
    echo_times, magnitude
        Checked, for the signature that all unwrapping methods share; they have no influence.

    Returns
    -------
    ndarray, float32, same shape as `phase`
        rad, of mean zero in the mask; zero outside.

    Raises
    ------
    ValueError
        If shapes disagree, the mask is empty or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> grid = (np.indices((32, 32, 32)) - 15.5) / 6
    >>> true = 5 * np.exp(-np.square(grid).sum(axis=0))
    >>> mask = np.ones(true.shape, bool)
    >>> found = unwrap_laplacian(np.angle(np.exp(1j * true)), mask, (1, 1, 1))
    >>> bool(np.corrcoef(found.ravel(), true.ravel())[0, 1] > .99)
    True
    """
    echoes = check_echoes(phase, mask, echo_times, magnitude, need_times=False)
    voxel_size = check_voxel_size(voxel_size)
    box = bounding_box(echoes.mask)
    inside, wrapped = echoes.mask[box], echoes.phase[box]
    size = fast_size(inside.shape, 8)
    laplacian = sum(-(2 / step * np.sin(np.pi * step * k)) ** 2
                    for k, step in zip(frequencies(size, voxel_size), voxel_size))
    laplacian[0, 0, 0] = np.inf
    unwrapped = np.zeros_like(echoes.phase)
    for echo in range(wrapped.shape[3]):
        spectrum = rfftn(_wrapped_laplacian(wrapped[..., echo], inside, voxel_size), size)
        spectrum /= laplacian
        smooth = irfftn(spectrum, size, inside.shape)
        unwrapped[box + (echo,)] = np.where(inside, smooth - smooth[inside].mean(dtype=np.float64), 0)
    return unwrapped.reshape(np.shape(phase))


"""name -> ``method(phase, mask, *, echo_times, magnitude, voxel_size)``."""


class Echoes(NamedTuple):
    """Input in the form that the numerics use: the echo last, magnitude of ones where none was given."""
    phase: np.ndarray
    mask: np.ndarray
    times: np.ndarray
    magnitude: np.ndarray


def check_echoes(phase, mask, echo_times=None, magnitude=None, *, need_times=True):
    """Return the arguments as `Echoes`, or raise ValueError naming the one that does not fit."""
    mask = check_mask(mask)
    phase = np.ascontiguousarray(phase, dtype=np.float32)
    if phase.ndim not in (3, 4) or phase.shape[:3] != mask.shape:
        raise ValueError(f'phase has shape {phase.shape}, must be that of mask, {mask.shape}, with or without an axis '
                         'of echoes behind')
    if magnitude is not None:
        magnitude = np.ascontiguousarray(magnitude, dtype=np.float32)
        check_same_shape(phase=phase, magnitude=magnitude)
    for name, volume in (('phase', phase), ('magnitude', magnitude)):
        if volume is not None and not _all_finite(volume.reshape(-1)):
            raise ValueError(f'{name} holds values that are not finite; repair them first (phase.repair_nonfinite)')
    phase = phase.reshape(mask.shape + (-1,))
    magnitude = np.ones_like(phase) if magnitude is None else magnitude.reshape(phase.shape)
    if phase.shape[3] == 1 and echo_times is None or not need_times:
        return Echoes(phase, mask, np.arange(1., phase.shape[3] + 1), magnitude)
    return Echoes(phase, mask, check_echo_times(echo_times, phase.shape[3]), magnitude)


@njit(cache=True, parallel=True)
def _all_finite(values):
    bad = 0
    for i in prange(values.size):
        bad += not np.isfinite(values[i])
    return bad == 0


def check_echo_times(echo_times, count):
    """Return `count` echo times in s as an array; ValueError unless they are positive, under 1 s and increasing."""
    times = np.atleast_1d(np.asarray([] if echo_times is None else echo_times, dtype=float))
    if times.shape != (count,):
        raise ValueError(f'echo_times is {times.tolist()}, must be {count} numbers, one for each echo of phase')
    if not np.all((times > 0) & (times < 1)):
        raise ValueError(f'echo_times is {times.tolist()}, must be in seconds: positive and less than 1')
    if np.any(np.diff(times) <= 0):
        raise ValueError(f'echo_times is {times.tolist()}, must increase from echo to echo')
    return times


def best_turns(reference, phase, magnitude, mask, ratios, echoes, base=-1):
    """Return how many turns to add to `reference` so that ``ratio * reference`` agrees best with other echoes.

    Parameters
    ----------
    reference : ndarray, float32, shape (nx, ny, nz)
        Unwrapped phase, rad, right up to a number of turns that is the same everywhere.
    phase, magnitude : ndarray, float32, shape (nx, ny, nz, ne)
    mask : ndarray of bool, shape (nx, ny, nz)
    ratios : sequence of float
        What the phase of each of `echoes` is to `reference`.
    echoes : sequence of int
        The echoes to agree with; may be none.
    base : int, default -1
        Echo whose phase is to be subtracted from that of `echoes`; none if negative.

    Returns
    -------
    int
        Of all numbers that agree equally well, within 0.2 rad, the one that brings the median closest to zero.
    """
    every = (slice(None, None, 2),) * 3
    if np.count_nonzero(mask[every]) > _ENOUGH:
        reference, phase, magnitude, mask = (volume[every] for volume in (reference, phase, magnitude, mask))
    median = float(np.median(reference[mask])) / (2 * np.pi)
    turns = np.arange(-3, 4) - round(median)
    score = np.zeros(turns.size)
    for ratio, echo in zip(ratios, echoes):
        mean = _mean_agreement(reference, phase, magnitude, mask, np.float32(ratio), echo, base)
        score += (mean * np.exp(-2j * np.pi * ratio * turns)).real / len(echoes)
    candidates = turns[score >= score.max() - _TIE]
    return int(candidates[np.argmin(np.abs(candidates + median))])


def _check_template(template, echoes):
    template = 0 if template is None else template
    if not 0 <= template < echoes.times.size:
        raise ValueError(f'template is {template}, must be the index of one of {echoes.times.size} echoes')
    return template


def _strides(volume):
    """Steps of the flat index along the axes."""
    return np.array([volume.shape[1] * volume.shape[2], volume.shape[2], 1])


def _weigh(echoes, template):
    """Return the mask and the wrapped template in a box with a rim of one voxel, and the levels of all edges.

    The rim spares every loop over neighbours the question whether it is still inside the array.
    """
    box, times = bounding_box(echoes.mask), echoes.times
    inside = np.pad(echoes.mask[box], 1)
    wrapped, magnitude = np.zeros((2, *inside.shape), np.float32)
    _rim(echoes.phase[box], echoes.mask[box], template, wrapped, True)
    _rim(echoes.magnitude[box], echoes.mask[box], template, magnitude, False)
    second, ratio = wrapped, 0.
    if times.size > 1:
        other = template + 1 if template + 1 < times.size else template - 1
        second, ratio = np.zeros_like(wrapped), times[template] / times[other]
        _rim(echoes.phase[box], echoes.mask[box], other, second, True)
    weights = np.zeros((wrapped.size, 3), np.uint8)
    _weigh_edges(wrapped.reshape(-1), second.reshape(-1), np.float32(ratio), magnitude.reshape(-1),
                 inside.reshape(-1), _strides(inside), weights)
    return inside, wrapped, weights


@njit(cache=True, parallel=True)
def _rim(volume, mask, echo, rimmed, wraps):
    """Copy one echo into a volume with a rim of one voxel, wrapped or as it is."""
    nx, ny, nz = mask.shape
    for x in prange(nx):
        for y in range(ny):
            for z in range(nz):
                if mask[x, y, z]:
                    value = volume[x, y, z, echo]
                    turns = np.rint(value / _TWO_PI) if wraps else np.float32(0)
                    rimmed[x + 1, y + 1, z + 1] = value - _TWO_PI * turns


@njit(cache=True, inline='always')
def _wrap_step(step):
    """Wrap a difference of two wrapped phases."""
    if step > _PI:
        return step - _TWO_PI
    if step < -_PI:
        return step + _TWO_PI
    return step


@njit(cache=True, parallel=True)
def _weigh_edges(phase, second, ratio, magnitude, inside, strides, weights):
    """Level of the edge from voxel i to its next neighbour along axis d: 1 to 255, or 0 where one is outside."""
    low, half, one, zero = np.float32(0.1), np.float32(0.5), np.float32(1), np.float32(0)
    high = one - low
    missing = np.float32(0.9)
    plane = strides[0]
    for x in prange(1, phase.size // plane - 1):
        for i in range(x * plane, (x + 1) * plane):
            if not inside[i]:
                continue
            for d in range(3):
                stride = strides[d]
                j = i + stride
                if not inside[j]:
                    continue
                step = _wrap_step(phase[j] - phase[i])
                weight = low + high * (one - abs(step) / _PI)
                if ratio > 0:
                    apart = abs(step - ratio * _wrap_step(second[j] - second[i]))
                    weight *= low + high * max(zero, one - apart)
                linearity = one
                for near, far, onward in ((i, i - stride, step), (j, j + stride, -step)):
                    if inside[far]:
                        bend = _wrap_step(onward + _wrap_step(phase[far] - phase[near]))
                        linearity *= max(zero, one - half * abs(bend))
                    else:
                        linearity *= missing
                weight *= low + high * linearity
                small, large = min(magnitude[i], magnitude[j]), max(magnitude[i], magnitude[j])
                likeness = small / large if large > 0 else one
                weight *= low + high * likeness * likeness
                weights[i, d] = 1 + int(np.float32(254) * weight + half)


def _grow(phase, inside, weights, strides):
    """Unwrap every connected part of the mask, in place, and return their number.

    Growth over the best edge at hand follows the maximum spanning tree. So does joining parts over the best of all
    edges (Kruskal), and does so in the order of memory among edges of one level.
    """
    places = np.zeros((phase.size // strides[0], 256), np.int32)
    _list_edges(weights, strides[0], places, None)
    level = places.sum(axis=0)
    # Where the edges of each level and plane start, the best level first.
    places = (level[::-1].cumsum()[::-1] - level + places.cumsum(axis=0) - places).astype(np.int32)
    edges = np.empty(level.sum(), np.int32)
    _list_edges(weights, strides[0], places, edges)
    above, turns = np.full(phase.size, -1, np.int32), np.zeros(phase.size, np.int16)
    _join_over(edges, phase, strides, above, turns)
    return _add_turns(phase, inside, strides[0], above, turns)


@njit(cache=True, parallel=True)
def _list_edges(weights, plane, places, edges):
    """Count the edges of each plane and level in `places`, or write them to `edges` from there on."""
    for x in prange(len(places)):
        for i in range(x * plane, (x + 1) * plane):
            for d in range(3):
                level = weights[i, d]
                if level > 0:
                    if edges is not None:
                        edges[places[x, level]] = 3 * i + d
                    places[x, level] += 1


@njit(cache=True)
def _join_over(edges, phase, strides, above, turns):
    """Join the ends of each edge that lie in different trees.

    `above` holds the voxel above, or for a root the number of voxels below, negative; `turns` what a voxel lacks to
    agree with the one above.
    """
    for edge in edges:
        start = edge // 3
        end = start + strides[edge - 3 * start]
        large, here = _root(start, above, turns)
        small, there = _root(end, above, turns)
        if large == small:
            continue
        lacks = int(np.rint((phase[start] - phase[end]) / _TWO_PI)) + here - there
        if above[large] > above[small]:
            large, small, lacks = small, large, -lacks
        above[large] += above[small]
        above[small] = large
        turns[small] = lacks


@njit(cache=True)
def _root(voxel, above, turns):
    """Return the root of a voxel's tree and the turns that lie between, and halve the way for the next time."""
    total = 0
    while above[voxel] >= 0:
        up = above[voxel]
        if above[up] >= 0:
            turns[voxel] += turns[up]
            up = above[voxel] = above[up]
        total += turns[voxel]
        voxel = up
    return voxel, total


@njit(cache=True, parallel=True)
def _add_turns(phase, inside, plane, above, turns):
    """Add what lies between each voxel and its root; return the number of roots."""
    parts = 0
    for x in prange(phase.size // plane):
        for i in range(x * plane, (x + 1) * plane):
            if inside[i]:
                total, voxel = 0, i
                while above[voxel] >= 0:
                    total += turns[voxel]
                    voxel = above[voxel]
                parts += voxel == i
                phase[i] += _TWO_PI * total
    return parts


@njit(cache=True, parallel=True)
def _mean_weight(inside, weights, strides, quality):
    plane = strides[0]
    for x in prange(inside.size // plane):
        for i in range(x * plane, (x + 1) * plane):
            if not inside[i]:
                continue
            total, count = 0, 0
            for d in range(3):
                for level in (weights[i, d], weights[i - strides[d], d]):
                    total += level
                    count += level > 0
            if count:
                quality[i] = np.float32(total) / np.float32(255 * count)


@njit(cache=True, parallel=True)
def _mean_agreement(reference, phase, magnitude, mask, ratio, echo, base):
    """Mean of exp(i (phase - ratio reference)), weighted by the squared magnitude."""
    nx, ny, nz = mask.shape
    sums = np.zeros((nx, 3))
    for x in prange(nx):
        real, imaginary, total = 0., 0., 0.
        for y in range(ny):
            for z in range(nz):
                if mask[x, y, z]:
                    angle = phase[x, y, z, echo] - ratio * reference[x, y, z]
                    if base >= 0:
                        angle -= phase[x, y, z, base]
                    weight = magnitude[x, y, z, echo] ** 2
                    real += weight * np.cos(angle)
                    imaginary += weight * np.sin(angle)
                    total += weight
        sums[x] = real, imaginary, total
    real, imaginary, total = sums.sum(axis=0)
    return complex(real, imaginary) / total if total > 0 else complex(0., 0.)


@njit(cache=True, parallel=True)
def _follow(phase, magnitude, mask, template, times, order, unwrapped):
    """Write the template, then each echo on the branch closest to the weighted line through those before."""
    nx, ny, nz = mask.shape
    tiny = np.float32(1e-20)
    for x in prange(nx):
        for y in range(ny):
            for z in range(nz):
                if not mask[x, y, z]:
                    continue
                rise, run = np.float32(0), np.float32(0)
                for e in order:
                    value = template[x, y, z]
                    if e != order[0]:
                        expected = rise / run * times[e]
                        value = phase[x, y, z, e]
                        value += _TWO_PI * np.rint((expected - value) / _TWO_PI)
                    weight = magnitude[x, y, z, e] ** 2 * times[e] + tiny
                    rise += weight * value
                    run += weight * times[e]
                    unwrapped[x, y, z, e] = value


def _join_parts(grown, inside, voxel_size):
    """Shift all parts of a mask but the largest by whole turns, in place, to meet it across the narrowest gap.

    The median step over the voxels of its surface that are up to half as far again as the closest one decides.
    """
    parts, count = label(inside)
    largest = np.argmax(np.bincount(parts.reshape(-1))[1:]) + 1
    places = np.argwhere(inside & ~binary_erosion(inside))
    owners, values = parts[tuple(places.T)], grown[tuple(places.T)]
    places, main = places * np.array(voxel_size), owners == largest
    distance, nearest = cKDTree(places[main]).query(places[~main])
    owners, steps = owners[~main], (values[main][nearest] - values[~main]) / _TWO_PI
    gap = np.full(count + 1, np.inf)
    np.minimum.at(gap, owners, distance)
    narrow = distance <= 1.5 * gap[owners]
    owners, steps = owners[narrow], steps[narrow]
    order = np.lexsort((steps, owners))
    found, first, voxels = np.unique(owners[order], return_index=True, return_counts=True)
    turns = np.zeros(count + 1, np.float32)
    turns[found] = np.rint(steps[order][first + voxels // 2])
    grown += _TWO_PI * turns[parts]


def _wrapped_laplacian(phase, inside, voxel_size):
    """Divergence of the wrapped gradient between voxels of the mask, in rad/mm^2."""
    divergence = np.zeros(phase.shape, np.float32)
    for axis, length in enumerate(voxel_size):
        along, within, total = (np.moveaxis(v, axis, 0) for v in (phase, inside, divergence))
        flux = wrap(along[1:] - along[:-1]) * (within[1:] & within[:-1]) / np.float32(length ** 2)
        total[:-1] += flux
        total[1:] -= flux
    return divergence
