"""Figures of merit of one reconstruction, for the quality table of a cohort."""

import numpy as np

from qsmbids.core.agreement import compare_maps
from qsmbids.core.consistency import (LEAST_CONTRAST, angle_between, backward_kernel, consistency_flags, field_axis,
                                      field_flags)

_SEVERITIES = {'warn': 1, 'fail': 2}


def quality_metrics(*, voxel_size, magnitude, brain, reliable=None, qsm=None, residual=None, total_field=None,
                    local_field=None, chi=None, r2star=None):
    """Return the quality metrics that the given maps allow.

    Parameters
    ----------
    voxel_size : sequence of float
        mm.
    magnitude : ndarray, shape (nx, ny, nz, ne)
    brain, reliable, qsm : ndarray of bool, shape (nx, ny, nz)
        Brain mask, its reliable part, and where the susceptibility is known.
    residual : ndarray
        Relative residual of the echo fit, 0 to 2.
    total_field, local_field : ndarray
        ppm.
    chi : dict of str to ndarray
        Susceptibility maps in ppm by the name of the method.
    r2star : ndarray
        1/s.

    Returns
    -------
    dict of str to float
        Volumes in mL, fractions from 0 to 1, fields and susceptibilities in ppm, rates in 1/s.
    """
    millilitres = float(np.prod(voxel_size)) / 1000
    metrics = {'brain_volume_ml': brain.sum() * millilitres}
    first = magnitude[..., 0]
    noise = noise_level(first, brain)
    if noise:
        metrics['snr_first_echo'] = np.median(first[brain]) / noise
    if reliable is not None:
        metrics['reliable_fraction'] = reliable.sum() / brain.sum()
    if qsm is not None:
        metrics['qsm_volume_ml'] = qsm.sum() * millilitres
        metrics['qsm_fraction'] = qsm.sum() / brain.sum()
    if residual is not None:
        metrics['residual_median'] = np.median(residual[brain])
        metrics['residual_p95'] = np.percentile(residual[brain], 95)
    if total_field is not None:
        metrics['total_field_sd_ppm'] = total_field[brain].std()
    if local_field is not None:
        metrics['local_field_sd_ppm'] = local_field[qsm].std()
    for name, volume in (chi or {}).items():
        metrics[f'chi_{name}_sd_ppm'] = volume[qsm].std()
        metrics[f'chi_{name}_p1_ppm'], metrics[f'chi_{name}_p99_ppm'] = np.percentile(volume[qsm], (1, 99))
    if r2star is not None:
        metrics['r2star_median'] = np.median(r2star[brain])
    return {name: float(value) for name, value in metrics.items()}


def consistency_metrics(local_field, chi, mask, voxel_size, b0_dir):
    """Return whether the field contradicts the direction of B0, and each map its field.

    Parameters
    ----------
    local_field : ndarray, shape (nx, ny, nz)
        ppm.
    chi : dict of str to ndarray
        Susceptibility maps in ppm by the name of the method.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where they are known.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float
        Unit vector of the main field in voxel axes.

    Returns
    -------
    metrics : dict of str to float
        Numbers of :class:`~qsmbids.core.consistency.BackwardKernel`, angles in degrees, and for each map the number of
        its worst flag: 0 none, 1 a warning, 2 a failure. What cannot be known is left out.
    warnings : list of str
        The reasons.
    """
    axis = field_axis(local_field, mask, voxel_size)
    metrics = {'field_b0_contrast': axis.contrast}
    if axis.contrast >= LEAST_CONTRAST:
        metrics['field_b0_angle_deg'] = angle_between(axis.direction, b0_dir)
    warnings = [flag.reason for flag in field_flags(axis, b0_dir)]
    for name, volume in chi.items():
        kernel = backward_kernel(local_field, volume, mask, voxel_size, b0_dir=b0_dir)
        flags = consistency_flags(kernel)
        metrics |= {f'chi_{name}_{part}': value for part, value in (
            ('kernel_gain', kernel.gain), ('kernel_offset', kernel.offset), ('kernel_rms', kernel.rms_difference),
            ('kernel_coherence', kernel.coherence), ('kernel_angle_deg', kernel.axis_angle),
            ('field_nrmse', kernel.field_nrmse), ('flag', max((_SEVERITIES[f.severity] for f in flags), default=0)))}
        warnings += [f'{name} map{" is not to be trusted" * (flag.severity == "fail")}: {flag.reason}'
                     for flag in flags]
    return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}, warnings


def noise_level(magnitude, brain):
    """Return the SD of the noise of real and imaginary part, from the air around the head; None if there is too little.

    Parameters
    ----------
    magnitude : ndarray, shape (nx, ny, nz)
        One echo.
    brain : ndarray of bool, shape (nx, ny, nz)
    """
    outside = magnitude[~brain]
    return _rayleigh_scale(outside[outside > 0])


def agreement_metrics(chi, mask):
    """Return how every map stands to the first of them.

    Parameters
    ----------
    chi : dict of str to ndarray
        Susceptibility maps in ppm by the name of the method.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where they are known.

    Returns
    -------
    metrics : dict of str to float
        Slope, correlation and difference of :class:`~qsmbids.core.agreement.Agreement`; what cannot be known is left
        out.
    rows : list of dict
        The same by level of susceptibility; a limit that is none is None.
    """
    metrics, rows, (first, *others) = {}, [], chi
    for name in others:
        found = compare_maps(chi[first], chi[name], mask)
        metrics |= {f'chi_{name}_{part}': value for part, value in (
            ('agreement_slope', found.slope), ('agreement_correlation', found.correlation),
            ('difference_rms_ppm', found.rms)) if np.isfinite(value)}
        rows += [{'map': name, 'against': first, 'low_ppm': _finite(level.low), 'high_ppm': _finite(level.high),
                  'voxels': level.voxels, 'difference_ppm': level.difference, 'rms_ppm': level.rms}
                 for level in found.levels]
    return metrics, rows


def _finite(value):
    return value if np.isfinite(value) else None


def _rayleigh_scale(values, cut=2.0):
    """Return the noise SD of which the darkest `values`, those of air, are the magnitude; None if there are too few.

    A Rayleigh distribution that ends at `cut` times its scale has a known mean square; the scale that agrees with
    the values below its own cut is found by repetition. What is brighter than noise does not count.
    """
    if values.size < 1000:
        return None
    loss = np.exp(-cut ** 2 / 2)
    mean_square = 2 - cut ** 2 * loss / (1 - loss)
    scale = np.median(values)
    for _ in range(30):
        scale = np.sqrt(np.mean(values[values < cut * scale] ** 2) / mean_square)
    return float(scale)
