"""Where several susceptibility maps of an acquisition differ, on the page of its participant."""

from pathlib import Path

from qsmbids.files import read_tsv
from qsmbids.reports.cohort import find_statistics


def agreement_section(output_dir, acquisition, rows):
    """Return what the page says about how the maps of an acquisition agree; None if there is but one.

    Parameters
    ----------
    output_dir : path
    acquisition : qsmbids.bids.Acquisition
    rows : list of dict
        As from :func:`qsmbids.core.quality.agreement_metrics`.

    Returns
    -------
    dict or None
        ``levels``: map, first map, level of susceptibility, voxels, mean and RMS of the difference. ``first``,
        ``others``: names of maps; ``regions``: region, mean of the first map, and differences of the others from it;
        empty without a table of regions.
    """
    if not rows:
        return None
    levels = [(row['map'], row['against'], _level(row['low_ppm'], row['high_ppm']), row['voxels'],
               f'{row["difference_ppm"]:+.4f}', f'{row["rms_ppm"]:.4f}') for row in rows]
    first, others = rows[0]['against'], list(dict.fromkeys(row['map'] for row in rows))
    return {'levels': levels, 'first': first, 'others': others,
            'regions': _regions(output_dir, acquisition, first, others)}


def _level(low, high):
    if low is None:
        return f'below {high:g}'
    return f'above {low:g}' if high is None else f'{low:g} to {high:g}'


def _regions(output_dir, acquisition, first, others):
    path = find_statistics(Path(output_dir) / Path(acquisition.path('stats')).parent, acquisition.name)
    if path is None:
        return []
    means = {}
    for row in read_tsv(path):
        if row['metric'] == 'chi' and float(row['erosion_mm']) == 0 and row['mean'] != 'n/a':
            means.setdefault((row['roi'], row['hemi']), {})[row['map']] = float(row['mean'])
    return [(f'{roi} {hemi}'.removesuffix(' B'), f'{found[first]:.4f}',
             [f'{found[name] - found[first]:+.4f}' if name in found else 'n/a' for name in others])
            for (roi, hemi), found in means.items() if first in found and (hemi != 'B' or roi == 'CSF')]
