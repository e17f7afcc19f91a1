"""How strongly to regularise an inversion, told by the field alone.

The field of a susceptibility map has, at any spatial frequency, a power that goes with ``D^2``. What a measured field
holds beyond that is no field of any map: noise, remains of the background, and what the model leaves out, such as
anisotropy. Shell by shell, the dependence of the power on the angle to B0 tells the three apart. From their powers
follows the expected error of any linear inversion, and so the best strength; other methods have theirs calibrated on
it. In vivo the errors of the model are much larger than the noise between neighbouring voxels.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange
from scipy.optimize import minimize_scalar, nnls

from qsmbids.core.checks import check_weighted_field
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import frequencies, rfftn
from qsmbids.core.grid import bounding_box, embed, padded_size

PENALTIES = ('tv', 'identity', 'gradient', 'descent', 'lsqr')
# The lowest shells are left out: the mask's own spectrum, which blurs all others, fills their cone.
_SHELLS, _ANGLES, _LOWEST = 32, 20, 2
# What the powers of noise and map may at most differ by.
_WIDEST = 1e4
# See the notes of `automatic_strength`; found on simulated heads, docs/benchmarks.md.
_TV_PER_IDENTITY, _LSQR_PER_DESCENT = 0.8, 1.5
# From this strength of 'identity' on, noise outweighs the map.
_NOISY = 0.1
DESCENT_STEP = 2.
"""Step of gradient descent on the data; it diverges beyond 2 over the largest D^2, which is 4.5."""
# More steps than this bring nothing that can be seen.
_MOST_DESCENT = 300


class Spectra(NamedTuple):
    """Mean power in shells of equal ``|G|``, of which the angles to B0 are apart.

    Attributes
    ----------
    squared_gradient : ndarray, shape (n,)
        Middle of each shell, 1/mm^2.
    dipole : ndarray, shape (m,)
        D of each angle.
    count : ndarray, shape (n, m)
        Coefficients there are.
    chi : ndarray, shape (n,)
        Power of the map, up to a factor that `noise` shares.
    noise : ndarray, shape (n, m)
        Power of what is no field of the map.
    scale : float
        Turns the sum of ``chi`` over all coefficients into the map's mean square inside the mask, ppm^2.
    """

    squared_gradient: np.ndarray
    dipole: np.ndarray
    count: np.ndarray
    chi: np.ndarray
    noise: np.ndarray
    scale: float


def automatic_strength(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, penalty='tv'):
    """Choose the strength of a regularisation without a truth.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
        Local field in ppm. Values outside the mask are not used.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the field is known.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float, default (0, 0, 1)
        Unit vector of the main field in voxel axes.
    weight : ndarray, shape (nx, ny, nz), optional
        The field's reliability inside the mask, 0 to 1. By default 1.
    penalty : {'tv', 'identity', 'gradient', 'descent', 'lsqr'}
        What is kept small: the total variation, the map or its gradient, each beside ``|d * chi - field|^2`` as in
        :func:`~qsmbids.core.inversion.variational.invert_tv` and
        :func:`~qsmbids.core.inversion.direct.invert_tikhonov`. Or which iterations are ended in time: gradient descent
        with steps of size 2, or LSQR.

    Returns
    -------
    float
        In ppm mm for 'tv', which goes with the field's scale; without unit for 'identity' and in mm^2 for 'gradient',
        which do not; whole and at least 1 for 'descent' (at most 300) and 'lsqr'.

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, the field is not finite or zero everywhere inside the mask, or `penalty`
        is not known.

    Notes
    -----
    'identity', 'gradient' and 'descent' minimise the expected error ``sum (1 - H D)^2 S_chi + H^2 S_noise`` of the
    filter H that they are. Total variation bends like ``lambda |G|^2 / |grad chi|``; it gets the strength at which
    that equals the best of 'identity' for gradients and frequencies as they are in the map, times a factor. In much
    noise the strength goes with its SD, as in denoising, not with its power. LSQR gets as far as gradient descent does
    in the square of its iterations, up to a factor. The factors were found on simulated heads.

    References
    ----------
    Wiener N. Extrapolation, interpolation, and smoothing of stationary time series. MIT Press 1949 (the error of a
    filter from both spectra).

    Examples
    --------
    >>> import numpy as np
    >>> from qsmbids.core.dipole import forward_field
    >>> chi = np.zeros((32, 32, 32), np.float32)
    >>> chi[12:20, 12:20, 12:20] = .1
    >>> mask = np.ones(chi.shape, bool)
    >>> field = forward_field(chi, (1, 1, 1))
    >>> noise = np.random.default_rng(0).standard_normal(chi.shape)
    >>> weak, strong = (automatic_strength(field + level * noise, mask, (1, 1, 1)) for level in (.001, .01))
    >>> strong > weak
    True
    """
    if penalty not in PENALTIES:
        raise ValueError(f'penalty is {penalty!r}, must be one of {", ".join(PENALTIES)}')
    spectra = estimate_spectra(field, mask, voxel_size, b0_dir=b0_dir, weight=weight)
    if penalty == 'descent':
        return min(max(round(_least_error(spectra, penalty)), 1), _MOST_DESCENT)
    if penalty == 'lsqr':
        return max(round(_LSQR_PER_DESCENT * np.sqrt(_least_error(spectra, 'descent'))), 1)
    if penalty != 'tv':
        return _least_error(spectra, penalty)
    power = spectra.chi * spectra.count.sum(axis=1)
    # Mean square of the map over the root mean square of its gradient.
    per_gradient = power.sum() * np.sqrt(spectra.scale / np.sum(power * spectra.squared_gradient))
    identity = _least_error(spectra, 'identity')
    return float(_TV_PER_IDENTITY * identity / np.sqrt(1 + identity / _NOISY) * per_gradient)


def noise_share(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None):
    """Return the share of a local field's power, 0 to 1, that is no field of any map.

    Parameters and errors as for :func:`automatic_strength`.
    """
    spectra = estimate_spectra(field, mask, voxel_size, b0_dir=b0_dir, weight=weight)
    noise = float(np.sum(spectra.noise * spectra.count))
    return noise / (noise + float(np.sum(spectra.chi[:, None] * np.square(spectra.dipole) * spectra.count)))


def estimate_spectra(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None):
    """Tell the power of a local field's map from that of its noise.

    Parameters and errors as for :func:`automatic_strength`. In each shell a fit without negative parts explains the
    power by ``D^2`` (the map), a constant (noise) and ``cos^2 sin^2`` of the angle to B0 (what turns the field's
    direction or the tensor's axes adds, and the edge of the mask).

    Returns
    -------
    Spectra
    """
    field, mask, voxel_size, weight = check_weighted_field(field, mask, voxel_size, weight)
    if not field[mask].any():
        raise ValueError('field is zero inside the mask, must hold what a strength can be chosen by')
    box = bounding_box(mask)
    size = padded_size(mask[box].shape)
    squares = [np.square(2 / step * np.sin(np.pi * step * k.ravel()))
               for k, step in zip(frequencies(size, voxel_size), voxel_size)]
    widest = np.sqrt(sum(float(line.max()) for line in squares))
    spectrum = rfftn(embed(field * weight, mask, box, size), size)
    count, power = _sum_shells(spectrum, dipole_kernel(size, voxel_size, b0_dir), *squares,
                               np.float32(_SHELLS / (widest * (1 + 1e-5))), size[2]).sum(axis=1)
    count[:_LOWEST] = power[:_LOWEST] = 0
    squared_cosine = np.square((np.arange(_ANGLES) + 0.5) / _ANGLES)
    parts = np.stack([np.square(1 / 3 - squared_cosine), np.ones(_ANGLES), squared_cosine * (1 - squared_cosine)], 1)
    chi, *noise = np.transpose([_fit_powers(parts, *shell) for shell in zip(count, power)])
    noise = np.transpose(noise) @ parts[:, 1:].T
    return Spectra(np.square((np.arange(_SHELLS) + 0.5) / _SHELLS * widest), 1 / 3 - squared_cosine, count,
                   np.maximum(chi, noise.mean(axis=1) / _WIDEST), noise,
                   1 / (np.prod(size, dtype=float) * float(np.sum(np.square(weight[mask]), dtype=float))))


def _fit_powers(parts, count, power):
    """Return the powers of the parts in one shell: least squares, each angle's error relative to what it holds."""
    mean = power / np.maximum(count, 1)
    model = np.maximum(mean, mean.max() / _WIDEST)
    found = np.zeros(parts.shape[1])
    for _ in range(3 if mean.any() else 0):
        weight = np.sqrt(count) / model
        found = nnls(parts * weight[:, None], mean * weight)[0]
        model = np.maximum(parts @ found, mean.max() / _WIDEST)
    return found


def _least_error(spectra, penalty):
    """Return the strength of least expected error among the linear filters of one kind."""
    dipole, gradient = spectra.dipole, spectra.squared_gradient[:, None]
    squared = np.square(dipole)

    def error(log_strength):
        strength = np.exp(log_strength)
        if penalty == 'descent':
            # H D of gradient descent; the inverse is H.
            passed = -np.expm1(strength * np.log1p(-DESCENT_STEP * squared)) + 0 * gradient
        else:
            passed = squared / (squared + strength * (gradient if penalty == 'gradient' else 1)) + 0 * gradient
        lost = np.square(1 - passed) * spectra.chi[:, None] + np.square(passed / dipole) * spectra.noise
        return np.sum(lost * spectra.count)

    grid = np.log(np.geomspace(*((1, 1e4) if penalty == 'descent' else (1e-6, 1e2)), 41))
    at = int(np.argmin([error(x) for x in grid]))
    bounds = grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)]
    return float(np.exp(minimize_scalar(error, bounds=bounds, method='bounded', options={'xatol': 1e-6}).x))


