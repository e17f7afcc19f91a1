"""The channels of a receive array to one complex image per echo.

References
----------
.. [1] Eckstein K, Dymerska B, Bachrata B, et al. Computationally efficient combination of multi-channel phase data
   from multi-echo acquisitions (ASPIRE). Magn Reson Med 2018;79:2996-3006. Eq. 3 to 5 (MCPC-3D-S).
"""

import numpy as np

from qsmbids.core.checks import check_voxel_size
from qsmbids.core.fieldmap import smooth_angle
from qsmbids.core.phase import wrap
from qsmbids.core.unwrap import check_echo_times, unwrap_romeo

TISSUE = 0.1        # share of the bright end of the magnitude from where on there is signal.


def combine_coils(channels, echo_times, voxel_size, *, sigma_mm=8.):
    """Combine channels after taking the phase offset of each out (MCPC-3D-S) [1]_.

    The phase that grows from the first echo to the second is the same in all channels; their complex products say it.
    What is left of a channel's first echo at time zero, smoothed as in `fieldmap.phase_offset_mcpc3ds`, is its offset.
    The channels, without it, are added weighted by their magnitudes.

    Parameters
    ----------
    channels : sequence of (magnitude, phase)
        Both of shape (nx, ny, nz, ne), phase in rad. Each item is asked for twice, one after the other, and not kept:
        a sequence that loads on demand needs the memory of one channel.
    echo_times : sequence of float
        s, increasing; two at least.
    voxel_size : sequence of float
        mm.
    sigma_mm : float, default 8
        Standard deviation of the Gaussian that smooths the offsets.

    Returns
    -------
    magnitude, phase : ndarray, float32, shape (nx, ny, nz, ne)
        Root of the sum of squares; rad in (-pi, pi].

    Raises
    ------
    ValueError
        If there is no channel, one echo only, channels differ in shape, or all are zero.

    Notes
    -----
    Peak memory beyond a channel: that of three complex channels.
    """
    voxel_size = check_voxel_size(voxel_size)
    if len(channels) == 0:
        raise ValueError('channels is empty, must hold one at least')
    power, step = _sum_channels(channels)
    times = check_echo_times(echo_times, power.shape[3])
    if times.size < 2:
        raise ValueError('channels have one echo; the offset of a coil needs two at least')
    bright = np.sqrt(power[..., 0])
    mask = bright > TISSUE * np.percentile(bright, 98)
    growth = unwrap_romeo(np.angle(step), mask, magnitude=np.sqrt(np.abs(step)), voxel_size=voxel_size)
    growth *= np.float32(times[0] / (times[1] - times[0]))
    total = np.zeros(power.shape, np.complex64)
    for channel in range(len(channels)):
        magnitude, phase = channels[channel]
        weight = magnitude[..., 0] * magnitude[..., 1] * mask
        if not weight.any():
            continue
        offset = smooth_angle(phase[..., 0] - growth, weight, mask, voxel_size, sigma_mm)
        total += magnitude ** 2 * np.exp(1j * (phase - offset[..., None]))
    return np.sqrt(power), wrap(np.angle(total))


def _sum_channels(channels):
    """Return the summed squares of the magnitudes, and the summed products of the first two echoes."""
    power = step = 0
    for channel in range(len(channels)):
        magnitude, phase = channels[channel]
        if np.ndim(magnitude) != 4 or np.shape(magnitude) != np.shape(phase):
            raise ValueError(f'channel {channel} has magnitude of shape {np.shape(magnitude)} and phase of '
                             f'{np.shape(phase)}, must have the same, (nx, ny, nz, ne)')
        if channel and magnitude.shape != power.shape:
            raise ValueError(f'channel {channel} has shape {magnitude.shape}, must have that of the first, '
                             f'{power.shape}')
        power = power + np.square(magnitude, dtype=np.float32)
        second = min(1, magnitude.shape[3] - 1)
        growth = np.exp(1j * (phase[..., second] - phase[..., 0]))
        step = step + (magnitude[..., 0] * magnitude[..., second] * growth).astype(np.complex64)
    if not power.any():
        raise ValueError('channels are zero everywhere')
    return power, step
