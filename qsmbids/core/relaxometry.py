"""How fast the gradient-echo magnitude decays: R2*, T2*, the signal at echo time zero, and R2'."""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from scipy.special import gammaincinv, i0e, i1e

from qsmbids.core.checks import check_same_shape
from qsmbids.core.methods import RELAXOMETRY

MAX_R2STAR = 500.0  # 1/s. A shorter T2* than 2 ms leaves nothing to see at the echo times of a brain scan.
MAX_T2STAR = 2.0    # s. That of water; a longer one means that no decay was seen.
NO_SIGNAL = 1e-9    # of the brightest voxel. What is darker in all echoes has no signal.
ITERATIONS, TOLERANCE = 30, 0.01  # of the nonlinear fit; 1/s
RICE_STEP, RICE_TOP = 1 / 64, 16.0  # grid and end of the table of Rician means, in SD of the noise.


@dataclass(frozen=True)
class R2StarFit:
    """Maps of a mono-exponential decay, ``magnitude = s0 exp(-r2star TE)``, float32, zero outside the mask.

    Attributes
    ----------
    r2star : ndarray, shape (nx, ny, nz)
        1/s, from 0 to 500.
    t2star : ndarray, shape (nx, ny, nz)
        s; ``1 / r2star``, at most 2 (so where `r2star` is 0). Zero only where there was no signal to fit.
    s0 : ndarray, shape (nx, ny, nz)
        Signal at echo time zero, in the units of the magnitude.
    method : str
        The name in `qsmbids.core.methods.RELAXOMETRY` of the method that was used.
    """

    r2star: np.ndarray
    t2star: np.ndarray
    s0: np.ndarray
    method: str


def fit_r2star(magnitude, echo_times, mask, method='arlo'):
    """Fit a mono-exponential decay to the magnitude in each voxel.

    Parameters
    ----------
    magnitude : ndarray, shape (nx, ny, nz, ne)
        At least two echoes. A voxel without any signal or with a non-finite one gets zeros.
    echo_times : sequence of float, length ne
        s, increasing.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where to fit.
    method : {'arlo', 'loglinear', 'nonlinear'}, default 'arlo'
        ARLO needs three or more evenly spaced echoes. For others the weighted log-linear fit takes its place, and the
        result says so. The nonlinear fit is the one to take where the late echoes sink into noise.

    Returns
    -------
    R2StarFit
        `s0` is the least-squares amplitude of the decay that was found, whatever the method.

    Raises
    ------
    ValueError
        For an unknown method, one echo, echo times that do not increase or are not in seconds, or shapes that differ.

    Examples
    --------
    >>> import numpy as np
    >>> times = [.005, .010, .015, .020]
    >>> mask = np.ones((3, 3, 3), bool)
    >>> magnitude = 100 * np.exp(-25 * np.array(times)) * mask[..., None]
    >>> fit = fit_r2star(magnitude, times, mask)
    >>> fit.method, round(float(fit.r2star[1, 1, 1]), 2), round(float(fit.s0[1, 1, 1]), 1)
    ('arlo', 25.0, 100.0)
    >>> fit_r2star(magnitude[..., :2], times[:2], mask).method
    'loglinear'
    """
    times = _check(magnitude, echo_times, mask, method)
    method = applicable_method(method, times)
    signal = np.stack([magnitude[..., echo][mask] for echo in range(times.size)]).astype(np.float32, copy=False)
    usable = np.isfinite(signal.sum(axis=0))
    peak = signal.max(axis=0, initial=0)
    scale = peak.max(where=usable, initial=0)
    usable &= peak > NO_SIGNAL * scale
    signal = signal[:, usable] / scale if scale > 0 else signal[:, usable]
    r2star = np.clip(RELAXOMETRY[method].load()(signal, times), 0, MAX_R2STAR)
    t2star = 1 / np.maximum(r2star, 1 / MAX_T2STAR)
    fitted = np.zeros(mask.shape, bool)
    fitted[mask] = usable
    maps = [_place(values, fitted) for values in (r2star, t2star, scale * _amplitude(signal, times, r2star))]
    return R2StarFit(*maps, method)


def applicable_method(method, echo_times):
    """Return `method`, or ``'loglinear'`` where it is ARLO and the echo times are not three or more evenly spaced."""
    spacing = np.diff(echo_times)
    even = spacing.size > 1 and np.ptp(spacing) < 0.02 * spacing.mean()
    return 'loglinear' if method == 'arlo' and not even else method


