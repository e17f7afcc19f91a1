"""The HTML page of a participant: one file that opens anywhere and prints; only its viewer needs a script."""

import base64
import re
import struct
from pathlib import Path

import numpy as np

from qsmbids.files import FileError, read_json, write_text
from qsmbids.reports.agreement import agreement_section
from qsmbids.reports.figures import FIGURES
from qsmbids.reports.lesions import lesion_section
from qsmbids.reports.regions import region_section
from qsmbids.reports.rendering import render

# Figures beyond this many characters are linked instead of embedded, viewers left out: the page stays under 15 MB.
_BUDGET = 14_000_000
_STATE_TONES = {'complete': 'good', 'failed': 'bad', 'unusable': 'bad', 'met': 'good', 'not met': 'bad',
                'unknown': 'doubt', 'pass': 'good', 'warn': 'doubt', 'fail': 'bad', 'missing': 'quiet'}
# What to do about a warning that contains a text.
_ADVICE = (
    ('magnitude only', 'If the phase was stored, add the part-phase images: without phase there is no susceptibility '
                       'map.'),
    ('is missing; the others are used', 'Look whether it was left out of the conversion. The maps are valid, with '
                                        'more noise.'),
    ('alternating slices', 'If veins are dark in the susceptibility, run again with --phase-sign -.'),
    ('single echo', 'Mistrust values near the sinuses and the ear canals; for the next scans use several echoes.'),
    ('partial Fourier', 'Mistrust the size of the smallest veins and bleeds; for the next scans sample all of '
                        'k-space.'),
    ('2D acquisition', 'Look for steps between slices in the wrapped phase; for the next scans use a 3D sequence.'),
    ('sform nor qform', 'Convert the images again so that the header says how they lie; until then no angle, no left '
                        'and no right on this page can be trusted.'),
    ('MagneticFieldStrength is missing', 'Add it to the sidecar.'),
    ('CSF', 'Look at the reference region below; values relative to the whole brain stay valid.'),
    ('phase from', 'Look at the wrapped phase: if its fringes are noisy or jump by less than 2 pi, set Units in the '
                   'sidecar of the phase and convert it again without rescaling.'),
    ("Units is 'rad'", 'Correct Units in the sidecar of the phase.'),
    ('not finite', 'Look for black spots in the magnitude; if there are many, convert the images again.'),
    ('too weak', 'Mistrust the size of all values; give a smaller --inversion-lambda, or use another --inversion.'),
    ('too strong', 'Mistrust the size of all values; give a larger --inversion-lambda, or use another --inversion.'),
    ('goes with the map', 'Look at the local field for shading and at the map for streaks; use another --inversion.'),
    ('of the header', 'Look at "Does the map make its field?". Was the image rotated or resampled after the scan, or '
                      'its header edited? Convert it again from the scanner\'s files.'),
    ('subcortical: there is no T1w', 'Put the T1w image beside the segmentation, or in the data set.'),
    ('subcortical: no values', 'Give a segmentation with --derivatives, or an --atlas.'),
    ('subcortical:', 'Look at the outlines of the regions and at their table below.'),
    ('template', 'Look at the outlines of the regions; a segmentation of your own (--derivatives) is safer.'),
    ('negative values', 'Check how the magnitude was exported: it may be the real part, or have been filtered.'),
)
# Metric, its plausible range, what is said beyond it, and what to do then. Rules of thumb for a whole adult brain.
_CHECKS = (
    ('brain_volume_ml', (900, 2000), 'the brain mask holds {:.0f} mL', 'Look at the blue line on the magnitude. If it '
     'leaves the brain, give a better desc-brain_mask with --derivatives.'),
    ('reliable_fraction', (0.8, 1), 'the echo fit is trusted in only {:.0%} of the brain', 'Look at the residual: '
     'bright all over means wrong echo times or phase; bright patches mean motion or flow.'),
    ('qsm_fraction', (0.6, 1), 'the susceptibility map covers only {:.0%} of the brain', 'Look at the red line on the '
     'magnitude; regions outside of it have no value.'),
    ('snr_first_echo', (10, np.inf), 'the signal-to-noise ratio of the first echo is only {:.1f}', 'Expect a noisy '
     'map, and compare with the other participants before you use it.'),
)
_METRICS = {
    'brain_volume_ml': ('Volume of the brain mask', 'mL'),
    'snr_first_echo': ('Signal-to-noise ratio of the first echo', ''),
    'reliable_fraction': ('Brain where the echo fit is trusted', '%'),
    'qsm_volume_ml': ('Volume of the susceptibility map', 'mL'),
    'qsm_fraction': ('Brain that the susceptibility map covers', '%'),
    'residual_median': ('Residual of the echo fit, median', ''),
    'residual_p95': ('Residual of the echo fit, 95th percentile', ''),
    'total_field_sd_ppm': ('Total field, SD', 'ppm'),
    'local_field_sd_ppm': ('Local field, SD', 'ppm'),
    'r2star_median': ('R2*, median', '1/s'),
    'microbleeds_definite': ('Definite microbleeds (not a diagnosis)', ''),
    'microbleeds_possible': ('Possible microbleeds (not a diagnosis)', ''),
    'sd_ppm': ('Susceptibility ({}), SD', 'ppm'),
    'p1_ppm': ('Susceptibility ({}), 1st percentile', 'ppm'),
    'p99_ppm': ('Susceptibility ({}), 99th percentile', 'ppm'),
    'field_b0_contrast': ('Direction of B0 in the field, contrast', ''),
    'field_b0_angle_deg': ('Direction of B0 in the field, from that of the header', 'degrees'),
    'kernel_gain': ('Backward kernel ({}), gain', ''),
    'kernel_offset': ('Backward kernel ({}), offset', ''),
    'kernel_rms': ('Backward kernel ({}), difference from theory', ''),
    'kernel_coherence': ('Backward kernel ({}), coherence', ''),
    'kernel_angle_deg': ('Backward kernel ({}), B0 from that of the header', 'degrees'),
    'field_nrmse': ('Field of the map ({}), error', '%'),
    'agreement_slope': ('Agreement of {} with the first map, slope', ''),
    'agreement_correlation': ('Agreement of {} with the first map, correlation', ''),
    'difference_rms_ppm': ('Difference of {} from the first map, RMS', 'ppm'),
    'flag': ('Map against its field ({}): 0 good, 1 doubtful, 2 bad', ''),
}
# Kinds of figures that there are one of for each susceptibility map.
_OF_MAPS = ('chi', 'companion', 'kernel')
_REFERENCES = {'wholebrain': 'whole brain', 'csf': 'ventricular fluid', 'none': 'none: as the inversion left it'}
_SCANNER = {'Manufacturer': 'Vendor', 'ManufacturersModelName': 'Model', 'SoftwareVersions': 'Software',
            'MRAcquisitionType': 'Kind', 'RepetitionTime': 'Repetition time, s', 'FlipAngle': 'Flip angle, degrees',
            'CoilCombinationMethod': 'Coil combination', 'PhaseUnits': 'Units of the phase'}
