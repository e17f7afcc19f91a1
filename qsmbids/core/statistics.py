"""Values of regions: a long table with one row for each map, region and erosion."""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

from qsmbids.core.grid import bounding_box
from qsmbids.core.labels import CSF, STRUCTURES, Label, parts_of
from qsmbids.core.regionqc import EXTREME_PPM, Verdict, judge_regions, region_masks

LEAST_ERODED = 30        # voxels that must be left for values of an eroded region
LEAST_CSF_ML = .5        # of a fluid that values refer to
HIGH_IRON = 75           # percentile beyond which voxels count as rich in iron
TRIM = (2, 98)
LEAST_ASYMMETRY = {'ppm': .01, '1/s': 1.}  # mean below which the difference of the sides is not divided by it
PERCENTILES = {'p05': 5, 'p25': 25, 'p75': 75, 'p95': 95}
REFERENCES = {'wholebrain': 'the whole brain', 'csf': 'fluid of low R2* in and around the ventricles',
              'ventricles': 'the ventricles of the segmentation'}
# What stands before these: the same in all rows of an acquisition.
SEGMENTED = {'seg_source': 'Where the regions come from: given, network or atlas',
             'atlas': 'Name of what was given, of the weights, or of the atlas'}
# Every column of the table; {} stands for the unit of the row.
COLUMNS = {
    'roi': ('Structure', None), 'hemi': ('Side: L, R, or B for both', None),
    'index': ('Index in the segmentation; n/a for both sides', None),
    'metric': ('chi, R2star, chi_pos or chi_neg', None), 'map': ('desc- of the map that the values are from', None),
    'unit': ('Unit of the values', None), 'ref': ('Region whose mean is zero in the map', None),
    'erosion_mm': ('How much was taken off the region: one voxel, along each axis whose voxels are not longer than '
                   'twice the shortest; 0 for all of it', 'mm'),
    'n_vox': ('Voxels that count: inside the mask, not excluded', None),
    'volume_mm3': ('Volume of the region before anything is left out', 'mm3'),
    'mean': ('Mean; zeros and negative values count', '{}'), 'sd': ('Standard deviation', '{}'),
    'median': ('Median', '{}'), 'mad': ('Median absolute deviation from the median, not scaled', '{}'),
    **{name: (f'{percent}th percentile', '{}') for name, percent in PERCENTILES.items()},
    'iqr': ('Interquartile range', '{}'),
    'trimmed_mean': (f'Mean of what lies between the {TRIM[0]}nd and the {TRIM[1]}th percentile', '{}'),
    'hi_iron_mean': (f'Mean of the voxels above the {HIGH_IRON}th percentile, the part that is richest in iron', '{}'),
    'pv_mean': ('Mean weighted by the probability of the region, where the segmentation gives it', '{}'),
    'left_minus_right': ('Mean of the left minus mean of the right side; in rows of both sides', '{}'),
    'asymmetry': ('left_minus_right over the mean of both; n/a where that is too small to divide by', None),
    **{f'mean_ref-{name}': (f'Mean relative to the mean of {text}', '{}') for name, text in REFERENCES.items()},
    **{f'ref-{name}_mean': (f'Mean of {text} relative to the whole brain', '{}') for name, text in REFERENCES.items()},
    **{f'ref-{name}_sd': (f'Standard deviation in {text}', '{}') for name, text in REFERENCES.items()},
    'ref_reason': ('Why there are no values relative to a reference', None),
    'n_excluded_cmb': ('Voxels of the region that do not count because of microbleeds in or beside them', None),
    'frac_outside_mask': ('Share of the region in which the map has no values', None),
    'coverage': ('Share of the region whose values count', None),
    'snr': ('Median magnitude of the first echo in the region over the noise in air', None),
    'qc': ('pass, warn, fail (values are doubtful) or missing (there are none)', None),
    'qc_reason': ('Why it is not pass', None),
}


