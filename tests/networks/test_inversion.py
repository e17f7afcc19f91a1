"""Inversions by networks, whatever their weights."""

import json

import numpy as np
import pytest
import torch

from qsmbids.core.dipole import forward_field
from qsmbids.core.inversion.strength import noise_share
from qsmbids.files import FileError
from qsmbids.networks import weights
from qsmbids.networks.case import Case
from qsmbids.networks.inversion import fit, invert_deepqsm, invert_dll2, invert_fine, invert_pocsnet2
from qsmbids.networks.pocsnet import DeepQSM, POCSnet2

VOXEL, B0 = (1, 1.1, 1.2), (0, .28, .96)


@pytest.fixture(scope='module')
def scene():
    rng = np.random.default_rng(0)
    grids = np.meshgrid(*(np.linspace(-1, 1, n) for n in (27, 24, 22)), indexing='ij')
    mask = sum(g ** 2 for g in grids) < .7
    chi = .1 * rng.standard_normal(mask.shape).astype(np.float32) * mask
    field = forward_field(chi, VOXEL, B0) + .003 * rng.standard_normal(mask.shape).astype(np.float32)
    return field * mask, mask


@pytest.fixture(scope='module')
def stored(tmp_path_factory):
    """Files of networks that were trained on nothing but change the map."""
    paths = {}
    for name, network in (('pocsnet2', POCSnet2(width=4, unrolls=2)), ('deepqsm', DeepQSM(width=4))):
        torch.manual_seed(1)
        torch.nn.init.normal_(network.backbone.last.weight, std=.05)
        paths[name] = str(tmp_path_factory.mktemp('weights') / f'{name}.safetensors')
        architecture = {'width': 4} | ({'unrolls': 2} if name == 'pocsnet2' else {})
        weights.save_weights(network, paths[name], name, architecture, {})
    return paths


@pytest.mark.parametrize('invert, name', [(invert_pocsnet2, 'pocsnet2'), (invert_deepqsm, 'deepqsm'),
                                          (invert_dll2, 'pocsnet2'), (invert_fine, 'pocsnet2')])
def test_contract(scene, stored, invert, name):
    field, mask = scene
    chi = invert(field, mask, VOXEL, b0_dir=B0, weights=stored[name])
    assert chi.dtype == np.float32 and chi.shape == mask.shape and chi[mask].all() and not chi[~mask].any()
    assert np.array_equal(invert(np.where(mask, field, np.nan), mask, VOXEL, b0_dir=B0, weights=stored[name]), chi)
    assert not invert(0 * field, mask, VOXEL, b0_dir=B0, weights=stored[name]).any()
    with pytest.raises(ValueError, match='shape'):
        invert(field, mask[1:], VOXEL, b0_dir=B0, weights=stored[name])


@pytest.mark.parametrize('scale', [.1, 10])
def test_maps_go_with_the_field(scene, stored, scale):
    field, mask = scene
    for invert, name in ((invert_pocsnet2, 'pocsnet2'), (invert_deepqsm, 'deepqsm'), (invert_dll2, 'pocsnet2')):
        one, scaled = (invert(f, mask, VOXEL, b0_dir=B0, weights=stored[name]) for f in (field, scale * field))
        assert np.abs(scaled / scale - one).max() < 1e-3 * np.abs(one).max()


def test_dll2_without_weights_is_a_projection(scene, stored):
    field, mask = scene
    given = {'b0_dir': B0, 'lambda_': .1, 'weights': stored['pocsnet2']}
    # Where there is no field outside the mask, least squares over the mask and over all of space differ at its rim.
    everywhere = np.ones_like(mask)
    projected = invert_pocsnet2(field, everywhere, VOXEL, output='projected', **given)
    found = invert_dll2(field, everywhere, VOXEL, tol=1e-6, **given)
    inner = tuple(slice(4, -4) for _ in range(3))
    assert np.corrcoef(projected[inner].ravel(), found[inner].ravel())[0, 1] > .98


def test_dll2_follows_the_weight(scene, stored):
    field, mask = scene
    weight = np.ones_like(field)
    weight[:13] = 0
    chi = invert_dll2(field, mask, VOXEL, b0_dir=B0, weight=weight, weights=stored['pocsnet2'], lambda_=1e-3)
    missed = np.abs(forward_field(chi, VOXEL, B0) - field)
    trusted = mask & (weight > 0)
    assert missed[trusted].mean() < .6 * missed[mask & (weight == 0)].mean()


def test_fitting_lessens_the_loss_until_the_noise(scene, stored):
    field, mask = scene
    case = Case(field, mask, VOXEL, B0, .05)
    weight = case.to_grid(np.ones_like(field))
    network, _ = weights.load_weights(stored['pocsnet2'])
    losses = fit(network, case, weight, 0., 8, 1e-3, 20.)
    assert len(losses) == 8 and losses[-1] < losses[0]
    network, _ = weights.load_weights(stored['pocsnet2'])
    stopped = fit(network, case, weight, losses[3] + 1e-6, 8, 1e-3, 20.)
    assert len(stopped) <= 4 and stopped[-1] <= losses[3] + 1e-6


def test_noise_share():
    rng = np.random.default_rng(2)
    chi = rng.standard_normal((40, 42, 44)).astype(np.float32)
    field, noise = forward_field(chi, (1, 1, 1), margin=0), rng.standard_normal(chi.shape).astype(np.float32)
    noise *= field.std() / noise.std()
    mask = np.ones(chi.shape, bool)
    shares = [noise_share(field + level * noise, mask, (1, 1, 1)) for level in (0, .5, 1)]
    assert shares == pytest.approx([0, .2, .5], abs=.07)


def test_shipped_weights_are_checked(tmp_path, monkeypatch, stored):
    monkeypatch.setattr(weights, 'SHIPPED', tmp_path)
    (tmp_path / 'hashes.json').write_text(json.dumps({'a': weights.sha256(stored['pocsnet2']), 'b': '0'}))
    content = open(stored['pocsnet2'], 'rb').read()
    for name in 'ab':
        (tmp_path / f'{name}.safetensors').write_bytes(content)
    assert weights.load_weights(weights.shipped('a'))[0].unrolls == 2
    with pytest.raises(FileError, match='b.safetensors: is not the file that was shipped'):
        weights.shipped('b')
    (tmp_path / 'a.safetensors').unlink()
    with pytest.raises(FileError, match='a.safetensors: is missing'):
        weights.shipped('a')
    with pytest.raises(FileError, match='there are a, b'):
        weights.shipped('c')
