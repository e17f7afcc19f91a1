"""The network that finds the border of the brain in gradient-echo magnitudes, and what it is given.

It is told where `core.masks.brain_mask` sees the brain, and learns what to change there: before training it changes
nothing. A compact UNETR: a transformer sees all at once as patches of 20 mm, and convolutions bring what it knows back
to the voxels. It works on voxels of `STEP`, axes to the right, front and top, on a window around a brain.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from qsmbids.core.grid import bounding_box
from qsmbids.networks.backbones import CompactUNet, blocks_to_channels, channels_to_blocks, cropped, padded

STEP = 2.5
"""Voxels of the network, mm."""
WINDOW = (64, 80, 64)
"""What it sees at once at least, voxels."""
CHANNELS = ('magnitude', 'flattened', 'seen', 'surface', 'depth')
SURE = 4.
"""Score well inside a first mask, and minus that outside. It grows by one with each voxel, so that little moves the
border a little."""
REACH = 20.
"""Depth below the first mask's border at which its channel is one, mm."""
SHADING = 25.
"""Width of the Gaussian that the flattened magnitude is divided by, mm."""
CLIP = 4.
"""Largest value of an input, in units of what is bright."""
PERIODS = (20., 60., 180., 540.)
"""Of the encoding of positions, mm."""


def training_inputs(batch, device):
    """Return the arguments of `forward`, the true share of brain and where it counts for a batch of magnitudes."""
    seen = batch['seen']
    volumes = np.stack([mask_inputs(image.astype(np.float32), where, surface.astype(np.float32))
                        for image, where, surface in zip(batch['magnitude'], seen, batch['surface'])])
    volumes, share, seen = (torch.from_numpy(values).to(device).float() for values in (volumes, batch['share'], seen))
    return {'volumes': volumes.contiguous(memory_format=torch.channels_last_3d)}, share[:, None], seen[:, None]


def window_around(surface, least=WINDOW, beyond=4):
    """Return the box that the network sees, which may reach beyond the volume.

    Parameters
    ----------
    surface : ndarray of bool, shape (nx, ny, nz)
        The first mask.
    least : sequence of int
        Voxels along each axis.
    beyond : int, default 4
        Voxels around the mask that are seen at least.

    Returns
    -------
    first, size : ndarray of int, shape (3,)
    """
    box = bounding_box(surface)
    low, high = (np.array(ends) for ends in zip(*((part.start, part.stop) for part in box)))
    size = np.maximum(least, high - low + 2 * beyond)
    return (low + high - size) // 2, size


def cut_window(volume, first, size):
    """Return a box of a volume, zero where it reaches beyond."""
    found = np.zeros(size, volume.dtype)
    here, there = _overlap(first, size, volume.shape)
    found[here] = volume[there]
    return found


def put_window(part, first, shape):
    """Undo `cut_window` for a volume of a shape, zero where the box does not reach."""
    found = np.zeros(shape, part.dtype)
    here, there = _overlap(first, part.shape, shape)
    found[there] = part[here]
    return found


def _overlap(first, size, shape):
    """Return where box and volume overlap, in the box and in the volume."""
    there = tuple(slice(max(f, 0), max(min(f + n, m), 0)) for f, n, m in zip(first, size, shape))
    return tuple(slice(part.start - f, part.stop - f) for part, f in zip(there, first)), there


def mask_inputs(magnitude, seen, surface):
    """Return what the network sees.

    Parameters
    ----------
    magnitude : ndarray, float32, shape (nx, ny, nz)
    seen : ndarray of bool, shape (nx, ny, nz)
        The field of view; what lies beyond does not count.
    surface : ndarray, float32, shape (nx, ny, nz)
        Share of each voxel that is in the first mask.

    Returns
    -------
    ndarray, float32, shape (len(CHANNELS), nx, ny, nz)
        The magnitude over what is bright in it, the same over its surroundings, `seen`, the first mask with a soft
        border, and the depth below that border, negative outside.
    """
    scaled, flattened = flatten_magnitude(magnitude, seen)
    inside, outside = (ndimage.distance_transform_edt(where) for where in (surface > .5, surface <= .5))
    depth = np.clip((inside - outside) * STEP / REACH, -1, 1)
    return np.stack([scaled, flattened, seen, soft_surface(surface), depth]).astype(np.float32)


def soft_surface(surface):
    """Return a first mask with a soft border: those of fine voxels have shares there, those of `STEP` have none."""
    return ndimage.gaussian_filter(np.asarray(surface, np.float32), .5)


def flatten_magnitude(magnitude, seen):
    """Return the magnitude over what is bright in it, and the same over its surroundings, up to `CLIP`."""
    values = magnitude[seen]
    bright = np.percentile(values[::7], 95) if values.size else 0
    scaled = np.where(seen, magnitude / np.float32(max(bright, 1e-12)), 0)
    coarse = tuple(slice(None, None, 2) for _ in range(3))
    there = seen[coarse].astype(np.float32)
    amount, share = (ndimage.gaussian_filter(volume, SHADING / STEP / 2, mode='constant', truncate=3)
                     for volume in (scaled[coarse] * there, there))
    around = (amount + np.float32(.02)) / (share + np.float32(.02))
    around = np.repeat(np.repeat(np.repeat(around, 2, 0), 2, 1), 2, 2)[tuple(slice(n) for n in seen.shape)]
    return np.minimum(scaled, CLIP), np.minimum(scaled / around, CLIP) * seen


class MaskNetwork(nn.Module):
    """What the networks that see a whole window have in common."""

    target = 'mask'
    prepare = staticmethod(training_inputs)

    def find(self, magnitude, seen, surface):
        """Return the share of brain of each voxel of a window, ndarray float32; the arguments are as of `mask_inputs`."""
        device = next(self.parameters()).device
        inputs = torch.from_numpy(mask_inputs(magnitude, seen, surface))[None].to(device)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            return self(inputs.contiguous(memory_format=torch.channels_last_3d)).sigmoid()[0, 0].cpu().numpy()


class UNETR(MaskNetwork):
    """Magnitude and a first mask to the share of brain, by a transformer with convolutions for what is fine.

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
        first = _first_scores(volumes)
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
        return first + cropped(channels_to_blocks(self.last(torch.relu(self.final(x)))), shape).float()


class MaskUNet(MaskNetwork):
    """The compact U-Net of the other networks in the place of `UNETR`, to compare with."""

    def __init__(self, width=16):
        super().__init__()
        self.backbone = CompactUNet(len(CHANNELS), width)

    def forward(self, volumes):
        """Do what `UNETR.forward` does."""
        return _first_scores(volumes) + self.backbone(volumes).float()


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


def _first_scores(volumes):
    """Return the scores of the first mask."""
    soft, depth = (volumes[:, n:n + 1].float() for n in map(CHANNELS.index, ('surface', 'depth')))
    beyond = (depth.abs() * REACH / STEP - 1).clamp_min(0)
    return (2 * soft - 1 + depth.sign() * beyond).clamp(-SURE, SURE)


def _norm(width):
    return nn.GroupNorm(max(width // 8, 1), width)


def _places(size, device):
    """Return sines and cosines of the positions of tokens relative to the middle, shape (n, 6 len(PERIODS))."""
    steps = torch.meshgrid(*[(torch.arange(n, device=device) - (n - 1) / 2) * 8 * STEP for n in size], indexing='ij')
    angles = torch.stack([2 * torch.pi / period * step.flatten() for step in steps for period in PERIODS], 1)
    return torch.cat([angles.sin(), angles.cos()], 1)
