"""Microbleeds, calcifications and what is taken for them: found as blobs, measured, graded by rules or a network."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from qsmbids.core.blobshape import grow_region, sum_moment
from qsmbids.core.checks import check_mask, check_same_shape
from qsmbids.core.dipole import b0_direction, voxel_size_of
from qsmbids.core.grid import move_points
from qsmbids.core.lesioncandidates import Scene, find_candidates
from qsmbids.core.lesionfield import with_moments
from qsmbids.core.lesiongrade import LEAST_KNOWN, LISTED, POSSIBLE, grade
from qsmbids.core.lesionplaces import place_lesions
from qsmbids.core.lesiontable import lesion_row

MOST = 255                 # lesions of one census
ECHO_TIME = .02            # s, that a weighted image is taken to have


@dataclass(frozen=True)
class Census:
    """What :func:`find_microbleeds` returns.

    Attributes
    ----------
    lesions : tuple of dict
        Rows of :data:`qsmbids.core.lesiontable.COLUMNS`, the most probable microbleeds first, then the other classes.
    labels : ndarray of uint8, shape (nx, ny, nz)
        Their regions, by index.
    probability : ndarray, float32, shape (nx, ny, nz)
        Score of the microbleed that a voxel belongs to.
    low_confidence : bool
        Voxels are too long to see what is round, or there is no susceptibility.
    located : bool
        Whether there was a segmentation to tell regions by.
    """

    lesions: tuple
    labels: np.ndarray
    probability: np.ndarray
    low_confidence: bool
    located: bool

    @property
    def mask(self):
        """Microbleeds that count, definite and possible ones."""
        counted = [row['index'] for row in self.lesions if row['class'] == 'cmb' and row['probability'] >= POSSIBLE]
        return np.isin(self.labels, counted)


def find_microbleeds(chi, mask, affine, *, r2star=None, regions=None, field=None, classify=None):
    """Find microbleeds, calcifications and what is taken for them.

    Parameters
    ----------
    chi : ndarray, shape (nx, ny, nz), or None
        ppm, any reference; zero or not finite where it is not known. None leaves R2* alone: then all lesions have an
        unknown sign and are possible at most.
    mask : ndarray of bool, shape (nx, ny, nz)
        The brain; rather larger than where `chi` is known, so that lesions at its border and voids are seen. Holes in
        it count.
    affine : ndarray, shape (4, 4)
        Voxel to scanner, mm, to the right, front and top.
    r2star : ndarray, shape (nx, ny, nz), optional
        1/s, or what :func:`darkness_of` makes of a weighted image.
    regions : ndarray of int, shape (nx, ny, nz), optional
        Indices of :mod:`qsmbids.core.labels`.
    field : ndarray, shape (nx, ny, nz), optional
        Total field, ppm: it tells the sign and the moment of lesions without signal.
    classify : callable, optional
        ``classify(scene, blobs)``, the probabilities that each is a microbleed, a calcification or neither, shape
        (n, 3), as :func:`qsmbids.networks.lesions.lesion_classifier` gives it. Rules judge without it, and where there
        is no `chi`.

    Returns
    -------
    Census

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, `chi` is zero all over it, or there is neither `chi` nor `r2star`.
    """
    if chi is None and r2star is None:
        raise ValueError('chi and r2star are None, one of them must be given')
    affine, mask = np.asarray(affine, float), check_mask(mask)
    given = {'chi': chi, 'r2star': r2star, 'regions': regions, 'field': field}
    check_same_shape(mask=mask, **{name: volume for name, volume in given.items() if volume is not None})
    brain = ndimage.binary_fill_holes(mask)
    scene = Scene.of(chi, brain, voxel_size_of(affine), r2star, regions)
    blobs = find_candidates(scene)
    shares = None if classify is None or chi is None else classify(scene, blobs)
    grades = grade(blobs, scene.amplitude, scene.grid.steps, shares)
    if field is not None:
        blobs = with_moments(scene, blobs, [score >= LISTED for _, score in grades], field, b0_direction(affine))
        grades = grade(blobs, scene.amplitude, scene.grid.steps, shares)
    graded = [(kind, score, blob) for (kind, score), blob in zip(grades, blobs) if score >= LISTED]
    graded.sort(key=lambda found: (found[0] != 'cmb', found[0], -found[1]))
    return _census(graded[:MOST], scene, affine, brain, regions)


def darkness_of(weighted, mask, voxel_size, sigma_mm=8.):
    """Return how dark a weighted magnitude is, as the R2* over the surroundings that would make it so, 1/s.

    Parameters
    ----------
    weighted : ndarray, shape (nx, ny, nz)
        SWI or the magnitude of a late echo.
    mask : ndarray of bool, shape (nx, ny, nz)
    voxel_size : sequence of float
        mm.
    sigma_mm : float, default 8
        SD of the Gaussian that finds the surroundings.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)

    Notes
    -----
    The echo time is taken to be 20 ms: another one makes all values larger or smaller by a factor.
    """
    sigma = [sigma_mm / step for step in voxel_size]
    around = ndimage.gaussian_filter(np.where(mask, weighted, 0).astype(np.float32), sigma)
    around /= np.maximum(ndimage.gaussian_filter(mask.astype(np.float32), sigma), 1e-3)
    share = np.divide(weighted, around, out=np.ones(mask.shape, np.float32), where=mask & (around > 0))
    return -np.log(np.clip(share, .02, None)) / np.float32(ECHO_TIME)


def _census(graded, scene, affine, brain, regions):
    """Return the census of blobs with their classes and scores."""
    grid = scene.grid
    labels = np.zeros(scene.brain.shape, np.uint8)
    # The smaller ones on top: they would vanish beneath.
    for number, (_, _, blob) in sorted(enumerate(graded, 1), key=lambda item: -item[1][2].volume):
        labels[tuple(grow_region(*blob.region).T)] = number
    centres = grid.to_scan(np.reshape([blob.centre for _, _, blob in graded], (-1, 3)))
    points = move_points(affine, centres)
    places = place_lesions(points, brain, affine, regions)
    rows, scores = [], np.zeros(len(graded) + 1, np.float32)
    for number, ((kind, score, blob), point, place) in enumerate(zip(graded, points, places), 1):
        moment = blob.moment or (None, None)
        if blob.source == 'chi':
            moment = sum_moment(scene.chi, scene.brain, labels, number, blob.centre, blob.radius,
                                blob.sign * blob.ring, blob.spread, blob.ring_voxels, grid.steps)
        low = grid.low_confidence or blob.source != 'chi' or blob.known < LEAST_KNOWN
        rows.append(lesion_row(number, kind, score, blob, point, place, moment, scene.zero, low))
        scores[number] = score if kind == 'cmb' else 0
    whole = grid.labels_to_scan(labels)
    for number, centre in enumerate(np.rint(centres).astype(int), 1):
        if not (whole == number).any():  # smaller than a voxel of the scan
            whole[tuple(np.clip(centre, 0, np.array(whole.shape) - 1))] = number
    return Census(tuple(rows), whole, scores[whole], grid.low_confidence or scene.chi is None, regions is not None)
