"""POCSnet1 and SHARQnet: background removal by a network that alternates with the measured field, and by one alone.

What sources outside the mask make inside it equals its mean over any ball (core.background.balls). Where the ball of
one size is the largest that fits, the local field has to agree with the measured one in what differs from that mean;
the rest is the network's. Without a network that is RESHARP with many radii, which all start from. All maps are divided
by its RMS: what comes out goes with the field.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from qsmbids.core.background.balls import ball_radius, depth, high_pass
from qsmbids.core.fourier import fast_size
from qsmbids.core.grid import bounding_box, embed, embed_mask
from qsmbids.networks.backbones import BACKBONES
from qsmbids.networks.frame import seen_at
from qsmbids.networks.operators import AXES, batch_volumes

RADII = 12., 10., 8., 6., 4., 2.
"""Of the balls that whole volumes are started with, mm."""
FIRST_TRUST, FIRST_ITERATIONS = .003, 10
BLOCKED = .3
"""Frequencies that a ball's filter passes with less than this part of its maximum cannot be told from background."""


class Balls(NamedTuple):
    """Balls of some sizes, and the voxels that each is the largest to fit around, for a batch of masks.

    Attributes
    ----------
    mask : Tensor of float, shape (batch, 1, nx, ny, nz)
    shells : Tensor of float, shape (batch, n, nx, ny, nz)
        Largest ball first. What lies beyond the array counts as outside the mask.
    filters : Tensor of float, shape (batch, n, nx, ny, nz // 2 + 1)
        "Voxel minus mean over the ball around it", half spectra.
    """

    mask: torch.Tensor
    shells: torch.Tensor
    filters: torch.Tensor

    @property
    def known(self):
        """Where any of the balls fits."""
        return self.shells.sum(1, keepdim=True)

    def normal(self, volume, slow=0.):
        """Return ``P (sum H M H + slow sum T M T) volume``, which is its own adjoint.

        P, M and H are the mask, the shells and the filters; T passes the frequencies that H blocks (`BLOCKED`).
        """
        size = volume.shape[2:]
        spectrum = torch.fft.rfftn(volume, dim=AXES)
        found = torch.zeros_like(spectrum)
        for n in range(self.filters.shape[1]):
            high = self.filters[:, n:n + 1]
            kernels = [high]
            if slow:
                blocked = high.abs() < BLOCKED * high.abs().amax(AXES, keepdim=True)
                kernels.append(slow ** .5 * blocked)
            for kernel in kernels:
                passed = torch.fft.irfftn(spectrum * kernel, s=size, dim=AXES) * self.shells[:, n:n + 1]
                found += torch.fft.rfftn(passed, dim=AXES) * kernel
        return torch.fft.irfftn(found, s=size, dim=AXES) * self.mask


