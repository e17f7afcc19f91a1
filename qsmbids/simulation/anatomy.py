"""A digital head from a label map: the tissues of a real anatomy, and what label maps leave out.

The map holds FreeSurfer's ids inside the brain and ids from 502 on outside of it. Red nucleus, substantia nigra,
subthalamic and dentate nucleus are placed by the geometry of thalamus, ventral diencephalon, brainstem and cerebellum;
the pallidum is divided; veins run on the brain, in white matter and between the thalami. A seed varies all of that, the
tissues, and the shape of the head: one map gives many heads.
"""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numba
import numpy as np
from scipy.ndimage import (binary_closing, binary_fill_holes, distance_transform_edt, gaussian_filter, label,
                           map_coordinates, zoom)

from qsmbids.core.dipole import voxel_size_of
from qsmbids.core.grid import move_points
from qsmbids.core.labels import freesurfer_ids
from qsmbids.core.threads import over_slabs
from qsmbids.files import FileError
from qsmbids.simulation.age import Stature, stature, tissues_at
from qsmbids.simulation.deformation import Form, age_deformation, compose, random_affine, random_deformation
from qsmbids.simulation.head import (SLAB_VOXELS, Head, add_texture, along_path, check_variation, inverse_rigid,
                                     paint_nucleus, positions, texture_relaxivity)
from qsmbids.simulation.surfaces import Balls, balls
from qsmbids.simulation.tissues import LABELS, TISSUES, at_field_strength, vary_tissues

# What the ids beyond FreeSurfer's own table stand for was told by place: 25 and 57 line the lateral ventricles, 136,
# 137, 163 and 164 lie in them, 502 are the carotid and vertebral arteries, 514 the dural sinuses.
TISSUE_OF = {
    'white_matter': (2, 41, 28, 60, 25, 57, 77, 85, 192, *range(251, 256)),
    'cortex': (3, 42),
    'brainstem': (16,), 'cerebellar_white_matter': (7, 46), 'cerebellar_cortex': (8, 47),
    'ventricle': (4, 43, 5, 44, 14, 15, 72, 31, 63, 136, 137, 163, 164),
    **{name.lower(): freesurfer_ids(name)
       for name in ('Thalamus', 'Caudate', 'Putamen', 'Pallidum', 'Hippocampus', 'Amygdala', 'Accumbens')},
    'sulcus': (24, 30, 62),
    'muscle': (502, 507, 508, 509, 512, 530), 'vitreous': (506,), 'fat': (511,), 'dural_sinus': (514,),
    'bone': (515, 516),
}
NEEDED = {'thalamus': (10, 49), 'ventral diencephalon': (28, 60), 'brainstem': (16,),
          'cerebellar white matter': (7, 46)}
SULCUS = LABELS['sulcus']
CENTRE = (0., -19., 7.)  # of both thalami in head coordinates, mm
# From the middle of the thalami to the brainstem's middle, in the atlas whose coordinates the numbers below have.
STEM = np.array([0, -12, -40]) / np.hypot(12, 40)
# Right side, atlas axes, mm: offset from the anchor, half-axes, turn of the front inwards in degrees.
PLACED = {
    'substantia_nigra': ('midbrain', (9.6, 1.6, -18.), (2.9, 7.2, 5.0), 38),
    'red_nucleus': ('midbrain', (5.2, -3., -16.), (3.8, 4.2, 4.4), 0),
    'subthalamic': ('ventral diencephalon', (-.5, -.5, .5), (3.0, 4.2, 2.0), 35),
    'dentate': ('cerebellar white matter', (-1., 0., 0.), (4.8, 8.4, 4.6), 20),
}
HULL_MM, HULL_STEP = 6, 2      # sulci narrower than twice this lie inside the brain; grid of the hull in voxels
VARIATION = 2.5                # SD of the velocity of the deformation where none is asked for, mm
CSF_MM = 2.5                   # between the brain's hull and the skull
SULCAL_GAIN = 8.               # weight of sulci over other tissues for each mm that their walls draw back
SPECK_MM3 = 27.                # of air, in a map
GROWTH_SD, GROWTH_MAX = .03, .08


