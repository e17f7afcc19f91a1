"""How close an estimate is to the truth: susceptibility maps, regions, segmentations, lesions.

The mask is always the caller's, never the estimate's own support: otherwise eroding would be free. What the estimate
leaves out counts as zero, and its coverage is reported.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from qsmbids.core.checks import check_mask, check_positive, check_same_shape, check_volume, check_voxel_size
from qsmbids.core.grid import bounding_box

LOG_SIGMA, LOG_RADIUS = 1.5, 7  # voxels: a kernel of 15
XSIM_WINDOW, XSIM_C1, XSIM_C2 = 5, 0.01 ** 2, 0.001 ** 2  # for a range of 1 ppm
SSIM_SIGMA, SSIM_RADIUS, SSIM_K1, SSIM_K2 = 1.5, 5, 0.01, 0.03
RIM_VOXELS = 4
FALSE_POSITIVES = (0.25, 0.5, 1, 2, 4, 8)


def nrmse(estimate, truth, mask):
    """Return the normalised root-mean-square error in percent, 100 ||(x - mean x) - (t - mean t)|| / ||t - mean t||.

    Parameters
    ----------
    estimate, truth : ndarray, shape (nx, ny, nz)
        ppm.
    mask : ndarray of bool, shape (nx, ny, nz)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If shapes differ, a voxel inside the mask is not finite, or the truth is constant there.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.zeros((8, 8, 8))
    >>> truth[2:6, 2:6, 2:6] = .1
    >>> mask = np.ones(truth.shape, bool)
    >>> round(nrmse(truth + .5, truth, mask), 1), round(nrmse(.8 * truth, truth, mask), 1)
    (0.0, 20.0)
    """
    x, t = _deviations(estimate, truth, mask)
    return 100 * float(np.linalg.norm(x - t) / np.linalg.norm(t))


def detrended_nrmse(estimate, truth, mask):
    """Return the NRMSE in percent of (x - b) / a, where x = a t + b is the least-squares line.

    Scale and offset of the estimate do not count, nor does its sign: look at the slope as well. Infinite if the
    estimate does not follow the truth at all. Parameters and errors as for :func:`nrmse`.
    """
    x, t = _deviations(estimate, truth, mask)
    a = (x @ t) / (t @ t)
    return 100 * float(np.linalg.norm(x / a - t) / np.linalg.norm(t)) if a else np.inf


def hfen(estimate, truth, mask):
    """Return the high-frequency error norm in percent, 100 ||LoG(x) - LoG(t)|| / ||LoG(t)|| in the mask.

    Both maps are masked first, so that a perfect map scores 0 whatever lies outside. The Laplacian of a Gaussian has a
    sigma of 1.5 and a kernel of 15 voxels per axis whose sum is zero. Parameters and errors as for :func:`nrmse`.

    Notes
    -----
    Ravishankar S, Bresler Y. MR image reconstruction from highly undersampled k-space data by dictionary learning.
    IEEE Trans Med Imaging 2011;30:1028-1041.
    """
    _deviations(estimate, truth, mask)
    x, t, inside = _crop(estimate, truth, mask, LOG_RADIUS)
    edges = np.linalg.norm(_laplacian_of_gaussian(t)[inside])
    return 100 * float(np.linalg.norm(_laplacian_of_gaussian(x - t)[inside]) / edges)


def xsim(estimate, truth, mask):
    """Return the structural similarity for susceptibility maps: mean over the mask, 1 is perfect.

    Uniform window of 5 voxels per axis, L = 1 ppm, K1 = 0.01, K2 = 0.001; both maps are masked first. It depends on the
    zero of the maps. Parameters and errors as for :func:`nrmse`.

    Notes
    -----
    Milovic C, Tejos C, Silva J, Shmueli K, Irarrazaval P. XSIM: a structural similarity index measure optimized for
    MRI QSM. Magn Reson Med 2025. doi:10.1002/mrm.30271
    """
    x, t, inside = _crop(estimate, truth, mask, XSIM_WINDOW // 2)
    similarity = _similarity(x, t, XSIM_C1, XSIM_C2,
                             lambda volume: ndimage.uniform_filter(volume, XSIM_WINDOW, mode='constant'))
    return float(similarity[inside].mean())


def ssim(estimate, truth, mask):
    """Return the structural similarity over the mask, and over the whole volume, which zeros outside flatter.

    Gaussian window with a sigma of 1.5 voxels, K1 = 0.01, K2 = 0.03; L is the range of the truth in the mask. Both maps
    are masked first. Parameters and errors as for :func:`nrmse`.

    Returns
    -------
    in_mask, whole_volume : float

    Notes
    -----
    Wang Z, Bovik AC, Sheikh HR, Simoncelli EP. Image quality assessment: from error visibility to structural
    similarity. IEEE Trans Image Process 2004;13:600-612.
    """
    _deviations(estimate, truth, mask)
    x, t, inside = _crop(estimate, truth, mask, SSIM_RADIUS)
    extent = np.ptp(t[inside])
    similarity = _similarity(x, t, (SSIM_K1 * extent) ** 2, (SSIM_K2 * extent) ** 2,
                             lambda volume: ndimage.gaussian_filter(volume, SSIM_SIGMA, mode='constant',
                                                                radius=SSIM_RADIUS))
    # Away from the mask all is zero, and alike.
    return float(similarity[inside].mean()), float(1 + (similarity - 1).sum() / np.size(mask))


class Line(NamedTuple):
    """Least-squares line of the estimate on the truth: x = slope t + intercept, and Pearson's correlation."""

    slope: float
    intercept: float
    correlation: float


