"""The backbones."""

import pytest
import torch

from qsmbids.networks.backbones import BACKBONES, CompactUNet, VNet


@pytest.mark.parametrize('width, parameters', [(8, 1_056_345), (16, 4_223_409)])
def test_vnet_is_as_large_as_the_published_one(width, parameters):
    assert sum(p.numel() for p in VNet(1, width).parameters()) == parameters


def test_nnunet_is_as_large_as_it_says_and_starts_at_zero():
    network = BACKBONES['nnunet'](2)
    assert sum(p.numel() for p in network.parameters()) == 1_402_401
    assert not network(torch.randn(1, 2, 16, 16, 16)).any()


@pytest.mark.parametrize('backbone', BACKBONES)
def test_any_size(backbone):
    network = BACKBONES[backbone](2, 4)
    assert network(torch.zeros(1, 2, 17, 20, 13)).shape == (1, 1, 17, 20, 13)


def test_the_compact_one_starts_at_zero_and_can_leave_it():
    torch.manual_seed(0)
    network, volume = CompactUNet(1, 4), torch.randn(1, 1, 16, 16, 16)
    assert not network(volume).any()
    optimizer = torch.optim.Adam(network.parameters(), lr=.01)
    errors = []
    for _ in range(20):
        error = (network(volume) - volume).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < .9 * errors[0]


def test_blocks_and_channels_are_inverse():
    from qsmbids.networks.backbones import blocks_to_channels, channels_to_blocks
    volume = torch.randn(2, 3, 4, 6, 8)
    assert torch.equal(channels_to_blocks(blocks_to_channels(volume)), volume)
    # A channel holds every second voxel.
    assert torch.equal(blocks_to_channels(volume)[:, 1], volume[:, 0, ::2, ::2, 1::2])
