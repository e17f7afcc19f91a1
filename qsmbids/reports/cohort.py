"""Values of regions over a cohort: a long and a wide table, and what changed between the sessions of a participant.

How small a change can be told from noise follows from repeated runs of the cohort itself where there are enough, or
else from a study of 24 travelling volunteers: SD within a site and across sites of 2.4 and 4.2 ppb in susceptibility,
of 0.97 and 1.27 1/s in R2*. The smallest detectable change is 2.77 times that: 1.96 times the square root of two.
"""

import math
import re
import sys
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from statistics import fmean

from qsmbids.core.statistics import COLUMNS, describe_columns
from qsmbids.files import FileError, read_json, read_tsv, write_json, write_tsv

DETECTABLE = 2.77
# Within a site, across sites.
PUBLISHED_SD = {'ppm': (.0024, .0042), '1/s': (.97, 1.27)}
LEAST_PAIRS = 5
_SOURCES = ('participant', 'session', 'run', 'acquisition')
IDENTITY = {'participant': 'Participant label', 'session': 'Session label', 'run': 'Run index',
            'acquisition': 'File name stem of the acquisition',
            'state': 'complete, failed, unusable or running, of the newest run',
            'reason': 'Why there are no values', 'brain_volume_ml': 'Volume of the brain mask in mL',
            'seg_source': 'Where the regions come from: given, network or atlas',
            'atlas': 'Name of what was given, of the weights, or of the atlas'}
# Columns of the wide table: of which columns of the long one, whole or eroded, and of which sides.
WIDE = {'mean': ('mean', False, 'LRB'), 'median': ('median', False, 'LRB'), 'sd': ('sd', False, 'LRB'),
        'meancore': ('mean', True, 'LRB'), 'meanrefwb': ('mean_ref-wholebrain', False, 'LRB'),
        'meanrefcsf': ('mean_ref-csf', False, 'LRB'), 'hiiron': ('hi_iron_mean', False, 'LRB'),
        'asymmetry': ('asymmetry', False, 'B'), 'qc': ('qc', False, 'LR')}
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


def find_statistics(folder, stem):
    """Return the newest table of regions of an acquisition, or None."""
    found = list(Path(folder).glob(f'{stem}_seg-subcortical_desc-*_stats.tsv'))
    return max(found, key=lambda path: (path.stat().st_mtime, path.name)) if found else None


def write_group_regions(output_dir, states, bids_dir=None, longitudinal=False):
    """Write ``group_subcortical.tsv``, ``group_subcortical_wide.tsv`` and ``group_subcortical_change.tsv``.

    Parameters
    ----------
    output_dir : path
    states : list of dict
        As from :func:`qsmbids.reports.status.latest_states`.
    bids_dir : path, optional
        Where participants.tsv and the times of sessions and scans are.
    longitudinal : bool, default False
        Whether to bring the sessions of each participant into one space, too.

    Returns
    -------
    list of str
        Names of the tables.

    Notes
    -----
    Each has a JSON dictionary of its columns beside it. A second call on the same outputs writes the same.
    """
    output_dir = Path(output_dir)
    people, meanings = _participants(bids_dir)
    scans, wide = [], []

    def long():
        # One acquisition at a time: thousands of whole tables do not fit into the memory of a small job.
        for state in states:
            scan = _read_scan(output_dir, state, people)
            yield from scan.pop('rows')
            wide.append(_wide_row(scan))
            scans.append(scan | {'values': _for_comparison(scan)})

    columns = [*IDENTITY, *meanings, *COLUMNS]
    described = {name: {'Description': text} for name, text in IDENTITY.items()} | meanings
    _write(output_dir, 'group_subcortical', long(), columns, described | describe_columns())
    names = dict.fromkeys(name for row in wide for name in row if name not in (*IDENTITY, *meanings))
    names = {name: _describe_wide(name) for name in sorted(names, key=_wide_order)}
    _write(output_dir, 'group_subcortical_wide', wide, [*IDENTITY, *meanings, *names], described | names)
    changes = _changes(scans, bids_dir, longitudinal)
    _write(output_dir, 'group_subcortical_change', changes, list(CHANGE),
           {name: {'Description': text} for name, text in CHANGE.items()})
    return ['group_subcortical.tsv', 'group_subcortical_wide.tsv', 'group_subcortical_change.tsv']


def _write(output_dir, name, rows, columns, described):
    write_tsv(output_dir / f'{name}.tsv', rows, columns)
    write_json(output_dir / f'{name}.json', {column: described[column] for column in columns})


def _participants(bids_dir):
    """Return what participants.tsv says of each participant, and the dictionary of its columns."""
    path = Path(bids_dir or '') / 'participants.tsv'
    if bids_dir is None or not path.is_file():
        return {}, {}
    rows = read_tsv(path)
    names = [name for name in (rows[0] if rows else {}) if name not in ('participant_id', *IDENTITY, *COLUMNS)]
    try:
        said = read_json(path.with_suffix('.json'))
    except FileError:
        said = {}
    meanings = {name: said.get(name) or {'Description': f'{name} of participants.tsv'} for name in names}
    return {row['participant_id']: {name: row.get(name) for name in names} for row in rows
            if 'participant_id' in row}, meanings


