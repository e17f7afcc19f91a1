"""The page: complete, escaped, self-contained, and there even if the acquisition failed."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from qsmbids.bids import Acquisition
from qsmbids.reports import page as module
from qsmbids.reports.compliance import compliance
from qsmbids.reports.figures import FIGURES, draw_figure, view_brain
from qsmbids.reports.page import write_page

VOID = {'meta', 'img', 'br', 'link', 'input', 'hr'}
EVIL = '<script>alert("x")</script>'
SETTINGS = {'preset': 'none', 'unwrapping': 'romeo', 'phase_offset': 'mcpc3ds', 'echo_fit': 'nonlinear',
            'phase_sign': 'auto', 'residual_threshold': 0.3, 'background': 'vsharp', 'inversion': ('tv', 'rts'),
            'inversion_lambda': None, 'reference': 'wholebrain', 'relaxometry': 'arlo', 'level': 'full'}
# Kinds of figures that there are two of, for two maps.
OF_MAPS = ('chi', 'kernel')
IMAGES = len(FIGURES) + len(OF_MAPS)
COMPLETE = {'state': 'complete', 'reason': '', 'crashfile': ''}


class Checker(HTMLParser):
    """Collects what a page refers to, and stops at a tag that is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.images, self.tags, self.text = [], [], [], [], set(), ''
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if 'id' in attributes:
            self.ids.append(attributes['id'])
        if 'href' in attributes:
            self.links.append(attributes['href'])
        if tag == 'img':
            self.images.append(attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not (self.open and self.open[-1] == 'style'):
            self.text += data


@pytest.fixture(scope='module')
def png():
    brain = np.ones((8, 8, 8), bool)
    return draw_figure('chi', view_brain(brain, np.eye(4)), {'': brain * 1.0}, brain)


def make_acquisition(run='1', **changes):
    known = dict(
        entities={'subject': '01', 'session': 'a', 'run': run}, suffix='MEGRE',
        files={'mag': ('m1', 'm2'), 'phase': ('p1', 'p2')}, echo_times=(0.004, 0.0125), b0_tesla=3.0,
        center_frequency_hz=123.25e6, b0_dir=(0.0, 0.5, 0.75 ** 0.5), voxel_size=(1.0, 1.0, 2.5), shape=(64, 72, 40),
        metadata={'Manufacturer': 'Siemens', 'ManufacturersModelName': EVIL, 'MRAcquisitionType': '3D'},
        sources=('bids:raw:sub-01/anat/x.nii.gz',), warnings=('partial Fourier acquisition: blurred',))
    return Acquisition(**(known | changes))


def store(output_dir, acquisition, png, metrics=None):
    """Write what a complete acquisition leaves behind."""
    metrics = {'brain_volume_ml': 1400.0, 'reliable_fraction': 0.95, 'chi_tv_sd_ppm': 0.0312345,
               'chi_tv_kernel_gain': 1.31, 'chi_tv_field_nrmse': 0.54, 'field_b0_angle_deg': 1.2} | (metrics or {})
    region = {'wholebrain': {'name': 'wholebrain', 'mean': 0.0, 'sd': 0.03, 'voxels': 4321},
              'csf': {'name': 'csf', 'mean': 0.0123, 'sd': 0.02, 'voxels': 321}}
    references = {name: {'SusceptibilityReference': 'wholebrain', 'References': region} for name in ('tv', 'rts')}
    facts = {'echo_times': [0.004, 0.0125], 'voxel_size': [1, 1, 2.5], 'shape': [64, 72, 40], 'has_phase': True,
             'center_frequency_hz': 123.25e6, 'own_mask': '', 'metadata': acquisition.metadata, 'settings': SETTINGS}
    warnings = [*acquisition.warnings, f'a warning of {EVIL}']
    contents = {('qc', 'qsm'): {'metrics': metrics, 'references': references, 'notes': ['phase to radians: levels'],
                                'warnings': warnings},
                ('compliance', 'consensus'): compliance(facts, metrics, references, warnings)}
    contents |= {('Chimap', name): {'Units': 'ppm', 'EstimationParameters': {'strength': 5e-4, EVIL: EVIL}}
                 for name in ('tv', 'rts')}
    for (suffix, desc), content in contents.items():
        path = output_dir / acquisition.path(suffix, desc=desc, extension='.json')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    folder = output_dir / 'sub-01' / 'figures'
    folder.mkdir(parents=True, exist_ok=True)
    for desc in [name for name in FIGURES if name not in OF_MAPS] + [kind + name for kind in OF_MAPS
                                                                     for name in ('tv', 'rts')]:
        (folder / f'{acquisition.name}_desc-{desc}_figure.png').write_bytes(png)


def make_page(output_dir, *acquisitions, methods='<p>Methods [1].</p>'):
    path = write_page(output_dir, '01', list(acquisitions), SETTINGS | {'bids_dir': output_dir / EVIL}, methods, '9.9')
    assert path == str(output_dir / 'sub-01.html')
    text = (output_dir / 'sub-01.html').read_text(encoding='utf-8')
    return text, Checker(text)


def test_a_complete_acquisition(tmp_path, png):
    acquisition = make_acquisition()
    store(tmp_path, acquisition, png)
    _, found = make_page(tmp_path, (acquisition, COMPLETE))
    assert len(found.images) == IMAGES
    for text in ('qsmbids 9.9', '4, 12.5', '1 x 1 x 2.5', '64 x 72 x 40', '30.0 degrees', '123.2500', '1400 mL', '95 %',
                 'Susceptibility (tv), SD', '0.03123 ppm', 'Backward kernel (tv), gain', '1.31', '54 %', '1.2 degrees',
                 'ventricular fluid', '0.0123', '4321', 'C13', 'not met',
                 'Methods [1].', 'bids:raw:sub-01/anat/x.nii.gz', 'phase to radians: levels', 'strength', '0.0005'):
        assert text in found.text, text
    titles = [title for title in (figure.title for figure in FIGURES.values()) if title in found.text]
    assert len(titles) == len(FIGURES)
    assert found.text.index('Susceptibility (tv)') < found.text.index('Susceptibility (rts)')
    assert found.text.index('make its field? (tv)') < found.text.index('make its field? (rts)')
    assert 'not complete' not in found.text


def test_the_page_is_self_contained_and_accessible(tmp_path, png):
    acquisition = make_acquisition()
    store(tmp_path, acquisition, png)
    text, found = make_page(tmp_path, (acquisition, COMPLETE), (make_acquisition('2'), COMPLETE))
    assert 'script' not in found.tags and not re.search(r'(src|href|url)\s*[=(]\s*["\']?(https?:)?//', text)
    assert all(image['src'].startswith('data:image/png;base64,') for image in found.images)
    assert all(image['alt'] and int(image['width']) == 1076 for image in found.images)
    assert len({image['alt'] for image in found.images}) == len(found.images)
    assert len(set(found.ids)) == len(found.ids)
    assert found.links and all(link.startswith('#') and link[1:] in found.ids for link in found.links)
    assert len(text) < 15e6


def test_everything_from_files_is_escaped(tmp_path, png):
    acquisition = make_acquisition()
    store(tmp_path, acquisition, png)
    failed = make_acquisition('2')
    text, found = make_page(tmp_path, (acquisition, COMPLETE),
                            (failed, {'state': 'failed', 'reason': EVIL, 'crashfile': f'/x/{EVIL}'}))
    assert '<script' not in text
    # model (protocol, evidence), warnings (list, evidence), parameters, settings, reason, crash file
    assert found.text.count(EVIL) >= 8


def test_a_failed_acquisition_is_shown_with_what_there_is(tmp_path, png):
    good, bad, unusable = make_acquisition(), make_acquisition('2'), make_acquisition(
        '3', echo_times=(), b0_tesla=0.0, shape=(), metadata={}, files={'mag': ('m1',)}, problems=('no EchoTime',))
    store(tmp_path, good, png)
    folder = tmp_path / 'sub-01' / 'figures'
    (folder / f'{bad.name}_desc-magnitude_figure.png').write_bytes(png)
    crash = tmp_path / 'logs' / 'sub-01' / 'crash-1.txt'
    _, found = make_page(tmp_path, (good, COMPLETE),
                         (bad, {'state': 'failed', 'reason': 'the phase is constant', 'crashfile': str(crash)}),
                         (unusable, {'state': 'unusable', 'reason': 'no EchoTime', 'crashfile': 'n/a'}))
    assert len(found.images) == IMAGES + 1
    for text in ('the phase is constant', 'logs/sub-01/crash-1.txt', 'no EchoTime', 'unusable', 'failed'):
        assert text in found.text
    assert found.text.count('This acquisition is not complete') == 2
    assert 'a3-facts' in found.ids and 'n/a' not in found.text.split('no EchoTime')[1].split('Settings')[0]


def test_warnings_come_with_advice_and_only_once(tmp_path, png):
    acquisition = make_acquisition()
    store(tmp_path, acquisition, png, {'brain_volume_ml': 300.0})
    _, found = make_page(tmp_path, (acquisition, COMPLETE))
    before_figures = found.text.split('Magnitude and masks')[-2]
    assert before_figures.count('partial Fourier acquisition') == 1
    assert 'sample all of k-space' in found.text
    assert 'the brain mask holds 300 mL' in found.text and '--derivatives' in found.text
    assert 'trusted in only' not in found.text


def test_damaged_files_are_named_and_do_not_stop_the_page(tmp_path, png):
    acquisition = make_acquisition()
    store(tmp_path, acquisition, png)
    (tmp_path / acquisition.path('qc', desc='qsm', extension='.json')).write_text('{"metrics": ')
    _, found = make_page(tmp_path, (acquisition, COMPLETE))
    assert 'cannot be read as JSON' in found.text and len(found.images) == IMAGES


def test_figures_beyond_the_size_limit_are_linked(tmp_path, png, monkeypatch):
    runs = [make_acquisition('1'), make_acquisition('2')]
    for acquisition in runs:
        store(tmp_path, acquisition, png)
    monkeypatch.setattr(module, '_BUDGET', 15 * len(png))
    text, found = make_page(tmp_path, *[(acquisition, COMPLETE) for acquisition in runs])
    embedded = [image for image in found.images if image['src'].startswith('data:')]
    linked = [image for image in found.images if not image['src'].startswith('data:')]
    assert len(embedded) + len(linked) == 2 * IMAGES and embedded and linked
    assert sum(len(image['src']) for image in embedded) <= 15 * len(png)
    assert all((tmp_path / image['src']).is_file() for image in linked)


def test_names_that_begin_alike_are_kept_apart(tmp_path, png):
    tenth = make_acquisition('10')
    store(tmp_path, tenth, png)
    _, found = make_page(tmp_path, (make_acquisition('1'), COMPLETE))
    assert not found.images


def test_nothing_found_still_makes_a_page(tmp_path):
    _, found = make_page(tmp_path, methods='')
    assert 'No gradient-echo acquisition was found' in found.text and 'methods' not in found.ids
