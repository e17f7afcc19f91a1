"""What a run says when it ends: what was made, where, what to look at, and what failed and why."""

from collections import Counter

from qsmbids.cli.progress import clock_text

_MOST_PAGES, _MOST_FAILURES = 5, 20
# What users look for, by the suffix of the files; all else is only counted.
_KINDS = {'Chimap': ('susceptibility map', 'susceptibility maps'), 'R2starmap': ('R2* map', 'R2* maps'),
          'swi': ('susceptibility-weighted image', 'susceptibility-weighted images'),
          'fieldmap': ('field map', 'field maps'), 'mask': ('mask', 'masks'),
          'stats': ('table of regions', 'tables of regions'),
          'lesions': ('table of microbleeds', 'tables of microbleeds')}


def summarise(config, rows, made, seconds, run_id):
    """Return the closing text of a run.

    Parameters
    ----------
    config : qsmbids.config.Config
    rows : list of dict
        The status table.
    made : list of str
        Paths of the outputs of complete acquisitions, relative to the output directory; empty if nothing was computed.
    seconds : float
        That the run took.
    run_id : str
        In the name of the status table.

    Returns
    -------
    str
    """
    out = config.output_dir
    bad = [row for row in rows if row['state'] != 'complete']
    lines = [f'qsmbids: {len(rows) - len(bad)} of {len(rows)} acquisitions complete in {out}, after '
             f'{clock_text(seconds)}']
    if made:
        lines.append(f'  made: {_count(made)}')
    pages = [out / f'{label}.html' for label in dict.fromkeys(row['participant'] for row in rows)]
    pages = [str(page) for page in pages if page.is_file()]
    if pages:
        lines.append('  look at: ' + (', '.join(pages) if len(pages) <= _MOST_PAGES else
                                      f'{out}/sub-*.html ({len(pages)} pages)'))
    methods = '; methods text to copy: CITATION.md' if (out / 'logs' / 'CITATION.md').is_file() else ''
    lines.append(f'  recorded in: {out / "logs"}: status-{run_id}.tsv{methods}')
    lines += [_failure(row) for row in bad[:_MOST_FAILURES]]
    if len(bad) > _MOST_FAILURES:
        lines.append(f'  and {len(bad) - _MOST_FAILURES} more, in the table above')
    if len(rows) > len(bad):
        lines.append(f'  tables and page of the cohort: qsmbids {config.bids_dir} {out} group')
    return '\n'.join(lines)


def _count(paths):
    suffixes = Counter(path.rsplit('_', 1)[-1].split('.')[0] for path in paths)
    named = [f'{suffixes[suffix]} {names[suffixes[suffix] > 1]}' for suffix, names in _KINDS.items()
             if suffixes[suffix]]
    return ', '.join([*named, f'{len(paths)} files in all'])


def _failure(row):
    label = row['acquisition'] if row['acquisition'] != 'n/a' else row['participant']
    return f'  {label}: {row["state"]}: {row["reason"]}' + (f' ({row["crashfile"]})' if row['crashfile'] else '')