def linear_fit(estimate, truth, mask):
    """Return the :class:`Line` over the voxels of a mask; the correlation of a constant estimate is 0.

    Parameters and errors as for :func:`nrmse`.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.linspace(0, .2, 27).reshape(3, 3, 3)
    >>> line = linear_fit(.8 * truth + .01, truth, np.ones(truth.shape, bool))
    >>> round(line.slope, 3), round(line.intercept, 3), round(line.correlation, 3)
    (0.8, 0.01, 1.0)
    """
    x, t = _deviations(estimate, truth, mask)
    slope = (x @ t) / (t @ t)
    offset = estimate[mask].mean(dtype=float) - slope * truth[mask].mean(dtype=float)
    norm = np.linalg.norm(x) * np.linalg.norm(t)
    return Line(float(slope), float(offset), float(x @ t / norm) if norm else 0.0)


def covered(estimate, mask):
    """Return the voxels of the mask where the estimate is known, bool: finite and not zero."""
    check_same_shape(mask=mask, estimate=estimate)
    return mask & np.isfinite(estimate) & (estimate != 0)


def align_reference(estimate, truth, mask):
    """Make both maps relative to the same voxels, as susceptibility is known up to a constant only.

    Parameters
    ----------
    estimate, truth : ndarray, shape (nx, ny, nz)
        ppm. Where the estimate is not finite or zero, it is unknown.
    mask : ndarray of bool, shape (nx, ny, nz)

    Returns
    -------
    estimate, truth : ndarray, float32, shape (nx, ny, nz)
        The truth has a mean of zero over the mask, the estimate the mean of the truth over what it covers of the mask,
        and zero where it covers nothing. Both are zero outside of the mask.

    Raises
    ------
    ValueError
        If shapes differ, the truth is not finite inside the mask, or the estimate covers nothing of it.
    """
    mask = check_mask(mask)
    truth = check_volume('truth', truth, mask)
    known = covered(estimate, mask)
    if not known.any():
        raise ValueError('estimate is zero or not finite everywhere in mask, must have values there')
    truth = np.where(mask, truth - truth[mask].mean(dtype=float), 0).astype(np.float32)
    shift = truth[known].mean(dtype=float) - estimate[known].mean(dtype=float)
    aligned = np.zeros_like(truth)
    aligned[known] = estimate[known] + shift
    return aligned, truth


def score_map(estimate, truth, mask):
    """Return all metrics of a susceptibility map that need no regions, after :func:`align_reference`.

    Parameters and errors as for :func:`align_reference`.

    Returns
    -------
    dict of str to float
        coverage (fraction), nrmse, detrended_nrmse, hfen (%), xsim, ssim, ssim_whole_volume, correlation, slope.
    """
    mask = check_mask(mask)
    x, t = align_reference(estimate, truth, mask)
    line = linear_fit(x, t, mask)
    in_mask, whole_volume = ssim(x, t, mask)
    return {'coverage': float(covered(estimate, mask).sum() / mask.sum()), 'nrmse': nrmse(x, t, mask),
            'detrended_nrmse': detrended_nrmse(x, t, mask), 'hfen': hfen(x, t, mask), 'xsim': xsim(x, t, mask),
            'ssim': in_mask, 'ssim_whole_volume': whole_volume, 'correlation': line.correlation, 'slope': line.slope}


