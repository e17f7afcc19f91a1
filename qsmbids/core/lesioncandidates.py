"""Candidates for lesions: blobs in the susceptibility and in R2*, with what was measured of each.

Amplitudes count relative to the map's own spread, so that maps of any software, with any zero, are seen alike.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from qsmbids.core.blobs import fill_outside, find_blobs
from qsmbids.core.blobshape import measure_blobs
from qsmbids.core.labels import BY_INDEX, CSF
from qsmbids.core.lesiongrade import DARKEST, LEAST_KNOWN, without_doubles
from qsmbids.core.lesiongrid import WorkingGrid
from qsmbids.core.separation import RELAXIVITY

THRESHOLD = .05            # least response, ppm
TYPICAL_SPREAD = .025      # 1.4826 times the median absolute deviation of a map of the brain, ppm
AMPLITUDES = .7, 2.        # how far the spread of a map may move the thresholds
FLUID_R2STAR = 5.          # 1/s

_COLUMNS = ('mean', 'ring', 'spread', 'contrast', 'volume', 'diameter', 'sphericity', 'elongation', 'tail',
            'parenchyma')


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
    moment : tuple of float, or None
        Of a void: its moment and the SD of that, ppm mm^3, as the field around tells it.

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
    moment: tuple | None = None


@dataclass(frozen=True)
class Scene:
    """What is known of a scan on its working grid.

    Attributes
    ----------
    chi : ndarray, float32, or None
        Susceptibility from its median on, ppm; goes on smoothly where it is not known.
    dark : ndarray, float32, or None
        R2* from its median on, as the susceptibility that would make it, ppm.
    brain, known, tissue : ndarray of bool
        The brain without holes; where there is `chi`; what of the brain is no fluid.
    regions : ndarray of int, or None
        Indices of :mod:`qsmbids.core.labels`.
    medians : dict
        Of `chi` in each region, ppm.
    zero : float
        Median of the map, ppm.
    amplitude : float
        What thresholds in ppm are multiplied by.
    grid : WorkingGrid
    """

    chi: np.ndarray | None
    dark: np.ndarray | None
    brain: np.ndarray
    known: np.ndarray
    tissue: np.ndarray
    regions: np.ndarray | None
    medians: dict
    zero: float
    amplitude: float
    grid: WorkingGrid

    @classmethod
    def of(cls, chi, brain, voxel_size, r2star=None, regions=None):
        """Return the scene of volumes of a scan, as :func:`qsmbids.core.microbleeds.find_microbleeds` takes them."""
        grid = WorkingGrid.of(brain, voxel_size)
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
        return cls(filled, dark, inside, known, tissue, parts, medians, zero, amplitude, grid)


def find_candidates(scene):
    """Return the blobs of both signs in the susceptibility, and where that cannot show them those in R2*.

    Without R2*, holes in the map are taken for them.

    Parameters
    ----------
    scene : Scene

    Returns
    -------
    list of Blob
        Those of the susceptibility first, of each the strongest first; no two of them are one.
    """
    steps = np.array(scene.grid.steps)
    # Voxels of the rim of the brain, for the distance to it.
    rim = np.argwhere(scene.brain & ~ndimage.binary_erosion(scene.brain))
    edge = cKDTree(rim * steps)
    blobs = []
    if scene.chi is not None:
        threshold = THRESHOLD * scene.amplitude
        for sign, found in zip((1, -1), find_blobs(scene.chi, scene.brain, steps, threshold=threshold)):
            blobs += _measured('chi', sign, found, np.float32(sign) * scene.chi, scene, steps, edge)
    holes = scene.brain & ~scene.known
    if scene.chi is None or holes.any():
        source, where = ('darkness', scene.brain) if scene.chi is None else ('void', ndimage.binary_dilation(holes))
        # Without R2* a hole in the map, where its signal is gone, is all that shows a strong lesion.
        dark = np.float32(DARKEST) * holes if scene.dark is None else scene.dark
        found, _ = find_blobs(dark, where & scene.brain, steps, threshold=THRESHOLD)
        blobs += _measured(source, 1, found, dark, scene, steps, edge)
    return without_doubles(blobs, steps)


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
