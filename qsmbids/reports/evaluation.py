"""The page of an evaluation: how close maps are to the truth, with figures; one file that opens anywhere."""

import base64
import io
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from qsmbids.files import write_text
from qsmbids.reports.figures import draw_figure, view_brain


class Metric(NamedTuple):
    """Label, unit, the perfect value and what it means."""

    label: str
    unit: str
    perfect: float
    text: str


METRICS = {
    'coverage': Metric('Coverage', '', 1, 'Part of the mask where the estimate has a value; elsewhere it counts as '
                       'zero in all that follows'),
    'nrmse': Metric('NRMSE', '%', 0, 'Root-mean-square error over the SD of the truth, offset removed'),
    'detrended_nrmse': Metric('Detrended NRMSE', '%', 0, 'The same after the regression line on the truth was undone: '
                              'neither offset nor scale count'),
    'hfen': Metric('HFEN', '%', 0, 'High-frequency error norm: error of the edges, by a Laplacian of a Gaussian, '
                   'sigma 1.5 voxels'),
    'xsim': Metric('XSIM', '', 1, 'Structural similarity with constants made for susceptibility in ppm, mean over the '
                   'mask'),
    'ssim': Metric('SSIM', '', 1, 'Structural similarity, mean over the mask'),
    'ssim_whole_volume': Metric('SSIM, whole volume', '', 1, 'The same over the whole volume: flattered by the zeros '
                                'outside of the mask'),
    'correlation': Metric('Correlation', '', 1, "Pearson's, over the voxels of the mask"),
    'slope': Metric('Slope', '', 1, 'Of the regression of the estimate on the truth over the voxels of the mask'),
    'deep_grey_slope_error': Metric('Deep grey slope error', '', 0, '|1 - slope| of the regression of the means over '
                                    'the deep grey nuclei on the true ones'),
    'calcification_moment_deviation': Metric('Calcification moment', '%', 0, 'Deviation of the sum of susceptibility '
                                             'over the calcifications from the true one'),
    'calcification_streaking': Metric('Calcification streaking', '', 0, 'SD of the error in the rim of 4 voxels around '
                                      'calcifications over the magnitude of their true mean'),
    'bias': Metric('Bias of regions', 'ppm', 0, 'Mean difference of the means over regions (Bland-Altman)'),
    'lower_limit': Metric('Lower limit', 'ppm', 0, 'Lower limit of agreement of the means over regions: bias - 1.96 '
                          'SD'),
    'upper_limit': Metric('Upper limit', 'ppm', 0, 'Upper limit of agreement of the means over regions: bias + 1.96 '
                          'SD'),
}
REGION_COLUMNS = {
    'voxels': Metric('Voxels', '', 0, 'Of the region inside the mask'),
    'coverage': Metric('Coverage', '', 1, 'Part of them where the estimate has a value'),
    'truth': Metric('Truth', 'ppm', 0, 'Mean of the truth'),
    'estimate': Metric('Estimate', 'ppm', 0, 'Mean of the estimate over what it covers'),
    'sd': Metric('SD', 'ppm', 0, 'Of the estimate over what it covers'),
    'bias': Metric('Bias', 'ppm', 0, 'Estimate less truth'),
    'bias_percent': Metric('Bias', '%', 0, "Estimate less truth, in percent of the truth's magnitude"),
    'rmse': Metric('RMSE', 'ppm', 0, 'Root-mean-square error over all voxels of the region'),
    'dice': Metric('Dice', '', 1, 'Overlap of the estimated region with the true one'),
    'hausdorff95': Metric('Hausdorff 95 %', 'mm', 0, '95th percentile of the distance between the surfaces'),
    'surface_distance': Metric('Surface distance', 'mm', 0, 'Mean distance between the surfaces'),
}
_GUIDE = dict(color='#8a95a1', linewidth=1)
_MOST_NAMES = 20


