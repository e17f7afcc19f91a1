"""The brain mask by a network that corrects a first one, and knows heads of all ages, contrasts and poses."""

import numpy as np

from qsmbids.core.checks import check_voxel_size
from qsmbids.core.masks import NO_BRAIN, brain_mask, combine_echoes, component, fill_holes
from qsmbids.core.metrics import dice
from qsmbids.networks.segmentation import canonical_axes
from qsmbids.networks.segmenter import along_axes, resampling
from qsmbids.networks.shipped import shipped
from qsmbids.networks.unetr import STEP, cut_window, put_window, window_around
from qsmbids.networks.weights import load_weights

SAME = .9
"""Overlap of two masks of one brain."""


def brain_mask_network(magnitude, voxel_size, *, weights='brainborder', affine=None):
    """Find the brain in gradient-echo magnitudes by a network.

    `core.masks.brain_mask` finds where it is; what lies around is brought to voxels of `STEP`, where the network says
    which share of each is brain. Where more than half of a voxel of the data is, is the mask.

    Parameters
    ----------
    magnitude : ndarray, shape (nx, ny, nz) or (nx, ny, nz, ne)
        Of a whole head, of a part of it, or of a brain that was extracted before.
    voxel_size : sequence of float
        mm.
    weights : str or path, default 'brainborder'
        Name of weights that come with qsmbids, or a file that ``qsmbids-train brainborder`` (or ``brainmask``, a UNETR)
        made.
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
    network, _ = load_weights(shipped(weights))
    return mask_with(network, image, check_voxel_size(voxel_size), affine)


def mask_with(network, image, voxel_size, affine=None):
    """Do what `brain_mask_network` does for one volume, with a network."""
    order, signs = canonical_axes(affine)
    turned = image.transpose(order)[signs]
    steps = [voxel_size[axis] for axis in order]
    size = [max(int(np.ceil(n * step / STEP)), 1) for n, step in zip(turned.shape, steps)]
    there = [resampling(n, step, m, STEP) for n, step, m in zip(turned.shape, steps, size)]
    coarse = along_axes(turned.astype(np.float32), there)
    share = share_of_brain(network, coarse, _first_mask(coarse, along_axes(
        brain_mask(turned, steps).astype(np.float32), there)).astype(np.float32))
    share = along_axes(share, [resampling(m, STEP, n, step) for n, step, m in zip(turned.shape, steps, size)])
    # What a scanner or another tool has set to zero is no brain.
    mask = (share > .5) & (turned > 0)
    if not mask.any():
        raise ValueError(NO_BRAIN)
    found = np.empty(image.shape, bool)
    found.transpose(order)[signs] = fill_holes(component(mask))
    return found


def _first_mask(coarse, known):
    """Return the mask of the network's own voxels, as in training; that of the data's, `known`, where it is another."""
    known = known > .5
    try:
        found = brain_mask(coarse.clip(0), (STEP,) * 3)
    except ValueError:
        return known
    return found if dice(found, known) > SAME else known


def share_of_brain(network, image, surface):
    """Return the share of brain of each voxel of `STEP` of an image, of which a first mask has the share `surface`."""
    if not (surface > .5).any():
        return surface
    first, size = window_around(surface > .5)
    seen = cut_window(np.ones(image.shape, bool), first, size)
    share = network.find(cut_window(image, first, size), seen, cut_window(surface, first, size))
    return put_window(share, first, image.shape)
