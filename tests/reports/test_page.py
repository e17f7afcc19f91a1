"""The page: complete, escaped, self-contained, and there even if the acquisition failed."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from qsmbids.bids import Acquisition
from qsmbids.core.labels import BY_NAME
from qsmbids.core.lesiontable import COLUMNS, COUNT_COLUMNS
from qsmbids.files import write_tsv
from qsmbids.reports import page as module
from qsmbids.reports.compliance import compliance
from qsmbids.reports.figures import FIGURES, draw_figure, view_brain
from qsmbids.reports.page import write_page
from qsmbids.reports.viewer import pack_viewer

VOID = {'meta', 'img', 'br', 'link', 'input', 'hr'}
EVIL = '<script>alert("x")</script>'
SETTINGS = {'preset': 'none', 'unwrapping': 'romeo', 'phase_offset': 'mcpc3ds', 'echo_fit': 'nonlinear',
            'phase_sign': 'auto', 'residual_threshold': 0.3, 'background': 'vsharp', 'inversion': ('tv', 'rts'),
            'inversion_lambda': None, 'reference': 'wholebrain', 'relaxometry': 'arlo', 'level': 'full'}
# Kinds of figures that there are two of, for two maps.
OF_MAPS = ('chi', 'companion', 'kernel')
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
        if not (self.open and self.open[-1] in ('style', 'script')):
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
    assert not re.search(r'(src|href|url)\s*[=(]\s*["\']?(https?:)?//', text)
    assert all(image['src'].startswith('data:image/png;base64,') for image in found.images)
    assert all(image['alt'] and int(image['width']) == 1076 for image in found.images)
    assert len({image['alt'] for image in found.images}) == len(found.images)
    assert len(set(found.ids)) == len(found.ids)
    assert found.links and all(link.startswith('#') and link[1:] in found.ids for link in found.links)
    assert len(text) < 15e6
    # Nothing runs but the page's own script: any other would need another hash.
    allowed = re.search(r"script-src '(sha256-[^']+)'", text)[1]
    scripts = re.findall(r'<script>(.*?)</script>', text, re.DOTALL)
    assert [f'sha256-{b64encode(sha256(code.encode()).digest()).decode()}' for code in scripts] == [allowed]
    assert len(re.findall(r'<script', text)) == 1 + len(re.findall(r'<script type="application/json"', text))


def test_everything_from_files_is_escaped(tmp_path, png):
    acquisition = make_acquisition()
    store(tmp_path, acquisition, png)
    failed = make_acquisition('2')
    text, found = make_page(tmp_path, (acquisition, COMPLETE),
                            (failed, {'state': 'failed', 'reason': EVIL, 'crashfile': f'/x/{EVIL}'}))
    assert '<script>alert' not in text
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
    assert f'{unusable.name}-facts' in found.ids
    assert 'n/a' not in found.text.split('no EchoTime')[-1].split('Settings')[0]


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


def store_viewer(output_dir, acquisition):
    content = {'shape': [1, 1, 1], 'size': [1, 1, 1], 'shrunk': False, 'masks': {'names': [[EVIL, '#ffffff']]},
               'maps': [{'name': f'Susceptibility ({EVIL})'}], 'lesions': [],
               'labels': {'names': {'1': [EVIL, '#ffffff']}}}
    path = output_dir / 'sub-01' / 'figures' / f'{acquisition.name}_desc-viewer_figure.json'
    path.write_text(json.dumps(content))
    return path


def test_the_viewer_gets_its_volumes_escaped(tmp_path, png):
    acquisition = make_acquisition()
    store(tmp_path, acquisition, png)
    path = store_viewer(tmp_path, acquisition)
    text, found = make_page(tmp_path, (acquisition, COMPLETE))
    embedded = re.search(r'<script type="application/json" id="([^"]+)">(.*?)</script>', text, re.DOTALL)
    assert json.loads(embedded[2]) == json.loads(path.read_text()) and '<script>alert' not in text
    assert f'data-viewer="{embedded[1]}"' in text and 'canvas' in found.tags


def test_volumes_beyond_the_size_limit_are_left_out(tmp_path, png, monkeypatch):
    acquisition = make_acquisition()
    store(tmp_path, acquisition, png)
    store_viewer(tmp_path, acquisition)
    monkeypatch.setattr(module, '_BUDGET', 100)
    _, found = make_page(tmp_path, (acquisition, COMPLETE))
    assert 'canvas' not in found.tags and 'would exceed 15 MB' in found.text


def test_each_warning_is_at_the_top_with_its_acquisitions(tmp_path, png):
    first, second = make_acquisition('1'), make_acquisition('2', warnings=('something nobody foresaw',))
    store(tmp_path, first, png)
    store(tmp_path, second, png)
    text, found = make_page(tmp_path, (first, COMPLETE), (second, COMPLETE))
    top = text.split('<caption>Summary')[0]
    assert top.count('partial Fourier acquisition') == 1 and top.count('a warning of') == 1
    shared = top.split('a warning of')[1].split('</li>')[0]
    assert f'href="#{first.name}"' in shared and f'href="#{second.name}"' in shared
    unforeseen = top.split('something nobody foresaw')[1].split('</li>')[0]
    assert f'href="#{second.name}"' in unforeseen and f'href="#{first.name}"' not in unforeseen
    assert 'class="do"' in unforeseen


def test_references_can_be_copied_as_bibtex(tmp_path):
    path = write_page(tmp_path, '01', [], SETTINGS, '<p>Text [1].</p>', '9.9', bibtex=f'@article{{{EVIL}}}')
    text = Path(path).read_text(encoding='utf-8')
    assert EVIL in Checker(text).text and '<script>alert' not in text
    assert {'methods-text', 'methods-bibtex'} <= set(re.findall(r'data-copy="([^"]+)"', text))


def test_names_that_begin_alike_are_kept_apart(tmp_path, png):
    tenth = make_acquisition('10')
    store(tmp_path, tenth, png)
    _, found = make_page(tmp_path, (make_acquisition('1'), COMPLETE))
    assert not found.images


def test_nothing_found_still_makes_a_page(tmp_path):
    _, found = make_page(tmp_path, methods='')
    assert 'No gradient-echo acquisition was found' in found.text and 'methods' not in found.ids


@pytest.fixture(scope='module')
def volumes():
    """A small head with a region and a lesion, its axes turned and flipped."""
    rng = np.random.default_rng(1)
    shape, affine = (16, 20, 24), np.array([[0, 0, -2., 20], [1.5, 0, 0, -10], [0, -3., 0, 30], [0, 0, 0, 1]])
    brain = np.zeros(shape, bool)
    brain[2:-2, 3:-3, 3:-3] = True
    labels = np.zeros(shape, np.uint8)
    labels[4:7, 9:12, 14:18] = BY_NAME['Putamen_R'].index
    place = (affine @ [11, 6, 9, 1])[:3]
    row = {'index': '4', 'class': 'cmb', 'probability': '0.9', 'certainty': 'definite', 'diameter_mm': '3.0',
           **{f'{axis}_ras_mm': str(value) for axis, value in zip('xyz', place)}}
    return {'chi': rng.normal(0, .1, shape).astype(np.float32) * brain, 'brain': brain, 'affine': affine,
            'labels': labels, 'row': row}


@pytest.fixture
def shown(tmp_path, png, volumes, visit):
    """The page of an acquisition with a viewer, opened, and the viewer in sight."""
    acquisition = make_acquisition()
    store(tmp_path, acquisition, png)
    view = view_brain(volumes['brain'], volumes['affine'], margin=3.)
    content = pack_viewer(view, volumes['affine'], chi={'tv': volumes['chi']}, magnitude=volumes['brain'] * 100.,
                          masks={'brain': volumes['brain']}, labels=volumes['labels'], lesions=[volumes['row']])
    (tmp_path / 'sub-01' / 'figures' / f'{acquisition.name}_desc-viewer_figure.json').write_text(json.dumps(content))
    stem = tmp_path / acquisition.path('lesions', desc='cmb', extension='.tsv')
    write_tsv(stem, [volumes['row']], list(COLUMNS))
    write_tsv(str(stem).replace('lesions', 'counts'), [], list(COUNT_COLUMNS))
    make_page(tmp_path, (acquisition, COMPLETE))
    page = visit(tmp_path / 'sub-01.html')
    page.locator('[data-viewer]').scroll_into_view_if_needed()
    page.locator('canvas').first.wait_for(state='visible')
    page.locator('canvas').first.focus()
    return page


def at_cross(page):
    """Return the voxel that the viewer says its cross is in, and the susceptibility there."""
    page.evaluate('new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))')
    text = page.locator('[data-part="value"]').inner_text()
    voxel = tuple(int(part) for part in re.search(r'voxel (.*)$', text)[1].split(','))
    return voxel, float(re.search(r'\(tv\) (\S+) ppm', text)[1]), text


def test_in_a_browser_the_page_needs_nothing_and_excludes_nobody(shown, accessibility_errors):
    assert shown.requests == [shown.url] and shown.troubles == []
    assert accessibility_errors(shown) == []
    # All that can be operated is reached by the tab key, the way to the content first.
    assert shown.evaluate('''() => [...document.querySelectorAll('a, button, select, input, canvas, summary')]
        .filter(one => one.offsetParent && one.tabIndex < 0).length''') == 0
    shown.reload()
    shown.keyboard.press('Tab')
    assert shown.evaluate('document.activeElement.className') == 'skip'


def test_the_viewer_tells_and_shows_what_is_in_the_file(shown, volumes):
    steps = ['ArrowRight', 'ArrowUp', 'PageUp', 'ArrowLeft', 'ArrowLeft', 'ArrowDown', 'PageDown', 'Shift+ArrowRight']
    voxel, value, text = at_cross(shown)
    assert volumes['labels'][voxel] and 'Putamen_R' in text   # it begins in the regions
    seen = {voxel}
    for step in steps:
        shown.keyboard.press(step)
        voxel, value, _ = at_cross(shown)
        assert value == pytest.approx(volumes['chi'][voxel], abs=6e-4)
        seen.add(voxel)
    assert len(seen) > 5
    # The right of the patient is on the right: the third axis of the file runs to the left.
    before = at_cross(shown)[0]
    shown.keyboard.press('ArrowLeft')
    assert at_cross(shown)[0] == (before[0], before[1], before[2] + 1)


def test_the_viewer_goes_to_regions_and_lesions(shown, volumes):
    shown.locator('[data-part="place"]').select_option(label='Putamen_R')
    assert at_cross(shown)[0] in {(5, 10, 15), (5, 10, 16)}
    shown.locator('[data-show]').click()
    assert at_cross(shown)[0] == (11, 6, 9)
    assert shown.evaluate('document.activeElement.tagName') == 'CANVAS'
    # A click in the middle of a plane goes to the middle of the volume along its axes.
    shown.locator('canvas').first.click()
    shape = volumes['chi'].shape
    found = at_cross(shown)[0]
    assert abs(found[0] - shape[0] / 2) <= 1 and abs(found[2] - shape[2] / 2) <= 1 and found[1] == 6


def test_each_control_changes_the_picture(shown):
    def picture():
        at_cross(shown)
        return shown.evaluate('document.querySelector("canvas").toDataURL()')

    find = shown.locator
    pictures = [picture()]
    for act in (lambda: find('[data-part="low"]').fill('-0.4'), lambda: find('[data-overlay="labels"]').check(),
                lambda: find('[data-overlay="mask0"]').check(), lambda: find('[data-overlay="cross"]').uncheck(),
                lambda: find('[data-part="zoom"]').fill('3'),
                lambda: find('[data-part="map"]').select_option(label='Magnitude')):
        act()
        pictures.append(picture())
    assert len(set(pictures)) == len(pictures) and shown.troubles == []
    for name in ('labels', 'mask0'):
        find(f'[data-overlay="{name}"]').uncheck()
    find('[data-overlay="cross"]').check()
    find('[data-part="map"]').select_option(label='Susceptibility (tv)')
    find('[data-part="reset"]').click()
    assert picture() == pictures[0]


def test_texts_are_copied(shown):
    shown.context.grant_permissions(['clipboard-read', 'clipboard-write'])
    shown.locator('[data-copy="methods-text"]').click()
    status = shown.locator('[data-copy="methods-text"] + .copied')
    status.filter(has_text='Copied.').wait_for()
    assert 'Methods [1].' in shown.evaluate('navigator.clipboard.readText()')


def test_without_scripts_everything_but_the_viewer_is_there(tmp_path, png, visit):
    acquisition = make_acquisition()
    store(tmp_path, acquisition, png)
    store_viewer(tmp_path, acquisition)
    make_page(tmp_path, (acquisition, COMPLETE))
    page = visit(tmp_path / 'sub-01.html', java_script_enabled=False)
    assert page.get_by_text('This part needs JavaScript').is_visible()
    assert not page.locator('canvas').first.is_visible() and not page.locator('button').first.is_visible()
    assert page.locator('img').count() == IMAGES and page.locator('img').last.is_visible()
