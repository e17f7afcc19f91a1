"""Segmentation on any grid, by a network whose answers are known: its classes are steps of susceptibility."""

import numpy as np
import pytest
import torch
from torch import nn

from qsmbids.core.labels import BY_NAME, FINEST
from qsmbids.networks.segmentation import canonical_axes, middle_plane, segment, segment_with
from qsmbids.networks.segmenter import SegmentationNetwork
from qsmbids.networks.weights import save_weights

PLACES = {'Putamen': (14, 4, 0), 'Thalamus': (8, -10, 2), 'SubstantiaNigra': (6, -6, -9)}


class Levels(nn.Module):
    """Class n where the susceptibility is n times its level, in units of its spread."""

    structures = tuple(PLACES) + ('CSF',)

    def __init__(self, step):
        super().__init__()
        self.levels = nn.Parameter(step * torch.arange(5.))
        self.seen = []

    def forward(self, volumes):
        self.seen.append(volumes)
        return -8 * (volumes[:, :1] - self.levels[None, :, None, None, None]).abs()


def head(voxel_size=(1., 1., 1.), turn=0.):
    """Return a map with balls on both sides, its mask, and where the right side is."""
    shape = tuple(int(side / step) for side, step in zip((72, 64, 60), voxel_size))
    x, y, z = (((np.arange(n) - (n - 1) / 2) * step).reshape([-1 if a == axis else 1 for a in range(3)])
               for axis, (n, step) in enumerate(zip(shape, voxel_size)))
    x, y = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    mask = (x / 33) ** 2 + (y / 30) ** 2 + (z / 28) ** 2 < 1
    # Its median is zero, and the median deviation .01.
    chi = np.broadcast_to(.01 * (z > 7) - .01 * (z < -7), shape) * mask
    for number, place in enumerate(PLACES.values(), 1):
        for side in (-1, 1):
            inside = (x - side * place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2 < 4.5 ** 2
            chi = np.where(inside, .03 * number, chi)
    return chi.astype(np.float32), mask, np.broadcast_to(x > 0, shape)


def level(chi, mask):
    values = chi[mask]
    return .03 / (1.4826 * float(np.median(np.abs(values - np.median(values)))))


def found(labels, right):
    """Return for each structure how much of it on each side has the label of that side."""
    return {name: tuple((side & (labels == BY_NAME[f'{name}_{letter}'].index)).sum() / max(
        np.isin(labels, [BY_NAME[f'{name}_{s}'].index for s in 'LR'])[side].sum(), 1)
        for letter, side in (('L', ~right), ('R', right))) for name in PLACES}


@pytest.mark.parametrize('turn', (0., .2))
def test_structures_are_found_with_their_sides(turn):
    chi, mask, right = head(turn=turn)
    labels = segment_with(Levels(level(chi, mask)), chi, mask, (1., 1., 1.))
    assert labels.dtype == np.uint8
    for number, name in enumerate(PLACES, 1):
        both = np.isin(labels, [BY_NAME[f'{name}_{side}'].index for side in 'LR'])
        assert 2 * (both & (chi == np.float32(.03 * number))).sum() / (both.sum() + (
            chi == np.float32(.03 * number)).sum()) > .7
    assert min(min(sides) for sides in found(labels, right).values()) == 1


def test_a_map_in_other_axes_gives_the_same_labels():
    chi, mask, _ = head()
    network = Levels(level(chi, mask))
    expected = segment_with(network, chi, mask, (1., 1., 1.))
    order, flips = (2, 0, 1), (slice(None, None, -1), slice(None), slice(None, None, -1))
    affine = np.zeros((4, 4))
    for axis, (world, turned) in enumerate(zip(order, flips)):
        affine[world, axis] = -2 if turned.step else 2
    affine[3, 3] = 1
    moved = [volume.transpose(order)[flips] for volume in (chi, mask, expected)]
    assert np.array_equal(segment_with(network, *moved[:2], (1., 1., 1.), affine=affine), moved[2])
    assert not np.array_equal(segment_with(network, *moved[:2], (1., 1., 1.)), moved[2])


def test_thick_slices_are_brought_to_the_voxels_of_the_network_and_back():
    chi, mask, right = head((1., 1., 3.))
    network = Levels(level(chi, mask))
    labels, shares = segment_with(network, chi, mask, (1., 1., 3.), probabilities=True, flip=False)
    assert labels.shape == chi.shape and network.seen[0].shape[4] > 1.8 * chi.shape[2]
    assert {label.index for label in FINEST if label.structure.name in PLACES} <= set(np.unique(labels))
    assert min(min(sides) for sides in found(labels, right).values()) == 1
    assert set(shares) == set(Levels.structures) and all(share.shape == chi.shape for share in shares.values())
    putamen = np.isin(labels, [BY_NAME['Putamen_L'].index, BY_NAME['Putamen_R'].index])
    assert shares['Putamen'][putamen].min() > .2 and shares['Putamen'][~mask].max() < .5


def test_the_mirror_image_is_looked_at_too():
    chi, mask, _ = head()
    network = Levels(level(chi, mask))
    segment_with(network, chi, mask, (1., 1., 1.))
    straight, mirrored = network.seen
    assert torch.allclose(straight[:, 0].flip(1), mirrored[:, 0])
    assert torch.allclose(straight[:, 2], -mirrored[:, 2].flip(1)) and straight[0, 2].std() > 0


def test_only_the_largest_piece_of_a_structure_is_kept():
    chi, mask, _ = head()
    chi[20, 40, 45] = .06
    assert not segment_with(Levels(level(chi, mask)), chi, mask, (1., 1., 1.))[20, 40, 45]


def test_the_plane_in_the_middle_of_nothing_and_of_one_side():
    assert np.array_equal(middle_plane(np.zeros((8, 8, 8), int)), np.zeros(3))
    one = np.zeros((40, 30, 20), int)
    one[4:10, 4:12, 4:12] = 1
    assert np.all(np.isfinite(middle_plane(one)))


def test_oblique_axes_are_taken_as_the_nearest_ones():
    affine = np.eye(4)
    affine[:3, :3] = [[0, -.8, .1], [.9, 0, .3], [.2, .1, 2.]]
    assert canonical_axes(affine) == ((1, 0, 2), (slice(None, None, -1), slice(None, None, 1), slice(None, None, 1)))
    assert canonical_axes(None)[0] == (0, 1, 2)


def test_weights_are_read_and_bad_input_is_named(tmp_path):
    architecture = {'width': 4, 'structures': ['Putamen', 'CSF']}
    path = tmp_path / 'own.safetensors'
    save_weights(SegmentationNetwork(**architecture), path, 'segmentation', architecture, {})
    chi, mask, _ = head((2., 2., 2.))
    # Before training all classes are alike, and the first of them, the background, wins.
    assert not segment(chi, mask, (2., 2., 2.), weights=str(path)).any()
    for changed, text in (({'mask': ~mask[:-1]}, 'chi has shape'), ({'mask': 0 * mask}, 'mask is empty'),
                          ({'r2star': chi[1:]}, 'r2star has shape'), ({'voxel_size': (1, 1, 0)}, 'voxel_size'),
                          ({'chi': chi + np.nan}, 'non-finite')):
        with pytest.raises(ValueError, match=text):
            segment(**({'chi': chi, 'mask': mask, 'voxel_size': (2., 2., 2.), 'weights': str(path)} | changed))