def r2_prime(r2star, r2, mask):
    """Return R2' = R2* - R2, what static fields add to the decay of a spin echo.

    Parameters
    ----------
    r2star : ndarray, shape (nx, ny, nz)
        1/s.
    r2 : ndarray, same shape, or float
        1/s. Not finite or not positive counts as unknown.
    mask : ndarray of bool, same shape

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        1/s; zero outside the mask, where `r2` is unknown, and where noise has made it negative.

    Raises
    ------
    ValueError
        If shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> r2_prime(np.array([30., 10., 20.]), np.array([12., 12., np.nan]), np.ones(3, bool))
    array([18.,  0.,  0.], dtype=float32)
    """
    r2 = np.broadcast_to(np.asarray(r2, np.float32), mask.shape) if np.ndim(r2) == 0 else np.asarray(r2, np.float32)
    check_same_shape(mask=mask, r2star=r2star, r2=r2)
    known = mask & np.isfinite(r2) & (r2 > 0)
    return np.where(known, np.maximum(r2star - np.where(known, r2, 0), 0), 0).astype(np.float32)


def fit_arlo(signal, echo_times):
    """Auto-regression on linear operations: the decay's integral over two spacings is T2* times its loss over them.

    Takes `signal` of shape (ne, n) at `echo_times` in s and returns R2* in 1/s, shape (n,).

    Pei M, Nguyen TD, Thimmappa ND, et al. Algorithm for fast monoexponential fitting based on auto-regression on linear
    operations (ARLO) of data. Magn Reson Med 2015;73:843-850. Their integral is Simpson's rule, which has a
    relative error of (R2* spacing)^4 / 180; here it is taken out, in closed form.
    """
    spacing = (echo_times[-1] - echo_times[0]) / (echo_times.size - 1)
    integral = (signal[:-2] + 4 * signal[1:-1] + signal[2:]) / 3
    loss = signal[:-2] - signal[2:]
    cross = np.einsum('en,en->n', integral, loss)
    top = cross + np.einsum('en,en->n', loss, loss) / 3
    bottom = np.einsum('en,en->n', integral, integral) + cross / 3
    # A decay of rate u per spacing gives g = 3 sinh(u) / (2 + cosh(u)) < 3: quadratic in exp(u).
    g = np.clip(top / bottom, 0, 2.999)
    return np.log((2 * g + np.sqrt(9 + 3 * g ** 2)) / (3 - g)) / np.float32(spacing)


def fit_loglinear(signal, echo_times):
    """Fit a line to the logarithm, weighted by the signal squared: the noise of a logarithm is that of s over s.

    Takes `signal` of shape (ne, n) at `echo_times` in s and returns R2* in 1/s, shape (n,).
    """
    weight = signal ** 2
    total = weight.sum(axis=0)
    times = echo_times.astype(np.float32)[:, None]
    centred = times - (weight * times).sum(axis=0) / total
    weight *= centred
    slope = np.einsum('en,en->n', weight, np.log(np.maximum(signal, np.float32(1e-12))))
    spread = np.einsum('en,en->n', weight, centred)
    # With signal in one echo only there is no line to fit: the decay is too fast to see.
    return np.divide(-slope, spread, out=np.full_like(slope, MAX_R2STAR), where=spread > 0)


def fit_nonlinear(signal, echo_times):
    """Fit amplitude and rate to the expected magnitude in Rician noise by Levenberg-Marquardt steps.

    Takes `signal` of shape (ne, n) at `echo_times` in s and returns R2* in 1/s, shape (n,). The expected magnitude does
    not fall below 1.25 SD of the noise, so that late echoes in it do not pass for signal that lasts. That SD is one for
    all voxels, from what the log-linear fit leaves over (`noise_sd`); with two echoes it cannot be known and is taken
    as zero.

    Gudbjartsson H, Patz S. The Rician distribution of noisy MRI data. Magn Reson Med 1995;34:910-914. Eq. 2.
    Marquardt DW. An algorithm for least-squares estimation of nonlinear parameters. J Soc Ind Appl Math
    1963;11:431-441.
    """
    start = np.clip(fit_loglinear(signal, echo_times), 0, MAX_R2STAR).astype(np.float32)
    amplitude = _amplitude(signal, echo_times, start)
    noise = noise_sd(signal, echo_times, start)
    return _fit_rician(signal, echo_times, amplitude, start, noise, _rician_means())


