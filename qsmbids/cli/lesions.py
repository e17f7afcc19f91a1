"""Lesion lists of derivatives against the true ones, for ``qsmbids-evaluate``."""

import math
import re
from collections import Counter, defaultdict

from qsmbids.files import FileError, read_tsv

TARGET = 'cmb'
PLACE = ('x_ras_mm', 'y_ras_mm', 'z_ras_mm')
TOLERANCE_MM = 2.5
PROBABLE = 0.5


def score_lesions(truth, estimates):
    """Return the FROC of each method whose lesion lists are found, and what it takes for what.

    A list is ``<acquisition>[_label-<label>]_desc-<method>_lesions.tsv`` with the columns x_ras_mm, y_ras_mm, z_ras_mm;
    in the truth, where the method is ``truth``, also diameter_mm; in an estimate also probability. Where there is a
    column class, only ``cmb`` counts for the FROC. A hit lies within 2.5 mm or the lesion's radius of its centre, one
    to one.

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
    confusion : list of dict
        One per method and pair of classes: method, truth (None for a detection where no lesion is), found (None for a
        lesion that was missed), count. Detections with a probability of 0.5 or more.
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
    rows, confusion = [], []
    for method, lists in found.items():
        missing = [name for name in truths if name not in lists]
        if missing:
            warnings.append(f'{method}: there is no list of lesions of {", ".join(missing)}; the FROC is without')
        pairs = [(_read(truths[name], 'diameter_mm'), _read(path, 'probability')) for name, path in lists.items()]
        rows += _froc(method, pairs, warnings)
        confusion += _confusion(method, pairs)
    return rows, confusion, warnings


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
    for lists in pairs:
        lesions, detections = ([row for row in rows if row[4] == TARGET] for rows in lists)
        near = near_by_distance([row[:3] for row in detections], [row[:3] for row in lesions],
                                np.array([row[3] / 2 for row in lesions]), TOLERANCE_MM)
        heads.append(match_lesions(near, [row[3] for row in detections]))
    count = sum(head.lesions for head in heads)
    if not count:
        warnings.append(f'{method}: the truth has no lesion in any head, so that there is no FROC')
        return []
    return [{'method': method, 'heads': len(heads), 'lesions': count} | point._asdict() for point in froc(heads).points]


def _confusion(method, pairs):
    """Return how often a method took lesions of one class for those of another."""
    import numpy as np
    from qsmbids.core.metrics import pair_by_distance
    counts = Counter()
    for lesions, detections in pairs:
        detections = [row for row in detections if row[3] >= PROBABLE]
        paired = pair_by_distance([row[:3] for row in detections], [row[:3] for row in lesions],
                                  np.array([row[3] / 2 for row in lesions]), TOLERANCE_MM).tolist()
        counts.update((lesions[j][4], detections[i][4]) for i, j in paired)
        hits, met = ({pair[side] for pair in paired} for side in (0, 1))
        counts.update((row[4], None) for j, row in enumerate(lesions) if j not in met)
        counts.update((None, row[4]) for i, row in enumerate(detections) if i not in hits)
    return [{'method': method, 'truth': true, 'found': found, 'count': count}
            for (true, found), count in sorted(counts.items(), key=lambda item: [name or '~' for name in item[0]])]


def _read(path, column):
    """Return x, y, z and one more column of a list, as numbers, and the class."""
    try:
        rows = [[*(float(row[name]) for name in (*PLACE, column)), row.get('class', TARGET)] for row in read_tsv(path)]
        if not all(math.isfinite(value) for row in rows for value in row[:4]):
            raise ValueError('a value is not finite')
    except (OSError, ValueError, KeyError) as error:
        raise FileError(f'{path}: cannot be read as a list of lesions with the columns {", ".join(PLACE)} and '
                        f'{column}, all of them numbers ({error!r}). Correct it.') from None
    return rows
