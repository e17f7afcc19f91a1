"""The page of a cohort: how long it takes to write and to open, and how large it is; pictures of it and of a page.

    python benchmarks/reports.py [--participants 500] [--folder DIR]
    python benchmarks/reports.py --page OUT/sub-01.html [--pictures docs/images]

Derivatives of a cohort are made up, without volumes but for one brain mask: three scanners, ages of 20 to 80, values of
regions that grow with age, every twentieth scan far off in something, every fiftieth failed, microbleeds in a third.
The group level then runs on them. "Opened" is from the address to the last table, distribution and heat map drawn, in
headless Chromium; it is left out where Playwright or the browser are missing. On a machine that has other work to do,
the seconds of the processors tell more than those of the clock.

With ``--page`` the same is measured of the page of a participant: until it is drawn, until the volumes of its viewer
are, and for a step through its slices with all overlays. ``--pictures`` writes how the pages look.
"""

import argparse
import io
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import psutil

from qsmbids import __version__
from qsmbids.cli.group import run
from qsmbids.core.labels import STRUCTURES
from qsmbids.core.lesiontable import COLUMNS as LESION_COLUMNS
from qsmbids.core.lesiontable import COUNT_COLUMNS
from qsmbids.core.statistics import COLUMNS, SEGMENTED
from qsmbids.files import write_json, write_text, write_tsv
from qsmbids.reports.cohort import read_participants
from qsmbids.reports.group import NAME, write_group_page
from qsmbids.reports.status import IDENTITY, write_status

SCANNERS = (('Siemens', 'Prisma', 3.), ('Philips', 'Ingenia', 3.), ('GE', 'Signa', 1.5))
DRAWN = 'new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))'
BOX = [[-70., -100., -60.], [70., 70., 75.]]


def make_cohort(folder, participants):
    """Write the derivatives of a cohort and its participants.tsv."""
    rng = np.random.default_rng(7)
    out, raw = folder / 'out', folder / 'raw'
    states, people = [], []
    for number in range(participants):
        subject, age = f'sub-{number:04d}', float(rng.uniform(20, 80))
        people.append({'participant_id': subject, 'age': round(age, 1), 'sex': 'FM'[number % 2]})
        failed = number % 50 == 7
        states.append({'participant': subject, 'session': 'n/a', 'run': 'n/a', 'acquisition': subject,
                       'state': 'failed' if failed else 'complete', 'crashfile': '',
                       'reason': 'the phase is constant' if failed else ''})
        if not failed:
            _write_scan(out / subject / 'anat' / subject, subject, age, SCANNERS[number % 3], number % 20 == 3, rng)
            write_text(out / f'{subject}.html', '<!DOCTYPE html><title>a page</title>')
    write_status(out, '20260101-000000-x', states)
    write_tsv(raw / 'participants.tsv', people, ['participant_id', 'age', 'sex'])
    grid = np.indices((70, 85, 68)).reshape(3, -1).T * 2. + BOX[0]
    ball = (((grid - np.mean(BOX, axis=0)) / (np.diff(BOX, axis=0)[0] / 2)) ** 2).sum(axis=1).reshape(70, 85, 68) < 1
    for state in states[:12]:
        path = out / state['participant'] / 'anat' / f'{state["acquisition"]}_desc-brain_mask.nii.gz'
        if path.parent.is_dir():
            affine = np.diag((2., 2., 2., 1.))
            affine[:3, 3] = BOX[0]
            nibabel.save(nibabel.Nifti1Image(ball.astype(np.uint8), affine), path)