def noise_sd(signal, echo_times, r2star):
    """Return the SD of the noise of a magnitude, from the median misfit of the decays; 0 for two echoes.

    Takes `signal` of shape (ne, n), `echo_times` in s and R2* in 1/s, shape (n,). The median leaves out the voxels that
    no exponential fits.
    """
    freedom = echo_times.size - 2
    if freedom < 1 or not r2star.size:
        return 0.0
    some = slice(None, None, 1 + r2star.size // 100_000)
    signal, r2star = signal[:, some].astype(float), r2star[some]
    decay = np.exp(-np.multiply.outer(echo_times, r2star))
    misfit = np.sum((signal - _amplitude(signal, echo_times, r2star) * decay) ** 2, axis=0)
    return float(np.sqrt(np.median(misfit) / (2 * gammaincinv(freedom / 2, 0.5))))


def _rician_means():
    """Return the expected magnitude at signals of multiples of `RICE_STEP`, both in SD of the noise."""
    quarter = np.arange(0, RICE_TOP + RICE_STEP, RICE_STEP) ** 2 / 4
    return np.sqrt(np.pi / 2) * ((1 + 2 * quarter) * i0e(quarter) + 2 * quarter * i1e(quarter))


@njit(cache=True, inline='always')
def _expect(signal, noise, means):
    """Return the expected magnitude of a signal, and its derivative."""
    place = signal / (noise * RICE_STEP) if noise > 0 else np.inf
    if place >= means.size - 1:
        part = (noise / signal) ** 2 / 2 if signal > 0 else 0.0
        return signal * (1 + part), 1 - part
    low = int(place)
    slope = means[low + 1] - means[low]
    return noise * (means[low] + (place - low) * slope), slope / RICE_STEP


@njit(cache=True)
def _misfit(signal, times, amplitude, rate, noise, means):
    """Return the squared misfit, and the normal equations of a Gauss-Newton step, of one voxel."""
    total = aa = ar = rr = ga = gr = 0.0
    for e in range(times.size):
        decay = np.exp(-rate * times[e])
        expected, slope = _expect(amplitude * decay, noise, means)
        by_amplitude = slope * decay
        by_rate = -by_amplitude * amplitude * times[e]
        left = signal[e] - expected
        total += left * left
        aa += by_amplitude * by_amplitude
        ar += by_amplitude * by_rate
        rr += by_rate * by_rate
        ga += by_amplitude * left
        gr += by_rate * left
    return total, aa, ar, rr, ga, gr


@njit(cache=True, parallel=True)
def _fit_rician(signal, times, amplitudes, rates, noise, means):
    found = np.empty(rates.size, np.float32)
    for v in prange(rates.size):
        amplitude, rate, damping = float(amplitudes[v]), float(rates[v]), 1e-3
        total, aa, ar, rr, ga, gr = _misfit(signal[:, v], times, amplitude, rate, noise, means)
        for _ in range(ITERATIONS):
            p, q = aa * (1 + damping), rr * (1 + damping)
            determinant = p * q - ar * ar
            if not determinant > 0:
                break
            step = (p * gr - ar * ga) / determinant
            moved = min(max(rate + step, 0.0), MAX_R2STAR)
            larger = max(amplitude + (q * ga - ar * gr) / determinant, 0.0)
            trial = _misfit(signal[:, v], times, larger, moved, noise, means)
            if trial[0] <= total:
                done = abs(moved - rate) < TOLERANCE
                amplitude, rate, damping = larger, moved, damping / 10
                total, aa, ar, rr, ga, gr = trial
                if done:
                    break
            else:
                damping *= 10
        found[v] = rate
    return found


def _amplitude(signal, echo_times, r2star):
    decay = [np.exp(-r2star * np.float32(time)) for time in echo_times]
    return sum(s * d for s, d in zip(signal, decay)) / sum(d * d for d in decay)


def _place(values, where):
    volume = np.zeros(where.shape, np.float32)
    volume[where] = values
    return volume


def _check(magnitude, echo_times, mask, method):
    times = np.asarray(echo_times, dtype=float)
    if method not in RELAXOMETRY:
        raise ValueError(f'method is {method!r}, must be one of {", ".join(RELAXOMETRY)}')
    if times.ndim != 1 or times.size < 2:
        raise ValueError(f'echo_times is {times.tolist()}, must be two or more: one echo shows no decay')
    if not (np.all(np.diff(times) > 0) and times[0] >= 0 and times[-1] < 1):
        raise ValueError(f'echo_times is {times.tolist()}, must increase and be in seconds')
    if magnitude.shape != (*mask.shape, times.size) or mask.ndim != 3:
        raise ValueError(f'magnitude has shape {magnitude.shape}, must be that of mask, {mask.shape}, with one value '
                         f'for each of the {times.size} echo times')
    return times