@dataclass(frozen=True)
class _Anatomy:
    """A label map made ready: what does not depend on the seed."""

    tissues: np.ndarray      # uint8, index into the table; the neck goes on below
    affine: np.ndarray       # voxel to head coordinates
    frame: np.ndarray        # columns: the atlas axes in head coordinates
    anchors: dict            # name -> position of both sides, atlas axes from the middle of the thalami
    hull: np.ndarray         # distance to the brain's hull, mm, negative inside, on a grid of HULL_STEP voxels
    ventricles: np.ndarray   # the same of the lateral and third ventricles
    walls: np.ndarray        # (n, 6) wall of the lateral ventricles and the way out of it


def load_labels(path):
    """Read a label map.

    Returns
    -------
    labels : ndarray, int16, shape (nx, ny, nz)
    affine : ndarray, shape (4, 4)
        Voxel to scanner, mm; the axes run to the right, front and top as closely as may be.

    Raises
    ------
    FileError
        If the file is no image or is not three-dimensional.
    """
    try:
        image = nib.as_closest_canonical(nib.load(path))
        values = np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise FileError(f'{Path(path)}: cannot be read as a label map ({error})') from None
    if values.ndim != 3:
        raise FileError(f'{Path(path)}: a label map must be 3D, this one has the shape {values.shape}')
    return np.rint(values).astype(np.int16), image.affine


def head_from_labels(labels, affine):
    """Make a digital head of a label map.

    Parameters
    ----------
    labels : ndarray of int, shape (nx, ny, nz)
        FreeSurfer's ids, and 502 to 530 outside of the brain; others are air.
    affine : array_like, shape (4, 4)
        Voxel to scanner, mm, the axes to the right, front and top (see `load_labels`).

    Returns
    -------
    callable
        ``sample(shape, affine, seed=0, pose=None, iron=None, *, age=None, variation=None, b0_tesla=3.) -> Head``, to be
        used as `digital_head` is. The middle of the thalami lies at `CENTRE`. Every seed deforms the map, by
        `VARIATION` if none is given. Sinuses do not change with age.

    Raises
    ------
    ValueError
        If `labels` is no volume or lacks one of the `NEEDED` structures.
    """
    labels = np.asarray(labels)
    if labels.ndim != 3:
        raise ValueError(f'labels has the shape {labels.shape}, must be (nx, ny, nz)')
    for name, ids in NEEDED.items():
        missing = [i for i in ids if not np.any(labels == i)]
        if missing:
            raise ValueError(f'labels has no voxel of {name} (id {missing[0]})')
    anatomy = _prepare(labels, np.asarray(affine, float))

    def sample(shape, affine, seed=0, pose=None, iron=None, *, age=None, variation=None, b0_tesla=3.):
        person = _individual(anatomy, seed, iron, age, variation, b0_tesla)
        return _sample(anatomy, shape, affine, person, pose)
    return sample


def _prepare(labels, affine):
    table = np.full(max(int(labels.max()), 600) + 1, LABELS['air'], np.uint8)
    for name, ids in TISSUE_OF.items():
        table[list(ids)] = LABELS[name]
    at = np.argwhere(labels > 0)
    bounds = [slice(max(a - 2, 0), b + 3) for a, b in zip(at.min(axis=0), at.max(axis=0))]
    # From the lowest slice of the neck on; below it, that slice goes on.
    bounds[2] = slice(int(np.flatnonzero((labels > 0).any(axis=(0, 1)))[0]), bounds[2].stop)
    labels = labels[tuple(bounds)]
    affine = affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [b.start for b in bounds]

    def centre(*ids):
        return move_points(affine, np.argwhere(np.isin(labels, ids)).mean(axis=0))

    thalami = np.array([centre(49), centre(10)])
    middle = thalami.mean(axis=0)
    frame = _frame(thalami[0] - thalami[1], centre(16) - middle)
    anchors = {'midbrain': np.zeros((2, 3))}
    for name, ids in (('ventral diencephalon', ((28,), (60,))), ('cerebellar white matter', ((7,), (46,)))):
        anchors[name] = np.array([(centre(*ids[side]) - middle) @ frame for side in (1, 0)])
    tissues = table[np.clip(labels, 0, table.size - 1)]
    _fill_brain(tissues)
    _clear_specks(tissues, affine)
    _divide_pallidum(tissues)
    hull = _hull(labels, affine)
    inside = zoom(hull, HULL_STEP, order=1, grid_mode=True, mode='nearest')[tuple(slice(n) for n in tissues.shape)]
    fluid = tissues == LABELS['sulcus']
    tissues[fluid & (inside > 0)] = LABELS['csf']
    affine[:3, 3] += CENTRE - middle
    ventricles = _signed_distance(_coarse(np.isin(labels, (4, 43, 14, 31, 63))), affine)
    return _Anatomy(tissues, affine, frame, anchors, hull, ventricles, _ventricle_walls(labels, affine))


