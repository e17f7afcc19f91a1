"""Segmentation of the deep nuclei by a network.

The network knows no sides: these come from the plane between the two halves of what it finds. Its voxels are coarser
than those of most maps: on their grid, the values weigh in at the borders (`core.borders`).
"""

import numpy as np
import torch

from qsmbids.core.borders import sharpen
from qsmbids.core.checks import check_mask, check_volume, check_voxel_size
from qsmbids.core.dipole import voxel_size_of
from qsmbids.core.grid import bounding_box
from qsmbids.core.labels import BY_NAME, STRUCTURES
from qsmbids.core.masks import component
from qsmbids.networks.segmenter import CHANNELS, STEP, along_axes, network_inputs, resampling
from qsmbids.networks.shipped import shipped
from qsmbids.networks.weights import load_weights

MARGIN = 8
"""Voxels around the mask that the network sees, too."""
SURE = .99
"""Where the background is more probable than this there is no structure."""
NEGLIGIBLE = .005
"""Share of a class that is taken for none."""
SIDED = 30
"""Voxels of a structure on each side, at least, for it to tell where the middle plane is."""


def segment(chi, mask, voxel_size, *, magnitude=None, r2star=None, affine=None, weights='dgm', flip=True,
            probabilities=False):
    """Segment the deep nuclei, hippocampus, amygdala and ventricles.

    Parameters
    ----------
    chi : ndarray, shape (nx, ny, nz)
        ppm; any reference.
    mask : ndarray of bool, shape (nx, ny, nz)
        The brain, or what of it `chi` covers.
    voxel_size : sequence of float
        mm.
    magnitude, r2star : ndarray, shape (nx, ny, nz), optional
        The network does without.
    affine : array_like, shape (4, 4), optional
        Voxel to scanner; only the directions of the axes are used. They run to the right, front and top if not given.
    weights : str
        Name of weights that come with qsmbids, or the path of a file of your own.
    flip : bool, default True
        Whether to take the mean over the map and its mirror image.
    probabilities : bool, default False
        Whether to return those, too.

    Returns
    -------
    labels : ndarray, uint8, shape (nx, ny, nz)
        Indices of `core.labels.FINEST`, zero elsewhere.
    probabilities : dict of ndarray
        Only on demand: name of a structure, both sides together, to float32 (nx, ny, nz).

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, or chi is not finite inside the mask.
    FileError
        If the weights are missing or damaged.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((40, 40, 40), bool)
    >>> mask[4:36, 4:36, 4:36] = True
    >>> labels = segment(np.zeros(mask.shape), mask, (2., 2., 2.), flip=False)
    >>> labels.shape, labels.dtype
    ((40, 40, 40), dtype('uint8'))
    """
    mask = check_mask(mask)
    volumes = {name: None if volume is None else check_volume(name, volume, mask)
               for name, volume in (('chi', chi), ('magnitude', magnitude), ('r2star', r2star))}
    network, _ = load_weights(shipped(weights))
    return segment_with(network, volumes.pop('chi'), mask, check_voxel_size(voxel_size), **volumes, affine=affine,
                        flip=flip, probabilities=probabilities)


def segment_with(network, chi, mask, voxel_size, *, magnitude=None, r2star=None, affine=None, flip=True,
                 probabilities=False):
    """Do what `segment` does, with a network."""
    order, signs = canonical_axes(affine)
    box = bounding_box(mask, [int(MARGIN * STEP / step) for step in voxel_size])

    def turned(volume):
        return None if volume is None else volume[box].transpose(order)[signs]

    steps = [voxel_size[axis] for axis in order]
    inside = turned(mask)
    shares = _shares(network, turned(chi), inside, steps, turned(magnitude), turned(r2star), flip)
    names = ('', *network.structures)
    back, within, there = _way_back(shares[0], inside.shape, steps)
    plane = middle_plane(shares.argmax(axis=0))
    found, kept = _two_most_probable(shares, back, within, probabilities)
    classes = np.zeros(inside.shape, np.uint8)
    classes[there] = sharpen(*found, turned(chi)[there], inside[there], steps)
    kept = {name: _untouched(_embedded(_with(share, number, *found[:2]), inside.shape, there), chi.shape, box, order,
                             signs) for number, (name, share) in enumerate(zip(names[1:], kept), 1)}
    labels = _untouched(_sided(classes, names, plane, steps), chi.shape, box, order, signs)
    return (labels, kept) if probabilities else labels


def _two_most_probable(shares, back, within, keep):
    """Return what `core.borders.sharpen` takes, on the grid of the data, and on demand the shares of all classes."""
    background = along_axes(shares[0][within], back)
    classes, shares_of = np.zeros((2, *background.shape), np.uint8), np.zeros((2, *background.shape), np.float32)
    kept = []
    for number in range(1, len(shares)):
        there, share = _where_it_counts(shares[number][within], back)
        first, second = share > shares_of[0][there], share > shares_of[1][there]
        for order, volume in ((classes, number), (shares_of, share)):
            np.copyto(order[1][there], volume, where=second)
            np.copyto(order[1][there], order[0][there], where=first)
            np.copyto(order[0][there], volume, where=first)
        if keep:
            kept.append(_embedded(share, background.shape, there))
    return (classes, shares_of, background), kept


def _where_it_counts(share, back):
    """Return the box of the data that a class may be in, and its share there."""
    counts = share > NEGLIGIBLE
    box = bounding_box(counts) if counts.any() else (slice(0, 1),) * 3
    rows = [np.flatnonzero(matrix[:, part].any(axis=1)) for matrix, part in zip(back, box)]
    there = tuple(slice(found[0], found[-1] + 1) if found.size else slice(0, 0) for found in rows)
    return there, along_axes(share[box], [matrix[side, part] for matrix, side, part in zip(back, there, box)])


