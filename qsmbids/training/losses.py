"""Losses: relative errors inside the mask, so that a sample of faint contrast counts as much as one with a bleed."""

import torch

from qsmbids.networks.operators import gradient


def relative_error(estimate, truth, mask):
    """Return the norm of the error over that of the truth inside the mask, mean over the batch (NRMSE / 100)."""
    axes = (1, 2, 3, 4)
    missed = ((estimate - truth) * mask).square().sum(axes)
    # A patch without a voxel that counts has no error, and no slope.
    return (missed / (truth * mask).square().sum(axes).clamp_min(1e-6)).clamp_min(1e-12).sqrt().mean()


def edge_error(estimate, truth, mask):
    """Return the `relative_error` of the differences between neighbours, all three directions together."""
    return relative_error(*(torch.cat(gradient(volume * mask), dim=1) for volume in (estimate, truth)), 1.)


def unrolled_loss(estimates, truth, mask, margin=4, edges=.3):
    """Return the mean over the estimates of error plus `edges` times the error of edges, `margin` voxels off the rim.

    Wang 2022 (POCSnet) takes the mean of both of POCSnet2's maps; the edges' part is ours.
    """
    inner = (..., *[slice(margin, -margin)] * 3)
    truth, mask = truth[inner], mask[inner]
    errors = [relative_error(x[inner], truth, mask) + edges * edge_error(x[inner], truth, mask) for x in estimates]
    return sum(errors) / len(errors)
