"""``qsmbids-evaluate TRUTH ESTIMATE``: how close susceptibility maps of any software are to the truth."""

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from qsmbids import __version__
from qsmbids.cli.about import add_about
from qsmbids.cli.environment import run_command
from qsmbids.cli.lesions import score_lesions
from qsmbids.files import FileError, read_tsv, write_json, write_tsv

EPILOG = """\
Of two folders, TRUTH is the derivative that the simulator writes (desc-truth_Chimap, desc-brain_mask, desc-truth_dseg)
and each ESTIMATE a derivative whose *_Chimap.nii.gz are all scored against the truth of the same acquisition. Lists of
lesions (*_desc-<method>_lesions.tsv, the true ones desc-truth) give a FROC of microbleeds, PREFIX_froc.tsv, and what
was taken for what, PREFIX_confusion.tsv.

Maps of the sources of one sign (*positive_Chimap, *negative_Chimap) are scored against the truth of that sign, which
lies beside the other as desc-positive_Chimap and desc-negative_Chimap, and have no rank.

exit codes: 0 all maps were scored; 1 at least one was not; 2 the command line is wrong"""
REFERENCE = ('Each map was shifted to agree with the truth in the mean over the voxels that it covers, because '
             'susceptibility is known up to a constant only.')
# What the rank is made of, and whether high or low is good.
_RANKED = {'nrmse': 1, 'hfen': 1, 'xsim': -1, 'deep_grey_slope_error': 1}
RANKED_BY = ('Best first, by the mean of the ranks in NRMSE, HFEN, XSIM and deep grey slope error over all '
             'acquisitions; a missing map has the last rank. The metrics are means over the acquisitions. Maps of '
             'sources of one sign, chi+ and chi-, have no rank.')
# What a map may show, by the end of its desc-: the sources of one sign, or else the sum of both.
_SIGNS = {'chi+': 'positive', 'chi-': 'negative'}
TOTAL = 'chi'
_DEEP_GREY = ('caudate', 'putamen', 'pallid', 'gpe', 'gpi', 'thalam', 'red_nucleus', 'nigra', 'dentate')
_MOST_FIGURES = 8


@dataclass(frozen=True)
class Case:
    """One truth, and the estimates of it by method; `total` is the truth of both signs where `truth` is of one."""

    name: str
    truth: Path
    mask: Path | None
    labels: Path | None
    table: Path | None
    estimates: dict
    estimate_labels: Path | None = None
    quantity: str = TOTAL
    total: Path | None = None


@dataclass(frozen=True)
class Truth:
    """What a `Case` is scored against, as arrays on one grid."""

    chi: object
    mask: object
    affine: object
    labels: object = None
    names: dict = field(default_factory=dict)


def build_parser():
    """Return the argument parser."""
    parser = argparse.ArgumentParser(
        prog='qsmbids-evaluate', epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False, description='Score susceptibility maps against the truth, and rank them.')
    parser.add_argument('truth', type=Path, metavar='TRUTH', help='NIfTI file in ppm, or a folder')
    parser.add_argument('estimates', type=Path, metavar='ESTIMATE', nargs='+',
                        help='NIfTI files on the grid of the truth, or folders')
    parser.add_argument('-o', '--output', type=Path, required=True, metavar='PREFIX',
                        help='PREFIX.tsv, PREFIX_regions.tsv, PREFIX.json and PREFIX.html are written')
    parser.add_argument('--units', choices=('ppm', 'ppb'), default='ppm', help='of the estimates [ppm]')
    parser.add_argument('--mask', type=Path, help='where to score; otherwise where the truth is not zero')
    parser.add_argument('--labels', type=Path, help='label image of regions; 0 is background')
    parser.add_argument('--label-table', type=Path, metavar='TSV',
                        help='names of the labels: columns index and name, as BIDS has them')
    parser.add_argument('--estimate-labels', type=Path,
                        help='label image that a segmentation gave: its overlap and surface distance from --labels')
    add_about(parser)
    return parser


