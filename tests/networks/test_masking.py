"""The way of a magnitude and its first mask to the network of the brain mask and back."""

import numpy as np
import pytest
import torch

from qsmbids.core.metrics import dice
from qsmbids.networks import masking
from qsmbids.networks.masking import mask_with
from qsmbids.networks.unetr import STEP, WINDOW, MaskNetwork


class Bright(MaskNetwork):
    """Stands in for a network: what is bright is brain; remembers what it saw."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(20.))
        self.seen = []

    def forward(self, volumes):
        self.seen.append(volumes[0].numpy())
        return self.scale * (volumes[:, :1] - .5)


@pytest.fixture(autouse=True)
def first(monkeypatch):
    """Make the first mask a part of what is bright."""
    monkeypatch.setattr(masking, 'brain_mask', lambda image, voxel_size: image > .8)


def ellipsoid(shape, voxel_size, middle, axes):
    places = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, voxel_size)], indexing='ij')
    return sum(((p - m) / a) ** 2 for p, m, a in zip(places, middle, axes)) < 1


@pytest.mark.parametrize('shape, voxel_size', [((90, 110, 80), (2., 2., 2.)), ((180, 200, 40), (.9, 1., 4.)),
                                               ((40, 50, 45), (4., 4., 4.))])
def test_the_mask_is_what_the_network_finds_on_any_grid(shape, voxel_size):
    truth = ellipsoid(shape, voxel_size, (5, -10, 3), (50, 65, 48))
    image = truth * np.float32(.7)
    image[ellipsoid(shape, voxel_size, (5, -10, 3), (30, 40, 30))] = 1
    found = mask_with(Bright(), image, voxel_size)
    assert found.shape == shape and dice(found, truth) > (.99 if max(voxel_size) < 4 else .97)


def test_axes_may_lie_in_any_way():
    truth = ellipsoid((60, 80, 50), (3., 2., 3.), (20, 5, -10), (40, 50, 30))
    found = mask_with(Bright(), truth.astype(np.float32), (3., 2., 3.))
    turned = truth.transpose(2, 0, 1)[:, ::-1]
    # First axis up, second to the left, third to the front.
    affine = np.array([[0, -3, 0, 0], [0, 0, 2, 0], [3, 0, 0, 0], [0, 0, 0, 1.]])
    again = mask_with(Bright(), turned.astype(np.float32), (3., 3., 2.), affine)
    assert np.array_equal(again, found.transpose(2, 0, 1)[:, ::-1])


def test_what_is_far_from_the_first_mask_is_not_looked_at():
    truth = ellipsoid((120, 110, 130), (2.5,) * 3, (0, 0, 90), (50, 60, 45))
    network = Bright()
    found = mask_with(network, np.where(ellipsoid(truth.shape, (2.5,) * 3, (0, 0, -60), (20, 20, 20)), np.float32(.7),
                                        truth.astype(np.float32)), (2.5,) * 3)
    assert dice(found, truth) > .99
    assert [volume.shape[1:] for volume in network.seen] == [WINDOW]


def test_one_piece_without_holes():
    brain = ellipsoid((70, 70, 70), (2.5,) * 3, (0, 0, -20), (50, 55, 40))
    image = (brain & ~ellipsoid((70, 70, 70), (2.5,) * 3, (0, 0, -20), (10, 20, 10))).astype(np.float32)
    image[ellipsoid((70, 70, 70), (2.5,) * 3, (0, 0, 45), (12, 12, 12))] = .7
    assert dice(mask_with(Bright(), image, (2.5,) * 3), brain) > .99


def test_a_network_that_finds_nothing_is_an_error():
    class Blind(Bright):
        def forward(self, volumes):
            return super().forward(volumes) - 1e3
    with pytest.raises(ValueError, match='no region that could be a brain'):
        mask_with(Blind(), np.ones((20, 20, 20), np.float32), (2.5,) * 3)


def test_the_field_of_view_is_told_apart_from_what_lies_beyond():
    network = Bright()
    mask_with(network, ellipsoid((40, 40, 30), (STEP,) * 3, (0, 0, 0), (30, 30, 30)).astype(np.float32), (STEP,) * 3)
    assert network.seen[0].shape[1:] == WINDOW and network.seen[0][2].sum() == 40 * 40 * 30


@pytest.mark.parametrize('own, used', [(.9, True), (.2, False), (None, False)])
def test_a_first_mask_that_is_lost_on_coarse_voxels_is_that_of_the_data(monkeypatch, own, used):
    shape, steps = (60, 70, 60), (2., 2., 2.)
    image = ellipsoid(shape, steps, (0, 0, 0), (40, 50, 40)).astype(np.float32)

    def find(volume, voxel_size):
        if voxel_size == (STEP,) * 3:
            if own is None:
                raise ValueError('no brain')
            return volume > (own if used else -1)
        return volume > .5
    monkeypatch.setattr(masking, 'brain_mask', find)
    network = Bright()
    mask_with(network, image, steps)
    first = network.seen[0][3] > .5
    assert .9 < first.sum() * STEP ** 3 / (image.sum() * 8) < 1.1
