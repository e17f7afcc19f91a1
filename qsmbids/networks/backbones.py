"""The backbones that all networks share: the V-Net of POCSnet, and a compact one that works at half the resolution.

Both take and give volumes of the shape (batch, channel, nx, ny, nz) of any size and know neither scale nor geometry:
what calls them divides by a scale and repeats no physics.
"""

import torch
from torch import nn
from torch.nn import functional


class VNet(nn.Module):
    """The V-Net of POCSnet: four levels down and up, each a residual of 3 x 3 x 3 convolutions, no normalisation.

    Parameters
    ----------
    channels : int
        Channels of the input.
    width : int, default 16
        Channels at full resolution: 16 in POCSnet2 (4,223,409 parameters), 8 in POCSnet1 (1,056,345).
    levels : int, default 4
        How often the resolution is halved.

    References
    ----------
    Milletari F, Navab N, Ahmadi SA. V-Net. 3DV 2016. Wang 2022 (POCSnet).
    """

    def __init__(self, channels, width=16, levels=4):
        super().__init__()
        self.stride = 2 ** levels
        widths = [width * 2 ** level for level in range(levels)]
        self.first = nn.Conv3d(channels, width, 1)
        self.encoders = nn.ModuleList(_Convolutions(w, w, 2) for w in widths)
        self.down = nn.ModuleList(nn.Conv3d(w, 2 * w, 2, stride=2) for w in widths)
        self.up = nn.ModuleList(nn.ConvTranspose3d(2 * w, w, 2, stride=2) for w in reversed(widths))
        self.merge = nn.ModuleList(_Convolutions(2 * w, w, 1) for w in reversed(widths))
        self.decoders = nn.ModuleList(_Convolutions(w, w, 2) for w in reversed(widths))
        self.last = nn.Conv3d(width, 1, 1)

    def forward(self, volume):
        shape = volume.shape[2:]
        x = torch.relu(self.first(padded(volume, self.stride)))
        skips = []
        for encode, down in zip(self.encoders, self.down):
            x = x + encode(x)
            skips.append(x)
            x = torch.relu(down(x))
        for up, merge, decode in zip(self.up, self.merge, self.decoders):
            x = merge(torch.cat([torch.relu(up(x)), skips.pop()], dim=1))
            x = x + decode(x)
        return cropped(self.last(x), shape)


class CompactUNet(nn.Module):
    """A U-Net on blocks of 2 x 2 x 2 voxels, whose channels they are: a third of the cost of `VNet`.

    Three scales of pre-activation residual blocks. It is zero before training: added to a first map, it starts there.

    Parameters
    ----------
    channels : int
        Channels of the input.
    width : int, default 24
        Channels of the first scale; the others have two and four times as many.
    outputs : int, default 1
        Channels of the result.

    References
    ----------
    Shi W et al. CVPR 2016 (space to depth). He K et al. ECCV 2016 (pre-activation residual blocks).
    """

    stride = 8

    def __init__(self, channels, width=24, outputs=1):
        super().__init__()
        widths = [width, 2 * width, 4 * width]
        self.first = nn.Conv3d(8 * channels, width, 3, padding=1)
        self.encoders = nn.ModuleList(ResidualBlock(w) for w in widths)
        self.down = nn.ModuleList(nn.Conv3d(w, 2 * w, 2, stride=2) for w in widths[:-1])
        self.up = nn.ModuleList(nn.ConvTranspose3d(2 * w, w, 2, stride=2) for w in widths[-2::-1])
        self.merge = nn.ModuleList(nn.Conv3d(2 * w, w, 1) for w in widths[-2::-1])
        self.decoders = nn.ModuleList(ResidualBlock(w) for w in widths[-2::-1])
        self.last = nn.Conv3d(width, 8 * outputs, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, volume):
        shape = volume.shape[2:]
        x = self.first(blocks_to_channels(padded(volume, self.stride)))
        skips = []
        for encode, down in zip(self.encoders, self.down):
            x = encode(x)
            skips.append(x)
            x = down(x)
        x = self.encoders[-1](x)
        for up, merge, decode in zip(self.up, self.merge, self.decoders):
            x = decode(merge(torch.cat([up(x), skips.pop()], dim=1)))
        return cropped(channels_to_blocks(self.last(torch.relu(x))), shape)


