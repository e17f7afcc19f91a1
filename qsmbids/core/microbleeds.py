"""Microbleeds, calcifications and what is taken for them: found as blobs, measured, and judged by rules.

No network, no training data: rules give each blob a class and a score. Amplitudes count relative to the map's own
spread, so that maps of any software, with any zero, are judged alike.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from qsmbids.core.blobs import fill_outside, find_blobs
from qsmbids.core.blobshape import grow_region, measure_blobs, sum_moment
from qsmbids.core.checks import check_mask, check_same_shape
from qsmbids.core.dipole import voxel_size_of
from qsmbids.core.grid import move_points
from qsmbids.core.labels import BY_INDEX, CSF
from qsmbids.core.lesiongrade import LEAST_KNOWN, LISTED, POSSIBLE, judge, shadow_marks, without_doubles
from qsmbids.core.lesiongrid import WorkingGrid
from qsmbids.core.lesionplaces import place_lesions
from qsmbids.core.lesiontable import lesion_row
from qsmbids.core.separation import RELAXIVITY

THRESHOLD = .05            # least response, ppm
TYPICAL_SPREAD = .025      # 1.4826 times the median absolute deviation of a map of the brain, ppm
AMPLITUDES = .7, 2.        # how far the spread of a map may move the thresholds
FLUID_R2STAR = 5.          # 1/s
DARKEST = .7               # ppm, over the median: beyond it R2* is noise
MOST = 255                 # lesions of one census
ECHO_TIME = .02            # s, that a weighted image is taken to have

_COLUMNS = ('mean', 'ring', 'spread', 'contrast', 'volume', 'diameter', 'sphericity', 'elongation', 'tail',
            'parenchyma')


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


@dataclass(frozen=True)
class Blob:
    """A blob with what was measured of it; places in voxels of the working grid, lengths in mm, chi in ppm.

    Attributes
    ----------
    source : {'chi', 'void', 'darkness'}
        Seen in the susceptibility; in R2* where that is not known; in R2* alone.
    sign : {1, -1}
    seed, centre : ndarray, shape (3,)
        Peak, and middle of the region.
    region : tuple
        What :func:`qsmbids.core.blobshape.grow_region` needs.
    peak, mean, ring, spread, contrast : float
        Of the volume times the sign: peak, mean of the region, median and SD of the ring, peak over ring.
    ring_voxels, voxels : int
        Of the ring and of the region.
    volume, diameter, radius, sphericity, elongation, tail : float
        Tail: the elongation at a quarter of the peak.
    open : bool
        The region goes on beyond the ring.
    blobness, vesselness : float
        Weakest over strongest curvature; that of [2]_ but for its contrast.
    parenchyma, known : float
        Share of the ring that is tissue; of the core in which the susceptibility is known.
    edge : float
        Distance to the edge of the brain.
    decay : float or None
        R2* over the tissue around, 1/s.
    nucleus : str or None
    above_nucleus : float or None
        Peak over the median of that nucleus.

    References
    ----------
    .. [2] Frangi AF, Niessen WJ, Vincken KL, Viergever MA. Multiscale vessel enhancement filtering. MICCAI 1998, LNCS
       1496:130-137. Equations 11 to 13.
    """

    source: str
    sign: int
    seed: np.ndarray
    centre: np.ndarray
    region: tuple
    peak: float
    mean: float
    ring: float
    spread: float
    contrast: float
    ring_voxels: int
    voxels: int
    volume: float
    diameter: float
    radius: float
    sphericity: float
    elongation: float
    tail: float
    open: bool
    blobness: float
    vesselness: float
    parenchyma: float
    known: float
    edge: float
    decay: float | None
    nucleus: str | None
    above_nucleus: float | None


def find_microbleeds(chi, mask, affine, *, r2star=None, regions=None):
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
    given = {'chi': chi, 'r2star': r2star, 'regions': regions}
    check_same_shape(mask=mask, **{name: volume for name, volume in given.items() if volume is not None})
    brain = ndimage.binary_fill_holes(mask)
    grid = WorkingGrid.of(brain, voxel_size_of(affine))
    scene = _Scene.of(chi, brain, r2star, regions, grid)
    steps = np.array(grid.steps)
    blobs = without_doubles(_find_blobs(scene, steps), steps)
    graded = []
    for blob, mark in zip(blobs, shadow_marks(blobs, steps)):
        kind, score = judge(blob, scene.amplitude)
        if score * mark >= LISTED:
            graded.append((kind, score * mark, blob))
    graded.sort(key=lambda found: (found[0] != 'cmb', found[0], -found[1]))
    return _census(graded[:MOST], scene, grid, affine, brain, regions)


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


@dataclass(frozen=True)
class _Scene:
    """What is known on the working grid: susceptibility from its median on, and R2* as what would make it, ppm."""

    chi: np.ndarray | None
    dark: np.ndarray | None
    brain: np.ndarray
    known: np.ndarray
    tissue: np.ndarray
    regions: np.ndarray | None
    medians: dict
    zero: float
    amplitude: float

    @classmethod
    def of(cls, chi, brain, r2star, regions, grid):
        inside = tissue = known = grid.to_working(brain, 0)
        dark = filled = parts = None
        zero, amplitude, medians = 0., 1., {}
        if regions is not None:
            parts = grid.to_working(regions, 0)
            tissue = tissue & (parts != CSF)
        if r2star is not None:
            rate = grid.to_working(np.where(np.isfinite(r2star), r2star, 0).astype(np.float32), 1)
            if np.median(rate[inside]) > 2 * FLUID_R2STAR:  # no darkness relative to the surroundings
                tissue = tissue & (ndimage.uniform_filter(rate, 3) > FLUID_R2STAR)
            dark = np.minimum(fill_outside(rate / np.float32(RELAXIVITY), inside, grid.steps), np.float32(DARKEST))
        if chi is not None:
            there = brain & np.isfinite(chi) & (chi != 0)
            if not there.any():
                raise ValueError('chi is zero or not finite all over mask, must be a map')
            values = chi[there].astype(np.float64)
            zero = float(np.median(values))
            amplitude = float(np.clip(1.4826 * np.median(np.abs(values - zero)) / TYPICAL_SPREAD, *AMPLITUDES))
            # Filled before it is interpolated, so that zeros outside do not get in.
            filled = grid.to_working(fill_outside(np.where(there, chi, 0), there, grid.native), 3)
            known = grid.to_working(there, 0)
            if parts is not None:
                medians = {index: float(np.median(filled[(parts == index) & known]))
                           for index in np.unique(parts[known]) if index in BY_INDEX}
        return cls(filled, dark, inside, known, tissue, parts, medians, zero, amplitude)


def _find_blobs(scene, steps):
    """Return the blobs of both signs in the susceptibility, and those in R2* where that cannot show them."""
    # Voxels of the rim of the brain, for the distance to it.
    rim = np.argwhere(scene.brain & ~ndimage.binary_erosion(scene.brain))
    edge = cKDTree(rim * steps)
    blobs = []
    if scene.chi is not None:
        threshold = THRESHOLD * scene.amplitude
        for sign, found in zip((1, -1), find_blobs(scene.chi, scene.brain, steps, threshold=threshold)):
            blobs += _measured('chi', sign, found, np.float32(sign) * scene.chi, scene, steps, edge)
    if scene.dark is not None and (scene.chi is None or (scene.brain & ~scene.known).any()):
        source, where = 'darkness', scene.brain
        if scene.chi is not None:
            source, where = 'void', scene.brain & ndimage.binary_dilation(scene.brain & ~scene.known)
        found, _ = find_blobs(scene.dark, where, steps, threshold=THRESHOLD)
        blobs += _measured(source, 1, found, scene.dark, scene, steps, edge)
    return blobs


def _measured(source, sign, found, volume, scene, steps, edge):
    """Return the blobs of one volume, in which they are bright, that are brighter than their rings."""
    shapes = measure_blobs(volume, found, scene.brain, scene.known, scene.tissue, steps, scene.dark)
    blobs, contrast = [], shapes.contrast
    columns = {name: getattr(shapes, name) for name in _COLUMNS}
    distances = edge.query(shapes.centre * steps)[0] if len(found.at) else ()
    for number, distance in enumerate(distances):
        known = float(shapes.known[number])
        if contrast[number] <= 0 or (source == 'void' and known >= LEAST_KNOWN):
            continue
        strongest, middle, weakest = found.curvature[number]
        index = 0 if scene.regions is None else int(scene.regions[tuple(shapes.seed[number])])
        peak = float(shapes.peak[number])
        median = scene.medians.get(index)
        blobs.append(Blob(
            source, sign, shapes.seed[number], shapes.centre[number],
            (volume, scene.brain, shapes, number, found, steps),
            **{name: float(values[number]) for name, values in columns.items()}, peak=peak,
            ring_voxels=int(shapes.ring_voxels[number]), voxels=round(shapes.volume[number] / steps.prod()),
            open=bool(shapes.open[number]), known=known, radius=float(columns['diameter'][number]) / 2,
            edge=float(distance),
            blobness=max(float(weakest / max(strongest, 1e-6)), 0.), vesselness=_vesselness(strongest, middle, weakest),
            decay=None if scene.dark is None else float(shapes.second[number]) * RELAXIVITY,
            nucleus=BY_INDEX[index].structure.name if index in BY_INDEX else None,
            above_nucleus=None if source != 'chi' or median is None else peak - sign * median))
    return blobs


def _vesselness(strongest, middle, weakest):
    """Return how much curvatures are those of a tube: 1 of a tube, 0 of a plate and of a ball."""
    if middle <= 0:
        return 0.
    plate, ball = middle / strongest, abs(weakest) / np.sqrt(strongest * middle)
    return float((1 - np.exp(-2 * plate ** 2)) * np.exp(-2 * ball ** 2))


def _census(graded, scene, grid, affine, brain, regions):
    """Return the census of blobs with their classes and scores."""
    labels = np.zeros(scene.brain.shape, np.uint8)
    # The smaller ones on top: they would vanish beneath.
    for number, (_, _, blob) in sorted(enumerate(graded, 1), key=lambda item: -item[1][2].volume):
        labels[tuple(grow_region(*blob.region).T)] = number
    centres = grid.to_scan(np.reshape([blob.centre for _, _, blob in graded], (-1, 3)))
    points = move_points(affine, centres)
    places = place_lesions(points, brain, affine, regions)
    rows, scores = [], np.zeros(len(graded) + 1, np.float32)
    for number, ((kind, score, blob), point, place) in enumerate(zip(graded, points, places), 1):
        moment = (None, None)
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
