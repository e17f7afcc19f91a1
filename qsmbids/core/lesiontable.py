"""The table of lesions, the table of their counts, and lesions that are found again in another session."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from qsmbids.core.lesiongrade import CLASSES, DEFINITE, POSSIBLE

PURPOSE = 'Research use only, not a diagnosis'
SAME_LESION_MM = 3.   # between the sessions, after alignment
SMALL_MM = 5.         # as BOMBS divides them
REGIONS = ('lobar', 'deep', 'infratentorial')
# Every column: description and unit.
COLUMNS = {
    'index': ('Label in the label map of the same name', None),
    **{f'{axis}_ras_mm': (f'Centre, scanner coordinates: {way}', 'mm')
       for axis, way in (('x', 'to the right'), ('y', 'to the front'), ('z', 'to the top'))},
    'space': ('Space of the coordinates', None),
    'class': (f'What it is most probably. {PURPOSE}', None),
    'probability': ('That it is of its class, 0 to 1. Of the network: calibrated on simulated scans with many lesions. '
                    'Of the rules: how far it meets them, no share of a count', None),
    'certainty': (f'definite: {DEFINITE} or more; possible: {POSSIBLE} or more; unlikely: below, not counted and not '
                  'in the mask', None),
    'volume_mm3': ('Volume of the region at half of the peak over the tissue around', 'mm3'),
    'diameter_mm': ('Diameter of the ball of that volume; it grows with the blur of the map', 'mm'),
    'sphericity': ('Surface of that ball over that of the region, 1 at most', None),
    'elongation': ('SD of the region along its longest axis over that along the others', None),
    'blobness': ('Weakest over strongest curvature at its scale: 1 of a ball, 0 of a tube', None),
    'vesselness': ('How much its curvatures are those of a tube', None),
    'chi_peak': ('Largest susceptibility, of the sign of the lesion, in the map as it is', 'ppm'),
    'chi_mean': ('Mean susceptibility of the region, in the map as it is', 'ppm'),
    'chi_contrast': ('chi_peak less the median of the ring of tissue around', 'ppm'),
    'moment_ppm_mm3': ('Susceptibility over that ring, summed up to 2 mm beyond the rim; of a void, that of the dipole '
                       'which its field is', 'ppm mm3'),
    'moment_error_ppm_mm3': ('SD of it by the noise of the ring, or of the field; without errors of the inversion',
                             'ppm mm3'),
    'r2star_contrast': ('Mean R2* of the region less the median of the ring', '1/s'),
    'parenchyma': ('Share of the ring that is tissue', None),
    'mars_region': ('Region of the MARS scale as far as the segmentation tells', None),
    'hemisphere': ('Side: L or R', None),
    'bombs_region': ('lobar, deep or infratentorial, by the segmentation', None),
    'bombs_size': ('<5 mm or >=5 mm, by diameter_mm', None),
    'deep_nucleus': ('Nucleus of the segmentation that it lies in', None),
    'dist_to_edge_mm': ('Distance to the edge of the mask', 'mm'),
    'seen_in': ('chi; void: in R2* where the susceptibility is not known, with the sign of its field if that is given; '
                'darkness: in R2* or a weighted image alone, of unknown sign', None),
    'low_confidence': ('yes: voxels longer than twice their width, or the core is not known in the susceptibility',
                       None),
}
COUNT_COLUMNS = {
    'class': (f'What is counted: cmb or calcification. {PURPOSE}', None),
    'region': ('Where: all, a region, n/a (not told by the segmentation), left or right', None),
    'definite': ('Number of definite ones; n/a where no segmentation tells the regions', None),
    'possible': ('Number of possible ones', None), 'total': ('Number of both', None),
    'pattern': ('Of the definite microbleeds: none, strictly lobar, strictly deep, strictly infratentorial or mixed; a '
                'description, no diagnosis', None),
}


def lesion_row(index, kind, score, blob, point, place, moment, zero, low_confidence):
    """Return the row of a blob: its class and score, place in mm, `place_lesions` of it, moment and its error."""
    signed = blob.source == 'chi'
    peak, mean, contrast = (blob.sign * value for value in (blob.peak, blob.mean, blob.contrast))
    return dict.fromkeys(COLUMNS) | {
        'index': index, **{f'{axis}_ras_mm': float(value) for axis, value in zip('xyz', point)}, 'space': 'scanner',
        'class': kind, 'probability': float(score), 'certainty': certainty_of(score), 'volume_mm3': blob.volume,
        'diameter_mm': blob.diameter, 'chi_peak': peak + zero if signed else None,
        'chi_mean': mean + zero if signed else None, 'chi_contrast': contrast if signed else None,
        'moment_ppm_mm3': moment[0], 'moment_error_ppm_mm3': moment[1], 'r2star_contrast': blob.decay,
        'bombs_size': '<5 mm' if blob.diameter < SMALL_MM else '>=5 mm', 'dist_to_edge_mm': blob.edge,
        'seen_in': blob.source, 'low_confidence': 'yes' if low_confidence else 'no',
        **{name: getattr(blob, name) for name in ('sphericity', 'elongation', 'blobness', 'vesselness', 'parenchyma')},
        **place}


def certainty_of(score):
    """Return definite, possible or unlikely."""
    return 'definite' if score >= DEFINITE else 'possible' if score >= POSSIBLE else 'unlikely'


def counts(row):
    """Return whether a lesion counts: it is more than unlikely."""
    return row['certainty'] != 'unlikely'


def places_of(rows):
    """Return the places of lesions in scanner coordinates, shape (n, 3), mm; of rows of the table, also as text."""
    return np.array([[float(row[f'{axis}_ras_mm']) for axis in 'xyz'] for row in rows]).reshape(-1, 3)


def count_lesions(rows, located):
    """Return the rows of the table of counts, with explicit zeros.

    Parameters
    ----------
    rows : sequence of dict
        Lesions.
    located : bool
        Whether a segmentation tells the regions; their counts are None otherwise.
    """
    table = []
    for kind in ('cmb', 'calcification'):
        counted = [row for row in rows if row['class'] == kind and counts(row)]
        places = {'all': counted, **{region: [row for row in counted if row['bombs_region'] == region]
                                     for region in REGIONS},
                  'n/a': [row for row in counted if row['bombs_region'] is None],
                  'left': [row for row in counted if row['hemisphere'] == 'L'],
                  'right': [row for row in counted if row['hemisphere'] == 'R']}
        for region, found in places.items():
            definite = sum(row['certainty'] == 'definite' for row in found)
            known = located or region not in REGIONS
            table.append({'class': kind, 'region': region, 'definite': definite if known else None,
                          'possible': len(found) - definite if known else None, 'total': len(found) if known else None,
                          'pattern': pattern_of(counted) if kind == 'cmb' and located and region == 'all' else None})
    return table


def pattern_of(rows):
    """Return where the definite lesions are: none, strictly in one region, or mixed; None if one is unknown."""
    regions = {row['bombs_region'] for row in rows if row['certainty'] == 'definite'}
    if None in regions:
        return None
    return 'none' if not regions else f'strictly {min(regions)}' if len(regions) == 1 else 'mixed'


def link_lesions(first, later, tolerance_mm=SAME_LESION_MM):
    """Return which lesions of two sessions are the same: at most `tolerance_mm` apart, one to one, nearest in sum.

    Parameters
    ----------
    first, later : array_like, shape (m, 3), (n, 3)
        Places in one space, mm.
    tolerance_mm : float, default 3

    Returns
    -------
    list of (int or None, int or None)
        Numbers in both lists: persistent lesions in the order of the first, then lost ones (None second), then new
        ones (None first).
    """
    first, later = (np.reshape(np.asarray(points, float), (-1, 3)) for points in (first, later))
    distance = np.linalg.norm(first[:, None] - later[None], axis=2)
    # So far apart that a pair beyond the tolerance never pays.
    cost = np.where(distance <= tolerance_mm, distance, 1e6)
    pairs = [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(cost)) if cost[i, j] < 1e6]
    gone, there = ({pair[side] for pair in pairs} for side in (0, 1))
    return (pairs + [(i, None) for i in range(len(first)) if i not in gone]
            + [(None, j) for j in range(len(later)) if j not in there])


def describe_lesions():
    """Return the JSON dictionary of the table of lesions."""
    described = _described(COLUMNS)
    described['class']['Levels'] = CLASSES
    return described


def describe_counts():
    """Return the JSON dictionary of the table of counts."""
    return _described(COUNT_COLUMNS)


def _described(columns):
    return {name: {'Description': text} | ({'Units': unit} if unit else {}) for name, (text, unit) in columns.items()}
