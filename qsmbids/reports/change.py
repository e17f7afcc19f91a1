"""What changed in the regions of a participant between sessions, and how small a change can be told from noise.

The latter follows from repeated runs of the cohort itself where there are enough, or else from a study of 24 travelling
volunteers: SD within a site and across sites of 2.4 and 4.2 ppb in susceptibility, of 0.97 and 1.27 1/s in R2*. The
smallest detectable change is 2.77 times that: 1.96 times the square root of two.
"""

import math
import re
import sys
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from statistics import fmean

from qsmbids.ages import session_age
from qsmbids.files import FileError, read_json, read_tsv
from qsmbids.reports.compliance import read_protocol

DETECTABLE = 2.77
# Within a site, across sites.
PUBLISHED_SD = {'ppm': (.0024, .0042), '1/s': (.97, 1.27)}
LEAST_PAIRS = 5
# What is kept of each row of the long table to compare it with those of other sessions and runs.
_COMPARED = ('metric', 'map', 'roi', 'hemi', 'erosion_mm', 'mean', 'volume_mm3', 'unit', 'ref', 'qc', 'qc_reason',
             'seg_source', 'atlas')
CHANGE = {
    'participant': 'Participant label', 'session_from': 'Label of the first session',
    'session_to': 'Label of the later one', 'acquisition_from': 'File name stem of the first acquisition',
    'acquisition_to': 'File name stem of the later one', 'roi': 'Structure', 'hemi': 'Side: L, R, or B for both',
    'metric': 'chi, R2star, chi_pos or chi_neg', 'map': 'desc- of the map that the values are from',
    'unit': 'Unit of the values', 'ref': 'Region whose mean is zero in both values',
    'value_from': 'Mean in the first session, in the unit', 'value_to': 'Mean in the later one, in the unit',
    'delta': 'value_to less value_from, in the unit',
    'years': 'Time between the sessions, from acq_time or age in sessions.tsv, or acq_time in scans.tsv',
    'delta_per_year': 'delta over years, in the unit per year',
    'common_from': 'Mean in the first session over the region that all sessions share, in the middle of their '
                   'positions; with --longitudinal', 'common_to': 'The same in the later one',
    'common_delta': 'common_to less common_from, in the unit',
    'common_delta_per_year': 'common_delta over years, in the unit per year',
    'volume_ratio': 'Volume of the region in the later over that in the first session',
    'sd_within': 'SD of repeated measurements of one person, in the unit',
    'smallest_detectable_change': f'{DETECTABLE} times sd_within, in the unit',
    'sd_source': 'runs: of repeated runs of this cohort; published: of travelling volunteers, within or across sites',
    'detectable': 'Whether delta is larger than that', 'flags': 'What else differs between the sessions'}


def for_comparison(scan):
    """Return what comparisons with other sessions and runs need of the rows of an acquisition, if there may be any."""
    if scan['known']['session'] == scan['known']['run'] == 'n/a':
        return []
    return [{name: sys.intern(row[name]) for name in _COMPARED} for row in scan['values']]


def list_changes(scans, bids_dir=None, longitudinal=False):
    """Return the differences of the later sessions of each participant to the first one.

    Parameters
    ----------
    scans : list of dict
        Acquisitions: what is ``known`` of them, ``folder``, ``stem``, and the ``values`` that `for_comparison` keeps.
    bids_dir : path, optional
        Where the times of sessions and scans are.
    longitudinal : bool, default False
        Whether to bring the sessions of each participant into one space, too.

    Returns
    -------
    list of dict
        Rows with the columns of :data:`CHANGE`.
    """
    within = _repeatability(scans)
    sessions = defaultdict(list)
    for scan in scans:
        if scan['values'] and scan['known']['session'] != 'n/a':
            sessions[scan['known']['participant']].append(scan)
    changes = []
    for participant, found in sessions.items():
        times = _times_of(bids_dir, found)
        if all(time is not None for time in times.values()):
            found = sorted(found, key=lambda scan: (times[scan['stem']], scan['stem']))
        by_kind = defaultdict(list)
        for scan in found:  # acquisitions that differ in nothing but session and run are compared
            kind = scan['stem'].replace(f'_ses-{scan["known"]["session"]}', '')
            by_kind[re.sub(r'_run-\d+', '', kind)].append(scan)
        for same in by_kind.values():
            first, later = same[0], [scan for scan in same if scan['known']['session'] != same[0]['known']['session']]
            common = _in_one_space([first, *later]) if longitudinal and later else [({}, '')] * (1 + len(later))
            for scan, found_there in zip(later, common[1:]):
                ends = times[first['stem']], times[scan['stem']]
                years = None if None in ends else ends[1] - ends[0]
                changes += _compare(first, scan, years, within, (common[0][0], *found_there))
    return changes


def _in_one_space(scans):
    """Return the means of each acquisition in the regions that all share, and what is doubtful about them."""
    from qsmbids.reports.longitudinal import common_means
    means, flag = common_means(scans)
    return [(found, flag) for found in means]