def make_balls(masks, voxel_sizes, radii, device=None):
    """Return the `Balls` of a batch.

    Parameters
    ----------
    masks : sequence of ndarray of bool, shape (nx, ny, nz)
    voxel_sizes : sequence of sequence of float
        mm, one for each mask.
    radii : sequence of float
        mm; each at least the longest edge of a voxel. A ball that fits nowhere has an empty shell.
    device : optional
    """
    shells, filters = [], []
    for mask, voxel_size in zip(masks, voxel_sizes):
        lengths = sorted((ball_radius(radius, voxel_size) for radius in radii), reverse=True)
        deep = depth(mask, voxel_size)
        limits = [np.inf, *lengths]
        shells.append([(deep > radius) & (deep <= limit) for radius, limit in zip(lengths, limits)])
        nothing = np.zeros(mask.shape[:2] + (mask.shape[2] // 2 + 1,), np.float32)
        filters.append([high_pass(radius, mask.shape, voxel_size) if shell.any() else nothing
                        for radius, shell in zip(lengths, shells[-1])])
    masks, shells, filters = (torch.from_numpy(np.array(volumes, np.float32)).to(device)
                              for volumes in (masks, shells, filters))
    return Balls(masks[:, None], shells, filters)


def solve(balls, right, slow, trust, iterations, begin=None):
    """Solve ``(normal + trust) x = right`` by conjugate gradients, each volume of the batch by itself.

    Parameters
    ----------
    balls : Balls
    right : Tensor, shape (batch, 1, nx, ny, nz)
        Zero outside the mask.
    slow : float
        As for `Balls.normal`.
    trust : float
    iterations : int
    begin : Tensor, optional
        Where to start; zero if not given.
    """
    def operator(volume):
        return balls.normal(volume, slow) + trust * volume

    def product(one, other):
        return (one * other).sum((1, *AXES), keepdim=True)
    x = torch.zeros_like(right) if begin is None else begin
    residual = right.clone() if begin is None else right - operator(begin)
    direction, energy = residual, product(residual, residual)
    tiny = torch.finfo(right.dtype).tiny
    for _ in range(iterations):
        image = operator(direction)
        step = energy / product(direction, image).clamp_min(tiny)
        x = x + step * direction
        residual = residual - step * image
        before, energy = energy, product(residual, residual)
        direction = residual + energy / before.clamp_min(tiny) * direction
    return x


class Projection(torch.autograd.Function):
    """The local field that fits both the measured one and the network's.

    It solves ``(P (sum H M H + slow sum T M T) P + trust) x = data + trust P proposed``. The slope goes back through
    the same equations, which are their own adjoint: the iterations are not recorded.
    """

    @staticmethod
    def forward(ctx, proposed, data, balls, slow, trust, iterations, begin=None):
        ctx.settings = balls, slow, trust, iterations
        return solve(balls, data + trust * proposed * balls.mask, slow, trust, iterations, begin)

    @staticmethod
    def backward(ctx, slope):
        balls, slow, trust, iterations = ctx.settings
        back = solve(balls, trust * slope * balls.mask, slow, trust, iterations)
        return back, None, None, None, None, None, None


class TotalField(NamedTuple):
    """What the networks start from: the box of the mask, of a size with fast transforms.

    Attributes
    ----------
    total, first : ndarray, float32, shape of the box
        The measured field without its mean inside the mask, and what RESHARP with many radii makes of it; divided by
        `scale`.
    mask, known : ndarray of bool, shape of the box
        And where any ball fits.
    scale : float
        RMS of `first` where it is known, ppm.
    box : tuple of slice
        Where the start of these arrays lies in the volume.
    """

    total: np.ndarray
    first: np.ndarray
    mask: np.ndarray
    known: np.ndarray
    scale: float
    box: tuple


def begin(field, mask, voxel_size, radii=RADII, device='cpu'):
    """Prepare a total field in ppm that is finite inside the mask.

    Returns
    -------
    start : TotalField
    balls : Balls
        Of its mask.

    Raises
    ------
    ValueError
        If no ball fits inside the mask.
    """
    box = bounding_box(mask)
    size = fast_size(mask[box].shape)
    inside = embed_mask(mask, box, size)
    # No ball sees a constant, and a network alone need not learn that it means nothing.
    total = embed(field - np.float32(field[mask].mean(dtype=float)), mask, box, size)
    balls = make_balls([inside], [voxel_size], radii, device)
    known = balls.known[0, 0].cpu().numpy() > 0
    if not known.any():
        raise ValueError(f'mask is {depth(mask[box], voxel_size).max():.2f} mm deep at most, no ball of '
                         f'{ball_radius(min(radii), voxel_size):.2f} mm fits inside')
    data = balls.normal(torch.from_numpy(total)[None, None].to(device))
    first = solve(balls, data, 0., FIRST_TRUST, FIRST_ITERATIONS)[0, 0].cpu().numpy()
    scale = float(np.sqrt(np.mean(np.square(first[known]), dtype=float)))
    for volume in (total, first):
        volume /= np.float32(scale or 1)
    return TotalField(total, first, inside, known, scale, box), balls


def training_inputs(batch, device):
    """Return what a training stream has for `forward`, the true local field and where it is known."""
    volumes = batch_volumes(batch, ('total', 'first', 'mask', 'known', 'local'), device)
    scale = torch.from_numpy(batch['scale']).to(device)[:, None, None, None, None]
    for name in ('total', 'local'):
        volumes[name] = volumes[name] / scale
    truth = volumes.pop('local')
    return volumes, truth, volumes['known']


class POCSnet1(nn.Module):
    """Network and projection on the measured field in turns, with the same weights in every turn.

    Parameters
    ----------
    backbone : {'compact', 'vnet'}
    width : int, default 16
        Channels of the backbone's first scale.
    unrolls : int, default 3
        Turns.
    radii : sequence of float, default (8, 5, 2)
        Of the balls in patches, mm. Whole volumes have `RADII`.
    slow : float, default 0
        Weight against frequencies that no ball can tell from background. The paper has 100, which the true local field
        does not survive.
    trust : float, default .1
        Weight of the network's map in a projection.
    iterations : int, default 5
        Of conjugate gradients: from zero in training, otherwise from the map of the turn before.

    References
    ----------
    Wang 2022 (POCSnet), section 2.
    """

    target = 'local'

    def __init__(self, backbone='compact', width=16, unrolls=3, radii=(8., 5., 2.), slow=0., trust=.1, iterations=5):
        super().__init__()
        self.backbone = BACKBONES[backbone](3, width)
        self.unrolls = unrolls
        self.radii = radii
        self.settings = slow, trust, iterations

    def forward(self, total, first, mask, known, balls, size=None):
        """Return the local field after the last projection, and that of the network before it, divided by the scale.

        Parameters
        ----------
        total, first, mask, known : Tensor, shape (batch, 1, nx, ny, nz)
            As in `TotalField`, float32.
        balls : Balls
        size : sequence of int, optional
            Of the grid that the backbone works on, `frame.Frame.size`; that of the volumes if not given.

        Returns
        -------
        projected, proposed : Tensor, shape (batch, 1, nx, ny, nz)
            Both zero outside the mask.
        """
        data, projected = balls.normal(total), first
        for _ in range(self.unrolls):
            change = seen_at(self.backbone, torch.cat([projected, mask, known], dim=1), size)
            proposed = (projected + change.float()) * mask
            projected = Projection.apply(proposed, data, balls, *self.settings, None if self.training else projected)
        return projected, proposed

    def prepare(self, batch, device):
        """Return the arguments of `forward`, the truth and where it counts for a batch of a training stream."""
        inputs, truth, known = training_inputs(batch, device)
        return inputs | {'balls': make_balls(batch['mask'], batch['voxel_size'], self.radii, device)}, truth, known


class SHARQnet(nn.Module):
    """A network alone, from the total field to the local one.

    Parameters
    ----------
    backbone : {'compact', 'vnet'}
    width : int, default 24
        Channels of the backbone's first scale.

    References
    ----------
    Bollmann S et al. Z Med Phys 2019;29:139-149. The layers are those of the backbone instead.
    """

    target = 'local'
    prepare = staticmethod(training_inputs)

    def __init__(self, backbone='compact', width=24):
        super().__init__()
        self.backbone = BACKBONES[backbone](2, width)

    def forward(self, total, mask, size=None, **_):
        """Return a tuple of the local field, divided by the scale; what only `POCSnet1` uses is not looked at."""
        # The background is many times stronger than what is sought: bfloat16 would round that away.
        with torch.autocast(total.device.type, enabled=False):
            return (seen_at(self.backbone, torch.cat([total / 10, mask], dim=1), size) * mask,)