def score_regions(estimate, truth, mask, labels):
    """Compare means over regions, after :func:`align_reference`.

    Parameters
    ----------
    estimate, truth, mask
        As for :func:`align_reference`.
    labels : ndarray of int, shape (nx, ny, nz)
        0 is background.

    Returns
    -------
    dict of int to dict
        By label, for those inside of the mask: voxels; coverage (fraction of them that the estimate covers); truth,
        estimate (mean, ppm; the estimate's over what it covers, None if that is nothing); sd (of the estimate, ppm);
        bias (ppm), bias_percent (of the truth's magnitude); rmse (ppm, over all voxels).

    Raises
    ------
    ValueError
        As :func:`align_reference`, or if `labels` is negative or of another shape.
    """
    mask = check_mask(mask)
    check_same_shape(mask=mask, labels=labels)
    x, t = align_reference(estimate, truth, mask)
    index, known = labels[mask].astype(int), covered(estimate, mask)[mask]
    if index.min() < 0:
        raise ValueError(f'labels has the value {index.min()}, must not be negative')
    x, t = x[mask].astype(float), t[mask].astype(float)
    voxels, seen = np.bincount(index), np.bincount(index, known)
    with np.errstate(invalid='ignore', divide='ignore'):
        true, mean = np.bincount(index, t) / voxels, np.bincount(index, x * known) / seen
        spread = np.sqrt(np.bincount(index, np.square(x - mean[index], where=known, out=np.zeros_like(x))) / seen)
        error = np.sqrt(np.bincount(index, (x - t) ** 2) / voxels)
        percent = 100 * (mean - true) / np.abs(true)
    return {int(i): {'voxels': int(voxels[i]), 'coverage': float(seen[i] / voxels[i]), 'truth': float(true[i]),
                     'estimate': _finite(mean[i]), 'sd': _finite(spread[i]), 'bias': _finite(mean[i] - true[i]),
                     'bias_percent': _finite(percent[i]), 'rmse': float(error[i])}
            for i in np.flatnonzero(voxels) if i}


def region_slope_error(estimate_means, truth_means):
    """Return ``|1 - s|``, where s is the slope of the line of the estimate's means over regions on the truth's.

    With the deep grey nuclei as regions this is the challenge's measure of linearity.

    Raises
    ------
    ValueError
        If there are fewer than two regions, or all of them have the same truth.
    """
    x, t = np.asarray(estimate_means, float), np.asarray(truth_means, float)
    if x.shape != t.shape or t.size < 2 or not np.ptp(t):
        raise ValueError(f'estimate_means and truth_means have {x.size} and {t.size} values, must have the same number '
                         'of at least two that differ')
    t = t - t.mean()
    return float(abs(1 - x @ t / (t @ t)))


class Calcification(NamedTuple):
    """How well a calcification is recovered.

    Attributes
    ----------
    moment_deviation : float
        ``100 |m_x - m_t| / |m_t|`` in percent; the moment m is the sum of the susceptibility over the region times the
        volume of a voxel.
    streaking : float
        SD of the residual x - t in the rim within 4 voxels around the region, over the magnitude of the truth's mean
        in the region.
    """

    moment_deviation: float
    streaking: float


def calcification(estimate, truth, mask, region):
    """Return the :class:`Calcification` scores of a region.

    Parameters
    ----------
    estimate, truth : ndarray, shape (nx, ny, nz)
        ppm, relative to the same zero.
    mask, region : ndarray of bool, shape (nx, ny, nz)
        Only what of the region and its rim lies in the mask counts.

    Raises
    ------
    ValueError
        If the region or its rim is empty, or its true moment is zero.
    """
    mask = check_mask(mask)
    x, t = check_volume('estimate', estimate, mask), check_volume('truth', truth, mask)
    check_same_shape(mask=mask, region=region)
    region = check_mask(region & mask)
    window = _around(region, RIM_VOXELS)
    rim = mask[window] & ~region[window] & (ndimage.distance_transform_edt(~region[window]) <= RIM_VOXELS)
    true, found = t[region].mean(dtype=float), x[region].mean(dtype=float)
    if not rim.any() or not true:
        raise ValueError(f'region has a rim of {rim.sum()} voxels and a mean truth of {true:g}, must have neither zero')
    # The volume is the same in both moments.
    return Calcification(float(100 * abs(found - true) / abs(true)),
                         float((x[window] - t[window])[rim].std(dtype=float) / abs(true)))