class NnUNet(nn.Module):
    """A plain U-Net as nnU-Net makes it: pairs of convolution, instance normalisation and leaky ReLU, strides between.

    Parameters
    ----------
    channels : int
        Channels of the input.
    width : int, default 16
        Channels at full resolution; each of the three other scales has twice as many: 1,402,401 parameters with
        two channels of input.

    References
    ----------
    Isensee F et al. Nat Methods 2021;18:203-211.
    """

    stride = 8

    def __init__(self, channels, width=16):
        super().__init__()
        widths = [width * 2 ** level for level in range(4)]
        self.encoders = nn.ModuleList(_NormedPair(before, after, 2 if level else 1) for level, (before, after)
                                      in enumerate(zip([channels, *widths], widths)))
        self.up = nn.ModuleList(nn.ConvTranspose3d(2 * w, w, 2, stride=2) for w in widths[-2::-1])
        self.decoders = nn.ModuleList(_NormedPair(2 * w, w) for w in widths[-2::-1])
        self.last = nn.Conv3d(width, 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, volume):
        shape, x, skips = volume.shape[2:], padded(volume, self.stride), []
        for encode in self.encoders:
            x = encode(x)
            skips.append(x)
        skips.pop()
        for up, decode in zip(self.up, self.decoders):
            x = decode(torch.cat([up(x), skips.pop()], dim=1))
        return cropped(self.last(x), shape)


BACKBONES = {'vnet': VNet, 'compact': CompactUNet, 'nnunet': NnUNet}


class _NormedPair(nn.Sequential):
    def __init__(self, before, after, stride=1):
        layers = []
        for n in range(2):
            layers += [nn.Conv3d(after if n else before, after, 3, stride=1 if n else stride, padding=1),
                       nn.InstanceNorm3d(after, affine=True), nn.LeakyReLU(.01)]
        super().__init__(*layers)


class _Convolutions(nn.Sequential):
    def __init__(self, before, after, count):
        layers = []
        for n in range(count):
            layers += [nn.Conv3d(after if n else before, after, 3, padding=1), nn.ReLU()]
        super().__init__(*layers)


class ResidualBlock(nn.Module):
    """Two convolutions that are added to what goes in, and are nothing before training."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv3d(width, width, 3, padding=1)
        self.second = nn.Conv3d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x):
        return x + self.second(torch.relu(self.first(torch.relu(x))))


def padded(volume, stride):
    """Return a volume with zeros behind each axis, so that `stride` divides all."""
    behind = [-n % stride for n in volume.shape[2:]]
    return functional.pad(volume, (0, behind[2], 0, behind[1], 0, behind[0])) if any(behind) else volume


def cropped(volume, shape):
    """Undo `padded`."""
    return volume[..., :shape[0], :shape[1], :shape[2]]


def blocks_to_channels(volume):
    """Return a volume of half the size whose channels are blocks of 2 x 2 x 2 voxels."""
    b, c, nx, ny, nz = volume.shape
    blocks = volume.reshape(b, c, nx // 2, 2, ny // 2, 2, nz // 2, 2)
    return blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, 8 * c, nx // 2, ny // 2, nz // 2)


def channels_to_blocks(volume):
    """Undo `blocks_to_channels`."""
    b, c, nx, ny, nz = volume.shape
    blocks = volume.reshape(b, c // 8, 2, 2, 2, nx, ny, nz)
    return blocks.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // 8, 2 * nx, 2 * ny, 2 * nz)