@dataclass(frozen=True)
class Map:
    """A map whose values are wanted.

    Attributes
    ----------
    metric : {'chi', 'R2star', 'chi_pos', 'chi_neg'}
    values : ndarray, shape (nx, ny, nz)
    unit : str
    name : str
        The ``desc-`` of its file.
    reference : str, optional
        What it is relative to; only those of susceptibility have one.
    """

    metric: str
    values: np.ndarray
    unit: str
    name: str
    reference: str | None = None


@dataclass(frozen=True)
class Segmentation:
    """Regions, and what is known of them.

    Attributes
    ----------
    labels : ndarray of int, shape (nx, ny, nz)
        Indices of :data:`qsmbids.core.labels.LABELS`.
    probabilities : dict of int to ndarray, optional
        By index, 0 to 1.
    known : tuple of int, optional
        Indices that it tells apart; all by default.
    """

    labels: np.ndarray
    probabilities: dict = field(default_factory=dict)
    known: tuple | None = None


def region_statistics(maps, segmentation, mask, voxel_size, *, csf=None, lesions=None, extreme=None, magnitude=None,
                      noise=None, adult=True):
    """Return the values of all regions in all maps.

    Parameters
    ----------
    maps : sequence of Map
    segmentation : Segmentation
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the maps have values: what is zero or negative in it counts.
    voxel_size : sequence of float
        mm.
    csf : ndarray of bool, shape (nx, ny, nz), optional
        A reference region, as from :func:`qsmbids.core.regions.csf_mask`.
    lesions : ndarray of bool, shape (nx, ny, nz), optional
        Microbleeds; they and their neighbours are left out.
    extreme : ndarray of bool, shape (nx, ny, nz), optional
        As from :func:`extreme_voxels`; where this is most of a region it has no value. That of the maps of
        susceptibility by default.
    magnitude : ndarray, shape (nx, ny, nz), optional
        First echo.
    noise : float, optional
        SD of the noise of its real and imaginary part.
    adult : bool, default True
        Whether regions are expected to be as large as those of adults.

    Returns
    -------
    list of dict
        Rows with the columns of :data:`COLUMNS`, None where there is no value, in the order of the maps and of the
        table of labels, each region whole and eroded.

    Raises
    ------
    ValueError
        If the shapes differ.

    Notes
    -----
    Mean and SD of a reference relative to the whole brain: Bilgic B, et al. Magn Reson Med 2024;91:1834-1862. The part
    of a region that is rich in iron: Liu M, et al. J Magn Reson Imaging 2016;44:59-71, here by a percentile instead of
    a norm.
    """
    for name, volume in [('labels', segmentation.labels), *((m.metric, m.values) for m in maps)]:
        if volume.shape != mask.shape:
            raise ValueError(f'{name} has shape {volume.shape}, must be that of mask, {mask.shape}')
    box = _box_of(segmentation)
    exclude = None if lesions is None else ndimage.binary_dilation(lesions[box], np.ones((3, 3, 3)))
    masks = region_masks(segmentation.labels[box])
    if extreme is None:
        extreme = extreme_voxels([m.values for m in maps if m.metric == 'chi'])
    verdicts = judge_regions(masks, mask[box], voxel_size, exclude=exclude, known=segmentation.known, adult=adult,
                             extreme=None if extreme is None else extreme[box])
    shares = {index: share[box] for index, share in segmentation.probabilities.items()}
    regions = [_cut_out(label, region, verdicts[label], mask[box], exclude, shares) for label, region in masks.items()]
    fluids = {'csf': csf, 'ventricles': segmentation.labels == CSF}
    echo = None if magnitude is None else magnitude[box]
    rows = []
    for volume in maps:
        zeros = _references(volume, mask, fluids, voxel_size)
        part = replace(volume, values=volume.values[box])
        for found in (regions, [_eroded(region, voxel_size) for region in regions]):
            rows += _rows_of_map(part, found, zeros, voxel_size, echo, noise)
    return rows


def extreme_voxels(maps):
    """Return where all maps of susceptibility, ppm, are beyond what iron of a nucleus makes; None without any."""
    return np.logical_and.reduce([np.abs(values) > EXTREME_PPM for values in maps]) if len(maps) else None


