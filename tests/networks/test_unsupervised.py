"""Inversions that are fitted to the field itself."""

import numpy as np
import pytest
import torch

from qsmbids.core.dipole import forward_field
from qsmbids.networks import unsupervised
from qsmbids.networks.pedqnet import PedQNet
from qsmbids.networks.unsupervised import invert_nnunet_tv, invert_pedqnet
from qsmbids.networks.weights import save_weights

VOXEL, B0 = (1, 1.1, 1.2), (0, .28, .96)


@pytest.fixture(scope='module')
def scene():
    rng = np.random.default_rng(0)
    grids = np.meshgrid(*(np.linspace(-1, 1, n) for n in (35, 30, 28)), indexing='ij')
    mask = sum(g ** 2 for g in grids) < .8
    chi = np.where(sum((g - .1) ** 2 for g in grids) < .1, .2, -.01).astype(np.float32) * mask
    field = forward_field(chi, VOXEL, B0) + .002 * rng.standard_normal(mask.shape).astype(np.float32)
    return field * mask, mask


@pytest.fixture(scope='module')
def stored(tmp_path_factory):
    """Files of networks that were not trained: they add nothing to the linear map until they are fitted."""
    torch.manual_seed(1)
    paths = {}
    for name, sparsity in (('pedqnet', 0.), ('nnunet_tv', .1)):
        paths[name] = str(tmp_path_factory.mktemp('weights') / f'{name}.safetensors')
        architecture = {'width': 8, 'sparsity': sparsity}
        save_weights(PedQNet(**architecture), paths[name], 'pedqnet', architecture, {})
    return paths


def residual(chi, field, mask):
    missed = (forward_field(chi, VOXEL, B0) - field)[mask]
    return np.linalg.norm(missed) / np.linalg.norm(field[mask])


@pytest.mark.parametrize('invert, name', [(invert_pedqnet, 'pedqnet'), (invert_nnunet_tv, 'nnunet_tv')])
def test_the_fit_lessens_what_the_map_misses_of_the_field(scene, stored, invert, name):
    field, mask = scene
    losses = []
    options = {'b0_dir': B0, 'weights': stored[name]}
    start = invert(field, mask, VOXEL, steps=0, **options)
    found = invert(field, mask, VOXEL, steps=25, learning_rate=3e-3,
                   watch=lambda step, steps, loss: losses.append(loss), **options)
    assert found.dtype == np.float32 and found[mask].all() and not found[~mask].any()
    assert len(losses) == 25 and losses[-1] < .95 * losses[0]
    assert residual(found, field, mask) < residual(start, field, mask)
    assert not invert(0 * field, mask, VOXEL, **options).any()
    with pytest.raises(ValueError, match='steps is -1'):
        invert(field, mask, VOXEL, steps=-1, **options)


def test_it_can_be_stopped_after_any_step_with_a_valid_map(scene, stored):
    field, mask = scene
    options = {'b0_dir': B0, 'weights': stored['pedqnet'], 'learning_rate': 3e-3}
    seen = []
    stopped = invert_pedqnet(field, mask, VOXEL, steps=10, watch=lambda step, *_: seen.append(step) or step == 3,
                             **options)
    assert seen == [1, 2, 3]
    assert np.array_equal(stopped, invert_pedqnet(field, mask, VOXEL, steps=3, **options))


def test_the_map_goes_with_the_field(scene, stored):
    field, mask = scene
    options = {'b0_dir': B0, 'weights': stored['nnunet_tv'], 'learning_rate': 3e-3, 'steps': 3}
    one, ten = (invert_nnunet_tv(scale * field, mask, VOXEL, **options) for scale in (1, 10))
    assert np.abs(ten / 10 - one).max() < 1e-2 * np.abs(one).max()


def test_a_large_volume_is_fitted_by_patches_to_the_same_end(scene, stored, monkeypatch):
    field, mask = scene
    monkeypatch.setattr(unsupervised, 'WHOLE', 0)
    monkeypatch.setattr(unsupervised, 'PATCH', 40)
    monkeypatch.setattr(unsupervised, 'MARGIN', 8)
    options = {'b0_dir': B0, 'weights': stored['pedqnet'], 'learning_rate': 3e-3}
    start, found = (invert_pedqnet(field, mask, VOXEL, steps=steps, **options) for steps in (0, 25))
    assert residual(found, field, mask) < residual(start, field, mask)
