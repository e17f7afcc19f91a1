"""Labelled heads to learn segmentation from: label maps with susceptibility made up anew each time, and measured maps.

A label map gives a few heads of other shapes, kept in memory; each patch of one has tissues, textures, vessels, errors
of an inversion and slices of its own. What an inversion does is put in by its closed form on the patch: Tikhonov's,
which weakens and shades the map along the dipole's cone and makes streaks of noise. Measured maps come with labels of
some structures; what these do not tell apart is merged before the loss sees it.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import nibabel as nib
import numba
import numpy as np
from scipy import ndimage

from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import irfftn, rfftn
from qsmbids.core.masks import component
from qsmbids.files import FileError
from qsmbids.networks.segmenter import STEP, along_axes, network_inputs, resampling
from qsmbids.simulation.anatomy import head_from_labels, load_labels
from qsmbids.simulation.head import digital_head
from qsmbids.simulation.shapes import CYLINDER, ELLIPSOID
from qsmbids.simulation.tissues import LABELS, TISSUES
from qsmbids.training.heads import FIELD_OF_VIEW, LOWEST, paint_at_random, random_texture, without_holes

STRUCTURE_OF = {
    'caudate': 'Caudate', 'putamen': 'Putamen', 'pallidum': 'PallidumExternal', 'pallidum_internal': 'PallidumInternal',
    'thalamus': 'Thalamus', 'red_nucleus': 'RedNucleus', 'substantia_nigra': 'SubstantiaNigra',
    'subthalamic': 'Subthalamic', 'dentate': 'Dentate', 'hippocampus': 'Hippocampus', 'amygdala': 'Amygdala',
    'accumbens': 'Accumbens', 'ventricle': 'CSF'}
# Of the label model of the reconstruction challenge's head; its nigra has the subthalamic nucleus in it.
PHANTOM = {1: 'caudate', 2: 'pallidum', 3: 'putamen', 4: 'red_nucleus', 5: 'dentate', 6: 'substantia_nigra',
           7: 'thalamus', 8: 'white_matter', 9: 'cortex', 10: 'sulcus', 11: 'vein', 12: 'fat', 13: 'bone', 15: 'muscle',
           16: 'sulcus'}
PHANTOM_MERGED = {'PallidumInternal': 'PallidumExternal', 'Subthalamic': 'SubstantiaNigra', 'Hippocampus': '',
                  'Amygdala': '', 'Accumbens': '', 'CSF': ''}
# Of measured maps, pairs of sides: indices from 1 on.
MEASURED = ('Caudate', 'Putamen', 'PallidumExternal', 'SubstantiaNigra', 'RedNucleus')
MEASURED_MERGED = {'PallidumInternal': 'PallidumExternal', 'Thalamus': '', 'Subthalamic': '', 'Dentate': '',
                   'Hippocampus': '', 'Amygdala': '', 'Accumbens': '', 'CSF': ''}
CELL = 24.      # of the deformation of a patch, voxels
RIM = 4         # voxels around a patch that are made up, too; of a fast size with it


@dataclass(frozen=True)
class Labelled:
    """A labelled head on voxels of `STEP`, axes to the right, front and top; arrays of shape (nx, ny, nz).

    Attributes
    ----------
    classes : ndarray, uint8
        Index into the structures of the network, from 1 on.
    mask : ndarray of bool
    merged : tuple of int
        For each class the one that stands for it here.
    tissues : ndarray, uint8, optional
        Index into the table of tissues.
    chi : ndarray, float32, optional
        A measured map, ppm.
    """

    classes: np.ndarray
    mask: np.ndarray
    merged: tuple
    tissues: np.ndarray | None = None
    chi: np.ndarray | None = None

    @cached_property
    def middle(self):
        """Middle of the mask, voxels."""
        return np.array(ndimage.center_of_mass(self.mask[::4, ::4, ::4])) * 4

    @cached_property
    def places(self):
        """Voxels of each class that is there, and last some of the brain: a list of arrays (n, 3)."""
        found = [np.argwhere(self.classes == number) for number in range(1, len(self.merged))]
        return [at for at in found if len(at)] + [4 * np.argwhere(self.mask[::4, ::4, ::4])]


@lru_cache(maxsize=None)
def simulated(path, seed, structures):
    """Return a `Labelled` head of a label map, another shape for each seed (ints); parametric without a path."""
    rng = np.random.Generator(np.random.PCG64(seed))
    sample = _sampler(path)
    if sample is None:
        return _phantom(path, structures)
    affine = np.diag([STEP, STEP, STEP, 1.])
    affine[:3, 3] = LOWEST
    shape = tuple(int(np.ceil(side / STEP)) for side in FIELD_OF_VIEW)
    options = {'fine': True} if path is None else {}
    head, brain = without_holes(sample(shape, affine, seed=int(rng.integers(2 ** 31)), variation=rng.uniform(.5, 3.5),
                                       **options))
    return _of_tissues(head.labels, brain, structures, {})


@lru_cache(maxsize=2)
def _sampler(path):
    if path is None:
        return digital_head
    labels, affine = load_labels(path)
    return None if labels.max() <= max(PHANTOM) else head_from_labels(labels, affine)


def _phantom(path, structures):
    image = nib.as_closest_canonical(nib.load(path))
    table = np.full(256, LABELS['air'], np.uint8)
    for number, name in PHANTOM.items():
        table[number] = LABELS[name]
    tissues = table[np.asarray(image.dataobj).astype(np.uint8)]
    steps = image.header.get_zooms()
    at = [np.minimum(np.rint(np.arange(int(n * step / STEP)) * STEP / step).astype(int), n - 1)
          for n, step in zip(tissues.shape, steps)]
    tissues = tissues[np.ix_(*at)]
    brain = np.array([tissue.brain for tissue in TISSUES.values()])[tissues]
    brain = ndimage.binary_fill_holes(component(ndimage.binary_opening(brain, iterations=2)))
    return _of_tissues(tissues, brain, structures, PHANTOM_MERGED)


def _of_tissues(tissues, brain, structures, merged):
    table = np.zeros(len(LABELS), np.uint8)
    for tissue, name in STRUCTURE_OF.items():
        table[LABELS[tissue]] = 1 + structures.index(name)
    return Labelled(table[tissues], brain, merging(structures, merged), tissues=tissues)


def merging(structures, merged):
    """Return for each class, background first, the one that stands for it, of a dict of names ('': background)."""
    names = ('', *structures)
    return tuple(names.index(merged.get(name, name)) for name in names)


@lru_cache(maxsize=None)
def measured(path, voxel_size, structures):
    """Return the `Labelled` head of a measured map, ``PATH_chi.nii.gz`` and ``PATH_labels.nii.gz``.

    Parameters
    ----------
    path : str
    voxel_size : tuple of float
        mm; that of the header does not count.
    structures : tuple of str

    Raises
    ------
    FileError
        If one of both is missing or damaged.
    """
    chi, labels = (_canonical(f'{path}_{kind}.nii.gz') for kind in ('chi', 'labels'))
    there = [resampling(n, step, int(np.ceil(n * step / STEP)), STEP) for n, step in zip(chi.shape, voxel_size)]
    mask = along_axes((chi != 0).astype(np.float32), there)
    classes, most = np.zeros(mask.shape, np.uint8), np.full(mask.shape, .5, np.float32)
    for number, name in enumerate(MEASURED):
        share = along_axes(np.isin(labels, (2 * number + 1, 2 * number + 2)).astype(np.float32), there)
        classes[share > most] = 1 + structures.index(name)
        np.maximum(most, share, out=most)
    chi = along_axes(chi, there) / np.maximum(mask, np.float32(.1))
    return Labelled(classes, mask > .5, merging(structures, MEASURED_MERGED), chi=chi)


def _canonical(path):
    try:
        return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj, np.float32)
    except (OSError, EOFError, nib.filebasedimages.ImageFileError) as error:
        raise FileError(f'{Path(path)}: cannot be read as a labelled map ({error})') from None


def labelled_patch(head, patch, rng):
    """Return a patch of a labelled head with everything random.

    Returns
    -------
    dict of ndarray
        inputs, float16 (channels, patch, patch, patch), those of `network_inputs`; classes, uint8 (patch, patch,
        patch); merged, uint8 (classes,).
    """
    size = patch + 2 * RIM
    matrix = _random_matrix(rng)
    around = np.linalg.inv(matrix) @ (_place_of_interest(head, rng) - head.middle) + rng.uniform(-.2, .2, 3) * patch
    points = _warped(size, around, matrix, rng) + head.middle.astype(np.float32)[:, None, None, None]
    mask, classes = _nearest(head.mask, points), _nearest(head.classes, points)
    places = (around[2] + np.arange(size) - (size - 1) / 2) * STEP
    below, above = _slab(around[2] * STEP, rng)
    mask[:, :, (places < below) | (places > above)] = False
    if head.tissues is None:
        chi, others = _linear(head.chi, points), {}
    else:
        chi, others = _made_up(_nearest(head.tissues, points), mask, rng)
        chi = _inverted(chi, mask, rng)
    chi = _blemished(chi, mask, head.tissues is not None, rng)
    mask = _worn(mask, chi, rng)
    inner = (slice(RIM, RIM + patch),) * 3
    origin = (patch - 1) / 2 - around + rng.normal(0, 4, 3)
    origin[2] += (max(below, -65) + min(above, 65)) / 2 / STEP
    inputs = network_inputs(_rescaled(chi[inner], rng), mask[inner], origin,
                            **{name: volume[inner] for name, volume in others.items()})
    inputs[0] = inputs[1] * np.clip(inputs[0] * np.exp(.25 * rng.standard_normal()) + .15 * rng.standard_normal(),
                                    -8, 8)
    return {'inputs': inputs.astype(np.float16), 'classes': classes[inner].astype(np.uint8),
            'merged': np.array(head.merged, np.uint8)}


def labelled_map(head, rng):
    """Return a map of a whole head with everything random but its shape, ppm, zero outside the mask."""
    chi, _ = _made_up(head.tissues, head.mask, rng)
    return _blemished(_inverted(chi, head.mask, rng), head.mask, True, rng) * head.mask


def _place_of_interest(head, rng):
    """Return a voxel in a random structure, or anywhere in the brain."""
    *structures, brain = head.places
    at = structures[rng.integers(len(structures))] if structures and rng.random() > .15 else brain
    return at[rng.integers(len(at))].astype(float)


def _random_matrix(rng):
    """Return a linear map from a patch to its head: turned, stretched, and mirrored in half of the cases."""
    x, y, z = np.deg2rad(np.clip(rng.normal(0, (9, 5, 5)), -25, 25))
    turn_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    turn_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    turn_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    stretch = np.clip(rng.normal(1, .07, 3), .8, 1.25) * np.clip(rng.normal(1, .05), .85, 1.15)
    stretch[0] *= rng.choice([-1, 1])
    return turn_x @ turn_y @ turn_z @ np.diag(stretch)


def _warped(size, around, matrix, rng):
    """Return where the voxels of a patch around a place come from, from the head's middle on: float32 (3, n, n, n)."""
    steps = [np.arange(size) - (size - 1) / 2 + middle for middle in around]
    points = np.stack([sum(np.multiply(matrix[row, axis], steps[axis]).astype(np.float32).reshape(
        [-1 if axis == other else 1 for other in range(3)]) for axis in range(3)) for row in range(3)])
    strength = rng.uniform(0, 3)
    spline = _splines(size)
    for part in points:
        part += np.float32(strength) * along_axes(rng.standard_normal((spline.shape[1],) * 3, dtype=np.float32),
                                                  [spline] * 3)
    return points


