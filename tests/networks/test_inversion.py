"""Inversions by networks, whatever their weights."""

import numpy as np
import pytest
import torch

from qsmbids.core.dipole import forward_field
from qsmbids.core.inversion.strength import automatic_strength, noise_share
from qsmbids.core.inversion.variational import invert_tv
from qsmbids.networks import weights
from qsmbids.networks.case import Case
from qsmbids.networks.inversion import fit, invert_deepqsm, invert_dll2, invert_fine, invert_pocsnet2, unfamiliar
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
    torch.manual_seed(1)
    for name, network in (('pocsnet2', POCSnet2(width=4, unrolls=2)), ('deepqsm', DeepQSM(width=4))):
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


@pytest.mark.parametrize('voxel_size', [(1, 1.1, 1.2), (.7, .7, .7)])
def test_a_network_that_has_not_learned_leaves_the_map_that_it_begins_with(scene, tmp_path, voxel_size):
    field, mask = scene
    path = str(tmp_path / 'new.safetensors')
    weights.save_weights(POCSnet2(width=4, unrolls=1, begin='tv'), path, 'pocsnet2',
                         {'width': 4, 'unrolls': 1, 'begin': 'tv'}, {})
    weight = np.random.default_rng(1).random(mask.shape).astype(np.float32)
    geometry = {'b0_dir': B0, 'weight': weight}
    first = invert_tv(field, mask, voxel_size, **geometry, lambda_=automatic_strength(
        field, mask, voxel_size, penalty='tv', **geometry))
    chi = invert_pocsnet2(field, mask, voxel_size, weights=path, output='network', **geometry)
    assert np.allclose(chi, first, atol=1e-6)


def test_companions(scene, stored):
    field, mask = scene
    given = {'b0_dir': B0, 'lambda_': .1, 'weights': stored['pocsnet2']}
    chi, maps, warnings = invert_pocsnet2(field, mask, VOXEL, flips=3, companions=True, **given)
    single = [invert_pocsnet2(field, mask, VOXEL, flips=n, **given) for n in (1, 2, 3)]
    assert np.array_equal(chi, single[2]) and not warnings
    each = single[0], 2 * single[1] - single[0], 3 * single[2] - 2 * single[1]
    assert np.allclose(maps['uncertainty'], np.std(each, axis=0, ddof=1), atol=1e-5)
    assert maps['uncertainty'][mask].min() > 0 and not maps['uncertainty'][~mask].any()
    network = invert_pocsnet2(field, mask, VOXEL, flips=3, output='network', **given)
    assert np.allclose(maps['departure'], network - chi, atol=1e-6)
    with pytest.raises(ValueError, match='flips is 9'):
        invert_pocsnet2(field, mask, VOXEL, flips=9, **given)


@pytest.mark.parametrize('voxel_size, b0_dir, strength, text', [
    ((.5, .5, 1), (0, 0, 1), .05, '0.87 x 0.83 x 1.00 mm'), ((1, 1, 1), (0, .7, .714), .05, 'tilted by 44 degrees'),
    ((1, 1, 1), (0, 0, 1), 1., 'more noise'), ((1, 1, 1), (1, 0, 0), .001, 'less noise')])
def test_what_is_unfamiliar_is_said(scene, voxel_size, b0_dir, strength, text):
    field, mask = scene
    reasons = unfamiliar(Case(field, mask, voxel_size, b0_dir, strength), strength)
    assert len(reasons) == 1 and text in reasons[0]
    assert not unfamiliar(Case(field, mask, (1, 1, 1), (0, .5, .866), .05), .05)


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