def draw_maps(estimates, truth, mask, affine):
    """Draw the truth, and each estimate and its difference from the truth, in three planes on one scale.

    Parameters
    ----------
    estimates : dict of str to ndarray, shape (nx, ny, nz)
        By method, ppm; zero outside of the mask, like `truth`.
    truth : ndarray, shape (nx, ny, nz)
    mask : ndarray of bool, shape (nx, ny, nz)
    affine : ndarray, shape (4, 4)

    Returns
    -------
    dict of str to list of (title, bytes)
        PNG files: the truth's under '', the others' by method.
    """
    view = view_brain(mask, affine)

    def draw(title, volume):
        return title, draw_figure('chi', view, {'': volume}, mask)

    return {'': [draw('Truth', truth)]} | {
        method: [draw(method, estimate), draw(f'{method}: difference from the truth', estimate - truth)]
        for method, estimate in estimates.items()}


def draw_regions(regions):
    """Draw the means over regions against the true ones, and their Bland-Altman plot.

    Parameters
    ----------
    regions : list of dict
        With name, truth and estimate (ppm).

    Returns
    -------
    bytes
        An SVG file.
    """
    from matplotlib import colormaps, rc_context
    from matplotlib.figure import Figure
    truth, estimate = (np.array([region[key] for region in regions]) for key in ('truth', 'estimate'))
    difference = estimate - truth
    with rc_context({'svg.hashsalt': 'qsmbids', 'font.size': 9, 'axes.spines.top': False, 'axes.spines.right': False}):
        canvas = Figure(figsize=(10.5, 4.2), layout='constrained')
        left, right = canvas.subplots(1, 2)
        ends = min(truth.min(), estimate.min()), max(truth.max(), estimate.max())
        left.plot(ends, ends, **_GUIDE)
        left.set(xlabel='truth, ppm', ylabel='estimate, ppm', title='Means over regions; the line is perfect')
        bias, sd = difference.mean(), difference.std(ddof=1)
        for level, style in ((bias, '-'), (bias - 1.96 * sd, '--'), (bias + 1.96 * sd, '--')):
            right.axhline(level, linestyle=style, **_GUIDE)
        right.set(xlabel='mean of truth and estimate, ppm', ylabel='estimate less truth, ppm',
                  title='Bland-Altman: bias and limits of agreement')
        colours = colormaps['tab20'].colors
        for place, (x, y) in enumerate(zip(truth, estimate)):
            style = dict(color=colours[place % 20], marker='osD^v<>'[place // 20 % 7], linestyle='', markersize=6)
            left.plot(x, y, **style)
            right.plot((x + y) / 2, y - x, **style)
        if len(regions) <= _MOST_NAMES:
            legend = canvas.legend(left.lines[1:], [region['name'][:40] for region in regions],
                                   loc='outside right upper', frameon=False, fontsize=8)
            for text in legend.get_texts():
                # A name is text, even if it holds a dollar sign.
                text.set_parse_math(False)
        content = io.BytesIO()
        canvas.savefig(content, format='svg', metadata={'Date': None})
    return content.getvalue()


def write_evaluation_page(path, content, figures):
    """Write the page of an evaluation.

    Parameters
    ----------
    path : path-like
    content : dict
        As in the JSON file of ``qsmbids-evaluate``.
    figures : list of (title, bytes)
        PNG or SVG files.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    from jinja2 import Environment, StrictUndefined
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters['number'] = _number
    template = environment.from_string(
        files('qsmbids').joinpath('data/evaluation.html.jinja').read_text(encoding='utf-8'))
    shown = [metric for metric in METRICS if any(row.get(metric) is not None for row in content['ranking'])]
    rows = [region for entry in content['maps'] for region in entry['regions']]
    columns = [column for column in REGION_COLUMNS if any(region.get(column) is not None for region in rows)]
    page = template.render(**content, metrics={name: METRICS[name] for name in shown},
                           region_columns={name: REGION_COLUMNS[name] for name in columns},
                           figures=[(title, _embed(picture)) for title, picture in figures])
    return write_text(path, page)


def _embed(picture):
    kind = 'png' if picture.startswith(b'\x89PNG') else 'svg+xml'
    return f'data:image/{kind};base64,' + base64.b64encode(picture).decode('ascii')


def _number(value):
    if value is None:
        return 'n/a'
    return str(value) if isinstance(value, (int, str)) else f'{value:.4g}'