def _read_scan(output_dir, state, people):
    """Return an acquisition: who it is of, and the rows of its table, or one that says why it has none."""
    folder = output_dir / state['participant'] / (f'ses-{state["session"]}' if state['session'] != 'n/a' else '')
    stem = state['acquisition']
    known = {name: state.get(name, 'n/a') for name in (*_SOURCES, 'state', 'reason')}
    known |= people.get(state['participant'], {})
    rows = []
    if state['state'] == 'complete':
        quality = folder / 'anat' / f'{stem}_desc-qsm_qc.json'
        if quality.is_file():
            known['brain_volume_ml'] = read_json(quality).get('metrics', {}).get('brain_volume_ml')
        path = find_statistics(folder / 'anat', stem)
        rows = [known | {name: value for name, value in row.items() if name not in _SOURCES}
                for row in (read_tsv(path) if path else ())]
        if not rows:
            known['reason'] = 'there is no table of regions' if path is None else 'no map has values of regions'
    return {'known': known, 'rows': rows or [known], 'values': rows, 'folder': folder, 'stem': stem}


def _for_comparison(scan):
    """Return what comparisons with other sessions and runs need of the rows of an acquisition, if there may be any."""
    if scan['known']['session'] == scan['known']['run'] == 'n/a':
        return []
    return [{name: sys.intern(row[name]) for name in _COMPARED} for row in scan['values']]


def _wide_row(scan):
    """Return the values of an acquisition as one row."""
    row, first = dict(scan['known']), {}
    for found in scan['values']:
        row |= {name: found[name] for name in ('seg_source', 'atlas')}
        metric = found['metric']
        if first.setdefault(metric, found['map']) != found['map']:
            metric = f'{metric}-{found["map"]}'
        where, eroded = f'{found["roi"]}_{found["hemi"]}', float(found['erosion_mm']) > 0
        volume = sys.intern(f'volume_{where}')
        row[volume] = row.get(volume, found['volume_mm3'])
        for short, (column, of_core, sides) in WIDE.items():
            if of_core == eroded and found['hemi'] in sides and (found['ref'] != 'n/a' or '_ref-' not in column):
                row[sys.intern(f'{metric}_{short}_{where}')] = found[column]
    return row


def _wide_order(name):
    first, *_, roi, hemi = name.split('_')
    return name.startswith('volume'), first, roi, hemi, name


def _describe_wide(name):
    *kind, roi, hemi = name.split('_')
    side = {'L': 'left ', 'R': 'right ', 'B': ''}[hemi]
    if kind == ['volume']:
        return {'Description': f'Volume of the {side}{roi}', 'Units': 'mm3'}
    column, eroded, _ = WIDE[kind[-1]]
    text = f'{COLUMNS[column][0]} of {"_".join(kind[:-1])} in the {side}{roi}{", eroded by a voxel" if eroded else ""}'
    unit = '1/s' if kind[0].startswith('R2star') else 'ppm'
    return {'Description': text, **({'Units': unit} if COLUMNS[column][1] == '{}' else {})}


def _changes(scans, bids_dir, longitudinal):
    """Return the differences of the later sessions of each participant to the first one."""
    within = _repeatability(scans)
    sessions = defaultdict(list)
    for scan in scans:
        if scan['values'] and scan['known']['session'] != 'n/a':
            sessions[scan['known']['participant']].append(scan)
    changes = []
    for participant, found in sessions.items():
        times = {scan['stem']: _time_of(bids_dir, scan['known']) for scan in found}
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
    protocol = [_evidence(scan) for scan in (first, later)]
    for label, names in (('scanner', ('Manufacturer', 'ManufacturersModelName', 'MagneticFieldStrength')),
                         ('echo times', ('EchoTimes',)), ('voxel size', ('VoxelSize',))):
        if any(_rounded(protocol[0].get(name)) != _rounded(protocol[1].get(name)) for name in names):
            flags.append(f'another {label}')
    methods = [_methods(scan) for scan in (first, later)]
    flags += [f'another {name}' for name in methods[0] if methods[0][name] != methods[1].get(name)]
    if any(first['values'][0][name] != later['values'][0][name] for name in ('seg_source', 'atlas')):
        flags.append('another source of the regions')
    return flags


def _evidence(scan):
    path = scan['folder'] / 'anat' / f'{scan["stem"]}_desc-consensus_compliance.json'
    found = read_json(path)['C12']['evidence'] if path.is_file() else {}
    return found if isinstance(found, dict) else {}


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


def _time_of(bids_dir, known):
    """Return when a scan was made, in years, or None."""
    if bids_dir is None:
        return None
    folder = Path(bids_dir) / known['participant']
    path = folder / f'{known["participant"]}_sessions.tsv'
    for row in read_tsv(path) if path.is_file() else ():
        if row.get('session_id') == f'ses-{known["session"]}':
            time = _years(row.get('acq_time', 'n/a'))
            if time is None and _is_number(row.get('age')):
                time = float(row['age'])
            if time is not None:
                return time
    stem = f'{known["participant"]}_ses-{known["session"]}'
    path = folder / f'ses-{known["session"]}' / f'{stem}_scans.tsv'
    times = [_years(row.get('acq_time', 'n/a')) for row in (read_tsv(path) if path.is_file() else ())
             if Path(row.get('filename', '')).name.startswith(known['acquisition'])]
    return next((time for time in times if time is not None), None)


def _years(text):
    try:
        moment = datetime.fromisoformat(text.rstrip('Z'))
    except ValueError:
        return None
    return (moment - datetime(1900, 1, 1)).total_seconds() / (365.25 * 86400)


def _is_number(text):
    return bool(text) and re.fullmatch(r'\d+(\.\d+)?', text) is not None
