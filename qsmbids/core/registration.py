"""Rigid registration of two images of one head, and the way of a label map from one grid to another."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from qsmbids.core.checks import check_mask
from qsmbids.core.dipole import voxel_size_of
from qsmbids.core.grid import bounding_box, move_points

BINS = 32
LEVELS = ((4., 3000), (2., 6000), (1., 15000))  # smoothing in mm and voxels that are compared, from coarse to fine
LEAST_OVERLAP = .5                    # of the points that must lie in the other image
DISPLACED = 15.                       # mm and degrees; where an alignment is gone
LEAST_GAIN = 1.25                     # of the information over that of displaced images


@dataclass(frozen=True)
class Alignment:
    """How an image lies in another.

    Attributes
    ----------
    matrix : ndarray, shape (4, 4)
        From the mm of the fixed to those of the moving image.
    information : float
        Normalised mutual information less 1.
    gain : float
        That over its mean at places 15 mm and degrees away: near 1, the images agree nowhere in particular.
    """

    matrix: np.ndarray
    information: float
    gain: float


def align_rigid(fixed, fixed_affine, moving, moving_affine, mask, *, starts=(), seed=0):
    """Find the rotation and shift that lay an image of a head over another one, of any contrast.

    Parameters
    ----------
    fixed : ndarray, shape (nx, ny, nz)
    fixed_affine : array_like, shape (4, 4)
        Voxel to mm.
    moving : ndarray, shape (mx, my, mz)
    moving_affine : array_like, shape (4, 4)
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the images are compared, such as the brain.
    starts : sequence of array_like, shape (4, 4), optional
        Matrices to begin with, from the mm of the fixed to those of the moving image; the headers' own, where both are
        in the scanner's coordinates, is always tried.
    seed : int, default 0
        Of the choice of voxels.

    Returns
    -------
    Alignment

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, or an image is the same everywhere.

    Notes
    -----
    Powell's method on normalised mutual information, from coarse to fine: Studholme C, et al. Pattern Recognit
    1999;32:71-86, Eq. 11.
    """
    mask = check_mask(mask)
    if fixed.shape != mask.shape:
        raise ValueError(f'fixed has shape {fixed.shape}, must be that of mask, {mask.shape}')
    at = np.argwhere(mask)
    at = np.random.Generator(np.random.PCG64(seed)).permutation(at)[:LEVELS[-1][1]]
    fixed_affine, moving_affine = np.asarray(fixed_affine, float), np.asarray(moving_affine, float)
    points = move_points(fixed_affine, at)
    matrices = [np.asarray(start, float) for start in (np.eye(4), *starts)]
    for smoothing, count in LEVELS:
        match = _Match(_smooth(fixed, fixed_affine, smoothing)[tuple(at[:count].T)], points[:count],
                       _smooth(moving, moving_affine, smoothing), moving_affine)
        # Most starts lead to the same place; the one of the most information goes on.
        matrix, information = max((match.improve(start) for start in matrices), key=lambda found: found[1])
        matrices = [matrix]
    away = [match.information(matrix @ match.moved(shift)) for shift in DISPLACED * _DIRECTIONS]
    return Alignment(matrix, information, float(information / max(np.mean(away), 1e-9)))


_DIRECTIONS = np.concatenate([np.eye(6), -np.eye(6)])


class _Match:
    """How well the values at some points fit a volume that lies somewhere."""

    def __init__(self, values, points, volume, affine):
        self.fixed = _binned(values, 'fixed').astype(np.int64)
        self.points, self.centre = points, points.mean(axis=0)
        self.volume, self.to_voxel = _binned(volume, 'moving'), np.linalg.inv(affine)

    def moved(self, parameters):
        """Return the matrix of a rotation about the centre of the points (vector, degrees) and a shift (mm)."""
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_rotvec(parameters[:3], degrees=True).as_matrix()
        matrix[:3, 3] = self.centre - matrix[:3, :3] @ self.centre + parameters[3:]
        return matrix

    def information(self, matrix):
        """Return the normalised mutual information less 1; 0 where too little overlaps."""
        to_voxel = self.to_voxel @ matrix
        at = to_voxel[:3, :3] @ self.points.T + to_voxel[:3, 3:]
        values = ndimage.map_coordinates(self.volume, at, order=1, cval=-1., prefilter=False)
        inside = values >= 0
        if inside.mean() < LEAST_OVERLAP:
            return 0.
        low = np.minimum(values[inside].astype(np.int64), BINS - 2)
        share, row = values[inside] - low, self.fixed[inside] * BINS
        joint = (np.bincount(row + low, 1 - share, BINS * BINS) + np.bincount(row + low + 1, share, BINS * BINS))
        joint = joint.reshape(BINS, BINS) / joint.sum()
        together = _entropy(joint)
        return (_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / together - 1 if together > 0 else 0.

    def improve(self, start):
        """Return a matrix of more information near another one, and what it has."""
        found = optimize.minimize(lambda parameters: -self.information(start @ self.moved(parameters)), np.zeros(6),
                                  method='Powell', options={'xtol': .02, 'ftol': 1e-4, 'maxiter': 6})
        return start @ self.moved(found.x), -float(found.fun)


def _entropy(shares):
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def _binned(values, name):
    """Return values as numbers of bins, 0 to `BINS` - 1, not rounded but for the ends."""
    low, high = np.percentile(values, (.5, 99.5))
    if not high > low:
        raise ValueError(f'{name} is {low:.4g} everywhere, must differ from voxel to voxel')
    return np.clip((values - low) * ((BINS - 1) / (high - low)), 0, BINS - 1).astype(np.float32)


def _smooth(volume, affine, smoothing):
    sigma = [smoothing / step if step < 2 * smoothing else 0 for step in voxel_size_of(affine)]
    return ndimage.gaussian_filter(volume.astype(np.float32), sigma)


def resample_volume(volume, affine, shape, target_affine, matrix):
    """Bring a volume to another grid by one linear interpolation, zero beyond it.

    Parameters
    ----------
    volume : ndarray, shape (mx, my, mz)
    affine : array_like, shape (4, 4)
        Its voxels to mm.
    shape : tuple of int
    target_affine : array_like, shape (4, 4)
        Of the new grid.
    matrix : array_like, shape (4, 4)
        From the mm of the new grid to those of the old one.

    Returns
    -------
    ndarray, shape `shape`
    """
    to_voxel = np.linalg.inv(affine) @ matrix @ target_affine
    return ndimage.affine_transform(volume, to_voxel[:3, :3], to_voxel[:3, 3], shape, order=1)


def resample_labels(labels, affine, shape, target_affine, matrix=None):
    """Bring a label map to another grid in one interpolation.

    Parameters
    ----------
    labels : ndarray of int, shape (mx, my, mz)
    affine : array_like, shape (4, 4)
        Its voxels to mm.
    shape : tuple of int
    target_affine : array_like, shape (4, 4)
        Of the new grid.
    matrix : array_like, shape (4, 4), optional
        From the mm of the new grid to those of the old one; the same without it.

    Returns
    -------
    labels : ndarray of int16, shape `shape`
        The label with the largest share of each voxel.
    shares : dict of int to ndarray of float32, shape `shape`
        Linear interpolation of each label, averaged over a voxel that is larger than those of the old grid.

    Raises
    ------
    ValueError
        If `labels` is no volume.
    """
    labels = np.asarray(labels)
    if labels.ndim != 3:
        raise ValueError(f'labels has shape {labels.shape}, must be (mx, my, mz)')
    affine, target_affine = np.asarray(affine, float), np.asarray(target_affine, float)
    to_old = np.linalg.inv(affine) @ (np.eye(4) if matrix is None else np.asarray(matrix, float)) @ target_affine
    offsets = _offsets(voxel_size_of(target_affine), min(voxel_size_of(affine)))
    shares, taken = {}, np.zeros(shape, np.float32)
    best, found = np.full(shape, 1e-6, np.float32), np.zeros(shape, np.int16)
    for index in (int(i) for i in np.unique(labels) if i > 0):
        box = bounding_box(labels == index)
        target = _target_box(box, to_old, shape)
        if target is None:
            continue
        share = np.zeros(shape, np.float32)
        share[target] = _share(labels, index, box, to_old, target, offsets)
        shares[index] = share
        taken[target] += share[target]
        larger = share[target] > best[target]
        best[target][larger], found[target][larger] = share[target][larger], index
    found[1 - taken > best] = 0
    return found, shares


def _offsets(steps, finest):
    """Return the places inside a voxel at which it is looked up, in voxels."""
    counts = [max(int(np.ceil(step / finest - .01)), 1) for step in steps]
    axes = [(np.arange(n) + .5) / n - .5 for n in counts]
    return np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1).reshape(-1, 3)


def _target_box(box, to_old, shape):
    """Return the part of the new grid that a box of the old one may reach; None if there is none."""
    corners = np.array(np.meshgrid(*[(side.start - 1, side.stop) for side in box])).reshape(3, -1)
    to_new = np.linalg.inv(to_old)
    at = to_new[:3, :3] @ corners + to_new[:3, 3:]
    low = np.maximum(np.floor(at.min(axis=1)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(at.max(axis=1)).astype(int) + 2, shape)
    return tuple(slice(a, b) for a, b in zip(low, high)) if np.all(low < high) else None


def _share(labels, index, box, to_old, target, offsets):
    """Return the share of a label in a part of the new grid."""
    inside = np.pad((labels[box] == index).astype(np.float32), 1)
    start = np.array([side.start - 1 for side in box])
    grid = np.stack(np.meshgrid(*[np.arange(side.start, side.stop) for side in target], indexing='ij')).reshape(3, -1)
    total = np.zeros(grid.shape[1], np.float32)
    for offset in offsets:
        at = to_old[:3, :3] @ (grid + offset[:, None]) + (to_old[:3, 3] - start)[:, None]
        total += ndimage.map_coordinates(inside, at, order=1, cval=0., prefilter=False)
    return (total / len(offsets)).reshape([side.stop - side.start for side in target])
