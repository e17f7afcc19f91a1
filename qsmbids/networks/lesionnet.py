"""The network that tells microbleeds, calcifications and what is neither apart, and what it is given of a candidate.

It sees a small patch of the map and of R2* around a candidate, and what the rules go by: the blob's size, shape,
contrast and place. Amplitudes are relative to the spread of the map; it knows no reference, no side and no direction.
"""

import numpy as np
import torch
from numba import njit
from torch import nn
from torch.nn import functional

from qsmbids.core.lesiongrade import judge, shadow_marks

PATCH = 16
"""Voxels of the working grid along each side of a patch: those of 0.8 to about 1.2 mm in most scans."""
CHANNELS = ('chi', 'dark', 'known', 'brain')
CLASSES = ('cmb', 'calcification', 'neither')
LINEAR = .1
"""ppm up to which a patch holds the susceptibility as it is; beyond, its logarithm."""
FEATURES = ('sign', 'unseen', 'contrast', 'noise', 'peak', 'ring', 'spread', 'blobness', 'vesselness', 'sphericity',
            'elongation', 'tail', 'open', 'diameter', 'voxels', 'parenchyma', 'edge', 'known', 'decay', 'has_decay',
            'rules', 'shadow', 'step', 'uneven')


# What a candidate has at least, or the network is not asked: contrast over `LINEAR` times the amplitude of the map; mm.
LEAST = {'contrast': 1., 'blobness': .2, 'edge': 1.5}
LEAST_UNSEEN = {'contrast': 2., 'diameter': 2.}  # of what the susceptibility does not show


