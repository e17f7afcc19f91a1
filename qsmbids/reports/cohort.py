"""Values of regions over a cohort: a table with a row for each value, and one with a row for each acquisition."""

import sys
from pathlib import Path

from qsmbids.core.statistics import COLUMNS, SEGMENTED, describe_columns
from qsmbids.files import FileError, describe, read_json, read_tsv, write_table
from qsmbids.reports.change import CHANGE, for_comparison, list_changes
from qsmbids.reports.status import IDENTITY, STATE, folder_of

_LEADING = IDENTITY | STATE | {'reason': 'Why there are no values',
                               'brain_volume_ml': 'Volume of the brain mask in mL'} | SEGMENTED
# Columns of the wide table: of which columns of the long one, whole or eroded, and of which sides.
WIDE = {'mean': ('mean', False, 'LRB'), 'median': ('median', False, 'LRB'), 'sd': ('sd', False, 'LRB'),
        'meancore': ('mean', True, 'LRB'), 'meanrefwb': ('mean_ref-wholebrain', False, 'LRB'),
        'meanrefcsf': ('mean_ref-csf', False, 'LRB'), 'hiiron': ('hi_iron_mean', False, 'LRB'),
        'asymmetry': ('asymmetry', False, 'B'), 'qc': ('qc', False, 'LR')}


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
    people, meanings = read_participants(bids_dir)
    scans, wide = [], []

    def long():
        # One acquisition at a time: thousands of whole tables do not fit into the memory of a small job.
        for state in states:
            scan = _read_scan(output_dir, state, people)
            yield from scan.pop('rows')
            wide.append(_wide_row(scan))
            scans.append(scan | {'values': for_comparison(scan)})

    leading = describe(_LEADING) | meanings
    write_table(output_dir, 'group_subcortical', long(), leading | describe_columns())
    names = dict.fromkeys(name for row in wide for name in row if name not in leading)
    write_table(output_dir, 'group_subcortical_wide', wide,
                leading | {name: _describe_wide(name) for name in sorted(names, key=_wide_order)})
    write_table(output_dir, 'group_subcortical_change', list_changes(scans, bids_dir, longitudinal), describe(CHANGE))
    return ['group_subcortical.tsv', 'group_subcortical_wide.tsv', 'group_subcortical_change.tsv']


def read_participants(bids_dir):
    """Return what participants.tsv says of each participant, and the dictionary of its columns."""
    path = Path(bids_dir or '') / 'participants.tsv'
    if bids_dir is None or not path.is_file():
        return {}, {}
    rows = read_tsv(path)
    names = [name for name in (rows[0] if rows else {}) if name not in ('participant_id', *_LEADING, *COLUMNS)]
    try:
        said = read_json(path.with_suffix('.json'))
    except FileError:
        said = {}
    meanings = {name: said.get(name) or {'Description': f'{name} of participants.tsv'} for name in names}
    return {row['participant_id']: {name: row.get(name) for name in names} for row in rows
            if 'participant_id' in row}, meanings


def _read_scan(output_dir, state, people):
    """Return an acquisition: who it is of, and the rows of its table, or one that says why it has none."""
    folder = folder_of(output_dir, state)
    stem = state['acquisition']
    known = {name: state.get(name, 'n/a') for name in (*IDENTITY, *STATE, 'reason')}
    known |= people.get(state['participant'], {})
    rows = []
    if state['state'] == 'complete':
        quality = folder / 'anat' / f'{stem}_desc-qsm_qc.json'
        if quality.is_file():
            known['brain_volume_ml'] = read_json(quality).get('metrics', {}).get('brain_volume_ml')
        path = find_statistics(folder / 'anat', stem)
        rows = [known | {name: value for name, value in row.items() if name not in IDENTITY}
                for row in (read_tsv(path) if path else ())]
        if not rows:
            known['reason'] = 'there is no table of regions' if path is None else 'no map has values of regions'
    return {'known': known, 'rows': rows or [known], 'values': rows, 'folder': folder, 'stem': stem}


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
