"""Lesion lists of derivatives against the true ones, for ``qsmbids-evaluate``."""

import math
import re
from collections import defaultdict

from qsmbids.files import FileError, read_tsv

PLACE = ('x_ras_mm', 'y_ras_mm', 'z_ras_mm')
TOLERANCE_MM = 2.5


def score_lesions(truth, estimates):
    """Return the FROC of each method whose lesion lists are found.

    A list is ``<acquisition>[_label-<label>]_desc-<method>_lesions.tsv`` with the columns x_ras_mm, y_ras_mm, z_ras_mm;
    in the truth, where the method is ``truth``, also diameter_mm; in an estimate also probability. Where there is a
    column class, only ``cmb`` counts. A hit lies within 2.5 mm or the lesion's radius of its centre, one to one.

    Parameters
    ----------
    truth : Path
    estimates : dict of str to Path
        Folders by the prefix of their methods' names.

    Returns
    -------
    rows : list of dict
        One per method and rate: method, heads, lesions, false_positives (allowed per head), sensitivity, lower, upper
        (95 % interval), threshold.
    warnings : list of str

    Raises
    ------
    FileError
        If a list cannot be read.
    """
    truths = {name: path for (name, method), path in _find(truth).items() if method == 'truth'}
    found, warnings = defaultdict(dict), []
    for prefix, folder in estimates.items():
        for (name, method), path in _find(folder).items():
            if method != 'truth' and name in truths:
                found[f'{prefix}{method}'][name] = path
    rows = []
    for method, lists in found.items():
        missing = [name for name in truths if name not in lists]
        if missing:
            warnings.append(f'{method}: there is no list of lesions of {", ".join(missing)}; the FROC is without')
        rows += _froc(method, {name: (truths[name], path) for name, path in lists.items()}, warnings)
    return rows, warnings


def _find(folder):
    """Return the lesion lists in a folder by acquisition and method."""
    found = {}
    for path in sorted(folder.rglob('*_desc-*_lesions.tsv')):
        name, _, method = path.name.removesuffix('_lesions.tsv').partition('_desc-')
        found[re.sub('_label-[A-Za-z0-9]+', '', name), method] = path
    return found


def _froc(method, pairs, warnings):
    """Return the rows of one method from the true list and the method's list of each head."""
    import numpy as np
    from qsmbids.core.metrics import froc, match_lesions, near_by_distance
    heads = []
    for true, path in pairs.values():
        lesions, detections = _read(true, 'diameter_mm'), _read(path, 'probability')
        near = near_by_distance([row[:3] for row in detections], [row[:3] for row in lesions],
                                np.array([row[3] / 2 for row in lesions]), TOLERANCE_MM)
        heads.append(match_lesions(near, [row[3] for row in detections]))
    count = sum(head.lesions for head in heads)
    if not count:
        warnings.append(f'{method}: the truth has no lesion in any head, so that there is no FROC')
        return []
    return [{'method': method, 'heads': len(heads), 'lesions': count} | point._asdict() for point in froc(heads).points]


def _read(path, column):
    """Return x, y, z and one more column of a list, as numbers."""
    try:
        rows = [[float(row[name]) for name in (*PLACE, column)] for row in read_tsv(path)
                if row.get('class', 'cmb') == 'cmb']
        if not all(math.isfinite(value) for row in rows for value in row):
            raise ValueError('a value is not finite')
    except (OSError, ValueError, KeyError) as error:
        raise FileError(f'{path}: cannot be read as a list of lesions with the columns {", ".join(PLACE)} and '
                        f'{column}, all of them numbers ({error!r}). Correct it.') from None
    return rows