def _box_of(segmentation):
    """Return the box of all regions and their probabilities, and a voxel around it that tells what is cut off."""
    found = segmentation.labels > 0
    for share in segmentation.probabilities.values():
        found |= share > 0
    return bounding_box(found, (1, 1, 1)) if found.any() else (slice(0, 1),) * 3


@dataclass(frozen=True)
class _Region:
    """A region cut out of the volume: where it lies, which of its voxels count, and what is thought of it."""

    label: Label
    verdict: Verdict
    box: tuple
    whole: np.ndarray
    inside: np.ndarray       # where the maps have values
    counting: np.ndarray     # and no lesion
    probability: np.ndarray | None
    around: tuple | None     # the box of the probability
    erosion: float = 0.      # mm


def _cut_out(label, region, verdict, mask, exclude, probabilities):
    box = bounding_box(region) if region.any() else (slice(0, 0),) * 3
    inside = region[box] & mask[box]
    return _Region(label, verdict, box, region[box], inside, inside if exclude is None else inside & ~exclude[box],
                   *_probability(label, probabilities, mask, exclude))


def _eroded(region, voxel_size):
    """Return a region without its outermost voxels."""
    thin = [step <= 2 * min(voxel_size) for step in voxel_size]
    structure = ndimage.generate_binary_structure(3, 1)
    for axis in (axis for axis in range(3) if not thin[axis]):
        structure &= np.arange(3).reshape(np.roll((3, 1, 1), axis)) == 1
    core = ndimage.binary_erosion(np.pad(region.whole, 1), structure)[1:-1, 1:-1, 1:-1]
    left, verdict = int((region.counting & core).sum()), region.verdict
    if verdict.state != 'missing' and left < LEAST_ERODED:
        verdict = Verdict('missing', (f'{left} voxels are left by the erosion, fewer than {LEAST_ERODED}',))
    return replace(region, verdict=verdict, inside=region.inside & core, counting=region.counting & core,
                   erosion=float(max(step for step, keep in zip(voxel_size, thin) if keep)))


def _probability(label, probabilities, mask, exclude):
    """Return the probability of a region and the box it lies in; None if it is not known."""
    volume = probabilities.get(label.index)
    if volume is None and parts_of(label):
        parts = [probabilities[part.index] for part in parts_of(label) if part.index in probabilities]
        volume = sum(parts) if parts else None
    if volume is None or not (volume > 0).any():
        return None, None
    box = bounding_box(volume > 0)
    counting = mask[box] if exclude is None else mask[box] & ~exclude[box]
    return volume[box] * counting, box


def _references(volume, mask, fluids, voxel_size):
    """Return the mean of each reference region relative to the map's zero, its SD, and why there is none of another."""
    if volume.reference is None:
        return {}, ''
    found, reasons = {'wholebrain': volume.values[mask].astype(np.float64)}, []
    for name, region in fluids.items():
        counting = None if region is None else region & mask
        millilitres = 0 if counting is None else counting.sum() * float(np.prod(voxel_size)) / 1000
        if millilitres < LEAST_CSF_ML:
            reasons.append(f'{name}: {millilitres:.2g} mL of fluid have values, fewer than {LEAST_CSF_ML}')
        else:
            found[name] = volume.values[counting].astype(np.float64)
    return {name: (values.mean(), values.std()) for name, values in found.items()}, '; '.join(reasons)


def _rows_of_map(volume, regions, zeros, voxel_size, magnitude, noise):
    rows, sides = [], {}
    for region in regions:
        row = _row(volume, [region], zeros, voxel_size, magnitude, noise)
        rows.append(row)
        sides[region.label.structure.name, region.label.hemisphere] = region, row
    for structure in STRUCTURES.values():
        if structure.paired:
            (left, left_row), (right, right_row) = (sides[structure.name, side] for side in 'LR')
            both = _row(volume, [left, right], zeros, voxel_size, magnitude, noise)
            rows.append(both | _asymmetry(left_row['mean'], right_row['mean'], volume.unit))
    order = {name: number for number, name in enumerate(STRUCTURES)}
    return sorted(rows, key=lambda row: (order[row['roi']], 'LRB'.index(row['hemi'])))


