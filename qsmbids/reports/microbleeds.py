"""Microbleeds over a cohort: counts of each scan, all lesions, and which of them are found again in another session."""

from pathlib import Path

import numpy as np

from qsmbids.core.grid import move_points
from qsmbids.core.lesiontable import SAME_LESION_MM, counts, describe_lesions, link_lesions, places_of
from qsmbids.core.registration import LEAST_GAIN, align_rigid
from qsmbids.files import describe, read_tsv, write_table
from qsmbids.headers import load_image, read_voxels
from qsmbids.reports.status import IDENTITY, STATE, folder_of

_LEADING = IDENTITY | STATE | {'reason': 'Why there are no counts'}
KINDS, GRADES = ('cmb', 'calcification'), ('definite', 'possible', 'total')
REGIONS = {'all': 'the brain', 'lobar': 'cortex and white matter of the cerebrum',
           'deep': 'the deep nuclei and capsules', 'infratentorial': 'brainstem and cerebellum',
           'left': 'the left side', 'right': 'the right side'}
CHANGE = {
    'participant': 'Participant label', 'acquisition_from': 'File name stem of the first acquisition',
    'acquisition_to': 'File name stem of the later one', 'class': 'cmb or calcification',
    'state': 'persistent, new or lost', 'index_from': 'Index in the first acquisition',
    'index_to': 'Index in the later one', 'distance_mm': 'Between both places after alignment',
    'moment_from_ppm_mm3': 'Moment in the first acquisition', 'moment_to_ppm_mm3': 'Moment in the later one',
    'alignment': 'rigid: by the magnitudes; headers: there are none, or they do not fit, so that the places may be off'}


def write_group_microbleeds(output_dir, states):
    """Write ``group_microbleeds.tsv``, ``group_microbleeds_lesions.tsv`` and ``group_microbleeds_change.tsv``.

    Parameters
    ----------
    output_dir : path
    states : list of dict
        As from :func:`qsmbids.reports.status.latest_states`.

    Returns
    -------
    list of str
        Names of the tables; none if no acquisition has counts.

    Notes
    -----
    A scan without lesions has zeros, one that failed has n/a. Each table has a JSON dictionary of its columns beside
    it. A second call on the same outputs writes the same.
    """
    output_dir = Path(output_dir)
    scans = [_read_scan(output_dir, state) for state in states]
    if not any(scan['counted'] for scan in scans):
        return []
    counts = {f'{kind}_{grade}_{region}': {'Description': f'Number of {grade} {kind} in {text}'}
              for kind in KINDS for region, text in REGIONS.items() for grade in GRADES}
    counts['pattern'] = {'Description': 'Regions of the definite microbleeds; a description, no diagnosis'}
    write_table(output_dir, 'group_microbleeds', [scan['known'] | scan['counts'] for scan in scans],
                describe(_LEADING) | counts)
    lesions = [scan['known'] | row for scan in scans for row in scan['lesions']]
    write_table(output_dir, 'group_microbleeds_lesions', lesions, describe(IDENTITY) | describe_lesions())
    write_table(output_dir, 'group_microbleeds_change', _changes(scans), describe(CHANGE))
    return [f'group_microbleeds{part}.tsv' for part in ('', '_lesions', '_change')]


def _read_scan(output_dir, state):
    """Return an acquisition: who it is of, its counts by column, and its lesions."""
    folder = folder_of(output_dir, state)
    stem = folder / 'anat' / state['acquisition']
    scan = {'known': {name: state.get(name, 'n/a') for name in _LEADING}, 'counts': {}, 'lesions': [],
            'folder': folder, 'counted': False}
    table = Path(f'{stem}_desc-cmb_counts.tsv')
    if state['state'] != 'complete':
        return scan
    if not table.is_file():
        scan['known']['reason'] = 'there is no table of microbleeds'
        return scan
    scan['counted'] = True
    for row in read_tsv(table):
        if row['region'] in REGIONS:
            scan['counts'] |= {f'{row["class"]}_{grade}_{row["region"]}': row[grade] for grade in GRADES}
        if row['pattern'] != 'n/a':
            scan['counts']['pattern'] = row['pattern']
    lesions = Path(f'{stem}_desc-cmb_lesions.tsv')
    scan['lesions'] = read_tsv(lesions) if lesions.is_file() else []
    return scan


def _changes(scans):
    """Return what became of the lesions of the first session of each participant in every later one, and new ones."""
    people = {}
    for scan in scans:
        if scan['counted'] and scan['known']['session'] != 'n/a':
            people.setdefault(scan['known']['participant'], []).append(scan)
    rows = []
    for scans_of_one in people.values():
        first = scans_of_one[0]
        for later in scans_of_one[1:]:
            if later['known']['session'] != first['known']['session']:
                rows += _compare(first, later)
    return rows


def _compare(first, later):
    before, after = ([row for row in scan['lesions'] if row['class'] in KINDS and counts(row)]
                     for scan in (first, later))
    if not before and not after:
        return []
    matrix, alignment = _align(first, later)
    places = move_points(matrix, places_of(before))
    rows = []
    for kind in KINDS:
        own = [[number for number, row in enumerate(found) if row['class'] == kind] for found in (before, after)]
        for old, new in link_lesions(places[own[0]], places_of(after)[own[1]], SAME_LESION_MM):
            row = {'participant': first['known']['participant'], 'class': kind, 'alignment': alignment,
                   'acquisition_from': first['known']['acquisition'], 'acquisition_to': later['known']['acquisition'],
                   'state': 'new' if old is None else 'lost' if new is None else 'persistent'}
            for end, number, found, mine in (('from', old, before, own[0]), ('to', new, after, own[1])):
                if number is not None:
                    row |= {f'index_{end}': found[mine[number]]['index'],
                            f'moment_{end}_ppm_mm3': found[mine[number]]['moment_ppm_mm3']}
            if None not in (old, new):
                row['distance_mm'] = float(np.linalg.norm(places[own[0][old]] - places_of(after)[own[1][new]]))
            rows.append(row)
    return rows


def _align(first, later):
    """Return the matrix that takes places of the first scan to those of the later one, and what it comes from."""
    paths = [scan['folder'] / 'fmap' / f'{scan["known"]["acquisition"]}_magnitude.nii.gz' for scan in (first, later)]
    mask = first['folder'] / 'anat' / f'{first["known"]["acquisition"]}_desc-brain_mask.nii.gz'
    if not all(path.is_file() for path in (*paths, mask)):
        return np.eye(4), 'headers'
    affines = [load_image(path).affine for path in paths]
    volumes = [np.asarray(read_voxels(path), np.float32) for path in paths]
    found = align_rigid(volumes[0], affines[0], volumes[1], affines[1], np.asarray(read_voxels(mask)) > .5)
    return (found.matrix, 'rigid') if found.gain >= LEAST_GAIN else (np.eye(4), 'headers')