@lru_cache(maxsize=None)
def _splines(size, cell=CELL):
    """Return the matrix from a lattice of `cell` voxels to a smooth field along an axis of `size` voxels."""
    nodes = np.arange(-1, int(np.ceil(size / cell)) + 3)
    away = np.abs(np.arange(size)[:, None] / cell - nodes)
    weight = np.where(away < 1, 2 / 3 - away ** 2 + away ** 3 / 2, np.maximum(2 - away, 0) ** 3 / 6)
    return (weight / np.sqrt((weight ** 2).sum(axis=1).mean())).astype(np.float32)


def _slab(height, rng):
    """Return the lowest and the highest place that are measured, mm from the middle; `height` is between them."""
    if rng.random() > .3:
        return -1e3, 1e3
    below = rng.uniform(-65, -15)
    above = below + rng.uniform(50, 120)
    moved = max(height + 10 - above, 0) + min(height - 10 - below, 0)
    return below + moved, above + moved


@numba.njit(cache=True)
def _nearest(volume, points):
    """Return a volume at places, zero beyond it."""
    found = np.zeros(points.shape[1:], volume.dtype)
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            for k in range(found.shape[2]):
                a, b = int(np.rint(points[0, i, j, k])), int(np.rint(points[1, i, j, k]))
                c = int(np.rint(points[2, i, j, k]))
                if 0 <= a < volume.shape[0] and 0 <= b < volume.shape[1] and 0 <= c < volume.shape[2]:
                    found[i, j, k] = volume[a, b, c]
    return found


