"""How fast the gradient-echo magnitude decays: R2*, T2* and the signal at echo time zero."""

from dataclasses import dataclass

import numpy as np

from qsmbids.core.methods import RELAXOMETRY

MAX_R2STAR = 500.0  # 1/s. A shorter T2* than 2 ms leaves nothing to see at the echo times of a brain scan.
MAX_T2STAR = 2.0    # s. That of water; a longer one means that no decay was seen.


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
    method : {'arlo', 'loglinear'}, default 'arlo'
        ARLO needs three or more evenly spaced echoes. For others the weighted log-linear fit takes its place, and the
        result says so.

    Returns
    -------
    R2StarFit
        `s0` is the least-squares amplitude of the decay that was found, whatever the method.

    Raises
    ------
    ValueError
        For an unknown method, one echo, echo times that do not increase or are not in seconds, or shapes that differ.
    """
    times = _check(magnitude, echo_times, mask, method)
    method = applicable_method(method, times)
    signal = np.stack([magnitude[..., echo][mask] for echo in range(times.size)]).astype(np.float32, copy=False)
    scale = signal.max(axis=0)
    usable = (scale > 0) & np.isfinite(signal.sum(axis=0))
    signal, scale = signal[:, usable] / scale[usable], scale[usable]
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