def _row(volume, regions, zeros, voxel_size, magnitude, noise):
    """Return the row of a region, or of both sides of a structure together."""
    first, verdict = regions[0], regions[0].verdict
    for region in regions[1:]:
        verdict = verdict.joined(region.verdict)
    size = sum(int(region.whole.sum()) for region in regions)
    counting, inside = (sum(int(getattr(region, name).sum()) for region in regions) for name in ('counting', 'inside'))
    row = dict.fromkeys(COLUMNS) | {
        'roi': first.label.structure.name, 'index': first.label.index if len(regions) == 1 else None,
        'hemi': first.label.hemisphere if len(regions) == 1 else 'B', 'metric': volume.metric, 'map': volume.name,
        'unit': volume.unit, 'ref': volume.reference, 'erosion_mm': first.erosion, 'n_vox': counting,
        'n_excluded_cmb': inside - counting, 'qc': verdict.state, 'qc_reason': '; '.join(verdict.reasons)}
    means, row['ref_reason'] = zeros if zeros[0] else ({}, '')
    for name, (mean, sd) in means.items():
        row |= {f'ref-{name}_mean': mean - means['wholebrain'][0], f'ref-{name}_sd': sd}
    if size and not first.erosion:
        row |= {'frac_outside_mask': 1 - inside / size, 'coverage': counting / size}
    if verdict.state == 'missing':
        return row
    row['volume_mm3'] = size * float(np.prod(voxel_size))
    values = np.concatenate([volume.values[region.box][region.counting] for region in regions]).astype(np.float64)
    row |= _summary(values) | {'pv_mean': _weighted(volume.values, regions)}
    row |= {f'mean_ref-{name}': row['mean'] - mean for name, (mean, _) in means.items()}
    if magnitude is not None and noise:
        row['snr'] = float(np.median(np.concatenate([magnitude[r.box][r.counting] for r in regions])) / noise)
    return row


def _summary(values):
    """Return what describes a distribution."""
    percentiles = dict(zip(PERCENTILES, np.percentile(values, list(PERCENTILES.values()))))
    low, high = np.percentile(values, TRIM)
    median = np.median(values)
    return {'mean': values.mean(), 'sd': values.std(), 'median': median, 'mad': np.median(np.abs(values - median)),
            **percentiles, 'iqr': percentiles['p75'] - percentiles['p25'],
            'trimmed_mean': values[(values >= low) & (values <= high)].mean(),
            'hi_iron_mean': values[values >= np.percentile(values, HIGH_IRON)].mean()}


def _weighted(values, regions):
    """Return the mean weighted by probability; None where that is unknown, and for eroded regions."""
    if any(region.probability is None or region.erosion for region in regions):
        return None
    weight = sum(float(region.probability.sum()) for region in regions)
    total = sum(float((values[region.around] * region.probability).sum(dtype=np.float64)) for region in regions)
    return total / weight if weight > 0 else None


def _asymmetry(left, right, unit):
    """Return the difference of the sides, and that over their mean where it is not too small to divide by."""
    if left is None or right is None:
        return {}
    mean = (left + right) / 2
    large = abs(mean) >= LEAST_ASYMMETRY[unit] and left * right > 0
    return {'left_minus_right': left - right, 'asymmetry': (left - right) / mean if large else None}


def describe_columns():
    """Return the JSON dictionary of the table: a description of each column, and the unit where it has one."""
    described = {}
    for name, (text, unit) in COLUMNS.items():
        described[name] = {'Description': text}
        if unit:
            described[name]['Units'] = 'that of the column unit' if unit == '{}' else unit
    described['qc']['Levels'] = {'pass': 'nothing stands out', 'warn': 'to be looked at', 'fail': 'doubtful',
                                 'missing': 'no value'}
    return described
