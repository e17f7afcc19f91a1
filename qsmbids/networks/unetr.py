"""The network that finds the brain in gradient-echo magnitudes, and what it is given.

A compact UNETR: a transformer sees the whole head at once as patches of 20 mm, and convolutions bring what it knows
back to the voxels. It works on voxels of `STEP`, axes to the right, front and top, on a head or on any part of one.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from qsmbids.networks.backbones import CompactUNet, blocks_to_channels, channels_to_blocks, cropped, padded

STEP = 2.5
"""Voxels of the network, mm."""
CHANNELS = ('magnitude', 'flattened', 'seen')
SHADING = 25.
"""Width of the Gaussian that the flattened magnitude is divided by, mm."""
CLIP = 4.
"""Largest value of an input, in units of what is bright."""
PERIODS = (20., 60., 180., 540.)
"""Of the encoding of positions, mm."""


def training_inputs(batch, device):
    """Return the arguments of `forward`, the true share of brain and where it counts for a batch of magnitudes."""
    seen = batch['seen']
    volumes = np.stack([mask_inputs(image, where) for image, where in zip(batch['magnitude'].astype(np.float32), seen)])
    volumes, share, seen = (torch.from_numpy(values).to(device).float() for values in (volumes, batch['share'], seen))
    return {'volumes': volumes.contiguous(memory_format=torch.channels_last_3d)}, share[:, None], seen[:, None]


def mask_inputs(magnitude, seen):
    """Return what the network sees.

    Parameters
    ----------
    magnitude : ndarray, float32, shape (nx, ny, nz)
    seen : ndarray of bool, shape (nx, ny, nz)
        The field of view; what lies beyond does not count.

    Returns
    -------
    ndarray, float32, shape (len(CHANNELS), nx, ny, nz)
        The magnitude over what is bright in it, the same over its surroundings, and `seen`.
    """
    values = magnitude[seen]
    bright = np.percentile(values[::7], 95) if values.size else 0
    scaled = np.where(seen, magnitude / np.float32(max(bright, 1e-12)), 0)
    coarse = tuple(slice(None, None, 2) for _ in range(3))
    there = seen[coarse].astype(np.float32)
    amount, share = (ndimage.gaussian_filter(volume, SHADING / STEP / 2, mode='constant', truncate=3)
                     for volume in (scaled[coarse] * there, there))
    around = (amount + np.float32(.02)) / (share + np.float32(.02))
    around = np.repeat(np.repeat(np.repeat(around, 2, 0), 2, 1), 2, 2)[tuple(slice(n) for n in seen.shape)]
    return np.stack([np.minimum(scaled, CLIP), np.minimum(scaled / around, CLIP) * seen, seen]).astype(np.float32)


class UNETR(nn.Module):
    """Magnitude to the share of brain, by a transformer with convolutions for what is fine.

    Patches of 8 x 8 x 8 voxels become tokens by three steps of halving. What the transformer makes of them after a
    third, two thirds and all of its layers is added at a half, a quarter and an eighth of the resolution.

    Parameters
    ----------
    width : int, default 16
        Channels at half the resolution; a quarter has twice as many.
    tokens : int, default 128
        Length of a token.
    layers : int, default 6
        A multiple of three.
    heads : int, default 4
        Divides `tokens`.

    References
    ----------
    Hatamizadeh A et al. UNETR: transformers for 3D medical image segmentation. WACV 2022. Dosovitskiy A et al. ICLR
    2021. Xiao T et al. Early convolutions help transformers see better. NeurIPS 2021.
    """

    target = 'mask'
    prepare = staticmethod(training_inputs)
    stride = 8

    def __init__(self, width=16, tokens=128, layers=6, heads=4):
        super().__init__()
        self.first = nn.Conv3d(8 * len(CHANNELS), width, 3, padding=1)
        self.fine = NormedBlock(width)
        self.halve = nn.Conv3d(width, 2 * width, 2, stride=2)
        self.coarse = NormedBlock(2 * width)
        self.patches = nn.Conv3d(2 * width, tokens, 2, stride=2)
        self.deep = NormedBlock(tokens)
        self.place = nn.Linear(6 * len(PERIODS), tokens)
        self.layers = nn.ModuleList(_Layer(tokens, heads) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(tokens) for _ in range(3))
        self.up_early = nn.ConvTranspose3d(tokens, width, 4, stride=4)
        self.up_middle = nn.ConvTranspose3d(tokens, 2 * width, 2, stride=2)
        self.up_late = nn.ConvTranspose3d(tokens, 2 * width, 2, stride=2)
        self.merge_coarse = nn.Conv3d(6 * width, 2 * width, 1)
        self.decode_coarse = NormedBlock(2 * width)
        self.up_coarse = nn.ConvTranspose3d(2 * width, width, 2, stride=2)
        self.merge_fine = nn.Conv3d(3 * width, width, 1)
        self.decode_fine = NormedBlock(width)
        self.final = _norm(width)
        self.last = nn.Conv3d(width, 8, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, volumes):
        """Return scores whose sigmoid is the share of brain.

        Parameters
        ----------
        volumes : Tensor, shape (batch, len(CHANNELS), nx, ny, nz)
            Of `mask_inputs`.

        Returns
        -------
        Tensor, float32, shape (batch, 1, nx, ny, nz)
        """
        shape = volumes.shape[2:]
        fine = self.fine(self.first(blocks_to_channels(padded(volumes, self.stride))))
        coarse = self.coarse(self.halve(fine))
        tokens = self.deep(self.patches(coarse))
        size = tokens.shape[2:]
        tokens = tokens.flatten(2).transpose(1, 2) + self.place(_places(size, tokens.device))
        taps = []
        for number, layer in enumerate(self.layers, 1):
            tokens = layer(tokens)
            if number % (len(self.layers) // 3) == 0:
                taps.append(self.norms[len(taps)](tokens).transpose(1, 2).unflatten(2, size))
        early, middle, late = taps
        x = self.merge_coarse(torch.cat([self.up_late(late), self.up_middle(middle), coarse], 1))
        x = self.up_coarse(self.decode_coarse(x))
        x = self.decode_fine(self.merge_fine(torch.cat([x, self.up_early(early), fine], 1)))
        return cropped(channels_to_blocks(self.last(torch.relu(self.final(x)))), shape).float()


class MaskUNet(nn.Module):
    """The compact U-Net of the other networks in the place of `UNETR`, to compare with."""

    target = 'mask'
    prepare = staticmethod(training_inputs)

    def __init__(self, width=16):
        super().__init__()
        self.backbone = CompactUNet(len(CHANNELS), width)

    def forward(self, volumes):
        """Do what `UNETR.forward` does."""
        return self.backbone(volumes).float()


class NormedBlock(nn.Module):
    """Two convolutions, each after a normalisation, that are added to what goes in and are nothing before training."""

    def __init__(self, width):
        super().__init__()
        self.norms = nn.ModuleList(_norm(width) for _ in range(2))
        self.first = nn.Conv3d(width, width, 3, padding=1)
        self.second = nn.Conv3d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x):
        y = self.first(torch.relu(self.norms[0](x)))
        return x + self.second(torch.relu(self.norms[1](y)))


class _Layer(nn.Module):
    """One layer of a transformer, normalised before."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask = nn.Linear(width, 3 * width)
        self.answer = nn.Linear(width, width)
        self.think = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens):
        asked, offered, held = self.ask(self.before(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # Written out: torch's own attention takes several times as long on processors.
        share = (asked @ offered.transpose(2, 3) * asked.shape[-1] ** -.5).softmax(-1)
        tokens = tokens + self.answer((share @ held).transpose(1, 2).flatten(2))
        return tokens + self.think(self.between(tokens))


def _norm(width):
    return nn.GroupNorm(max(width // 8, 1), width)


def _places(size, device):
    """Return sines and cosines of the positions of tokens relative to the middle, shape (n, 6 len(PERIODS))."""
    steps = torch.meshgrid(*[(torch.arange(n, device=device) - (n - 1) / 2) * 8 * STEP for n in size], indexing='ij')
    angles = torch.stack([2 * torch.pi / period * step.flatten() for step in steps for period in PERIODS], 1)
    return torch.cat([angles.sin(), angles.cos()], 1)
