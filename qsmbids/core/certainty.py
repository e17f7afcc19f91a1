"""How certain the field is: the noise of a scan from the misfit of its echoes, and the data weight that follows."""

import numpy as np
from scipy.special import gammaincinv

from qsmbids.core.checks import check_positive, check_same_shape
from qsmbids.core.unwrap import check_echoes


def noise_level(magnitude, residual, mask):
    """Return the SD of the noise in the real part of the signal, as the misfit of the echoes shows it; 0 for one echo.

    Each echo puts the part of its noise that is across the signal into ``residual^2 sum(m^2)``; the fit takes one of
    them. The median over the mask leaves out where the model fails.

    Parameters
    ----------
    magnitude : ndarray, shape (nx, ny, nz, ne)
    residual : ndarray, shape (nx, ny, nz)
        Relative misfit of the echo fit (`fieldmap.complex_residual`).
    mask : ndarray of bool, shape (nx, ny, nz)

    Returns
    -------
    float
        In the units of `magnitude`.
    """
    spare = magnitude.shape[-1] - 1
    if not spare:
        return 0.
    signal = magnitude[mask]
    energy = residual[mask] ** 2 * np.einsum('ne,ne->n', signal, signal)
    # Over the median of chi squared.
    return float(np.sqrt(np.median(energy) / (2 * gammaincinv(spare / 2, 0.5))))


def data_weight(weighting, magnitude, residual, echo_times, mask, threshold=0.3):
    """Return how much each voxel counts in an inversion: `residual_weight`, `field_weight`, or None for 'none'."""
    if weighting == 'residual':
        return residual_weight(residual, mask, threshold)
    return field_weight(magnitude, residual, echo_times, mask) if weighting == 'certainty' else None


def residual_weight(residual, mask, threshold=0.3):
    """Return how little the echoes disagree: 1 for no residual, 0 from a threshold on.

    Parameters
    ----------
    residual : ndarray, shape (nx, ny, nz)
        Relative misfit of the echo fit.
    mask : ndarray of bool, shape (nx, ny, nz)
    threshold : float, default 0.3

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        0 to 1; zero outside the mask.

    Raises
    ------
    ValueError
        If shapes differ or `threshold` is not positive.
    """
    check_same_shape(mask=mask, residual=residual)
    check_positive(threshold=threshold)
    return np.where(mask, np.clip(1 - residual / np.float32(threshold), 0, 1), 0).astype(np.float32)


def field_weight(magnitude, residual, echo_times, mask):
    """Return how certain the field is in each voxel: the data weight of an inversion.

    The weight is one over the SD of the field, ``noise / sqrt(sum(m^2 TE^2))``, relative to the median. The noise of a
    voxel is that of the scan (`noise_level`), or what the misfit of its own echoes says if that is more: dephasing,
    flow and motion make a field wrong, not just noisy. What is more certain than the median counts as much as it does,
    so that a bright vessel does not outweigh a brain, and the strength of a regularisation means the same as without.

    Parameters
    ----------
    magnitude : ndarray, shape (nx, ny, nz, ne)
        Arbitrary units.
    residual : ndarray, shape (nx, ny, nz)
        Relative misfit of the echo fit.
    echo_times : sequence of float
        s.
    mask : ndarray of bool, shape (nx, ny, nz)

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        0 to 1; zero outside the mask.

    Raises
    ------
    ValueError
        If shapes disagree, the mask is empty, or the magnitude is zero in half of it.
    """
    echoes = check_echoes(magnitude, mask, echo_times)
    check_same_shape(mask=echoes.mask, residual=residual)
    signal, spare = echoes.phase[echoes.mask], echoes.times.size - 1
    weight = np.sqrt(np.einsum('ne,ne,e->n', signal, signal, echoes.times ** 2))
    noise = noise_level(echoes.phase, residual, echoes.mask)
    if noise:
        own = residual[echoes.mask] * np.sqrt(np.einsum('ne,ne->n', signal, signal) / spare)
        weight /= np.maximum(1, own / noise)
    middle = np.median(weight)
    if not middle:
        raise ValueError('magnitude is zero in half of the mask, must show something there')
    volume = np.zeros(echoes.mask.shape, np.float32)
    volume[echoes.mask] = np.minimum(weight / middle, 1)
    return volume
