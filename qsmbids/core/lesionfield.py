"""The sign and the moment of lesions without signal, from the field around them.

Where a strong lesion leaves no signal its susceptibility is not known. But further out its field is that of a dipole,
whatever lies within, and the moment of that dipole is the susceptibility of the lesion summed over it, with its sign.
"""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from qsmbids.core.dipole import forward_field, unit_direction

RIM_MM, REACH_MM = 1., 6.   # beyond the hole: what does not count, and up to where the field is looked at
AROUND_MM = 12.             # beyond that: how far the sources of the tissue count
SURE = 5.                   # SDs of a moment that tells the sign
LEAST_VOXELS = 60           # of the field
MOST = 95                   # per cent of the voxels of a hole that reach no further


def with_moments(scene, blobs, wanted, field, b0_dir):
    """Return blobs, those that are voids with the moment and the sign that the field around them tells.

    Parameters
    ----------
    scene : qsmbids.core.lesioncandidates.Scene
    blobs : sequence of qsmbids.core.lesioncandidates.Blob
    wanted : sequence of bool
        Which of them matter.
    field : ndarray, shape (nx, ny, nz)
        Total field on the grid of the scan, ppm. A local field will not do if what removed its background took holes
        in the brain for sources of it.
    b0_dir : sequence of float
        Unit vector of the main field in voxel axes.

    Returns
    -------
    list of Blob
        Voids whose moment is less than `SURE` SDs, or around which the field is not known, stay as they are.
    """
    chosen = [want and blob.source == 'void' for want, blob in zip(wanted, blobs)]
    if not any(chosen):
        return list(blobs)
    field = scene.grid.to_working(np.where(np.isfinite(field), field, 0).astype(np.float32), 1)
    return [_signed(blob, *dipole_moment(scene, blob, field, b0_dir)) if choose else blob
            for choose, blob in zip(chosen, blobs)]


def _signed(blob, moment, error):
    if moment is None or abs(moment) < SURE * error:
        return blob
    return replace(blob, sign=1 if moment > 0 else -1, moment=(moment, error))


def dipole_moment(scene, blob, field, b0_dir):
    """Return the moment of a blob in ppm mm^3 and its SD, or two None if the field around it is not known.

    Least squares of the field in a shell around the hole that the blob lies in, less that of the tissue as the map has
    it, by a dipole at the middle of the blob and a quadratic polynomial for what comes from further away.

    Parameters
    ----------
    scene : qsmbids.core.lesioncandidates.Scene
    blob : qsmbids.core.lesioncandidates.Blob
    field : ndarray, float32
        ppm, on the working grid.
    b0_dir : sequence of float
    """
    steps, centre = np.array(scene.grid.steps), np.asarray(blob.centre, float)
    box = _box(field.shape, centre, steps, blob.radius + RIM_MM + REACH_MM + AROUND_MM)
    away = [(grid - c) * step for grid, c, step in zip(np.ogrid[box], centre, steps)]
    distance = np.sqrt(sum(axis ** 2 for axis in away))
    known = scene.known[box] & scene.brain[box]
    inner = _hole_radius(~known & scene.brain[box], distance) + RIM_MM
    shell = known & (field[box] != 0) & (distance > inner) & (distance < inner + REACH_MM)
    if np.count_nonzero(shell) < LEAST_VOXELS:
        return None, None
    chi = scene.chi[box].copy()
    chi[distance < inner] = np.median(chi[shell])
    rest = (field[box] - forward_field(chi, steps, b0_dir))[shell].astype(np.float64)
    design = _design([np.broadcast_to(axis, distance.shape)[shell] for axis in away], distance[shell], b0_dir)
    scale = np.linalg.norm(design, axis=0)
    inverse = np.linalg.pinv(design / scale)
    found = inverse @ rest
    left = rest - design / scale @ found
    error = np.sqrt(left @ left / max(left.size - design.shape[1], 1) * (inverse[0] @ inverse[0]))
    return float(found[0] / scale[0]), float(error / scale[0])


def _design(away, distance, b0_dir):
    """Return the field of the unit dipole at places that lie so far away, mm, and the terms of the polynomial."""
    x, y, z = away
    along = sum(b * axis for b, axis in zip(unit_direction(b0_dir), away))
    dipole = (3 * (along / distance) ** 2 - 1) / (4 * np.pi * distance ** 3)
    return np.column_stack([dipole, np.ones(distance.size), x, y, z, x * x, y * y, z * z, x * y, x * z, y * z])


def _box(shape, centre, steps, reach):
    low = np.maximum(np.floor(centre - reach / steps).astype(int), 0)
    high = np.minimum(np.ceil(centre + reach / steps).astype(int) + 1, shape)
    return tuple(slice(a, b) for a, b in zip(low, high))


def _hole_radius(unknown, distance):
    """Return how far the unknown voxels in one piece reach that lie nearest to a blob, but for a few of them, mm."""
    if not unknown.any():
        return 0.
    pieces, _ = ndimage.label(unknown)
    nearest = pieces[unknown][np.argmin(distance[unknown])]
    return float(np.percentile(distance[pieces == nearest], MOST))
