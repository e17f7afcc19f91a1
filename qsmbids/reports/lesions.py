"""The lesions of an acquisition on the page of its participant: counts, and a table of the most probable ones."""

from pathlib import Path

from qsmbids.core.lesiontable import places_of
from qsmbids.files import read_tsv
from qsmbids.reports.lesionfigure import COLOURS, shown_lesions

MOST = 40   # rows that are shown
_GRADES = ('definite', 'possible', 'total')


def lesion_section(output_dir, acquisition):
    """Return what the page says about the lesions of an acquisition; None if none were looked for.

    Parameters
    ----------
    output_dir : path
    acquisition : qsmbids.bids.Acquisition

    Returns
    -------
    dict or None
        ``counts``: class, region and numbers; ``rows``: a dict for each lesion, the most probable first, with its
        ``place`` in mm; ``more``: how many of them are left out.
    """
    folder = Path(output_dir) / Path(acquisition.path('lesions')).parent
    paths = [folder / f'{acquisition.name}_desc-cmb_{kind}.tsv' for kind in ('lesions', 'counts')]
    if not all(path.is_file() for path in paths):
        return None
    lesions, counts = map(read_tsv, paths)
    likely = shown_lesions(lesions)
    likely.sort(key=lambda row: (tuple(COLOURS).index(row['class']), -float(row['probability'])))
    return {'counts': [(row['class'], row['region'], *(row[grade] for grade in _GRADES)) for row in counts
                       if row['region'] != 'n/a'],
            'pattern': next((row['pattern'] for row in counts if row['pattern'] != 'n/a'), ''),
            'rows': [_shown(row) for row in likely[:MOST]], 'more': max(len(likely) - MOST, 0)}


def _shown(row):
    where = [row[name] for name in ('bombs_region', 'mars_region', 'deep_nucleus', 'hemisphere') if row[name] != 'n/a']
    return row | {'place': places_of([row])[0].tolist(), 'where': ', '.join(dict.fromkeys(where))}