def _write_scan(stem, subject, age, scanner, off, rng):
    metrics = {'brain_volume_ml': rng.normal(1450, 120), 'snr_first_echo': rng.normal(40, 5),
               'reliable_fraction': rng.beta(60, 2), 'qsm_fraction': rng.beta(50, 3),
               'residual_median': rng.normal(.02, .003) * (4 if off else 1),
               'local_field_sd_ppm': rng.normal(.01, .001),
               'chi_tv_sd_ppm': rng.normal(.03, .003) * (2 if off else 1), 'chi_tv_kernel_gain': rng.normal(1, .08),
               'field_b0_angle_deg': abs(rng.normal(0, 1)), 'r2star_median': rng.normal(17, 1)}
    write_json(f'{stem}_desc-qsm_qc.json', {'metrics': metrics, 'warnings': ['x'] * int(rng.poisson(.3)),
                                            'references': {}, 'brain_box_mm': BOX})
    vendor, model, tesla = scanner
    write_json(f'{stem}_desc-consensus_compliance.json', {'C12': {'evidence': {
        'Manufacturer': vendor, 'ManufacturersModelName': model, 'MagneticFieldStrength': tesla}}})
    identity = dict(zip((*IDENTITY, *SEGMENTED), (subject, 'n/a', 'n/a', subject, 'network', 'dgm')))
    rows = []
    for place, name in enumerate(STRUCTURES):
        for metric, unit, mean in (('chi', 'ppm', .02 + .004 * place + .0004 * age), ('R2star', '1/s', 18 + place)):
            for hemi in 'LRB' if STRUCTURES[name].paired else 'B':
                for erosion in (0., 1.):
                    value = rng.normal(mean, .1 * mean)
                    rows.append(identity | dict.fromkeys(COLUMNS) | {
                        'roi': name, 'hemi': hemi, 'metric': metric, 'map': 'tv' if metric == 'chi' else 'arlo',
                        'unit': unit, 'ref': 'wholebrain' if metric == 'chi' else None, 'erosion_mm': erosion,
                        'n_vox': 1000, 'volume_mm3': rng.normal(4000, 300), 'mean': value, 'sd': .2 * mean,
                        'median': value, 'hi_iron_mean': 1.3 * value, 'mean_ref-wholebrain': value,
                        'mean_ref-csf': value - .01, 'asymmetry': rng.normal(0, .05) if hemi == 'B' else None,
                        'qc': 'pass'})
    write_tsv(f'{stem}_seg-subcortical_desc-network_stats.tsv', rows, [*identity, *COLUMNS])
    count = int(rng.poisson(4)) if rng.uniform() < 1 / 3 else 0
    low, high = np.array(BOX)
    ways = rng.normal(size=(count, 3))
    ways *= rng.uniform(.3, .9, (count, 1)) / np.linalg.norm(ways, axis=1, keepdims=True)
    places = (low + high) / 2 + ways * (high - low) / 2
    write_tsv(f'{stem}_desc-cmb_lesions.tsv', [
        {'index': index, 'x_ras_mm': x, 'y_ras_mm': y, 'z_ras_mm': z, 'space': 'scanner', 'class': 'cmb',
         'probability': .9, 'certainty': 'definite' if index % 2 else 'possible', 'diameter_mm': 3.}
        for index, (x, y, z) in enumerate(places, 1)], list(LESION_COLUMNS))
    write_tsv(f'{stem}_desc-cmb_counts.tsv', [{'class': 'cmb', 'region': 'all', 'definite': (count + 1) // 2,
                                               'possible': count // 2, 'total': count}], list(COUNT_COLUMNS))


class Clock:
    """Seconds of the clock, and those of the processors in this process and its children."""

    def __init__(self):
        self.start = time.perf_counter(), self._work()

    @staticmethod
    def _work():
        own = psutil.Process()
        return sum(sum(process.cpu_times()[:2]) for process in (own, *own.children(recursive=True)))

    def __str__(self):
        return f'{time.perf_counter() - self.start[0]:7.2f} s {self._work() - self.start[1]:9.2f} s'


@contextmanager
def opened(path):
    """Give a page in headless Chromium, and the times until it was drawn; None without a browser."""
    program = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        yield None
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=['--no-sandbox'])
        page = browser.new_page(viewport={'width': 1400, 'height': 1000})
        clock = Clock()
        page.goto(path.absolute().as_uri())
        page.evaluate(DRAWN)
        print(f'{"page opened":36s} {clock}')
        yield page
        browser.close()


def browse_cohort(path, pictures):
    """Print how long the page of a cohort takes to answer."""
    with opened(path) as page:
        if page is None:
            return
        clock = Clock()
        page.locator('#filter').fill('siemens')
        page.evaluate(DRAWN)
        print(f'{"filter typed":36s} {clock}')
        if pictures:
            page.locator('#filter').fill('')
            page.set_viewport_size({'width': 1200, 'height': 1500})
            page.evaluate(DRAWN)
            page.screenshot(path=pictures / 'group.png')


def browse_participant(path, pictures):
    """Print how long the page of a participant takes to answer."""
    with opened(path) as page:
        if page is None:
            return
        viewer, clock = page.locator('[data-viewer]').first, Clock()
        viewer.scroll_into_view_if_needed()
        viewer.locator('canvas').first.wait_for(state='visible')
        page.evaluate(DRAWN)
        print(f'{"viewer ready":36s} {clock}')
        for box in viewer.locator('input[type="checkbox"]').all():
            box.check()
        viewer.locator('canvas').first.focus()
        page.evaluate(DRAWN)
        clock = Clock()
        for _ in range(10):
            page.keyboard.press('PageUp')
            page.evaluate(DRAWN)
        print(f'{"ten slices, all overlays":36s} {clock}')
        if pictures:
            page.keyboard.press('Home')
            page.evaluate(DRAWN)
            viewer.screenshot(path=pictures / 'viewer.png')
    print(f'{"size of the page":36s} {path.stat().st_size / 1e6:7.2f} MB')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--participants', type=int, default=500)
    parser.add_argument('--folder', type=Path, default=Path(tempfile.gettempdir()) / 'qsmbids-reports')
    parser.add_argument('--page', type=Path, help='page of a participant to measure instead')
    parser.add_argument('--pictures', type=Path, metavar='DIR', help='where to put pictures of the pages')
    options = parser.parse_args()
    print(f'{"":36s} {"clock":>9s} {"processors":>11s}')
    if options.page:
        browse_participant(options.page, options.pictures)
        return
    folder = options.folder / str(options.participants)
    if not (folder / 'out').is_dir():
        make_cohort(folder, options.participants)
    out, raw = folder / 'out', folder / 'raw'
    clock = Clock()
    with redirect_stdout(io.StringIO()):
        if run(SimpleNamespace(output_dir=out, bids_dir=raw, longitudinal=False)):
            sys.exit('the group level failed')
    print(f'{"group level, tables and page":36s} {clock}')
    people, _ = read_participants(raw)
    clock = Clock()
    write_group_page(out, __version__, people)
    print(f'{"page written":36s} {clock}')
    browse_cohort(out / NAME, options.pictures)
    print(f'{"size of the page":36s} {(out / NAME).stat().st_size / 1e6:7.2f} MB')


if __name__ == '__main__':
    main()