class Agreement(NamedTuple):
    """Bland-Altman statistics of n differences: mean, SD, and the limits of agreement, mean -/+ 1.96 SD."""

    n: int
    bias: float
    sd: float
    lower: float
    upper: float


def bland_altman(estimates, truths):
    """Return the :class:`Agreement` of paired values, such as means over regions.

    Raises
    ------
    ValueError
        If there are fewer than two pairs.

    Notes
    -----
    Bland JM, Altman DG. Statistical methods for assessing agreement between two methods of clinical measurement.
    Lancet 1986;327:307-310.
    """
    difference = np.asarray(estimates, float) - np.asarray(truths, float)
    if difference.size < 2:
        raise ValueError(f'estimates has {difference.size} values, must have at least two')
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    return Agreement(difference.size, bias, sd, bias - 1.96 * sd, bias + 1.96 * sd)


def dice(a, b):
    """Return the overlap ``2 |A & B| / (|A| + |B|)`` of two masks of the same shape; nan if both are empty.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(dice(np.array([True, True, False]), np.array([True, False, False]))), 3)
    0.667
    """
    check_same_shape(a=a, b=b)
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else np.nan


class SurfaceDistance(NamedTuple):
    """Distances in mm between the surfaces of two masks.

    Attributes
    ----------
    hausdorff95 : float
        The larger of the 95th percentiles of the distances from one surface to the other and back.
    mean : float
        Over the voxels of both surfaces.
    """

    hausdorff95: float
    mean: float


def surface_distance(a, b, voxel_size):
    """Return the :class:`SurfaceDistance` of two masks, between the centres of their outermost voxels.

    Parameters
    ----------
    a, b : ndarray of bool, shape (nx, ny, nz)
    voxel_size : sequence of float
        mm.

    Raises
    ------
    ValueError
        If shapes differ or a mask is empty.
    """
    check_same_shape(a=a, b=b)
    voxel_size = check_voxel_size(voxel_size)
    a, b = check_mask(a), check_mask(b)
    window = _around(a | b, 1)
    surfaces = [part & ~ndimage.binary_erosion(part) for part in (a[window], b[window])]
    there, back = (ndimage.distance_transform_edt(~goal, sampling=voxel_size)[start]
                   for start, goal in (surfaces, surfaces[::-1]))
    return SurfaceDistance(float(max(np.percentile(there, 95), np.percentile(back, 95))),
                           float(np.concatenate((there, back)).mean()))


def near_by_distance(found, lesions, radii=0.0, tolerance=2.5):
    """Return which detections are close enough to which lesions to be a hit.

    Parameters
    ----------
    found : array_like, shape (m, 3)
        Centres, mm.
    lesions : array_like, shape (n, 3)
        Centres, mm.
    radii : float or array_like, shape (n,), default 0
        Of the lesions, mm.
    tolerance : float, default 2.5
        mm. The distance may be as long as this or as the lesion's radius, whichever is longer.

    Returns
    -------
    ndarray of bool, shape (m, n)
    """
    check_positive(tolerance=tolerance)
    found, lesions = (np.asarray(points, float).reshape(-1, 3) for points in (found, lesions))
    distance = np.linalg.norm(found[:, None] - lesions[None], axis=2)
    return distance <= np.maximum(tolerance, np.broadcast_to(radii, len(lesions)))


def pair_by_distance(found, lesions, radii=0.0, tolerance=2.5):
    """Pair detections and lesions one to one: as many as are near, and of these pairings the one of least distance.

    Parameters
    ----------
    found, lesions, radii, tolerance
        See :func:`near_by_distance`.

    Returns
    -------
    ndarray of int, shape (k, 2)
        Indices of detection and lesion.
    """
    near = near_by_distance(found, lesions, radii, tolerance)
    found, lesions = (np.asarray(points, float).reshape(-1, 3) for points in (found, lesions))
    distance = np.linalg.norm(found[:, None] - lesions[None], axis=2)
    # Dearer than all near pairs together.
    pairs = np.column_stack(linear_sum_assignment(np.where(near, distance, 1 + distance[near].sum())))
    return pairs[near[tuple(pairs.T)]]


