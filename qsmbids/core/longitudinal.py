"""Sessions of one person in one space: a frame in the middle of all positions, and regions that all sessions share."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from qsmbids.core.grid import move_points
from qsmbids.core.regionqc import region_masks
from qsmbids.core.registration import align_rigid, resample_labels, resample_volume


@dataclass(frozen=True)
class Session:
    """One session.

    Attributes
    ----------
    image : ndarray, shape (nx, ny, nz)
        To align it by; of one contrast in all sessions.
    mask : ndarray of bool, shape (nx, ny, nz)
        The brain.
    labels : ndarray of int, shape (nx, ny, nz)
    maps : dict of str to tuple
        By name: values and the mask in which they are known.
    affine : ndarray, shape (4, 4)
        Voxel to mm.
    """

    image: np.ndarray
    mask: np.ndarray
    labels: np.ndarray
    maps: dict
    affine: np.ndarray


def midpoint(matrices, centre):
    """Return the frame in the middle of some positions of a head.

    Parameters
    ----------
    matrices : sequence of array_like, shape (4, 4)
        Rigid, from the mm of the first session to those of each, the first among them.
    centre : sequence of float
        Of the head, mm of the first session.

    Returns
    -------
    ndarray, shape (4, 4)
        From the mm of the first session to those of the frame: the mean rotation, and the mean place of the centre.

    Notes
    -----
    That no session is treated otherwise than the others keeps differences free of what interpolation does: Reuter M,
    Fischl B. NeuroImage 2011;57:19-21.
    """
    matrices, centre = np.asarray(matrices, float), np.asarray(centre, float)
    frame = np.eye(4)
    frame[:3, :3] = Rotation.from_matrix(matrices[:, :3, :3]).mean().as_matrix()
    places = matrices[:, :3, :3] @ centre + matrices[:, :3, 3]
    frame[:3, 3] = places.mean(axis=0) - frame[:3, :3] @ centre
    return frame


def common_values(sessions):
    """Return the means of maps in regions that all sessions share, each map interpolated once.

    Parameters
    ----------
    sessions : sequence of Session
        Two or more; the first gives the grid.

    Returns
    -------
    list of dict
        For each session: name of a map and index of a region to the mean over what all sessions know of it.
    gains : list of float
        How clearly each session after the first fits it (:class:`qsmbids.core.registration.Alignment`).

    Raises
    ------
    ValueError
        If there are fewer than two sessions, or one cannot be aligned.
    """
    if len(sessions) < 2:
        raise ValueError(f'sessions are {len(sessions)}, must be two or more')
    first = sessions[0]
    found = [align_rigid(first.image, first.affine, other.image, other.affine, first.mask) for other in sessions[1:]]
    matrices = [np.eye(4), *(alignment.matrix for alignment in found)]
    centre = move_points(first.affine, np.argwhere(first.mask).mean(axis=0))
    frame = midpoint(matrices, centre)
    # The first session's grid stays where the scanner has it; the head moves into the middle, away from it.
    affine, shape = first.affine, first.image.shape
    to_session = [matrix @ np.linalg.inv(frame) for matrix in matrices]
    regions = _shared_regions(sessions, to_session, affine, shape)
    values = [{} for _ in sessions]
    for name in first.maps:
        if all(name in session.maps for session in sessions):
            moved = [_move(session, name, matrix, affine, shape) for session, matrix in zip(sessions, to_session)]
            known = np.logical_and.reduce([mask for _, mask in moved])
            for label, region in region_masks(regions).items():
                where = known & region
                for found_values, (volume, _) in zip(values, moved if where.any() else ()):
                    found_values[name, label.index] = float(volume[where].mean(dtype=np.float64))
    return values, [alignment.gain for alignment in found]


def _shared_regions(sessions, to_session, affine, shape):
    """Return the label with the largest share of each voxel over all sessions."""
    total = {}
    for session, matrix in zip(sessions, to_session):
        _, shares = resample_labels(session.labels, session.affine, shape, affine, matrix)
        for index, share in shares.items():
            total[index] = total.get(index, 0) + share / len(sessions)
    regions, best = np.zeros(shape, np.int16), np.maximum(1 - sum(total.values()), 1e-6) if total else None
    for index, share in total.items():
        larger = share > best
        regions[larger], best = index, np.where(larger, share, best)
    return regions


def _move(session, name, matrix, affine, shape):
    """Return a map on the common grid, and where it is known there."""
    volume, mask = session.maps[name]

    def moved(values):
        return resample_volume(values.astype(np.float32), session.affine, shape, affine, matrix)
    return moved(np.where(mask, volume, 0)), moved(mask) > .99