class LesionNetwork(nn.Module):
    """Patch and features of a candidate to the scores of its classes.

    Parameters
    ----------
    width : int, default 16
        Channels of the first scale; the others have two and four times as many.
    """

    target = 'lesions'

    def __init__(self, width=16):
        super().__init__()
        self.first = nn.Conv3d(len(CHANNELS), width, 3, padding=1)
        self.second = nn.Conv3d(width, 2 * width, 3, padding=1)
        self.third = nn.Conv3d(2 * width, 2 * width, 3, padding=1)
        self.fourth = nn.Conv3d(2 * width, 4 * width, 3, padding=1)
        self.measured = nn.Sequential(nn.Linear(len(FEATURES), 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.last = nn.Sequential(nn.Linear(8 * width + 64, 64), nn.ReLU(), nn.Linear(64, len(CLASSES)))
        # From the scores of the training's mixture to those of scans: a factor, and a shift for each class.
        self.register_buffer('sharpness', torch.ones(()))
        self.register_buffer('prior', torch.zeros(len(CLASSES)))

    @staticmethod
    def prepare(batch, device):
        """Return the arguments of `forward`, the true classes and their weights for a batch of candidates."""
        inputs = {name: torch.from_numpy(batch[name]).to(device).float() for name in ('patches', 'features')}
        return inputs, torch.from_numpy(batch['classes']).to(device).long(), None

    def forward(self, patches, features):
        """Return scores whose softmax over the classes are probabilities.

        Parameters
        ----------
        patches : Tensor, shape (batch, len(CHANNELS), PATCH, PATCH, PATCH)
        features : Tensor, shape (batch, len(FEATURES))

        Returns
        -------
        Tensor, shape (batch, len(CLASSES))
        """
        x = functional.max_pool3d(torch.relu(self.first(patches)), 2)
        x = torch.relu(self.second(x))
        x = functional.max_pool3d(x + torch.relu(self.third(x)), 2)
        x = torch.relu(self.fourth(x)).flatten(2)
        seen = torch.cat([x.mean(2), x.amax(2), self.measured(features)], 1)
        return self.last(seen).float() * self.sharpness + self.prior


def worth_asking(blobs, amplitude):
    """Return which candidates the network is asked about, bool of shape (n,); the others are no lesions."""
    def passes(blob):
        least = LEAST | (LEAST_UNSEEN if blob.source != 'chi' else {})
        values = {name: getattr(blob, name) for name in least} | {'contrast': blob.contrast / _unit(blob, amplitude)}
        return all(values[name] >= value for name, value in least.items())
    return np.array([passes(blob) for blob in blobs], bool)


def _unit(blob, amplitude):
    """Return the ppm that count as one: R2* does not go with the amplitude of the map."""
    return LINEAR * (amplitude if blob.source == 'chi' else 1)


def candidate_inputs(scene, blobs):
    """Return what the network sees of candidates.

    Parameters
    ----------
    scene : qsmbids.core.lesioncandidates.Scene
    blobs : sequence of qsmbids.core.lesioncandidates.Blob
        All of a scan.

    Returns
    -------
    asked : ndarray of bool, shape (all,)
        About which it is asked; of these are
    patches : ndarray, float32, shape (n, len(CHANNELS), PATCH, PATCH, PATCH)
    features : ndarray, float32, shape (n, len(FEATURES))
    """
    asked = worth_asking(blobs, scene.amplitude)
    marks = shadow_marks(blobs, scene.grid.steps)[asked]
    blobs = [blob for blob, ask in zip(blobs, asked) if ask]
    patches = np.zeros((len(blobs), len(CHANNELS), PATCH, PATCH, PATCH), np.float32)
    at = np.rint(np.reshape([blob.centre for blob in blobs], (-1, 3))).astype(np.int64) - PATCH // 2
    unit = np.float32(LINEAR)
    volumes = {'chi': None if scene.chi is None else np.arcsinh(scene.chi / (unit * np.float32(scene.amplitude))),
               'dark': None if scene.dark is None else np.arcsinh(scene.dark / unit),
               'known': scene.known.astype(np.float32), 'brain': scene.brain.astype(np.float32)}
    for number, name in enumerate(CHANNELS):
        if volumes[name] is not None:
            _cut(volumes[name], at, patches[:, number])
    return asked, patches, candidate_features(scene, blobs, marks)


def candidate_features(scene, blobs, marks):
    """Return the measures of candidates, near to the range from -1 to 1: float32 (n, len(FEATURES)).

    `marks` are those of :func:`qsmbids.core.lesiongrade.shadow_marks`.
    """
    steps, units = scene.grid.steps, [_unit(blob, scene.amplitude) for blob in blobs]
    rows = [(blob.sign, blob.source != 'chi', np.log(max(blob.contrast, 1e-3) / unit) / 2,
             np.log(max(blob.contrast, 1e-3) / max(blob.spread, 1e-3)) / 3, np.arcsinh(blob.peak / unit) / 3,
             np.arcsinh(blob.ring / unit), np.log(max(blob.spread, 1e-3) / unit) / 2, blob.blobness, blob.vesselness,
             blob.sphericity, blob.elongation - 1.5, blob.tail - 1.5, blob.open, min(blob.diameter, 15) / 8,
             np.log(max(blob.voxels, 1)) / 4, blob.parenchyma, min(blob.edge, 15) / 8, blob.known,
             0 if blob.decay is None else np.arcsinh(blob.decay / 20) / 2, blob.decay is not None,
             judge(blob, scene.amplitude)[1], mark, np.mean(steps) - 1, np.log(max(steps) / min(steps)))
            for blob, mark, unit in zip(blobs, marks, units)]
    return np.reshape(np.array(rows, np.float32), (-1, len(FEATURES)))


@njit(cache=True)
def _cut(volume, at, patches):
    """Copy the part of a volume from each corner on; what lies beyond it stays as it is."""
    size = patches.shape[1]
    for n in range(len(at)):
        for i in range(max(-at[n, 0], 0), min(size, volume.shape[0] - at[n, 0])):
            for j in range(max(-at[n, 1], 0), min(size, volume.shape[1] - at[n, 1])):
                for k in range(max(-at[n, 2], 0), min(size, volume.shape[2] - at[n, 2])):
                    patches[n, i, j, k] = volume[at[n, 0] + i, at[n, 1] + j, at[n, 2] + k]