def near_by_overlap(found_labels, lesion_labels, least=0.1):
    """Return which detections overlap which lesions enough to be a hit.

    Parameters
    ----------
    found_labels, lesion_labels : ndarray of int, shape (nx, ny, nz)
        1 to m and 1 to n; 0 is background.
    least : float, default 0.1
        Of intersection over union.

    Returns
    -------
    ndarray of bool, shape (m, n)
    """
    check_same_shape(found_labels=found_labels, lesion_labels=lesion_labels)
    check_positive(least=least)
    m, n = int(found_labels.max()), int(lesion_labels.max())
    pairs = found_labels.ravel().astype(np.int64) * (n + 1) + lesion_labels.ravel()
    counts = np.bincount(pairs, minlength=(m + 1) * (n + 1)).reshape(m + 1, n + 1)
    union = counts.sum(1, keepdims=True) + counts.sum(0, keepdims=True) - counts
    return (counts >= least * union)[1:, 1:] & (counts[1:, 1:] > 0)


@dataclass(frozen=True)
class Detections:
    """What a detector found in one head.

    Attributes
    ----------
    scores : ndarray, shape (m,)
        Falling.
    hits : ndarray of bool, shape (m,)
        Whether the detection finds a lesion that none with a higher score has found.
    lesions : int
    """

    scores: np.ndarray
    hits: np.ndarray
    lesions: int


def match_lesions(near, scores):
    """Match detections and lesions one to one.

    Parameters
    ----------
    near : array_like of bool, shape (m, n)
        Which of m detections is a hit of which of n lesions, as from :func:`near_by_distance`.
    scores : array_like, shape (m,)

    Returns
    -------
    Detections
        For every threshold of the score the hits above it are as many as a one-to-one matching can have. A second
        detection of the same lesion is a false positive.

    Raises
    ------
    ValueError
        If the number of scores differs from that of detections, or one is not finite.
    """
    near, scores = np.asarray(near, bool), np.asarray(scores, float)
    if near.ndim != 2 or scores.shape != near.shape[:1] or not np.isfinite(scores).all():
        raise ValueError(f'scores has shape {scores.shape}, must hold one finite number for each row of near, '
                         f'{near.shape}')
    order = np.argsort(-scores, kind='stable')
    hits = np.zeros(len(scores), bool)
    for rank in np.flatnonzero(near[order].any(axis=1)):
        # A detection counts if it can be matched together with all hits before it: so the count is the largest that
        # there is, at every threshold.
        hits[rank] = True
        together = csr_array(near[order[hits]])
        hits[rank] = (maximum_bipartite_matching(together, perm_type='column') >= 0).all()
    return Detections(scores[order], hits, near.shape[1])


class FrocPoint(NamedTuple):
    """The highest sensitivity with at most so many false positives per head, its threshold, and its 95 % interval.

    The threshold is None if even the highest score has more false positives; then the sensitivity is 0. The interval is
    None for a single head.
    """

    false_positives: float
    sensitivity: float
    lower: float | None
    upper: float | None
    threshold: float | None


@dataclass(frozen=True)
class Froc:
    """Free-response receiver operating characteristic.

    Attributes
    ----------
    thresholds, sensitivity, false_positives : ndarray, shape (k,)
        Of the score, falling; sensitivity over all lesions; false positives per head.
    points : tuple of FrocPoint
    """

    thresholds: np.ndarray
    sensitivity: np.ndarray
    false_positives: np.ndarray
    points: tuple[FrocPoint, ...]


