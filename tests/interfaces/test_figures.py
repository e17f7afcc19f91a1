"""The node that draws: what there is, and only what changed."""

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from matplotlib.image import imread

from qsmbids.interfaces.figures import DrawFigures

NAMES = ['magnitude', 'phase', 'unwrapped', 'totalfield', 'residual', 'background', 'localfield', 'chitv', 'chirts',
         'kerneltv', 'kernelrts', 'viewer', 'r2star', 'csf']


@pytest.fixture
def images(tmp_path):
    """Paths of a set of images; names as the node's inputs."""
    rng = np.random.default_rng(0)
    shape = (20, 24, 16)
    brain = np.zeros(shape, np.uint8)
    brain[3:-3, 4:-4, 3:-3] = 1
    volumes = {name: rng.normal(size=shape).astype(np.float32) for name in (
        'magnitude', 'unwrapped', 'total_field', 'local_field', 'residual', 'r2star', 'tv', 'rts')}
    volumes |= {'brain': brain, 'reliable': brain, 'qsm': brain, 'csf': brain * 0,
                'phase': rng.uniform(-3, 3, (*shape, 3)).astype(np.float32)}
    paths = {}
    for name, volume in volumes.items():
        paths[name] = str(tmp_path / f'{name}.nii')
        nibabel.save(nibabel.Nifti1Image(volume, np.diag((-2.0, 2, 3, 1))), paths[name])
    return paths | {'chi': [paths.pop('tv'), paths.pop('rts')], 'chi_names': ['tv', 'rts'], 'b0_dir': (0.0, 0.6, 0.8)}


def draw(output_dir, **inputs):
    node = DrawFigures(output_dir=str(output_dir), subject='01', stem='sub-01_run-1', **inputs)
    found = node.run().outputs.files
    return {Path(path).name.split('_desc-')[1].split('_figure.')[0]: Path(path) for path in found}


def test_all_figures_have_their_names_and_order(images, tmp_path):
    found = draw(tmp_path / 'out', **images)
    assert list(found) == NAMES
    folder = tmp_path / 'out' / 'sub-01' / 'figures'
    assert sorted(folder.iterdir()) == sorted(found.values())
    shown = json.loads(found.pop('viewer').read_text())
    assert [entry['name'] for entry in shown['maps']] == ['Susceptibility (tv)', 'Susceptibility (rts)', 'Magnitude']
    assert len(shown['masks']['names']) == 3
    assert all(path.read_bytes().startswith(b'\x89PNG') for path in found.values())
    assert found['chitv'] == folder / 'sub-01_run-1_desc-chitv_figure.png'


def test_maps_beside_that_of_a_network_have_figures(images, tmp_path):
    found = draw(tmp_path, **images, companions=images['chi'], companion_names=['xuncertainty', 'xdeparture'])
    assert [name for name in found if name not in NAMES] == ['companionxuncertainty', 'companionxdeparture']


def test_the_background_is_what_both_fields_differ_by(images, tmp_path):
    other = nibabel.load(images['total_field'])
    pictures = []
    for number, shift in enumerate((0, 0.5)):
        rng = np.random.default_rng(5)
        tissue = (rng.normal(size=other.shape) + shift * np.arange(other.shape[0])[:, None, None]).astype(np.float32)
        for name, volume in (('local_field', tissue), ('total_field', tissue + other.get_fdata())):
            images[name] = str(tmp_path / f'{name}{number}.nii')
            nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), other.affine), images[name])
        pictures.append(imread(draw(tmp_path / str(number), **images)['background']))
    # What the other field adds is rounded away, or tips a pixel into the next of 128 colours.
    assert np.abs(pictures[0] - pictures[1]).max() < .05


def test_what_is_missing_is_left_out(images, tmp_path):
    minimal = {name: images[name] for name in ('magnitude', 'brain')}
    assert list(draw(tmp_path / 'a', **minimal)) == ['magnitude']
    assert list(draw(tmp_path / 'b', **minimal, r2star=images['r2star'])) == ['magnitude', 'r2star']
    assert list(draw(tmp_path / 'c', **minimal, residual=images['residual'])) == ['magnitude', 'residual']
    undirected = {name: value for name, value in images.items() if name != 'b0_dir'}
    assert list(draw(tmp_path / 'd', **undirected)) == [name for name in NAMES if not name.startswith('kernel')]


def test_one_echo_has_one_phase(images, tmp_path):
    phase = nibabel.load(images['phase'])
    several = draw(tmp_path / 'a', **images)['phase'].read_bytes()
    nibabel.save(phase.slicer[..., :1], tmp_path / 'single.nii')
    images['phase'] = str(tmp_path / 'single.nii')
    single = draw(tmp_path / 'b', **images)['phase'].read_bytes()
    height = slice(20, 24)
    assert int.from_bytes(single[height], 'big') < int.from_bytes(several[height], 'big')


def test_only_what_changed_or_was_deleted_is_drawn_again(images, tmp_path):
    first = draw(tmp_path / 'out', **images)
    # Older than now, younger than their sources.
    for path in first.values():
        os.utime(path, ns=(path.stat().st_mtime_ns,) * 2)
    stamps = {desc: path.stat().st_mtime_ns for desc, path in first.items()}
    first['chirts'].unlink()
    later = max(stamps.values()) + 10 ** 9
    os.utime(images['r2star'], ns=(later, later))
    os.utime(images['local_field'], ns=(later, later))
    again = draw(tmp_path / 'out', **images)
    assert list(again) == NAMES
    drawn = {desc for desc, path in again.items() if path.stat().st_mtime_ns != stamps[desc]}
    assert drawn == {'chirts', 'r2star', 'csf', 'background', 'localfield', 'kerneltv', 'kernelrts'}
