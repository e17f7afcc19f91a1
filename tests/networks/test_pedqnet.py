"""PedQ-NET's reconstruction: its loss, and what it learns from."""

import numpy as np
import pytest
import torch

from qsmbids.networks.operators import convolve, dipole_kernels
from qsmbids.networks.pedqnet import MARGIN, PHASE, Measured, PedQNet, field_inputs, model_loss

SIZE = 24, 20, 18


@pytest.fixture(scope='module')
def measured():
    generator = torch.Generator().manual_seed(0)
    chi = torch.randn(2, 1, *SIZE, generator=generator)
    kernel = dipole_kernels(SIZE, [(1., 1., 1.), (1., 1., 2.)], [(0., 0., 1.), (0., .6, .8)])
    return chi, Measured(convolve(chi, kernel), torch.ones_like(chi), kernel)


def test_the_true_map_has_no_loss_and_every_other_one_has(measured):
    chi, data = measured
    assert model_loss(chi, data) < 1e-2
    assert model_loss(1.1 * chi, data) > model_loss(1.05 * chi, data) > model_loss(chi, data)
    turned = data._replace(kernel=dipole_kernels(SIZE, [(1., 1., 1.)] * 2, [(1., 0., 0.)] * 2))
    assert model_loss(chi, turned) > .2


def test_small_errors_count_in_proportion_and_large_ones_less(measured):
    chi, data = measured
    losses = [float(model_loss(0 * chi, data._replace(field=torch.full_like(chi, shift)))) for shift in (.1, .2, 10.)]
    assert losses[:2] == pytest.approx([.1, .2], rel=.01)
    # Two phases differ by no more than 2 on the unit circle.
    assert losses[2] <= 2 / PHASE + 1e-3


def test_what_has_no_weight_does_not_count(measured):
    chi, data = measured
    weight = torch.ones_like(chi)
    weight[..., :5] = 0
    field = torch.where(weight > 0, data.field, torch.full_like(chi, 3.))
    assert model_loss(chi, data._replace(field=field, weight=weight)) < 1e-2
    assert model_loss(chi, data._replace(field=field)) > .1


def test_the_rim_of_a_patch_does_not_count():
    chi = torch.randn(1, 1, *(3 * MARGIN,) * 3, generator=torch.Generator().manual_seed(1))
    kernel = dipole_kernels(chi.shape[2:], [(1., 1., 1.)], [(0., 0., 1.)])
    field = convolve(chi, kernel)
    field[..., :MARGIN] += 1
    data = Measured(field, torch.ones_like(chi), kernel)
    assert model_loss(chi, data, margin=MARGIN) < 1e-2 < .1 < model_loss(chi, data)


def test_total_variation_is_the_mean_length_of_the_gradient(measured):
    chi, data = measured
    ramp = torch.arange(SIZE[0]).float()[None, None, :, None, None].expand_as(chi)
    added = model_loss(ramp, data, sparsity=.5) - model_loss(ramp, data)
    assert added == pytest.approx(.5 * (SIZE[0] - 1) / SIZE[0], rel=.01)


def test_it_starts_with_the_linear_map_and_the_loss_has_slopes():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = PedQNet(width=4)
    batch = {name: rng.standard_normal((2, 24, 24, 24)).astype(np.float32)
             for name in ('field', 'first', 'linear', 'data', 'chi')}
    batch |= {'mask': np.ones((2, 24, 24, 24), bool), 'strength': np.full(2, .05, np.float32),
              'voxel_size': np.ones((2, 3)), 'b0_dir': np.array([[0., 0., 1.]] * 2)}
    inputs, data, mask = field_inputs(batch, 'cpu')
    chi, = network(**inputs)
    assert torch.equal(chi, inputs['linear'] * mask)
    model_loss(chi, data).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