_OTHERWISE = 'Look at the figures of this acquisition before you use its map.'


def write_page(output_dir, subject, acquisitions, settings, methods_html, version, bibtex=''):
    """Write ``<output_dir>/sub-<subject>.html`` from what lies in `output_dir`.

    Parameters
    ----------
    output_dir : path
    subject : str
        Label, without ``sub-``.
    acquisitions : list of (qsmbids.bids.Acquisition, dict)
        Each with its row of the status table: ``state``, ``reason``, ``crashfile``. What a failed one lacks is left
        out.
    settings : dict
        As in :class:`qsmbids.config.Config`.
    methods_html : str
        As from :func:`qsmbids.reports.methods.to_html`: the one argument that is not escaped.
    version : str
    bibtex : str, optional
        Entries of what the methods text cites.

    Returns
    -------
    str
        Path of the page.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    output_dir = Path(output_dir)
    sections, left = [], _BUDGET
    for acquisition, status in acquisitions:
        section = _section(output_dir, acquisition, status, left)
        left -= section['length']
        sections.append(section)
    page = render('report', script='report', subject=subject, sections=sections, settings=settings,
                  checks=_checks(sections), methods=methods_html, bibtex=bibtex, version=version, tones=_STATE_TONES)
    return write_text(output_dir / f'sub-{subject}.html', page)


def _checks(sections):
    """Return what must be looked at before use: text, advice, and the acquisitions that it is about."""
    found = {}
    for section in sections:
        for warning in section['warnings']:
            found.setdefault(warning, []).append(section['name'])
    return [(text, advice, names) for (text, advice), names in found.items()]


def _section(output_dir, acquisition, status, budget):
    """Return what the page says about one acquisition."""
    problems = []

    def read(path):
        try:
            return read_json(path) if path.is_file() else {}
        except FileError as error:
            problems.append(str(error))
            return {}

    def sidecar(suffix, desc):
        return read(output_dir / acquisition.path(suffix, desc=desc, extension='.json'))

    quality, compliance = sidecar('qc', 'qsm'), sidecar('compliance', 'consensus')
    metrics, references = quality.get('metrics', {}), quality.get('references', {})
    methods = _methods(output_dir, acquisition, list(references))
    maps = {method: sidecar('Chimap', method) for method in methods}
    figures = _figures(output_dir, acquisition, methods, acquisition.name, budget)
    length = sum(len(figure['source']) for figure in figures)
    viewer, more = _viewer(output_dir, acquisition, read, budget - length)
    warnings = list(dict.fromkeys([*problems, *acquisition.warnings, *quality.get('warnings', [])]))
    return {
        'key': acquisition.name, 'name': acquisition.name, 'state': status.get('state', 'unknown'),
        'reason': _given(status.get('reason')), 'crashfile': _shown(status.get('crashfile'), output_dir),
        'warnings': [(text, _advice(text)) for text in warnings] + _implausible(metrics),
        'facts': _facts(acquisition), 'figures': figures, 'viewer': viewer,
        'length': length + more,
        'lesions': lesion_section(output_dir, acquisition),
        'metrics': [_metric(name, value) for name, value in metrics.items()],
        'regions': region_section(output_dir, acquisition),
        'agreement': agreement_section(output_dir, acquisition, quality.get('agreement', [])),
        'references': _references(references), 'compliance': compliance, 'maps': maps,
        'notes': quality.get('notes', []), 'sources': acquisition.sources}


def _methods(output_dir, acquisition, order):
    """Return the methods of the susceptibility maps, those of `order` first."""
    folder = output_dir / Path(acquisition.path('Chimap', desc='any')).parent
    found = sorted(map(_desc, folder.glob(f'{acquisition.name}_desc-*_Chimap.json')))
    return sorted(found, key=lambda method: order.index(method) if method in order else len(order))


def _desc(path):
    return path.name.split('_desc-')[1].split('_')[0]


def _figures(output_dir, acquisition, methods, key, budget):
    """Return the figures of an acquisition in the order of the table of figures and of the methods."""
    folder = output_dir / f'sub-{acquisition.subject}' / 'figures'
    there = {_desc(path): path for path in folder.glob(f'{acquisition.name}_desc-*_figure.png')}
    figures = []
    for kind, figure in FIGURES.items():
        variants = {f'{kind}{method}': f' ({method})' for method in methods} if kind in _OF_MAPS else {kind: ''}
        for desc, variant in variants.items():
            if desc in there:
                content = there[desc].read_bytes()
                width, height = struct.unpack('>II', content[16:24])
                source = 'data:image/png;base64,' + base64.b64encode(content).decode('ascii')
                if len(source) > budget:
                    source = there[desc].relative_to(output_dir).as_posix()
                budget -= len(source)
                figures.append({'id': f'{key}-{desc}', 'title': figure.title + variant, 'caption': figure.caption,
                                'alt': f'{figure.title}{variant} of {acquisition.name}: {figure.content}',
                                'source': source, 'width': width, 'height': height})
    return figures


def _viewer(output_dir, acquisition, read, budget):
    """Return the volumes of the viewer and their length: an empty dict where they do not fit, None without any."""
    path = output_dir / f'sub-{acquisition.subject}' / 'figures' / f'{acquisition.name}_desc-viewer_figure.json'
    if not path.is_file():
        return None, 0
    length = path.stat().st_size
    return ({}, 0) if length > budget else (read(path) or None, length)


def _facts(acquisition):
    """Return what is known of the protocol, as rows."""
    rows = []
    if acquisition.echo_times:
        rows.append(('Echo times, ms', [1000 * time for time in acquisition.echo_times]))
    if acquisition.b0_tesla:
        rows.append(('Field strength, T', acquisition.b0_tesla))
        rows.append(('Centre frequency, MHz', f'{acquisition.center_frequency_hz / 1e6:.4f}'))
    if acquisition.shape:
        tilt = np.degrees(np.arccos(min(1.0, max(abs(part) for part in acquisition.b0_dir))))
        rows += [('Voxel size, mm', ' x '.join(f'{size:.4g}' for size in acquisition.voxel_size)),
                 ('Matrix', ' x '.join(map(str, acquisition.shape))),
                 ('Direction of B0 in voxel axes', ', '.join(f'{part:+.3f}' for part in acquisition.b0_dir)
                  + f' ({tilt:.1f} degrees from the nearest axis)')]
    rows += [(label, acquisition.metadata[name]) for name, label in _SCANNER.items() if acquisition.metadata.get(name)]
    return [('Kind of images', f'{acquisition.suffix}: ' + ', '.join(acquisition.files)), *rows]


def _metric(name, value):
    found = re.fullmatch(r'chi_([^_]+)_(.+)', name)
    label, unit = _METRICS.get(found[2] if found else name, (name, ''))
    label = label.format(found[1]) if found else label
    return label, _number(100 * value if unit == '%' else value), unit


def _references(references):
    """Return the rows of the reference table: map, region, mean, SD, voxels, and whether it is the zero of the map."""
    return [(method, _REFERENCES.get(name, name), _number(region.get('mean')), _number(region.get('sd')),
             region.get('voxels'), name == entry.get('SusceptibilityReference'))
            for method, entry in references.items() for name, region in entry.get('References', {}).items()]


def _advice(warning):
    return next((advice for text, advice in _ADVICE if text in warning), _OTHERWISE)


def _implausible(metrics):
    return [(text.format(metrics[name]), advice) for name, (low, high), text, advice in _CHECKS
            if name in metrics and not low <= metrics[name] <= high]


def _given(text):
    return '' if text in (None, 'n/a') else str(text)


def _shown(path, output_dir):
    """Return a path relative to the output directory if it lies there."""
    path = _given(path)
    return Path(path).relative_to(output_dir).as_posix() if path and Path(path).is_relative_to(output_dir) else path


def _number(value):
    return 'n/a' if value is None else f'{value:.4g}'