def _with(share, number, classes, shares):
    """Return the share of a class with what became of it where it is one of the two most probable."""
    for rank, most in zip(classes, shares):
        np.copyto(share, most, where=rank == number)
    return share


def _embedded(part, shape, there):
    whole = np.zeros(shape, part.dtype)
    whole[there] = part
    return whole


def _way_back(background, shape, steps):
    """Return the matrices to the grid of the data, for the part of both grids where there is more than background."""
    found = bounding_box(background < SURE) if (background < SURE).any() else (slice(0, 1),) * 3
    matrices, within, there = [], [], []
    for part, n, m, step in zip(found, background.shape, shape, steps):
        matrix = resampling(n, STEP, m, step)
        rows = np.flatnonzero(matrix[:, part].sum(axis=1))
        reach = 2 * int(np.ceil(max(step, STEP) / STEP))
        within.append(slice(max(part.start - reach, 0), part.stop + reach))
        there.append(slice(rows[0], rows[-1] + 1))
        matrices.append(matrix[there[-1], within[-1]])
    return matrices, tuple(within), tuple(there)


def _shares(network, chi, mask, steps, magnitude, r2star, flip):
    """Return the probabilities of the classes on the network's grid."""
    there = [resampling(n, step, max(int(np.ceil(n * step / STEP)), 1), STEP) for n, step in zip(mask.shape, steps)]
    weight = along_axes(mask.astype(np.float32), there)
    inside = weight > .5

    def moved(volume):
        if volume is None:
            return None
        return along_axes(np.where(mask, volume, 0).astype(np.float32), there) / np.maximum(weight, np.float32(.1))

    volumes = network_inputs(moved(chi), inside, magnitude=moved(magnitude), r2star=moved(r2star))
    device = next(network.parameters()).device
    tensor = torch.from_numpy(volumes)[None].to(device)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        shares = torch.softmax(network(tensor), 1)
        if flip:
            tensor = tensor.flip(2)
            tensor[:, CHANNELS.index('right')] *= -1
            shares = shares.add_(torch.softmax(network(tensor), 1).flip(2)).mul_(.5)
    return shares[0].cpu().numpy()


def canonical_axes(affine):
    """Return the order of the axes, and the slices that turn them, for axes to the right, front and top."""
    if affine is None:
        return (0, 1, 2), (slice(None),) * 3
    directions = np.asarray(affine, float)[:3, :3] / voxel_size_of(affine)
    left, order = np.abs(directions), [0, 0, 0]
    for _ in range(3):
        world, axis = np.unravel_index(np.argmax(left), left.shape)
        order[world] = int(axis)
        left[world], left[:, axis] = -1, -1
    return tuple(order), tuple(slice(None, None, 1 if directions[world, axis] > 0 else -1)
                               for world, axis in enumerate(order))


def _untouched(volume, shape, box, order, signs):
    """Return a canonical volume of the box in its place and with the axes of the data."""
    whole = np.zeros(shape, volume.dtype)
    whole[box] = volume[signs].transpose(np.argsort(order))
    return whole


def middle_plane(classes):
    """Return the plane between the two halves of what was found: right of it ``x > a + b y + c z``, mm from the middle.

    Each structure with enough voxels on both sides has the middle between its halves on that plane. They are told apart
    by a first plane, upright through the middle of all, which is moved until nothing changes.

    Returns
    -------
    ndarray, shape (3,)
        a, b, c.
    """
    found = np.argwhere(classes)
    plane = np.zeros(3)
    if not len(found):
        return plane
    kinds = classes[tuple(found.T)]
    places = (found - (np.array(classes.shape) - 1) / 2) * STEP
    plane[0] = np.median(places[:, 0])
    for _ in range(8):
        right = is_right(places.T, plane)
        middles = [(places[(kinds == kind) & right].mean(axis=0) + places[(kinds == kind) & ~right].mean(axis=0)) / 2
                   for kind in np.unique(kinds)
                   if min(np.sum((kinds == kind) & right), np.sum((kinds == kind) & ~right)) >= SIDED]
        if not middles:
            break
        middles = np.array(middles)
        # A little stiff: few structures do not turn it over.
        rows = np.vstack([np.column_stack([np.ones(len(middles)), middles[:, 1:]]), np.diag([0., 10., 10.])])
        before, plane = plane, np.linalg.lstsq(rows, np.append(middles[:, 0], np.zeros(3)), rcond=None)[0]
        if np.allclose(before, plane):
            break
    return plane


def is_right(places, plane):
    """Return which places, three arrays in mm from the middle, lie right of a plane."""
    x, y, z = places
    return x > plane[0] + plane[1] * y + plane[2] * z


def _sided(classes, names, plane, steps):
    """Return the indices of the labels: the largest piece of each structure on each side."""
    labels = np.zeros(classes.shape, np.uint8)
    if not classes.any():
        return labels
    box = bounding_box(classes)
    places = [(np.arange(side.start, side.stop) - (n - 1) / 2) * step
              for n, step, side in zip(classes.shape, steps, box)]
    right = is_right(np.meshgrid(*places, indexing='ij', sparse=True), plane)
    for number, name in enumerate(names):
        if not number:
            continue
        structure, here = STRUCTURES[name], classes[box] == number
        if not structure.paired:
            labels[box][here] = BY_NAME[name].index
            continue
        for letter, side in (('L', here & ~right), ('R', here & right)):
            labels[box][component(side, neighbours=np.ones((3, 3, 3)))] = BY_NAME[f'{name}_{letter}'].index
    return labels