@numba.njit(cache=True)
def _linear(volume, points):
    """Return a volume between its voxels at places, zero beyond it."""
    found = np.zeros(points.shape[1:], volume.dtype)
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            for k in range(found.shape[2]):
                x, y, z = points[0, i, j, k], points[1, i, j, k], points[2, i, j, k]
                a, b, c = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
                if (a < 0 or b < 0 or c < 0 or a + 1 >= volume.shape[0] or b + 1 >= volume.shape[1]
                        or c + 1 >= volume.shape[2]):
                    continue
                u, v, w = x - a, y - b, z - c
                for corner in range(8):
                    e, f, g = corner >> 2, (corner >> 1) & 1, corner & 1
                    found[i, j, k] += ((u if e else 1 - u) * (v if f else 1 - v) * (w if g else 1 - w)
                                       * volume[a + e, b + f, c + g])
    return found


def _made_up(tissues, mask, rng):
    """Return a map of the tissues with everything random, ppm, and sometimes magnitude and R2*."""
    change = _tissue_values(rng)
    chi = change[tissues]
    texture = random_texture(chi.shape, (STEP,) * 3, rng.uniform(.5, 3.5), rng)
    solid = np.isin(tissues, [LABELS[name] for name in STRUCTURE_OF if name != 'ventricle'])
    chi += texture * np.where(solid, np.float32(rng.uniform(.002, .035)), np.float32(rng.uniform(.002, .02)))
    at = np.argwhere(mask)
    if len(at):
        count = int(rng.integers(0, 250))
        radius = rng.uniform(.35, 1.1, count) ** 2
        axes = np.column_stack([radius, radius, rng.uniform(3, 22, count)])
        paint_at_random(chi, CYLINDER, at, axes, rng.uniform(.03, .35, count), (STEP,) * 3, rng)
        count = int(rng.integers(0, 3))
        axes = rng.uniform(.8, 4, (count, 1)) ** 1.3 * rng.uniform(.6, 1.4, (count, 3))
        paint_at_random(chi, ELLIPSOID, at, axes, rng.uniform(.1, 1., count) * rng.choice([-1, 1], count), (STEP,) * 3,
                        rng)
    others = {}
    for name in ('magnitude', 'r2star'):
        if rng.random() < .5:
            others[name] = _contrast(name, tissues, texture, rng)
    return chi, others


