"""Whole turns that unwrapping cannot see, and voxels that hold nothing but noise: both from the field around them.

Where a bleed, a calcification or air empties a voxel, the field beside it steps by more than half a turn from voxel to
voxel. Phase is wrapped there beyond what any path can undo, all echoes agree on the wrong branch if their times are
multiples of the first, and one such voxel spoils a susceptibility map further than it reaches. But the field further
out tells what made it: dipoles in the voxels in question.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.ndimage import maximum_filter

from qsmbids.core.certainty import noise_level
from qsmbids.core.checks import check_mask, check_same_shape, check_volume, check_voxel_size
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import irfftn
from qsmbids.core.phase import radians_to_ppm
from qsmbids.core.threads import over_slabs

BLOCK = 8           # voxels along an edge of what is solved at once.
REACH = 4           # voxels from the nearest doubtful one up to where the field is looked at.
RIDGE = 0.003       # SD of the field that the model leaves unexplained over the SD of the susceptibility it allows.
NOISE = 5.          # signal of all echoes together, in SDs of the noise, below which a voxel holds nothing else.
SURE = 8            # ambiguity of the echoes in SDs of a prediction, below which the prediction decides nothing.
MOST = 250          # doubtful voxels of a block and its surroundings; more have too little around them.
BETTER = 0.7        # misfit of field and model, all voxels with signal in it, that a move must at least come down to.
ROUNDS = 8          # until no voxel changes its branch; most blocks need three.


@dataclass(frozen=True)
class MendedField:
    """What `mend_field` returns.

    Attributes
    ----------
    field : ndarray, float32, shape (nx, ny, nz)
        ppm; as given outside the mask.
    moved : ndarray of bool, shape (nx, ny, nz)
        Voxels that went to another branch.
    filled : ndarray of bool, shape (nx, ny, nz)
        Voxels whose field is a prediction, since they hold nothing but noise.
    """

    field: np.ndarray
    moved: np.ndarray
    filled: np.ndarray

    @property
    def notes(self):
        """What was done, in words: a tuple of str, empty if nothing was."""
        moved, filled = np.count_nonzero(self.moved), np.count_nonzero(self.filled)
        return tuple(f'{count} voxels of the field {what}' for count, what in (
            (moved, 'were moved by whole turns of all echoes'),
            (filled, 'hold nothing but noise and were predicted from their surroundings')) if count)


def mend_field(field, mask, residual, quality, magnitude, echo_times, voxel_size, center_frequency_hz, *,
               b0_dir=(0., 0., 1.), threshold=0.3):
    """Put doubtful voxels of a field on the branch that agrees with the dipoles which explain the field around them.

    Doubtful is what `masks.reliable_mask` would leave out but for being enclosed by what it trusts. Around each, least
    squares fit the trusted field by dipoles in the doubtful voxels and a quadratic polynomial. The prediction decides:

    - a voxel with signal takes the multiple of the ambiguity of the echoes (`branch_step`) that brings it within a
      quarter of a step of the prediction; if none does, if the prediction is too uncertain to tell, or if it is there
      already, it stays as it is. What has found its branch joins the fit, until nothing moves any more. If the field
      as a whole then fits dipoles no better than before, nothing was to move: a bleed that dephases its surroundings
      is no wrong branch;
    - a voxel that holds nothing but noise takes the prediction.

    So the field of a strong source is kept to the last digit, or moved by a known amount, but never smoothed.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
        Total field, ppm.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where it is to be used (`masks.reliable_mask`).
    residual, quality : ndarray, shape (nx, ny, nz)
        Of `fieldmap.total_field`.
    magnitude : ndarray, shape (nx, ny, nz, ne)
    echo_times : sequence of float
        s.
    voxel_size : sequence of float
        mm.
    center_frequency_hz : float
        What 1 ppm is a millionth of.
    b0_dir : sequence of float, default (0, 0, 1)
        Direction of the main field in voxel axes.
    threshold : float, default 0.3
        Of residual and quality, as for `masks.reliable_mask`.

    Returns
    -------
    MendedField

    Raises
    ------
    ValueError
        If shapes disagree, the mask is empty, or the field is not finite.

    Notes
    -----
    A single echo shows no misfit, thus no noise: its voxels are moved, never filled. Time goes with the number of
    doubtful voxels: a few milliseconds for each block of 8^3 voxels that holds some. The equations are solved by
    compiled code, since the threads of a linear algebra library wait for each other longer than such small ones take.
    """
    mask, voxel_size = check_mask(mask), check_voxel_size(voxel_size)
    field = check_volume('field', field, mask)
    check_same_shape(mask=mask, residual=residual, quality=quality, magnitude=magnitude[..., 0])
    noise = noise_level(magnitude, residual, mask)
    noisy = mask & (np.einsum('...e,...e->...', magnitude, magnitude) < (NOISE * noise) ** 2)
    trusted = mask & ~noisy & (residual < threshold) & (quality >= threshold)
    ambiguity = branch_step(echo_times)
    # Where the echoes leave no branch to choose, the first one says what counts as far off.
    moves, step = np.isfinite(ambiguity), ambiguity if np.isfinite(ambiguity) else 1 / echo_times[0]
    step = radians_to_ppm(2 * np.pi * step, 1, center_frequency_hz)
    length = 4 * (BLOCK + 2 * REACH)
    unit = np.fft.fftshift(irfftn(dipole_kernel((length,) * 3, voxel_size, b0_dir), (length,) * 3, (length,) * 3))
    mended = field.copy()
    doubtful = mask & ~trusted
    starts = np.unique(np.argwhere(doubtful) // BLOCK * BLOCK, axis=0)

    def mend(some):
        for start in starts[some]:
            inner = tuple(slice(a, a + BLOCK) for a in start)
            outer = tuple(slice(max(a - REACH, 0), a + BLOCK + REACH) for a in start)
            values = _mend_block(field[outer], doubtful[outer], trusted[outer], noisy[outer], unit, step, moves)
            middle = tuple(slice(a - o.start, a - o.start + BLOCK) for a, o in zip(start, outer))
            mended[inner] = values[middle]

    over_slabs(mend, len(starts), 1)
    changed = mended != field
    return MendedField(mended, changed & ~noisy, changed & noisy)


def branch_step(echo_times):
    """Return by how much the field may be off, in Hz, with all echoes still agreeing: 1 / TE of their common measure.

    Parameters
    ----------
    echo_times : sequence of float
        s.

    Returns
    -------
    float
        The smallest frequency that makes whole turns, within a tenth, up to every echo; infinite if up to 8 turns of
        the first none does.

    Examples
    --------
    >>> branch_step((0.004, 0.012, 0.020))
    250.0
    >>> branch_step((0.0024, 0.0049, 0.0081))
    inf
    """
    times = np.asarray(echo_times, dtype=float)
    for turns in range(1, 9):
        exact = turns * times / times[0]
        if np.all(np.abs(exact - np.rint(exact)) < 0.1):
            return turns / float(times[0])
    return np.inf


def _mend_block(field, doubtful, trusted, noisy, unit, step, moves):
    """Return the field with its doubtful voxels mended."""
    near = trusted & maximum_filter(doubtful, 2 * REACH + 1, mode='constant')
    sources, places = np.argwhere(doubtful), np.argwhere(near)
    # Three times as many places as the polynomial has terms.
    if len(places) < 30 or len(sources) > MOST:
        return field
    outside = _model(places, sources, places, unit)
    within = _model(sources, sources, places, unit)
    around, found, known = field[near].astype(float), field[doubtful].astype(float), ~noisy[doubtful]
    normal, right = _normal_equations(outside, around)
    normal[np.diag_indices(len(right))] += np.where(np.arange(len(right)) < len(sources), RIDGE ** 2, 1e-9)
    turns, agree = np.zeros(len(sources)), np.zeros(len(sources), bool)
    for _ in range(ROUNDS):
        more = _normal_equations(within[agree], (found + turns * step)[agree])
        fitted, leverage = _solve(normal + more[0], right + more[1], within)
        expected = _predict(within, fitted)
        spread = np.sqrt(np.mean((_predict(outside, fitted) - around) ** 2) * leverage)
        nearest = np.rint((expected - found) / step) * moves
        close = known & (np.abs(found + nearest * step - expected) < step / 4) & (SURE * spread < step)
        nearest[~close] = 0
        if np.array_equal(nearest, turns) and np.array_equal(close, agree):
            break
        turns, agree = nearest, close
    if turns.any() and not _improves(normal, right, around, within[known], found[known], (turns * step)[known]):
        turns[:] = 0
    mended = field.copy()
    mended[doubtful] = np.where(known, found + turns * step, expected)
    return mended


def _improves(normal, right, around, joined, found, moves):
    """Tell whether voxels fit the field around and themselves better after their moves."""
    misfits = []
    for values in (found, found + moves):
        more = _normal_equations(joined, values)
        fitted = _solve(normal + more[0], right + more[1], joined[:0])[0]
        # What least squares, penalty included, leave of the squares of what they fit.
        misfits.append(around @ around + values @ values - (right + more[1]) @ fitted)
    return misfits[1] <= BETTER * misfits[0]


def _model(places, sources, centre, unit):
    """Return the matrix from susceptibilities of `sources` and coefficients of the polynomial to field at `places`."""
    # Flat indices: those of a place and of a source subtract, counted from the middle of `unit`.
    strides = np.array([unit.shape[1] * unit.shape[2], unit.shape[2], 1])
    away = (places - centre.mean(axis=0)) / REACH
    model = np.empty((len(places), len(sources) + 10))
    _write_dipoles((places + np.array(unit.shape) // 2) @ strides, sources @ strides, unit.reshape(-1), model)
    x, y, z = away.T
    model[:, len(sources):] = np.transpose([0 * x + 1, z, z * z, y, y * z, y * y, x, x * z, x * y, x * x])
    return model


@njit(cache=True, nogil=True)
def _write_dipoles(places, sources, unit, model):
    for place in range(places.size):
        for source in range(sources.size):
            model[place, source] = unit[places[place] - sources[source]]


@njit(cache=True, nogil=True)
def _normal_equations(model, values):
    """Return ``model^T model``, its upper triangle, and ``model^T values``."""
    terms = model.shape[1]
    normal, right = np.zeros((terms, terms)), np.zeros(terms)
    # Four rows at a time, for each pass over the triangle.
    whole = len(model) // 4 * 4
    for row in range(0, whole, 4):
        a, b, c, d = model[row], model[row + 1], model[row + 2], model[row + 3]
        for i in range(terms):
            p, q, r, s, line = a[i], b[i], c[i], d[i], normal[i]
            for j in range(i, terms):
                line[j] += p * a[j] + q * b[j] + r * c[j] + s * d[j]
    for row in range(whole, len(model)):
        a = model[row]
        for i in range(terms):
            p, line = a[i], normal[i]
            for j in range(i, terms):
                line[j] += p * a[j]
    for row in range(len(model)):
        right += values[row] * model[row]
    return normal, right


@njit(cache=True, nogil=True)
def _solve(normal, right, rows):
    """Solve ``normal x = right`` by Cholesky's factor of the upper triangle, which is used up.

    Returns x, and ``row normal^-1 row^T`` for each of some rows.
    """
    terms = right.size
    solved = np.empty((terms, len(rows) + 1))
    solved[:, 0], solved[:, 1:] = right, rows.T
    for k in range(terms):
        pivot = 1 / np.sqrt(normal[k, k])
        line, done = normal[k], solved[k]
        for j in range(k, terms):
            line[j] *= pivot
        for j in range(done.size):
            done[j] *= pivot
        for i in range(k + 1, terms):
            factor, below, later = line[i], normal[i], solved[i]
            for j in range(i, terms):
                below[j] -= factor * line[j]
            for j in range(done.size):
                later[j] -= factor * done[j]
    found = np.empty(terms)
    for k in range(terms - 1, -1, -1):
        value = solved[k, 0]
        for j in range(k + 1, terms):
            value -= normal[k, j] * found[j]
        found[k] = value / normal[k, k]
    return found, (solved[:, 1:] ** 2).sum(axis=0)


@njit(cache=True, nogil=True)
def _predict(model, coefficients):
    """Return ``model @ coefficients``."""
    return (model * coefficients).sum(axis=1)