def _fill_brain(tissues):
    """Make fluid of what the brain encloses, but not of sinuses, in place: label maps have specks of air there.

    A gap of the brain of one or two voxels counts as enclosed: specks lie along its surface, too.
    """
    brain = np.array([tissue.brain for tissue in TISSUES.values()])[tissues]
    filled = binary_fill_holes(binary_closing(np.pad(brain, 1)))[1:-1, 1:-1, 1:-1]
    tissues[filled & ~brain & (tissues != LABELS['dural_sinus'])] = SULCUS


def _clear_specks(tissues, affine):
    """Give air in pieces smaller than `SPECK_MM3` to the tissue next to it, in place: no sinus is that small."""
    pieces, _ = label(tissues == LABELS['air'])
    volumes = np.bincount(pieces.ravel()) * np.prod(voxel_size_of(affine))
    volumes[0] = np.inf
    specks = (volumes < SPECK_MM3)[pieces]
    nearest = distance_transform_edt(specks, return_distances=False, return_indices=True)
    tissues[specks] = tissues[tuple(at[specks] for at in nearest)]


def _frame(across, down):
    """Return the atlas axes from the way between the thalami and that to the brainstem."""
    across = across / np.linalg.norm(across)
    down = down - (down @ across) * across
    down /= np.linalg.norm(down)
    front = np.cross(across, down)
    front *= np.sign(front[1])
    # In the atlas the stem points down and back.
    return np.column_stack([across, STEM[1] * down - STEM[2] * front, STEM[2] * down + STEM[1] * front])


def _divide_pallidum(tissues):
    """Give the inner third of each side's pallidum to its internal part."""
    at = np.argwhere(tissues == LABELS['pallidum'])
    middle = at[:, 0].mean() if len(at) else 0
    for side in (at[at[:, 0] < middle], at[at[:, 0] >= middle]):
        if len(side):
            # Along the pallidum the inner part moves out as the whole does.
            medial = np.abs(side[:, 0] - middle)
            slope = np.polyfit(side[:, 1], medial, 1) if np.ptp(side[:, 1]) > 2 else (0, 0)
            rank = medial - np.polyval(slope, side[:, 1])
            inner = side[rank < np.quantile(rank, .28)]
            tissues[tuple(inner.T)] = LABELS['pallidum_internal']


def _hull(labels, affine):
    """Return the distance to the hull of the brain, sulci closed, on a coarse grid; mm, negative inside."""
    step = np.array(voxel_size_of(affine)) * HULL_STEP
    brain = np.pad(_coarse((labels > 0) & (labels < 500) & (labels != 24)), 8)
    wide = distance_transform_edt(~brain, sampling=step) <= HULL_MM
    closed = distance_transform_edt(wide, sampling=step) > HULL_MM
    return _signed_distance(closed, affine)[8:-8, 8:-8, 8:-8]


def _coarse(flags):
    return flags[::HULL_STEP, ::HULL_STEP, ::HULL_STEP]


def _signed_distance(inside, affine):
    step = np.array(voxel_size_of(affine)) * HULL_STEP
    distance = distance_transform_edt(~inside, sampling=step) - distance_transform_edt(inside, sampling=step)
    return gaussian_filter(distance, 1).astype(np.float32)


def _ventricle_walls(labels, affine):
    """Return points on the walls of the lateral ventricles and the ways out of them, head coordinates."""
    step = np.array(voxel_size_of(affine)) * HULL_STEP
    distance = distance_transform_edt(~np.isin(_coarse(labels), (4, 43)), sampling=step)
    wall = np.argwhere((distance > 0) & (distance < 1.6 * step.max()) & np.isin(_coarse(labels), (2, 41, 25, 57)))
    if not len(wall):
        return np.zeros((0, 6))
    way = np.stack([g[tuple(wall.T)] for g in np.gradient(gaussian_filter(distance, 1.5))], axis=-1) @ affine[:3, :3].T
    way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-6)
    return np.hstack([move_points(affine, HULL_STEP * wall), way])