def _tissue_values(rng):
    """Return the susceptibility of each tissue, ppm: from children without iron to much of it."""
    values = np.array([tissue.chi if tissue.brain else 0 for tissue in TISSUES.values()])
    others = 'hippocampus', 'amygdala', 'ventricle'
    nuclei = np.array([name in STRUCTURE_OF and name not in others for name in TISSUES])
    values[nuclei] *= rng.uniform(.1, .6) if rng.random() < .15 else rng.uniform(.6, 1.4)
    values *= rng.uniform(.6, 1.5, values.size)
    values += rng.uniform(.002, .02) * rng.standard_normal(values.size)
    return values.astype(np.float32)


def _contrast(name, tissues, texture, rng):
    """Return a magnitude as coils see it, or an R2* map of the tissues, raised where the background field varies."""
    table = TISSUES.values()
    if name == 'r2star':
        values = np.array([tissue.r2star for tissue in table]) * rng.uniform(.6, 1.5, len(TISSUES))
    elif rng.random() < .3:
        values = rng.uniform(.2, 1, len(TISSUES))
    else:
        values = _spoiled(table, rng) * rng.uniform(.8, 1.2, len(TISSUES))
    volume = values.astype(np.float32)[tissues]
    volume *= 1 + np.float32(rng.uniform(0, .1)) * texture
    smooth = _smooth(tissues.shape, rng)
    if name == 'magnitude':
        volume *= np.exp(np.float32(rng.uniform(0, .4)) * smooth)
    else:
        volume += np.float32(rng.uniform(0, 10)) * smooth ** 2
    noise = rng.standard_normal(volume.shape, dtype=np.float32)
    volume += np.float32(rng.uniform(.01, .2) * values.std()) * noise
    return _sliced(volume, rng)


