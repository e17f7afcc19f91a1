"""The regions of an acquisition on the page of its participant: a table with flags, and bars beside the cohort."""

from html import escape
from pathlib import Path
from statistics import fmean, stdev

from qsmbids.core.labels import STRUCTURES
from qsmbids.files import read_tsv
from qsmbids.reports.cohort import find_statistics

LEAST_GROUP = 3   # other participants, of whom a mean is shown
METRICS = {'chi': ('Susceptibility', 'ppm'), 'R2star': ('R2*', '1/s')}
_NOT_TOLD = 'does not tell'
_WIDTH, _LEFT, _RIGHT, _ROW, _TOP, _FOOT = 1076, 150, 40, 34, 30, 40


def region_section(output_dir, acquisition):
    """Return what the page says about the regions of an acquisition; None if it has no table of them.

    Parameters
    ----------
    output_dir : path
    acquisition : qsmbids.bids.Acquisition

    Returns
    -------
    dict or None
        ``source``; ``rows``: name, values, state and reason of each region; ``unknown``: what the segmentation cannot
        tell; ``bars``: SVG by title, which need no escaping.
    """
    folder = Path(output_dir) / Path(acquisition.path('stats')).parent
    path = find_statistics(folder, acquisition.name)
    if path is None:
        return None
    whole = [row for row in read_tsv(path) if float(row['erosion_mm']) == 0]
    first = {}
    for row in whole:
        first.setdefault(row['metric'], row['map'])
    found = {(row['roi'], row['hemi'], row['metric']): row for row in whole if row['map'] == first[row['metric']]}
    sides = list(dict.fromkeys((row['roi'], row['hemi']) for row in whole
                               if row['hemi'] != 'B' or row['roi'] == 'CSF'))
    rows, unknown = [], []
    for roi, hemi in sides:
        known = [found[roi, hemi, metric] for metric in METRICS if (roi, hemi, metric) in found]
        if known and _NOT_TOLD in known[0]['qc_reason']:
            unknown.append(f'{roi} {hemi}')
        elif known:
            worst = max(known, key=lambda row: ('pass', 'warn', 'fail', 'missing').index(row['qc']))
            rows.append((f'{roi} {hemi}'.removesuffix(' B'), known[0]['volume_mm3'], known[0]['n_vox'],
                         [_value(found.get((roi, hemi, metric))) for metric in METRICS], worst['qc'],
                         '' if worst['qc_reason'] == 'n/a' else worst['qc_reason']))
    group = _group(Path(output_dir) / 'group_subcortical_wide.tsv', f'sub-{acquisition.subject}')
    bars = {f'{title} of the regions, {unit}': draw_bars(found, group, metric, unit)
            for metric, (title, unit) in METRICS.items() if metric in first}
    source = f'{whole[0]["seg_source"]}: {whole[0]["atlas"]}' if whole else 'no map has values'
    return {'source': source, 'rows': rows, 'unknown': unknown, 'bars': bars, 'others': bool(group)}


def _value(row):
    if row is None or row['mean'] == 'n/a':
        return 'n/a'
    return f'{float(row["mean"]):.3g} ± {float(row["sd"]):.2g}'


def _group(path, participant):
    """Return mean and SD of the other participants, by column of the wide table."""
    if not path.is_file():
        return {}
    others = [row for row in read_tsv(path) if row['participant'] != participant]
    columns = [name for name in (others[0] if others else {}) if '_mean_' in name]
    values = {name: [float(row[name]) for row in others if row[name] != 'n/a'] for name in columns}
    return {name: (fmean(found), stdev(found)) for name, found in values.items() if len(found) >= LEAST_GROUP}


def draw_bars(found, group, metric, unit):
    """Return bars of the means of both sides as SVG, their SD as lines, and the cohort as bands.

    Parameters
    ----------
    found : dict
        Rows of the table by structure, side and metric.
    group : dict
        Mean and SD by column of the wide table of the cohort; may be empty.
    metric, unit : str

    Returns
    -------
    str
        SVG that needs no script; what a reader does not see stands in its title.
    """
    bars = []
    for roi in STRUCTURES:
        for side in 'LR':
            row = found.get((roi, side, metric))
            if row is not None and row['mean'] != 'n/a':
                bars.append((roi, side, float(row['mean']), float(row['sd']), row['qc'],
                             group.get(f'{metric}_mean_{roi}_{side}')))
    if not bars:
        return ''
    names = list(dict.fromkeys(roi for roi, *_ in bars))
    spans = [bar[2:4] for bar in bars] + [bar[-1] for bar in bars if bar[-1]]
    ends = [0.] + [mean + sign * sd for mean, sd in spans for sign in (-1, 1)]
    low, high = min(ends), max(ends)
    scale = (_WIDTH - _LEFT - _RIGHT) / (high - low)
    height = _TOP + _ROW * len(names) + _FOOT

    def x(value):
        return round(_LEFT + (value - low) * scale, 1)

    parts = [f'<svg role="img" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" class="bars">',
             f'<title>{escape(metric)} of {len(names)} structures, left and right</title>']
    parts += [f'<text x="{_LEFT - 10}" y="{_TOP + _ROW * number + 18}" text-anchor="end">{escape(roi)}</text>'
              for number, roi in enumerate(names)]
    for roi, side, mean, sd, state, other in bars:
        top = _TOP + _ROW * names.index(roi) + (3 if side == 'L' else 16)
        start, width = min(x(0), x(mean)), max(abs(x(mean) - x(0)), 1)
        if other:
            parts.append(f'<rect class="group" x="{x(other[0] - other[1])}" y="{top - 1}" '
                         f'width="{2 * other[1] * scale:.1f}" height="13"/>'
                         f'<path class="group" d="M{x(other[0])} {top - 1}v13"/>')
        parts.append(f'<rect class="{side} {escape(state)}" x="{start}" y="{top}" width="{width:.1f}" height="11" '
                     f'fill="{STRUCTURES[roi].colour}"><title>{escape(roi)} {side}: {mean:.4g} {unit}</title></rect>'
                     f'<path class="sd" d="M{x(mean - sd)} {top + 5.5}H{x(mean + sd)}"/>')
    parts.append(f'<path class="zero" d="M{x(0)} {_TOP - 6}V{height - _FOOT}"/>' + _axis(low, high, x, height)
                 + _legend(bool(group), unit) + '</svg>')
    return ''.join(parts)


def _axis(low, high, x, height):
    step = next(step for power in range(-4, 4) for step in (10. ** power, 2 * 10. ** power, 5 * 10. ** power)
                if (high - low) / step <= 10)
    ticks = [number * step for number in range(int(low // step) + 1, int(high // step) + 1)]
    return ''.join(f'<path class="tick" d="M{x(tick)} {height - _FOOT}v5"/>'
                   f'<text x="{x(tick)}" y="{height - _FOOT + 19}" text-anchor="middle">{tick:.4g}</text>'
                   for tick in ticks)


def _legend(has_group, unit):
    text = f'{unit}; upper bar left, lower bar right; line: SD in the region; pale: doubtful'
    return f'<text x="{_LEFT}" y="16">{text}{"; grey: mean and SD of the other participants" * has_group}</text>'