@dataclass(frozen=True)
class _Individual:
    form: Form
    stature: Stature
    lattice: np.ndarray
    nuclei: list             # (name, centre, half-axes, turn), atlas axes from the middle of the thalami
    veins: Balls
    tissues: tuple
    relaxivity: float        # of the texture, Hz per ppm


def _individual(anatomy, seed, iron, age, variation, b0_tesla):
    rng = np.random.Generator(np.random.PCG64(seed))
    growth = 1 + np.clip(GROWTH_SD * rng.standard_normal(3), -GROWTH_MAX, GROWTH_MAX)
    lattice = rng.standard_normal((3, 32, 32, 32)).astype(np.float32)
    nuclei = []
    for name, (anchor, offset, axes, turn) in PLACED.items():
        shift, size = rng.standard_normal(3) * .3, 1 + .04 * rng.standard_normal()
        for side, position in zip((1, -1), anatomy.anchors[anchor]):
            nuclei.append((name, position + np.multiply(offset, (side, 1, 1)) + shift * (side, 1, 1),
                           np.multiply(axes, size), side * turn))
    tissues = at_field_strength(vary_tissues(rng, iron, tissues_at(age)), b0_tesla)
    veins = balls(_vein_points(anatomy, rng))
    form, figure = _form(anatomy, seed, growth, age, variation)
    return _Individual(form, figure, lattice, nuclei, veins, tuple(tissues.values()),
                       texture_relaxivity(variation, b0_tesla))


def _form(anatomy, seed, growth, age, variation):
    if variation is not None:
        check_variation(variation)
    figure = stature(age)
    to_coarse = np.linalg.inv(anatomy.affine @ np.diag([HULL_STEP] * 3 + [1.]))

    def distance(volume, points):
        return map_coordinates(volume, move_points(to_coarse, points.T).T, order=1, mode='nearest')

    deformation = compose(random_deformation((seed, 2), VARIATION if variation is None else float(variation)),
                          age_deformation(figure, lambda points: distance(anatomy.ventricles, points),
                                          lambda points: distance(anatomy.hull, points) - CSF_MM))
    linear = random_affine(np.random.Generator(np.random.PCG64([seed, 1]))) if variation else None
    return Form((growth * figure.size).astype(np.float32), linear, deformation), figure


def _vein_points(anatomy, rng):
    """Return points on the veins, (n, 4): position in head coordinates and radius, mm."""
    paths = []
    inner = [[(side * 2.5, 21, 9, .9), (side * 2.5, -17, 6, 1.2), (0, -23, -3, 1.6)] for side in (1, -1)]
    for path in map(np.array, [[(0, -23, -3, 1.6), (0, -60, -10, 2.)], *inner]):
        paths.append(np.column_stack([path[:, :3] @ anatomy.frame.T + CENTRE, path[:, 3]]))
    middle = np.array(CENTRE) + (0, 0, 5)
    angle = np.deg2rad(np.arange(-60, 85, 5))
    upper = middle + np.column_stack([np.zeros(angle.size), -80 * np.sin(angle), 80 * np.cos(angle)])
    paths.append(np.column_stack([_onto_hull(anatomy, upper, 1.5), np.full(angle.size, 2.5)]))
    for side in (1, -1):
        for _ in range(14):
            a, reach, tilt = np.deg2rad(rng.uniform(-55, 75)), rng.uniform(.6, 1.3), rng.uniform(-.3, .3)
            b = np.linspace(.03, reach, 12)
            way = np.column_stack([side * 75 * np.sin(b), -80 * np.sin(a + tilt * b) * np.cos(b),
                                   75 * np.cos(a + tilt * b) * np.cos(b)])
            paths.append(np.column_stack([_onto_hull(anatomy, middle + way, -.5), np.linspace(1.2, .6, b.size)]))
    if len(anatomy.walls):
        for wall in anatomy.walls[rng.integers(len(anatomy.walls), size=30)]:
            end = wall[:3] + wall[3:] * rng.uniform(8, 22) + rng.uniform(-4, 4, 3)
            paths.append(np.array([(*wall[:3], rng.uniform(.6, .9)), (*end, .4)]))
    return np.concatenate([along_path(path, .3) for path in paths])


