"""The page of a cohort: who to look at first, tables, distributions, scanners and ages, where microbleeds lie."""

from pathlib import Path

import numpy as np

from qsmbids.core.lesiontable import counts, places_of
from qsmbids.files import FileError, read_json, read_tsv, write_text
from qsmbids.headers import load_image, read_voxels
from qsmbids.reports.cohort import WIDE
from qsmbids.reports.compliance import read_protocol
from qsmbids.reports.glass import outlines, place_in_box, read_box
from qsmbids.reports.microbleeds import KINDS
from qsmbids.reports.rendering import render
from qsmbids.reports.status import IDENTITY, STATE, folder_of

NAME = 'group.html'
# Columns of tables that say who or where, and are no values.
_IDENTITY = (*IDENTITY, *STATE, 'reason', 'seg_source', 'atlas')
_KINDS = {'mean': 'mean', 'median': 'median', 'sd': 'SD', 'meancore': 'mean of the eroded region',
          'meanrefwb': 'mean relative to the whole brain', 'meanrefcsf': 'mean relative to CSF',
          'hiiron': 'mean of the part richest in iron', 'asymmetry': 'asymmetry'}
_MOST_LEVELS = 12   # of a column that scans are grouped by


def write_group_page(output_dir, version, people=None):
    """Write ``group.html`` from the tables of the group level.

    Parameters
    ----------
    output_dir : path
        With ``group_qc.tsv``; the other tables may be missing.
    version : str
    people : dict of str to dict, optional
        What participants.tsv says of each participant, by its label with ``sub-``.

    Returns
    -------
    str
        Path of the page.

    Raises
    ------
    FileError
        If there is no quality table, or the page cannot be written.
    """
    output_dir, people = Path(output_dir), people or {}
    quality = read_tsv(output_dir / 'group_qc.tsv')
    known = [_known(output_dir, row, people) for row in quality]
    names = list(next(iter(people.values()), {}))
    numbers = _told([_column(name, name, [row['people'].get(name) for row in known]) for name in names])
    content = {'rows': known, 'groups': _groups(output_dir, quality, names), 'numbers': numbers,
               'categories': _categories(known, {column['name'] for column in numbers}),
               'lesions': _lesions(output_dir, quality)}
    failures = {}
    for row in known:
        if row['state'] != 'complete':
            failures.setdefault((row['state'], row['reason']), []).append(row)
    page = render('group', script='group', version=version, content=content, failures=failures, total=len(known),
                  complete=len(known) - sum(map(len, failures.values())),
                  tables=sorted(path.name for path in output_dir.glob('group_*.tsv')))
    return write_text(output_dir / NAME, page)


def _groups(output_dir, quality, people):
    """Return the columns of both tables under headings: quality first, then each kind of regional values."""
    wide = {_key(row): row for row in _table(output_dir / 'group_subcortical_wide.tsv')}
    groups = {'Quality': _columns(output_dir / 'group_qc.json', quality, _IDENTITY)}
    for column in _columns(output_dir / 'group_subcortical_wide.json', [wide.get(_key(row), {}) for row in quality],
                           (*_IDENTITY, 'brain_volume_ml', *people)):
        if kind := _kind(column['name']):
            groups.setdefault(kind, []).append(column)
    return [{'name': name, 'columns': found} for name, found in groups.items()]


def _key(row):
    return row['participant'], row['acquisition']


def _table(path):
    return read_tsv(path) if path.is_file() else []


def _known(output_dir, row, people):
    """Return who a row is of: labels, state, link to the page, scanner, and what participants.tsv says."""
    protocol = read_protocol(folder_of(output_dir, row), row['acquisition'])
    scanner = [str(protocol[name]) for name in ('Manufacturer', 'ManufacturersModelName') if protocol.get(name)]
    if protocol.get('MagneticFieldStrength'):
        scanner.append(f'{float(protocol["MagneticFieldStrength"]):.3g} T')
    page = f'{row["participant"]}.html'
    anchor = f'#{row["acquisition"]}' if row['acquisition'] != 'n/a' else ''
    return {name: row.get(name, 'n/a') for name in (*IDENTITY, *STATE, 'reason')} | {
        'scanner': ' '.join(scanner) or 'n/a', 'page': page + anchor if (output_dir / page).is_file() else '',
        'people': {name: value or 'n/a' for name, value in people.get(row['participant'], {}).items()}}


def _columns(dictionary, rows, skipped):
    """Return the columns of a table that hold numbers, in the order of its dictionary."""
    if not dictionary.is_file():
        return []
    return _told([_column(name, entry.get('Description', name), [row.get(name) for row in rows])
                  for name, entry in read_json(dictionary).items() if name not in skipped])


def _told(columns):
    """Return the columns that hold any number."""
    return [column for column in columns if any(value is not None for value in column['values'])]


def _column(name, label, cells):
    return {'name': name, 'label': label, 'values': [_number(cell) for cell in cells]}


def _number(cell):
    """Return the number in a cell with the digits that a picture needs; None if there is none."""
    try:
        value = float(f'{float(cell):.4g}')
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _kind(name):
    """Return the heading for a column of the wide table; empty for states and the like."""
    if name.startswith('volume_'):
        return 'Volumes of regions, mm3'
    metric, kind, *_ = name.split('_') + ['', '']
    return f'{metric}: {_KINDS[kind]}' if kind in _KINDS and kind in WIDE else ''


def _categories(known, numeric):
    """Return what scans can be told apart by: names, and the value of each scan."""
    names = ['scanner', 'session', *dict.fromkeys(name for row in known for name in row['people'])]
    found = {name: [row['people'].get(name, row.get(name, 'n/a')) for row in known] for name in names}
    return [{'name': name, 'values': values} for name, values in found.items()
            if 1 < len(set(values)) <= _MOST_LEVELS and (name not in numeric or len(set(values)) <= 4)]


def _lesions(output_dir, rows):
    """Return places of microbleeds and calcifications in the box of their brain, and the outline of one of them."""
    number = {row['acquisition']: index for index, row in enumerate(rows)}
    found = {}
    for row in _table(output_dir / 'group_microbleeds_lesions.tsv'):
        if row['class'] in KINDS and counts(row) and row['acquisition'] in number:
            found.setdefault(number[row['acquisition']], []).append(row)
    counted = _table(output_dir / 'group_microbleeds.tsv')
    content = {'points': [], 'outlines': {}, 'size': [],
               'scans': sum(row.get('cmb_total_all', 'n/a') != 'n/a' for row in counted)}
    for index, lesions in found.items():
        stem = folder_of(output_dir, rows[index]) / 'anat' / rows[index]['acquisition']
        quality = Path(f'{stem}_desc-qsm_qc.json')
        box = (read_json(quality) if quality.is_file() else {}).get('brain_box_mm')
        box = read_box(f'{stem}_desc-brain_mask.nii.gz') if box is None else box
        if not box:
            continue
        if not content['outlines']:
            content |= _outline(f'{stem}_desc-brain_mask.nii.gz', box)
        places = place_in_box(places_of(lesions), box)
        content['points'] += [[index, *np.round(place, 3).tolist(), KINDS.index(row['class']),
                               int(row['certainty'] == 'definite')] for place, row in zip(places, lesions)]
    return content


def _outline(path, box):
    """Return the outline of a brain and the size of its box in mm; nothing if it cannot be read."""
    try:
        mask = np.asarray(read_voxels(path)) > .5
        return {'outlines': outlines(mask, load_image(path).affine), 'size': [b - a for a, b in zip(*box)]}
    except FileError:
        return {}