def froc(heads, at=FALSE_POSITIVES, resamples=1000, seed=0):
    """Return the :class:`Froc` over heads.

    Parameters
    ----------
    heads : sequence of Detections
        Heads without lesions belong to it: they count for the false positives.
    at : sequence of float
        False positives per head for which to state the sensitivity.
    resamples : int, default 1000
        Of the bootstrap over heads, whose percentiles 2.5 and 97.5 are the interval.
    seed : int, default 0

    Raises
    ------
    ValueError
        If there is no head, or no lesion in any of them.
    """
    lesions = np.array([head.lesions for head in heads])
    if not lesions.sum():
        raise ValueError(f'heads has {len(lesions)} heads without any lesion, must have at least one lesion')
    scores = np.concatenate([head.scores for head in heads])
    order = np.argsort(-scores, kind='stable')
    hits = np.concatenate([head.hits for head in heads])[order]
    owner = np.repeat(np.arange(len(heads)), [len(head.scores) for head in heads])[order]
    # Detections of the same score stand or fall together.
    last = np.append(np.diff(scores[order]) != 0, True)[:len(order)]
    thresholds = scores[order][last]

    def curve(weight):
        of_each = weight[owner]
        return (np.cumsum(of_each * hits)[last] / (weight @ lesions), np.cumsum(of_each * ~hits)[last] / weight.sum())

    def best(sensitivity, false_positives):
        allowed = np.searchsorted(false_positives, at, side='right')
        return np.append(0.0, sensitivity)[allowed], allowed

    sensitivity, false_positives = curve(np.ones(len(heads)))
    lower = upper = np.full(len(at), None)
    if len(heads) > 1:
        drawn = np.random.default_rng(seed).multinomial(len(heads), np.full(len(heads), 1 / len(heads)), resamples)
        spread = [best(*curve(weight))[0] for weight in drawn if weight @ lesions]
        lower, upper = np.percentile(spread, (2.5, 97.5), axis=0).tolist()
    values, allowed = best(sensitivity, false_positives)
    points = tuple(FrocPoint(float(rate), float(value), low, high, float(thresholds[count - 1]) if count else None)
                   for rate, value, low, high, count in zip(at, values, lower, upper, allowed))
    return Froc(thresholds, sensitivity, false_positives, points)


def _deviations(estimate, truth, mask):
    """Return estimate and truth in the mask as float64 vectors, each less its mean; ValueError if unusable."""
    mask = check_mask(mask)
    x = check_volume('estimate', estimate, mask)[mask].astype(float)
    t = check_volume('truth', truth, mask)[mask].astype(float)
    if not np.ptp(t):
        raise ValueError('truth is constant inside the mask, must vary')
    return x - x.mean(), t - t.mean()


def _crop(estimate, truth, mask, margin):
    """Return masked maps, float64, and the mask, cut to the mask and `margin` voxels around it."""
    mask = check_mask(mask)
    x, t = check_volume('estimate', estimate, mask), check_volume('truth', truth, mask)
    window = _around(mask, margin)
    inside = mask[window]
    return np.where(inside, x[window], 0).astype(float), np.where(inside, t[window], 0).astype(float), inside


def _around(mask, margin):
    """Return the slices of a mask's bounding box, widened by `margin` voxels within the volume."""
    return tuple(slice(max(part.start - margin, 0), part.stop + margin) for part in bounding_box(mask))


def _laplacian_of_gaussian(volume):
    r = np.arange(-LOG_RADIUS, LOG_RADIUS + 1)
    gauss = np.exp(-r ** 2 / (2 * LOG_SIGMA ** 2))
    gauss /= gauss.sum()
    second = gauss * (r ** 2 - LOG_SIGMA ** 2) / LOG_SIGMA ** 4
    # A flat map has no edges: what the cut-off kernel sums up to is taken away, evenly.
    flat = np.full(r.size, 1 / r.size)
    result = -3 * second.sum() * _separable(volume, (flat, flat, flat))
    for axis in range(3):
        result += _separable(volume, [second if other == axis else gauss for other in range(3)])
    return result


def _separable(volume, kernels):
    for axis, kernel in enumerate(kernels):
        volume = ndimage.correlate1d(volume, kernel, axis, mode='constant')
    return volume


def _similarity(x, t, c1, c2, smooth):
    """Return the structural similarity in each voxel; `smooth` takes the mean over a window."""
    mx, mt = smooth(x), smooth(t)
    vx, vt, vxt = smooth(x * x) - mx * mx, smooth(t * t) - mt * mt, smooth(x * t) - mx * mt
    return (2 * mx * mt + c1) * (2 * vxt + c2) / ((mx * mx + mt * mt + c1) * (vx + vt + c2))


def _finite(value):
    return float(value) if np.isfinite(value) else None