def _onto_hull(anatomy, points, outside):
    """Move points along the distance to the hull until they lie `outside` mm from it."""
    to_grid = np.linalg.inv(anatomy.affine @ np.diag([HULL_STEP] * 3 + [1.]))
    slopes = np.gradient(anatomy.hull)
    for _ in range(12):
        at = move_points(to_grid, points).T
        distance = map_coordinates(anatomy.hull, at, order=1, mode='nearest') - outside
        way = np.stack([map_coordinates(s, at, order=1, mode='nearest') for s in slopes], axis=-1) @ to_grid[:3, :3]
        way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-6)
        points = points - .7 * distance[:, None] * way
    return points


def _sample(anatomy, shape, affine, person, pose):
    to_head = np.asarray(affine, float)
    if pose is not None:
        to_head = inverse_rigid(np.asarray(pose, float)) @ to_head
    labels = np.empty(shape, np.uint8)
    chi = np.empty(shape, np.float32)
    values = np.array([tissue.chi for tissue in person.tissues], np.float32)
    to_voxel = np.linalg.inv(anatomy.affine)

    def paint(slab):
        points = person.form.original(positions(slab, shape, to_head))
        painted = np.empty(points.shape[1], np.uint8)
        _look_up(points, anatomy.tissues, to_voxel, 1 + SULCAL_GAIN * person.stature.sulci, painted)
        _paint_nuclei(painted, points, anatomy, person)
        _paint_veins(painted, points, person)
        susceptibility = values[painted]
        add_texture(susceptibility, painted, points, person.lattice[2])
        labels[slab], chi[slab] = (flat.reshape(labels[slab].shape) for flat in (painted, susceptibility))

    over_slabs(paint, shape[0], max(1, SLAB_VOXELS // (shape[1] * shape[2])))
    return Head(labels, chi, person.tissues, relaxivity=person.relaxivity)


def _paint_nuclei(painted, points, anatomy, person):
    host = np.isin(painted, [LABELS[name] for name in ('white_matter', 'brainstem', 'cerebellar_white_matter')])
    cerebellum = host | (painted == LABELS['cerebellar_cortex'])
    near = np.flatnonzero(cerebellum & (np.abs(points - np.float32(CENTRE)[:, None]).max(axis=0) < 90))
    inside = anatomy.frame.T.astype(np.float32) @ (points[:, near] - np.float32(CENTRE)[:, None])
    local = painted[near]
    for name, centre, axes, turn in person.nuclei:
        allowed = cerebellum if name == 'dentate' else host
        before = local.copy()
        paint_nucleus(local, LABELS[name], inside, centre, axes, turn, person.lattice[1])
        local[~allowed[near]] = before[~allowed[near]]
    painted[near] = local


def _paint_veins(painted, points, person):
    brain = np.array([tissue.brain for tissue in person.tissues])
    hit = person.veins.inside(points)
    hit = hit[brain[painted[hit]] | (painted[hit] == LABELS['csf'])]
    painted[hit] = np.where(brain[painted[hit]], LABELS['vein'], LABELS['dural_sinus'])


@numba.njit(cache=True, nogil=True)
def _look_up(points, tissues, to_voxel, sulcal_gain, painted):
    """Find the tissue with the largest share among the eight voxels around each point; sulci weigh more than others."""
    weights, found = np.empty(8), np.empty(8, np.uint8)
    grid = np.empty(3)
    for n in range(points.shape[1]):
        for axis in range(3):
            grid[axis] = (to_voxel[axis, 0] * points[0, n] + to_voxel[axis, 1] * points[1, n]
                          + to_voxel[axis, 2] * points[2, n] + to_voxel[axis, 3])
        grid[2] = max(grid[2], 0.)  # the neck goes on
        painted[n] = 0
        if (grid[0] < 0 or grid[1] < 0 or grid[0] >= tissues.shape[0] - 1 or grid[1] >= tissues.shape[1] - 1
                or grid[2] >= tissues.shape[2] - 1):
            continue
        i, j, k = int(grid[0]), int(grid[1]), int(grid[2])
        u, v, w = grid[0] - i, grid[1] - j, grid[2] - k
        for c in range(8):
            a, b, d = c >> 2, (c >> 1) & 1, c & 1
            weights[c] = (u if a else 1 - u) * (v if b else 1 - v) * (w if d else 1 - w)
            found[c] = tissues[i + a, j + b, k + d]
            if found[c] == SULCUS:
                weights[c] *= sulcal_gain
        best = 0.
        for c in range(8):
            share = 0.
            for e in range(8):
                if found[e] == found[c]:
                    share += weights[e]
            if share > best:
                best, painted[n] = share, found[c]