def _spoiled(table, rng):
    """Return the signal of tissues in the steady state of a spoiled gradient echo."""
    m0, t1, r2star = (np.array([getattr(tissue, name) for tissue in table]) for name in ('m0', 't1', 'r2star'))
    recovery = np.exp(-rng.uniform(.02, .06) / np.maximum(t1, 1e-3))
    turned = np.cos(rng.uniform(.15, .5))
    return m0 * (1 - recovery) / (1 - turned * recovery) * np.exp(-r2star * rng.uniform(0, .04))


def _smooth(shape, rng):
    """Return a field of SD 1 that varies over two cells of the deformation."""
    splines = [_splines(n, 2 * CELL) for n in shape]
    return along_axes(rng.standard_normal([spline.shape[1] for spline in splines], dtype=np.float32), splines)


def _inverted(chi, mask, rng):
    """Return a map as an inversion makes it of the field of this one with noise."""
    chi = ndimage.gaussian_filter(chi, rng.uniform(.25, .6)) * mask
    if rng.random() < .15:
        return chi
    x, y = np.deg2rad(rng.normal(0, 12, 2))
    direction = np.array([np.sin(y), np.sin(x), np.cos(x) * np.cos(y)])
    kernel = dipole_kernel(chi.shape, (STEP,) * 3, direction / np.linalg.norm(direction))
    strength = np.float32(np.exp(rng.uniform(np.log(1e-3), np.log(4e-2))))
    inverse = kernel / (kernel ** 2 + strength)
    noise = rng.standard_normal(chi.shape, dtype=np.float32)
    if rng.random() < .5:
        noise = ndimage.gaussian_filter(noise, rng.uniform(.5, 1.2))
    errors = irfftn(rfftn(noise * mask, chi.shape) * inverse, chi.shape)
    found = irfftn(rfftn(chi, chi.shape) * (inverse * kernel), chi.shape)
    return found + np.float32(rng.uniform(.002, .02) / max(float(errors.std()), 1e-6)) * errors


def _blemished(chi, mask, thick, rng):
    """Return a map with slices of its own, white noise, and without some of what varies slowly."""
    if rng.random() < .3:
        slow = ndimage.zoom(ndimage.gaussian_filter((chi * mask)[::4, ::4, ::4], rng.uniform(2.5, 6)), 4, order=1)
        chi = chi - np.float32(rng.uniform(.2, 1)) * slow[tuple(slice(n) for n in chi.shape)]
    chi = chi + np.float32(rng.uniform(0, .008)) * rng.standard_normal(chi.shape, dtype=np.float32)
    if thick:
        return _sliced(chi, rng)
    return ndimage.gaussian_filter(chi, rng.uniform(.3, .7)) if rng.random() < .3 else chi


def _sliced(volume, rng):
    """Return a volume after a way to other voxels and back."""
    steps = np.full(3, rng.uniform(.6, 1.3))
    if rng.random() < .55:
        steps[2] = rng.uniform(1, 3.3)
    return along_axes(volume, [_there_and_back(n, step) for n, step in zip(volume.shape, steps)])


def _there_and_back(count, step):
    if step <= STEP:
        return np.eye(count, dtype=np.float32)
    coarse = int(np.ceil(count * STEP / step))
    return resampling(coarse, step, count, STEP) @ resampling(count, STEP, coarse, step)


def _worn(mask, chi, rng):
    """Return a mask with a border and holes as reliability makes them."""
    erosion = int(rng.integers(0, 4))
    if erosion:
        mask = ndimage.binary_erosion(mask, iterations=erosion)
    if rng.random() < .3:
        doubtful = np.abs(chi) > rng.uniform(.12, .4)
        mask = mask & ~(ndimage.binary_dilation(doubtful) if rng.random() < .5 else doubtful)
    return mask


def _rescaled(chi, rng):
    """Return a map whose contrast is bent a little."""
    return chi * (1 + np.float32(rng.uniform(-1, 1.5)) * np.clip(chi, -.2, .2))
