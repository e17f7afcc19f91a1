import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest


PATIENCE = 180_000   # ms for a browser on a busy machine


@pytest.fixture(scope='session')
def sphere_truth():
    """A sphere of 1 ppm in nothing: its susceptibility, its analytic field, and the voxels that its surface touches."""
    def build(shape, voxel_size, radius, b0_dir, margin=None, subsamples=5):
        grids = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, voxel_size)]
        offsets = (np.arange(subsamples) + 0.5) / subsamples - 0.5
        chi = np.zeros(shape)
        for i in offsets:
            for j in offsets:
                for k in offsets:
                    x, y, z = np.meshgrid(grids[0] + i * voxel_size[0], grids[1] + j * voxel_size[1],
                                          grids[2] + k * voxel_size[2], indexing='ij', sparse=True)
                    chi += x ** 2 + y ** 2 + z ** 2 <= radius ** 2
        chi /= subsamples ** 3
        x, y, z = np.meshgrid(*grids, indexing='ij', sparse=True)
        distance = np.sqrt(x ** 2 + y ** 2 + z ** 2)
        b = np.asarray(b0_dir, float) / np.linalg.norm(b0_dir)
        along = (x * b[0] + y * b[1] + z * b[2]) / np.maximum(distance, 1e-9)
        outside = radius ** 3 / 3 * (3 * along ** 2 - 1) / np.maximum(distance, 1e-9) ** 3
        analytic = np.where(distance < radius, 0, outside)
        edge = np.abs(distance - radius) < (1.5 * max(voxel_size) if margin is None else margin)
        return chi.astype(np.float32), analytic, edge
    return build


@pytest.fixture
def bids_root(tmp_path):
    """An empty BIDS data set."""
    root = tmp_path / 'bids'
    root.mkdir()
    (root / 'dataset_description.json').write_text('{"Name": "test", "BIDSVersion": "1.10.0"}')
    return root


@pytest.fixture
def add_echoes():
    """Write the images and sidecars of an acquisition: small volumes of noise."""
    def add(root, subject='01', session=None, *, extra='', suffix='MEGRE', parts=('mag', 'phase'),
            echo_times=(0.004, 0.012, 0.020), shape=(6, 7, 8), affine=None, sidecar=None, inherit=False):
        rng = np.random.default_rng(0)
        stem = f'sub-{subject}' + (f'_ses-{session}' if session else '') + extra
        folder = root / f'sub-{subject}' / (f'ses-{session}' if session else '') / 'anat'
        folder.mkdir(parents=True, exist_ok=True)
        common = {'MagneticFieldStrength': 3, 'MRAcquisitionType': '3D', **(sidecar or {})}
        for echo, echo_time in enumerate(echo_times, 1):
            number = f'_echo-{echo}' if len(echo_times) > 1 or suffix == 'MEGRE' else ''
            for part in parts:
                volume = rng.uniform(-3, 3, shape) if part != 'mag' else rng.uniform(50, 100, shape)
                path = folder / f'{stem}{number}_part-{part}_{suffix}.nii.gz'
                nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), np.eye(4) if affine is None else affine),
                             path)
                own = dict(common) if not inherit else {}
                if part == 'phase':
                    own['Units'] = 'rad'
                if echo_time is not None and not inherit:
                    own['EchoTime'] = echo_time
                if own:
                    path.with_name(path.name.replace('.nii.gz', '.json')).write_text(json.dumps(own))
            if inherit:
                (root / f'echo-{echo}_{suffix}.json').write_text(json.dumps({**common, 'EchoTime': echo_time}))
        return folder
    return add


@pytest.fixture(scope='session')
def validator_errors():
    """What the BIDS validator calls errors in a data set: (code, field, file)."""
    program = shutil.which('bids-validator-deno', path=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}')
    if program is None:
        pytest.skip('bids-validator-deno is not installed (pip install qsmbids[test])')

    def validate(root):
        # The program is a script that starts its engine by name from beside it.
        path = f'{Path(program).parent}{os.pathsep}{os.environ["PATH"]}'
        run = subprocess.run([program, str(root), '--ignoreNiftiHeaders', '--json'], capture_output=True, text=True,
                             env=os.environ | {'PATH': path, 'NO_COLOR': '1'})
        issues = json.loads(run.stdout)['issues']['issues']
        return [(i['code'], i.get('subCode'), i.get('location')) for i in issues if i['severity'] == 'error']
    return validate


@pytest.fixture(scope='session')
def slurm(tmp_path_factory):
    """A SLURM of one node, which commands find by SLURM_CONF."""
    if shutil.which('slurmctld') is None or shutil.which('slurmd') is None:
        pytest.skip('SLURM is not installed (apt-get install --no-install-recommends slurm-wlm)')
    script, folder = Path(__file__).parent / 'slurm.sh', tmp_path_factory.mktemp('slurm')
    up = subprocess.run([script, 'up', folder], capture_output=True, text=True)
    try:
        if up.returncode:
            pytest.skip(f'SLURM cannot be started here: {up.stderr}')
        before, os.environ['SLURM_CONF'] = os.environ.get('SLURM_CONF'), up.stdout.strip()
        yield folder
        os.environ.pop('SLURM_CONF')
        if before:
            os.environ['SLURM_CONF'] = before
    finally:
        subprocess.run([script, 'down', folder], check=True)


@pytest.fixture(scope='session')
def browser():
    """Headless Chromium, driven by Playwright."""
    playwright = pytest.importorskip('playwright.sync_api', reason='Playwright is missing (pip install qsmbids[test])')
    program = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if program is None:
        pytest.skip('there is no browser (apt-get install --no-install-recommends chromium)')
    with playwright.sync_playwright() as running:
        try:
            # The sandbox refuses root, who tests in containers.
            browser = running.chromium.launch(executable_path=program, args=['--no-sandbox'],
                                              timeout=PATIENCE)
        except playwright.Error as error:
            pytest.skip(f'{program} does not start here: {error}')
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Open a file offline; the page knows its ``requests`` and the ``troubles`` of its console."""
    contexts = []

    def open_page(path, **options):
        contexts.append(browser.new_context(offline=True, **{'viewport': {'width': 1300, 'height': 900}} | options))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.requests, page.troubles = [], []
        page.on('request', lambda request: page.requests.append(request.url))
        page.on('console', lambda message: page.troubles.append(message.text)
                if message.type in ('error', 'warning') else None)
        page.on('pageerror', lambda error: page.troubles.append(str(error)))
        page.goto(Path(path).as_uri())
        return page
    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope='session')
def accessibility_errors():
    """What axe calls serious or critical on an open page."""
    package = pytest.importorskip('axe_playwright_python', reason='axe is missing (pip install qsmbids[test])')
    source = Path(package.__file__).with_name('axe.min.js').read_text(encoding='utf-8')

    def check(page):
        page.evaluate(source)
        found = page.evaluate('axe.run(document, {resultTypes: ["violations"]})')
        return [(entry['id'], entry['nodes'][0]['html']) for entry in found['violations']
                if entry['impact'] in ('serious', 'critical')]
    return check