def main(arguments=None):
    """Score, write, and return the exit code: 0 all done, 1 something failed, 2 wrong command line."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    _check(parser, options)
    return run_command('qsmbids-evaluate', lambda: evaluate(options))


def evaluate(options):
    """Score all maps that the command line names, write what came out, and return the exit code."""
    cases, warnings = _cases(options)
    entries, figures, drawn = [], {}, None
    for case in cases:
        truth, notes = _load_truth(case)
        warnings += notes
        scored = _score_case(case, truth, options.units)
        entries += [entry for entry, _ in scored]
        if not figures:
            figures, drawn = _draw(scored, truth), case.name
    ranking = rank(entries)
    lesions, confusion, notes = (score_lesions(options.truth, _prefixes(options)) if options.truth.is_dir()
                                 else ([], [], []))
    warnings += notes
    for entry in entries:
        warnings += entry.pop('warnings')
    content = {'version': __version__, 'reference': REFERENCE, 'ranked_by': RANKED_BY, 'ranking': ranking,
               'drawn': drawn, 'maps': entries, 'lesions': lesions, 'confusion': confusion,
               'warnings': warnings}
    _write(str(options.output), content, figures)
    for text in warnings:
        print(f'qsmbids-evaluate: {text}', file=sys.stderr)
    print(_summary(ranking))
    return 1 if any(entry['problem'] for entry in entries) else 0


def rank(entries):
    """Rank methods.

    Parameters
    ----------
    entries : list of dict
        With acquisition, quantity, method, metrics, regions, and problem, which is None if the map was scored.

    Returns
    -------
    list of dict
        Best first: quantity, method, mean_rank (1 is best; None if nothing was scored), maps (how many were scored),
        acquisitions (how many there are), the mean of each metric, and the Bland-Altman statistics of all regions. Then
        the maps of sources of one sign, without a rank.
    """
    quantities = sorted({entry['quantity'] for entry in entries})
    rows = [row for quantity in quantities
            for row in _rank([entry for entry in entries if entry['quantity'] == quantity], quantity)]
    return [row | {'mean_rank': row['mean_rank'] if row['quantity'] == TOTAL else None} for row in rows]


def _rank(entries, quantity):
    """Return the rows of the maps of one quantity, best first."""
    import numpy as np
    methods = list(dict.fromkeys(entry['method'] for entry in entries))
    scored = {(entry['acquisition'], entry['method']): entry for entry in entries if not entry['problem']}
    acquisitions = list(dict.fromkeys(entry['acquisition'] for entry in entries))
    ranks = defaultdict(list)
    for acquisition in acquisitions:
        for metric, sign in _RANKED.items():
            values = [scored.get((acquisition, method), {'metrics': {}})['metrics'].get(metric) for method in methods]
            if all(value is None for value in values):
                continue
            values = np.array([np.inf if value is None else sign * value for value in values])
            for method, value in zip(methods, values):
                better, equal = (values < value).sum(), (values == value).sum()
                ranks[method].append(1 + better + (equal - 1) / 2 if np.isfinite(value) else len(methods))
    rows = [{'quantity': quantity, 'method': method,
             'mean_rank': float(np.mean(ranks[method])) if ranks[method] else None, 'acquisitions': len(acquisitions)}
            | _means([entry for (_, name), entry in scored.items() if name == method]) for method in methods]
    return sorted(rows, key=lambda row: (row['maps'] == 0, row['mean_rank'] or 0))


def _check(parser, options):
    folders = [path.is_dir() for path in (options.truth, *options.estimates)]
    if any(folders) and not all(folders):
        parser.error('TRUTH and ESTIMATE must be NIfTI files, or all of them folders')
    for name in ('mask', 'labels', 'label_table', 'estimate_labels'):
        if all(folders) and getattr(options, name):
            parser.error(f'--{name.replace("_", "-")} goes with files; folders have their own')
    for name in ('label_table', 'estimate_labels'):
        if getattr(options, name) and not options.labels:
            parser.error(f'--{name.replace("_", "-")} needs --labels')


def _cases(options):
    """Return the cases, and warnings about maps that have no truth."""
    if not options.truth.is_dir():
        return _file_cases(options), []
    truths = {path.name.split('_desc-')[0]: path for path in sorted(options.truth.rglob('*_desc-truth_Chimap.nii.gz'))}
    if not truths:
        raise FileError(f'{options.truth}: holds no *_desc-truth_Chimap.nii.gz. Give the folder derivatives/truth of a '
                        'simulated data set.')
    # The sources of either sign are part of the truth, too.
    true = {_truth_of(quantity, path) for path in truths.values() for quantity in (TOTAL, *_SIGNS)}
    found, warnings = defaultdict(lambda: defaultdict(dict)), []
    for prefix, folder in _prefixes(options).items():
        paths = [path for path in sorted(folder.rglob('*_Chimap.nii.gz')) if path not in true]
        if not paths:
            raise FileError(f'{folder}: holds no *_Chimap.nii.gz to score. Give the output folder of a pipeline.')
        for path in paths:
            name, _, method = path.name.removesuffix('_Chimap.nii.gz').partition('_desc-')
            quantity = _quantity(path)
            method = method.removesuffix(_SIGNS.get(quantity, ''))
            if name not in truths or not _truth_of(quantity, truths[name]).is_file():
                of = name if quantity == TOTAL else f'{quantity} of {name}'
                warnings.append(f'{path}: there is no truth of {of} in {options.truth}; it is left out')
            else:
                found[quantity][name][prefix + (method or folder.resolve().name)] = path
    if not found:
        raise FileError(f'{options.truth}: holds the truth of {", ".join(truths)}, none of which has a map in '
                        f'{", ".join(map(str, options.estimates))}. Names must agree up to desc-.')
    cases = []
    for quantity in sorted(found):
        methods = dict.fromkeys(method for maps in found[quantity].values() for method in maps)
        cases += [_derivative_case(name, path, {m: found[quantity][name].get(m) for m in methods}, quantity)
                  for name, path in truths.items()]
    return cases, warnings


def _file_cases(options):
    """Return the cases of files: one, or one more for each sign of sources beside a truth of both."""
    names = _unique([(_stem(path), str(path)) for path in options.estimates])
    given = _quantity(options.truth)
    estimates = defaultdict(dict)
    for name, path in zip(names, options.estimates):
        estimates[_quantity(path) if given == TOTAL else given][name] = path
    cases = []
    for quantity in sorted(estimates):
        truth = options.truth if quantity == given else _truth_of(quantity, options.truth)
        if quantity != given and (truth == options.truth or not truth.is_file()):
            paths = ', '.join(map(str, estimates[quantity].values()))
            raise FileError(f'{paths}: sources of one sign, {quantity}, but no truth of them lies beside '
                            f'{options.truth}. Give theirs as TRUTH, or leave them out.')
        cases.append(Case(_stem(truth), truth, options.mask, options.labels, options.label_table, estimates[quantity],
                          options.estimate_labels, quantity, None if truth == options.truth else options.truth))
    return cases


def _quantity(path):
    """Return what a map shows, by its name."""
    return next((quantity for quantity, sign in _SIGNS.items() if _stem(path).endswith(f'{sign}_Chimap')), TOTAL)


def _truth_of(quantity, truth):
    """Return where the truth of a quantity lies, given that of the total susceptibility."""
    return truth.with_name(truth.name.replace('_desc-truth_', f'_desc-{_SIGNS.get(quantity, "truth")}_'))


def _prefixes(options):
    """Return the folders of estimates by what tells the names of their methods apart."""
    return {f'{folder}: ' if len(options.estimates) > 1 else '': folder for folder in options.estimates}


def _derivative_case(name, truth, estimates, quantity):
    """Return the case of a truth that the simulator wrote."""
    mask, labels = (truth.with_name(f'{name}_{part}.nii.gz') for part in ('desc-brain_mask', 'desc-truth_dseg'))
    # BIDS inheritance: a table counts for all label images further down.
    tables = [truth.with_name(f'{name}_desc-truth_dseg.tsv'), *(folder / 'desc-truth_dseg.tsv'
                                                               for folder in truth.parents[:4])]
    return Case(name, _truth_of(quantity, truth), mask, labels if labels.is_file() else None,
                next((table for table in tables if table.is_file()), None), estimates, quantity=quantity, total=truth)


def _load_truth(case):
    """Return the `Truth` of a case, and warnings."""
    import numpy as np
    from qsmbids.headers import load_image
    chi = _load(case.truth)
    notes = []
    if case.mask:
        mask = _load(case.mask, case.truth) > 0.5
    else:
        mask = (_load(case.total, case.truth) if case.total else chi) != 0
        if mask.mean() > 0.9:
            raise FileError(f'{case.truth}: is zero almost nowhere, so it does not tell where the brain is. Give '
                            '--mask.')
        notes.append(f'{case.truth}: without --mask, all voxels that are not zero are scored')
    if not mask.any():
        raise FileError(f'{case.mask or case.truth}: the mask is empty. Give another --mask.')
    bad = np.count_nonzero(~np.isfinite(chi[mask]))
    if bad or not np.ptp(chi[mask]):
        what = f'{bad} voxels in the mask are not finite' if bad else 'is constant in the mask'
        raise FileError(f'{case.truth}: {what}. Give another truth or another --mask.')
    labels = names = None
    if case.labels:
        labels = np.rint(_load(case.labels, case.truth)).astype(np.int32)
        names = _names(case.table)
        if labels.min() < 0:
            raise FileError(f'{case.labels}: has negative labels. Number the regions from 1.')
    return Truth(chi, mask, load_image(case.truth).affine, labels, names or {}), notes


def _load(path, like=None):
    """Return the voxels of a 3D file, which must lie on the grid of `like`."""
    from qsmbids.headers import check_grid
    from qsmbids.interfaces.images import load_array
    volume = load_array(path)
    if volume.ndim == 4 and volume.shape[3] == 1:
        volume = volume[..., 0]
    if volume.ndim != 3:
        raise FileError(f'{path}: has the shape {volume.shape}; one 3D volume is needed. Extract it.')
    if like is not None:
        check_grid(path, like)
    return volume


def _load_estimate(path, case, truth):
    """Return the voxels of a map. Where the total is zero it is unknown; of one sign, there are no sources."""
    import numpy as np
    volume = _load(path, case.truth)
    if case.quantity != TOTAL and volume[truth.mask].any():
        volume[truth.mask & (volume == 0)] = np.finfo(np.float32).eps
    return volume


def _names(table):
    """Return the names of labels by their index."""
    if table is None:
        return {}
    try:
        return {int(row['index']): row['name'] for row in read_tsv(table)}
    except (OSError, ValueError, KeyError) as error:
        raise FileError(f'{table}: cannot be read as a table with the columns index (a whole number) and name '
                        f'({error!r}). Correct it.') from None


def _score_case(case, truth, units):
    """Return, for each estimate, its entry and the aligned map, or None where it failed."""
    from qsmbids.core.metrics import align_reference
    scored = []
    for method, path in case.estimates.items():
        entry = {'acquisition': case.name, 'quantity': case.quantity, 'method': method, 'truth': str(case.truth),
                 'estimate': str(path or 'n/a'), 'mask': str(case.mask or 'where the truth is not zero'),
                 'problem': None, 'metrics': {}, 'regions': [], 'warnings': []}
        aligned = None
        try:
            if path is None:
                raise FileError(f'{case.name}: there is no map by {method}')
            estimate = _load_estimate(path, case, truth) / (1000 if units == 'ppb' else 1)
            _score(entry, estimate, truth)
            if case.estimate_labels:
                _compare_labels(entry, _load(case.estimate_labels, case.truth), truth)
            aligned = align_reference(estimate, truth.chi, truth.mask)[0]
        except FileError as error:
            entry['problem'] = str(error)
            entry['warnings'].append(str(error))
        scored.append((entry, aligned))
    return scored


def _score(entry, estimate, truth):
    """Fill the entry of one map."""
    import numpy as np
    from qsmbids.core.metrics import covered, score_map, score_regions
    path = entry['estimate']
    if not covered(estimate, truth.mask).any():
        raise FileError(f'{path}: is zero or not finite everywhere in the mask. Give another map.')
    metrics = score_map(estimate, truth.chi, truth.mask)
    if metrics['slope'] > 50:
        entry['warnings'].append(f'{path}: is {metrics["slope"]:.0f} times the truth; if it is in ppb, add --units ppb')
    if metrics['correlation'] < 0:
        entry['warnings'].append(f'{path}: goes against the truth; its sign may be reversed')
    if not np.isfinite(estimate[truth.mask]).all():
        entry['warnings'].append(f'{path}: has voxels in the mask that are not finite; they count as not covered')
    if truth.labels is not None:
        regions = score_regions(estimate, truth.chi, truth.mask, truth.labels)
        entry['regions'] = [{'index': index, 'name': truth.names.get(index, str(index))} | row
                            for index, row in regions.items()]
        metrics |= _region_metrics(entry['regions'], estimate, truth)
    entry['metrics'] = {name: value if value is not None and np.isfinite(value) else None
                        for name, value in metrics.items()}


def _region_metrics(regions, estimate, truth):
    """Return the metrics of a map that need regions, as far as these allow."""
    import numpy as np
    from qsmbids.core.metrics import align_reference, calcification, region_slope_error
    known = [region for region in regions if region['estimate'] is not None]
    deep = [region for region in known if any(part in _plain(region['name']) for part in _DEEP_GREY)]
    metrics = _agreement(known)
    if len(deep) > 2:
        metrics['deep_grey_slope_error'] = region_slope_error([region['estimate'] for region in deep],
                                                              [region['truth'] for region in deep])
    calcified = [region['index'] for region in regions if 'calcif' in _plain(region['name'])]
    if calcified:
        x, t = align_reference(estimate, truth.chi, truth.mask)
        scores = calcification(x, t, truth.mask, np.isin(truth.labels, calcified))
        metrics |= {f'calcification_{name}': value for name, value in scores._asdict().items()}
    return metrics


def _agreement(regions):
    """Return bias and limits of agreement of the means over regions."""
    from qsmbids.core.metrics import bland_altman
    pairs = [(region['estimate'], region['truth']) for region in regions if region['estimate'] is not None]
    if len(pairs) < 2:
        return {}
    agreement = bland_altman(*zip(*pairs))
    return {'bias': agreement.bias, 'lower_limit': agreement.lower, 'upper_limit': agreement.upper}


def _compare_labels(entry, found, truth):
    """Add overlap and surface distance of a segmentation to the regions of an entry."""
    import numpy as np
    from qsmbids.core.dipole import voxel_size_of
    from qsmbids.core.metrics import dice, surface_distance
    found, size = np.rint(found), voxel_size_of(truth.affine)
    for region in entry['regions']:
        a, b = found == region['index'], truth.labels == region['index']
        region['dice'] = dice(a, b)
        if a.any():
            region['hausdorff95'], region['surface_distance'] = surface_distance(a, b, size)


def _means(entries):
    """Return the means of the metrics over the entries of a method, and how many these are."""
    import numpy as np
    names = dict.fromkeys(name for entry in entries for name in entry['metrics'])
    values = {name: [entry['metrics'][name] for entry in entries if entry['metrics'].get(name) is not None]
              for name in names}
    means = {name: float(np.mean(found)) if found else None for name, found in values.items()}
    # Limits of agreement are those of all regions of all participants.
    return {'maps': len(entries)} | means | _agreement([region for entry in entries for region in entry['regions']])


def _draw(scored, truth):
    """Return the figures of a case, at most eight maps, as (title, file) by method; nothing if none was scored."""
    import numpy as np
    from qsmbids.reports.evaluation import draw_maps, draw_regions
    shown = [(entry, volume) for entry, volume in scored if volume is not None][:_MOST_FIGURES]
    if not shown:
        return {}
    zeroed = np.where(truth.mask, truth.chi - truth.chi[truth.mask].mean(dtype=float), 0).astype(np.float32)
    figures = draw_maps({entry['method']: volume for entry, volume in shown}, zeroed, truth.mask, truth.affine)
    for entry, _ in shown:
        regions = [region for region in entry['regions'] if region['estimate'] is not None]
        if len(regions) > 1:
            figures[entry['method']].append((f'{entry["method"]}: regions', draw_regions(regions)))
    return figures


def _write(prefix, content, figures):
    from qsmbids.reports.evaluation import METRICS, REGION_COLUMNS, write_evaluation_page
    ranks = {(row['quantity'], row['method']): row['mean_rank'] for row in content['ranking']}
    rows = [_key(entry) | {'mean_rank': ranks[entry['quantity'], entry['method']], 'estimate': entry['estimate'],
                           'problem': entry['problem']} | entry['metrics']
            for entry in content['maps']]
    write_tsv(f'{prefix}.tsv', rows,
              ['acquisition', 'quantity', 'method', 'mean_rank', *METRICS, 'estimate', 'problem'])
    write_tsv(f'{prefix}_regions.tsv',
              [_key(entry) | region for entry in content['maps'] for region in entry['regions']],
              ['acquisition', 'quantity', 'method', 'index', 'name', *REGION_COLUMNS])
    if content['lesions']:
        write_tsv(f'{prefix}_froc.tsv', content['lesions'], list(content['lesions'][0]))
    if content['confusion']:
        write_tsv(f'{prefix}_confusion.tsv', content['confusion'], list(content['confusion'][0]))
    columns = {name: {'Description': metric.text} | ({'Units': metric.unit} if metric.unit else {})
               for name, metric in (REGION_COLUMNS | METRICS).items()}
    write_json(f'{prefix}.json', content | {'columns': columns})
    order = dict.fromkeys(['', *(row['method'] for row in content['ranking'])])
    write_evaluation_page(f'{prefix}.html', content, [item for key in order for item in figures.get(key, [])])


def _key(entry):
    return {name: entry[name] for name in ('acquisition', 'quantity', 'method')}


def _summary(ranking):
    """Return the ranking as lines of text."""
    from qsmbids.reports.evaluation import METRICS
    shown = ['coverage', *_RANKED, 'correlation', 'slope']
    lines = [['method', 'quantity', 'mean rank', *(METRICS[name].label for name in shown)]]
    for row in ranking:
        lines.append([row['method'], row['quantity'], *('n/a' if row.get(name) is None else f'{row[name]:.3g}'
                                       for name in ('mean_rank', *shown))])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def _stem(path):
    return path.name.removesuffix('.gz').removesuffix('.nii')


def _unique(names):
    """Return the short names, or the long ones where a short one is not unique."""
    short = [name for name, _ in names]
    if len({long for _, long in names}) < len(names):
        raise FileError(f'{", ".join(long for _, long in names)}: the same file was given twice. Leave one out.')
    return [long if short.count(name) > 1 else name for name, long in names]


def _plain(name):
    return name.lower().replace(' ', '_').replace('-', '_')


if __name__ == '__main__':
    sys.exit(main())
