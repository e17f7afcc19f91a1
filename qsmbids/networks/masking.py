"""The brain mask by a network that knows heads of all ages, contrasts, poses and fields of view."""

import numpy as np
import torch

from qsmbids.core.checks import check_voxel_size
from qsmbids.core.masks import combine_echoes, component, fill_holes
from qsmbids.networks.segmentation import canonical_axes
from qsmbids.networks.segmenter import along_axes, resampling
from qsmbids.networks.unetr import STEP, mask_inputs
from qsmbids.networks.weights import load_weights

WINDOW = (80, 96, 80)
"""Voxels of `STEP` that the network is trained to see at once; in more than that the brain is looked for first."""


def brain_mask_unetr(magnitude, voxel_size, *, weights, affine=None):
    """Find the brain in gradient-echo magnitudes by a network.

    The whole head is brought to voxels of `STEP`, where the network says which share of each is brain. Where more than
    half of a voxel of the data is, is the mask.

    Parameters
    ----------
    magnitude : ndarray, shape (nx, ny, nz) or (nx, ny, nz, ne)
        Of a whole head, of a part of it, or of a brain that was extracted before.
    voxel_size : sequence of float
        mm.
    weights : path
        File that ``qsmbids-train brainmask`` made; none come with qsmbids.
    affine : array_like, shape (4, 4), optional
        Voxel to scanner; only the directions of the axes are used. They run to the right, front and top if not given.

    Returns
    -------
    ndarray of bool, shape (nx, ny, nz)
        One component without holes: the brain to where its brainstem leaves the cerebellum, with the ventricles and the
        fluid in its sulci.

    Raises
    ------
    ValueError
        If the magnitude is all zero or not finite, or no brain was found.
    FileError
        If the weights are missing or damaged.

    References
    ----------
    Hatamizadeh A et al. UNETR: transformers for 3D medical image segmentation. WACV 2022. Billot B et al. SynthSeg:
    Segmentation of brain MRI scans of any contrast and resolution without retraining. Med Image Anal 2023;86:102789.
    """
    image = combine_echoes(magnitude)
    network, _ = load_weights(weights)
    return mask_with(network, image, check_voxel_size(voxel_size), affine)


def mask_with(network, image, voxel_size, affine=None):
    """Do what `brain_mask_unetr` does for one volume, with a network."""
    order, signs = canonical_axes(affine)
    turned = image.transpose(order)[signs]
    steps = [voxel_size[axis] for axis in order]
    size = [max(int(np.ceil(n * step / STEP)), 1) for n, step in zip(turned.shape, steps)]
    coarse = along_axes(turned.astype(np.float32), [resampling(n, step, m, STEP)
                                                    for n, step, m in zip(turned.shape, steps, size)])
    share = _share(network, coarse)
    share = along_axes(share, [resampling(m, STEP, n, step) for n, step, m in zip(turned.shape, steps, size)])
    mask = share > .5
    if not mask.any():
        raise ValueError('magnitude shows no region that could be a brain')
    found = np.empty(image.shape, bool)
    found.transpose(order)[signs] = fill_holes(component(mask))
    return found


def _share(network, coarse):
    """Return the share of brain on the network's grid: first of all there is, then of a window around the brain."""
    around = _seen_through(network, coarse, (np.array(coarse.shape) - 1) / 2, np.maximum(coarse.shape, WINDOW))
    brain = around > .5
    if not brain.any():
        return around
    places = np.argwhere(component(brain))
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    return _seen_through(network, coarse, middle, WINDOW)


def _seen_through(network, coarse, middle, size):
    """Return what the network says of a window of `size` around a place; nothing beyond it."""
    first = np.rint(np.asarray(middle) - (np.asarray(size) - 1) / 2).astype(int)
    there = tuple(slice(max(f, 0), min(f + n, m)) for f, n, m in zip(first, size, coarse.shape))
    here = tuple(slice(part.start - f, part.stop - f) for part, f in zip(there, first))
    image, seen = np.zeros(size, np.float32), np.zeros(size, bool)
    image[here], seen[here] = coarse[there], True
    device = next(network.parameters()).device
    volumes = torch.from_numpy(mask_inputs(image, seen))[None].to(device)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        share = network(volumes.contiguous(memory_format=torch.channels_last_3d)).sigmoid()
    found = np.zeros(coarse.shape, np.float32)
    found[there] = share[0, 0].cpu().numpy()[here]
    return found