@njit(cache=True, parallel=True)
def _sum_shells(spectrum, kernel, x, y, z, shells_per_gradient, length):
    """Return (counts, powers), each per plane, shell and angle, so that no sum depends on the number of threads."""
    nx, ny, nz = spectrum.shape
    sums = np.zeros((2, nx, _SHELLS, _ANGLES))
    for i in prange(nx):
        for j in range(ny):
            for k in range(nz):
                shell = int(np.sqrt(x[i] + y[j] + z[k]) * shells_per_gradient)
                # Shared among neighbours: which one a coefficient at their border is in would be up to rounding.
                at = np.sqrt(max(np.float32(1 / 3) - kernel[i, j, k], np.float32(0))) * _ANGLES - np.float32(0.5)
                angle = min(max(int(at), 0), _ANGLES - 2)
                above = min(max(at - angle, np.float32(0)), np.float32(1))
                # The half spectrum holds one of both signs.
                times = np.float32(1 if k == 0 or 2 * k == length else 2)
                value = spectrum[i, j, k]
                power = times * (value.real * value.real + value.imag * value.imag)
                sums[0, i, shell, angle] += times * (1 - above)
                sums[0, i, shell, angle + 1] += times * above
                sums[1, i, shell, angle] += power * (1 - above)
                sums[1, i, shell, angle + 1] += power * above
    return sums
