"""Lesions of many brains in one: places relative to the box of each, and the outline of one brain in its own."""

from pathlib import Path

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation

from qsmbids.core.grid import bounding_box, move_points
from qsmbids.files import FileError
from qsmbids.headers import load_image, read_voxels
from qsmbids.reports.figures import PLANES, silhouette

_STEPS = 48   # of an outline


def brain_box(mask, affine):
    """Return the corners of the box around a mask in scanner coordinates.

    Parameters
    ----------
    mask : ndarray of bool, shape (nx, ny, nz)
    affine : ndarray, shape (4, 4)
        Voxel to mm.

    Returns
    -------
    list of two lists of three floats
        Least and largest x, y, z in mm of the centres of voxels in the mask's bounding box; empty for an empty mask.
    """
    if not mask.any():
        return []
    ends = np.array([(part.start, part.stop - 1) for part in bounding_box(mask)])
    corners = move_points(affine, np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, 3))
    return [[round(float(value), 2) for value in end] for end in (corners.min(axis=0), corners.max(axis=0))]


def place_in_box(points, box):
    """Return points in mm, shape ``(n, 3)``, as fractions of a box: 0 is left, back, bottom; 1 right, front, top."""
    low, high = np.array(box, float)
    return (np.asarray(points, float) - low) / np.maximum(high - low, 1e-6)


def read_box(path):
    """Return the box of a mask on disk; empty if there is none, or it cannot be read."""
    try:
        return brain_box(np.asarray(read_voxels(path)) > .5, load_image(path).affine) if Path(path).is_file() else []
    except FileError:
        return []


def outlines(mask, affine):
    """Return the outline of a brain in three planes.

    Parameters
    ----------
    mask : ndarray of bool, shape (nx, ny, nz)
        Not empty.
    affine : ndarray, shape (4, 4)

    Returns
    -------
    dict of str to list of (float, float)
        By plane: a polygon in fractions of the brain's box, to the right (or front) and up.
    """
    turned = apply_orientation(mask, io_orientation(affine))
    turned = turned[bounding_box(turned)]
    found = {}
    for plane in PLANES:
        flat = silhouette(turned, plane)
        left_edge, right_edge = [], []
        for step in np.unique(np.linspace(0, flat.shape[1] - 1, _STEPS).astype(int)):
            inside = np.flatnonzero(flat[:, step])
            height = (step + .5) / flat.shape[1]
            if inside.size:
                left_edge.append((inside[0] / flat.shape[0], height))
                right_edge.append(((inside[-1] + 1) / flat.shape[0], height))
        found[plane] = [(round(float(x), 3), round(float(y), 3)) for x, y in left_edge + right_edge[::-1]]
    return found
