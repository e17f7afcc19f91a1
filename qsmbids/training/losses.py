"""Losses: relative errors inside the mask, so that a sample of faint contrast counts as much as one with a bleed.

That of segmentation is an overlap, so that a small structure counts as much as a large one.
"""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

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


def overlap_loss(scores, truth, merged):
    """Return cross-entropy plus 1 minus the mean soft Dice overlap of the structures that are there.

    Parameters
    ----------
    scores : Tensor, shape (batch, classes, nx, ny, nz)
    truth : Tensor of int, shape (batch, nx, ny, nz)
    merged : Tensor of int, shape (batch, classes)
        For each class the one that stands for it in `truth`, where not all are told apart.

    References
    ----------
    Milletari F, Navab N, Ahmadi SA. V-Net. 3DV 2016.
    """
    count = scores.shape[1]
    shares = scores.softmax(1).flatten(2)
    shares = torch.stack([torch.zeros_like(one).index_add(0, to, one) for one, to in zip(shares, merged)])
    truth = truth.flatten(1)
    true_share = shares.gather(1, truth[:, None])[:, 0]
    entropy = -true_share.clamp_min(1e-6).log().mean()
    both = torch.zeros(count, device=scores.device).index_add(0, truth.flatten(), true_share.flatten())[1:]
    size = torch.bincount(truth.flatten(), minlength=count)[1:]
    overlap = 2 * both / (shares.sum((0, 2))[1:] + size).clamp_min(1e-6)
    known = size > 0
    return entropy + (1 - overlap[known]).sum() / known.sum().clamp_min(1)


def share_loss(scores, share, seen):
    """Return cross-entropy plus 1 minus the soft Dice overlap of a share of each voxel, where it is seen.

    Parameters
    ----------
    scores, share, seen : Tensor, shape (batch, 1, nx, ny, nz)
        Scores whose sigmoid is the share, the true one between 0 and 1, and 1 or 0.

    References
    ----------
    Milletari F, Navab N, Ahmadi SA. V-Net. 3DV 2016, whose squares make the overlap 1 for a share that is right.
    """
    axes = (1, 2, 3, 4)
    entropy = (binary_cross_entropy_with_logits(scores, share, reduction='none') * seen).sum() / seen.sum().clamp_min(1)
    found, true = scores.sigmoid() * seen, share * seen
    overlap = 2 * (found * true).sum(axes) / (found.square() + true.square()).sum(axes).clamp_min(1e-6)
    return entropy + (1 - overlap).mean()


def border_loss(scores, share, _=None):
    """Return the cross-entropy of scores of shape (n,) and true shares of brain of shape (n,)."""
    return binary_cross_entropy_with_logits(scores, share)


def class_loss(scores, truth, _=None):
    """Return the cross-entropy of scores of shape (batch, classes) and true classes of shape (batch,)."""
    return cross_entropy(scores, truth)


LOSSES = {'classes': overlap_loss, 'mask': share_loss, 'lesions': class_loss, 'border': border_loss}
"""Of what a network is to find, where it is not susceptibility or a field."""