def _compare(first, later, years, within, common):
    flags = _differences(first, later) + ([common[2]] if common[2] else [])
    before = {_key(row): row for row in first['values']}
    rows = []
    for row in later['values']:
        old = before.get(_key(row))
        if old is None or float(row['erosion_mm']):
            continue
        ends = [_number(each['mean']) for each in (old, row)]
        usable = None not in ends and old['ref'] == row['ref']
        delta = ends[1] - ends[0] if usable else None
        there = [found.get(tuple(row[name] for name in ('metric', 'map', 'roi', 'hemi'))) for found in common[:2]]
        moved = there[1] - there[0] if None not in there and old['ref'] == row['ref'] else None
        volumes = [_number(each['volume_mm3']) for each in (old, row)]
        sd, source = within.get(_key(row)) or _published(row['unit'], flags)
        notes = flags + [f'the reference was {old["ref"]}'] * (old['ref'] != row['ref']) + [
            f'{name} session: {each["qc"]}: {each["qc_reason"]}' for name, each in (('first', old), ('later', row))
            if each['qc'] in ('fail', 'missing')]
        rows.append({
            'participant': first['known']['participant'], 'session_from': first['known']['session'],
            'session_to': later['known']['session'], 'acquisition_from': first['stem'],
            'acquisition_to': later['stem'], **{name: row[name] for name in ('roi', 'hemi', 'metric', 'map', 'unit',
                                                                             'ref')},
            'value_from': ends[0], 'value_to': ends[1], 'delta': delta, 'years': years,
            'delta_per_year': delta / years if usable and years else None, 'common_from': there[0],
            'common_to': there[1], 'common_delta': moved,
            'common_delta_per_year': moved / years if moved is not None and years else None,
            'volume_ratio': volumes[1] / volumes[0] if None not in volumes else None, 'sd_within': sd,
            'smallest_detectable_change': DETECTABLE * sd, 'sd_source': source,
            'detectable': None if delta is None else 'yes' if abs(delta) > DETECTABLE * sd else 'no',
            'flags': '; '.join(notes)})
    return rows


def _repeatability(scans):
    """Return the SD of repeated runs of one session, by region and metric, where there are enough of them."""
    groups = defaultdict(list)
    for scan in scans:
        if scan['values'] and scan['known']['run'] != 'n/a':
            groups[re.sub(r'_run-\d+', '', scan['stem'])].append(scan)
    squares = defaultdict(list)
    for same in groups.values():
        if len(same) > 1:
            for first, second in zip(same[0]['values'], same[1]['values']):
                ends = _number(first['mean']), _number(second['mean'])
                if _key(first) == _key(second) and None not in ends:
                    squares[_key(first)].append((ends[1] - ends[0]) ** 2 / 2)
    return {key: (math.sqrt(fmean(found)), f'{len(found)} pairs of runs') for key, found in squares.items()
            if len(found) >= LEAST_PAIRS}


def _published(unit, flags):
    across = any('scanner' in flag for flag in flags)
    return PUBLISHED_SD[unit][across], f'published, {"across sites" if across else "within a site"}'


def _key(row):
    return tuple(row[name] for name in ('metric', 'map', 'roi', 'hemi', 'erosion_mm'))


def _differences(first, later):
    """Return what differs between two acquisitions: scanner, echo times, voxels, methods, source of the regions."""
    flags = []
    protocol = [read_protocol(scan['folder'], scan['stem']) for scan in (first, later)]
    for label, names in (('scanner', ('Manufacturer', 'ManufacturersModelName', 'MagneticFieldStrength')),
                         ('echo times', ('EchoTimes',)), ('voxel size', ('VoxelSize',))):
        if any(_rounded(protocol[0].get(name)) != _rounded(protocol[1].get(name)) for name in names):
            flags.append(f'another {label}')
    methods = [_methods(scan) for scan in (first, later)]
    flags += [f'another {name}' for name in methods[0] if methods[0][name] != methods[1].get(name)]
    if any(first['values'][0][name] != later['values'][0][name] for name in ('seg_source', 'atlas')):
        flags.append('another source of the regions')
    return flags


def _methods(scan):
    """Return what was done to the first susceptibility map."""
    name = next((row['map'] for row in scan['values'] if row['metric'] == 'chi'), None)
    path = scan['folder'] / 'anat' / f'{scan["stem"]}_desc-{name}_Chimap.json'
    said = read_json(path) if path.is_file() else {}
    return {label: said.get(key) for label, key in (('algorithm', 'EstimationAlgorithm'), ('field map', 'FieldMapping'),
                                                    ('background removal', 'BackgroundRemoval'))}


def _rounded(value):
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def _number(text):
    return None if text == 'n/a' else float(text)


def _times_of(bids_dir, scans):
    """Return when each scan was made, in years, or None: by the dates, or by the ages if more of these are known."""
    if bids_dir is None:
        return dict.fromkeys(scan['stem'] for scan in scans)
    ways = [{scan['stem']: way(bids_dir, scan['known']) for scan in scans} for way in (_date_of, _age_of)]
    return max(ways, key=lambda times: sum(time is not None for time in times.values()))


def _date_of(bids_dir, known):
    """Return the date of a scan in years, or None."""
    participant, session = known['participant'], f'ses-{known["session"]}'
    folder = Path(bids_dir) / participant
    tables = ((folder / f'{participant}_sessions.tsv', 'session_id', session.__eq__),
              (folder / session / f'{participant}_{session}_scans.tsv', 'filename',
               lambda name: Path(name).name.startswith(known['acquisition'])))
    dates = (_years(row.get('acq_time', 'n/a')) for path, column, fits in tables if path.is_file()
             for row in read_tsv(path) if fits(row.get(column, '')))
    return next((date for date in dates if date is not None), None)


def _age_of(bids_dir, known):
    """Return the age at a session in years, or None; that of participants.tsv is of no session."""
    try:
        age = session_age(bids_dir, known['participant'].removeprefix('sub-'), known['session'])
    except FileError:  # the participant level has said so
        return None
    return age.years if age else None


def _years(text):
    try:
        moment = datetime.fromisoformat(text.rstrip('Z'))
    except ValueError:
        return None
    return (moment - datetime(1900, 1, 1)).total_seconds() / (365.25 * 86400)
