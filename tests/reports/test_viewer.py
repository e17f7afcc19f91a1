"""What the viewer gets is what the volumes hold: at the place, with the value and the name that they have."""

import base64
import zlib

import numpy as np
import pytest
from nibabel.affines import from_matvec, voxel_sizes

from qsmbids.core.labels import BY_NAME
from qsmbids.reports import viewer as module
from qsmbids.reports.figures import view_brain
from qsmbids.reports.viewer import pack_viewer

SHAPE = (20, 24, 16)


def affine_of(order, flips, size=(1.5, 2., 3.)):
    turn = np.zeros((3, 3))
    for axis, (to, sign) in enumerate(zip(order, flips)):
        turn[to, axis] = sign * size[axis]
    return from_matvec(turn, (-11., 7., 5.))


AFFINES = [affine_of((0, 1, 2), (1, 1, 1)), affine_of((2, 0, 1), (-1, 1, -1)), affine_of((1, 2, 0), (-1, -1, -1))]


def decode(part, shape, size=1):
    plain = np.frombuffer(zlib.decompress(base64.b64decode(part['data'])), np.uint8)
    assert plain.size == size * np.prod(shape)
    if size == 2:
        plain = (plain[:plain.size // 2] | plain[plain.size // 2:].astype(np.uint16) << 8).view(np.int16)
    return plain.reshape(shape, order='F')


@pytest.fixture
def volumes():
    rng = np.random.default_rng(3)
    brain = np.zeros(SHAPE, bool)
    brain[4:-5, 6:-3, 3:-2] = True
    labels = np.where(rng.uniform(size=SHAPE) < .1, BY_NAME['Putamen_R'].index, 0)
    return {'chi': {'tv': rng.normal(0, .1, SHAPE).astype(np.float32) * brain}, 'labels': labels,
            'magnitude': rng.uniform(50, 100, SHAPE).astype(np.float32),
            'masks': {'brain': brain, 'qsm': brain & (rng.uniform(size=SHAPE) < .9)}}


@pytest.mark.parametrize('affine', AFFINES)
def test_every_voxel_is_where_it_was(volumes, affine):
    found = pack_viewer(view_brain(volumes['masks']['brain'], affine, margin=1.), affine, **volumes)
    shape = found['shape']
    chi, magnitude = (decode(part, shape, part['bytes']) * part['step'] for part in found['maps'])
    labels, masks = decode(found['labels'], shape), decode(found['masks'], shape)
    places = np.indices(shape).reshape(3, -1)
    at = tuple(np.rint(np.array(found['file']) @ np.vstack([places, np.ones(places.shape[1])])).astype(int))
    assert np.allclose(chi.ravel(), volumes['chi']['tv'][at], atol=module.STEP_PPM / 2 + 1e-6)
    assert np.allclose(magnitude.ravel(), volumes['magnitude'][at], atol=magnitude.max() / module.GREYS)
    assert np.array_equal(labels.ravel(), volumes['labels'][at])
    for bit, mask in enumerate(volumes['masks'].values()):
        assert np.array_equal(masks.ravel() >> bit & 1, mask[at])
        assert mask.sum() == (masks >> bit & 1).sum()
    mm = np.array(found['mm'])
    assert np.allclose(mm @ [3, 1, 2, 1], (affine @ [*(np.array(found['file']) @ [3, 1, 2, 1]), 1])[:3], atol=1e-4)
    # To the right, to the front, to the top.
    assert np.allclose(mm[:, :3], np.diag(found['size']), atol=1e-5)
    assert sorted(found['size']) == sorted(voxel_sizes(affine))


def test_large_volumes_are_shown_in_blocks(volumes, monkeypatch):
    monkeypatch.setattr(module, 'MOST_VOXELS', 900)
    affine, brain = AFFINES[1], volumes['masks']['brain']
    smooth = np.linspace(0, .2, SHAPE[0])[:, None, None] * np.ones(SHAPE)
    view = view_brain(brain, affine, margin=1.)
    found = pack_viewer(view, affine, **volumes | {'chi': {'tv': smooth, 'brain': brain * 1.}})
    assert found['shrunk'] and np.prod(found['shape']) <= 900
    chi = decode(found['maps'][0], found['shape'], 2) * module.STEP_PPM
    places = np.indices(found['shape']).reshape(3, -1)
    first = (np.array(found['file']) @ np.vstack([places, np.ones(places.shape[1])]))[0]
    assert np.allclose(chi.ravel(), first * .2 / (SHAPE[0] - 1), atol=module.STEP_PPM)
    share = decode(found['maps'][1], found['shape'], 2) * module.STEP_PPM
    inside = decode(found['masks'], found['shape']) & 1
    assert inside[share > .999].all() and not inside[share < .001].any() and (share > .999).any()


def test_lesions_are_at_their_place_and_what_does_not_count_is_left_out(volumes):
    affine = AFFINES[2]
    row = {'index': '7', 'class': 'cmb', 'certainty': 'possible', 'diameter_mm': '4.0',
           **{f'{axis}_ras_mm': str(value) for axis, value in zip('xyz', (affine @ [8, 9, 7, 1])[:3])}}
    others = [row | {'certainty': 'unlikely'}, row | {'class': 'vessel'}]
    found = pack_viewer(view_brain(volumes['masks']['brain'], affine), affine, lesions=[row, *others], **volumes)
    (lesion,) = found['lesions']
    assert np.allclose(np.array(found['file']) @ [*lesion['place'], 1], [8, 9, 7], atol=.02)
    assert (lesion['index'], lesion['radius']) == ('7', 2. + module.RING_MM)


def test_what_is_not_finite_or_empty_is_zero(volumes):
    affine = AFFINES[0]
    volumes |= {'chi': {'tv': np.full(SHAPE, np.nan, np.float32), 'rts': np.full(SHAPE, 1e9)}, 'labels': None,
                'magnitude': np.zeros(SHAPE)}
    found = pack_viewer(view_brain(volumes['masks']['brain'], affine), affine, **volumes)
    chi, large, magnitude = (decode(part, found['shape'], part['bytes']) for part in found['maps'])
    assert not chi.any() and (large == 32767).all() and not magnitude.any() and 'labels' not in found
