"""Where the brain is, and where in it the echoes can be trusted. No network, no atlas, no idea of which way is up."""

import numba
import numpy as np
from scipy import ndimage

from qsmbids.core.checks import check_mask, check_same_shape
from qsmbids.core.methods import MASKING

STEP = 2.0          # mm; brain extraction works on a grid of this spacing, whatever the voxel size.
FLAT = 20.0         # mm; brightness that changes over more than this is the coils', not the head's.
REACH = 20.0        # mm; how far inward of a point of the surface the tissue is looked at.
DEPTHS = int(REACH / STEP) + 1
NO_HEAD = 0.03      # tissue beyond the surface, as a share of that inside, below which the head was taken off before.
OPEN = 8            # voxels that doubt at the border is followed inwards; what is deeper and thin is a vein.
NO_BRAIN = 'magnitude shows no region that could be a brain'
BEND = 3.33, 10.0   # mm; radii of curvature of which the surface keeps the larger and smooths the smaller away.


def brain_mask(magnitude, voxel_size, *, fraction=None):
    """Find the brain in gradient-echo magnitudes.

    A tessellated sphere that is put in the middle of the thickest tissue grows until it meets the dark skull. The
    magnitude's slow shading is divided out before, twice: from the whole head to begin with, from inside the first
    surface for the final one. Echoes are combined by the root of their sum of squares: the first ones keep what lies
    above the air of the sinuses, the later ones the contrast to fat, and noise matters least.

    Parameters
    ----------
    magnitude : ndarray, shape (nx, ny, nz) or (nx, ny, nz, ne)
        Of a whole head, of a slab of it, or of a brain that was extracted before. No axis has a special role.
    voxel_size : sequence of float
        mm.
    fraction : float, optional
        Between 0 and 1: where between nothing and the local tissue the brain ends. Larger gives a smaller brain. By
        default 0.53 at 1 mm, more for larger voxels (0.7 at 4 mm): the brighter they show the thin skull.

    Returns
    -------
    ndarray of bool, shape (nx, ny, nz)
        One component without holes; with the ventricles and most of the fluid around the brain. True everywhere if the
        volume shows nothing but tissue.

    Raises
    ------
    ValueError
        If the magnitude is all zero or not finite, or no tissue was found.

    Notes
    -----
    Takes the memory of about five volumes beside the input's.

    References
    ----------
    Smith SM. Fast robust automated brain extraction. Hum Brain Mapp 2002;17:143-155.
    """
    image = combine_echoes(magnitude)
    size = tuple(max(1, round(n * v / STEP)) for n, v in zip(image.shape, voxel_size))
    coarse = _resample(image, voxel_size, size, (STEP,) * 3)
    low, high = np.percentile(coarse, (2, 98))
    if low > 0.2 * high:
        return np.ones(image.shape, bool)
    head = coarse > low + 0.1 * (high - low)
    if fraction is None:
        fraction = np.clip(0.475 + 0.055 * np.prod(voxel_size) ** (1 / 3), 0.5, 0.7)
    level = _brain_level(coarse, head, fraction)
    mask = _resample(level, (STEP,) * 3, image.shape, voxel_size) > 0.5
    beyond = head & ~ndimage.binary_dilation(level > 0.5, iterations=2)
    if beyond.sum() < NO_HEAD * np.sum(level > 0.5):
        # Nothing but the brain is there, and it knows its border better than a smooth surface does.
        mask |= image > low + 0.1 * (high - low)
        mask &= image > 0
    if not mask.any():
        raise ValueError(NO_BRAIN)
    return fill_holes(component(mask))


def find_brain(method, magnitude, voxel_size, affine=None, **parameters):
    """Find the brain by one of the methods of `core.methods.MASKING`.

    Parameters
    ----------
    method : str
        Name in the table.
    magnitude, voxel_size
        As for `brain_mask`.
    affine : array_like, shape (4, 4), optional
        Voxel to scanner, for methods that ask which way is up.
    **parameters
        The method's own.

    Returns
    -------
    ndarray of bool, shape (nx, ny, nz)

    Raises
    ------
    ValueError
        If there is no such method, or as the method says.
    """
    if method not in MASKING:
        raise ValueError(f'mask method is {method!r}, must be one of {", ".join(MASKING)}')
    chosen = MASKING[method]
    beside = {'affine': affine} if chosen.takes('affine') else {}
    return chosen.load()(magnitude, voxel_size, **beside, **parameters)


def reliable_mask(mask, residual, quality=None, *, within=None, threshold=0.3, max_hole=64, erosion=False):
    """Narrow a brain mask to where the echoes follow one field.

    What is unreliable at the border (near the sinuses) is cut off together with the voxels that touch it: beside air
    the echoes may agree on a field that is off by whole turns. Elsewhere the border stays where it is. What is
    unreliable inside is veins and bleeds: small or thin places, of which QSM is to show the susceptibility. A hole
    there would cost the background removal a rim around it, so they stay in the mask, and the data weight of the
    inversion is what should mistrust them. A large hole stays open: its field would spoil its surroundings.

    Parameters
    ----------
    mask : ndarray of bool, shape (nx, ny, nz)
        The brain.
    residual : ndarray, shape (nx, ny, nz)
        Relative residual of the echo fit. Not finite counts as unreliable.
    quality : ndarray, shape (nx, ny, nz), optional
        Voxel quality of the unwrapping in [0, 1]; below `threshold` is unreliable too.
    within : ndarray of bool, shape (nx, ny, nz), optional
        The brain, if `mask` reaches beyond it: what is unreliable outside of it is no vein, and goes. All of `mask` by
        default.
    threshold : float, default 0.3
        Residuals from here on are unreliable.
    max_hole : int, default 64
        Voxels of the largest enclosed hole that is filled; at 1 mm a sphere of 5 mm across.
    erosion : bool, default False
        Take a voxel off everywhere, as the consensus pipeline does, not just beside what is unreliable.

    Returns
    -------
    ndarray of bool, shape (nx, ny, nz)
        The largest component of a subset of `mask`.

    Raises
    ------
    ValueError
        If shapes differ, or nothing is left.

    Notes
    -----
    The threshold is that of the consensus pipeline: QSM Consensus Organization Committee (Bilgic B, et al.).
    Recommended implementation of quantitative susceptibility mapping for clinical research in the brain. Magn Reson Med
    2024;91:1834-1862.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.ones((12, 12, 12), bool)
    >>> residual = np.full(mask.shape, .05)
    >>> residual[5, 5, 5] = residual[0] = .9
    >>> trusted = reliable_mask(mask, residual)
    >>> bool(trusted[5, 5, 5]), bool(trusted[0].any())
    (True, False)
    """
    mask = check_mask(mask)
    check_same_shape(mask=mask, residual=residual, **({} if quality is None else {'quality': quality}))
    within = mask if within is None else mask & within
    sound = residual < threshold
    if quality is not None:
        sound &= quality >= threshold
    trusted = mask & sound
    # Veins reach the surface: their thin walls have to close before what they hold is enclosed.
    trusted |= ndimage.binary_closing(np.pad(trusted, 1))[1:-1, 1:-1, 1:-1] & within
    trusted |= fill_holes(trusted, max_hole) & within
    if erosion:
        trusted = ndimage.binary_erosion(trusted)
    else:
        doubtful = mask & ~sound
        cut = doubtful & ndimage.binary_dilation(~trusted, np.ones((3, 3, 3)), OPEN, doubtful | ~trusted)
        trusted &= ~ndimage.binary_dilation(cut)
    if not trusted.any():
        raise ValueError(f'residual is below {threshold} almost nowhere in mask: no reliable voxel is left')
    return component(trusted)


def widen_mask(mask, voxel_size, margin):
    """Return a mask with its surroundings, where a field is to be known for the sake of that inside.

    What background removal leaves, and what it takes away too much, is worst at the border of what it sees. Beyond a
    brain mask that ends with the tissue there are fluid and membranes whose field is as good.

    Parameters
    ----------
    mask : ndarray of bool, shape (nx, ny, nz)
    voxel_size : sequence of float
        mm.
    margin : float
        Distance up to which a voxel belongs to the surroundings, mm.

    Returns
    -------
    ndarray of bool, shape (nx, ny, nz)

    Raises
    ------
    ValueError
        If the mask is empty or `margin` is negative.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((9, 9, 9), bool)
    >>> mask[4, 4, 4] = True
    >>> int(widen_mask(mask, (1, 1, 1), 1).sum()), int(widen_mask(mask, (1, 1, 3), 1).sum())
    (7, 5)
    """
    mask = check_mask(mask)
    if not margin >= 0:
        raise ValueError(f'margin is {margin}, must be at least 0')
    return ndimage.distance_transform_edt(~mask, sampling=voxel_size) <= margin


def two_pass_masks(mask, reliable, residual, quality, voxel_size, *, threshold=0.3, least_mm3=64.0):
    """Return what each of two passes computes in: the brain without its doubtful parts, and all of it.

    Small and thin doubtful parts, veins above all, stay in the first pass as `reliable_mask` has them: they spoil
    little, and each would cost the background removal a rim.

    Parameters
    ----------
    mask : ndarray of bool, shape (nx, ny, nz)
        The brain, with the surroundings in which the field is known.
    reliable : ndarray of bool, shape (nx, ny, nz)
        As from `reliable_mask`, which keeps doubtful voxels that reliable ones enclose.
    residual : ndarray, shape (nx, ny, nz)
        Relative residual of the echo fit.
    quality : ndarray, shape (nx, ny, nz), or None
        Voxel quality of the unwrapping.
    voxel_size : sequence of float
        mm.
    threshold : float, default 0.3
        As for `reliable_mask`.
    least_mm3 : float, default 64
        Volume of the smallest doubtful part to leave out of the first pass; its voxels touch by corners at least.

    Returns
    -------
    strict, filled : ndarray of bool, shape (nx, ny, nz)

    Raises
    ------
    ValueError
        If shapes differ, or no voxel is reliable.
    """
    mask = check_mask(mask)
    check_same_shape(mask=mask, reliable=reliable, residual=residual)
    filled = fill_holes(mask)
    doubtful = filled & ~(residual < threshold)
    if quality is not None:
        check_same_shape(mask=mask, quality=quality)
        doubtful |= filled & (quality < threshold)
    parts, _ = ndimage.label(doubtful, np.ones((3, 3, 3)))
    large = np.bincount(parts.ravel()) * np.prod(voxel_size) >= least_mm3
    large[0] = False
    strict = reliable & ~large[parts]
    if not strict.any():
        raise ValueError(f'residual is below {threshold} almost nowhere in reliable: nothing is left to the first pass')
    return strict, filled


def merge_two_pass(chi, reliable, filled_chi, filled, *, align=True):
    """Merge a susceptibility map of what is reliable with one of all there is.

    Bad data spoil a map far around them, by streaks. In a map without them they spoil nothing, but have no value
    either; the second map has one. It shows through where the first has none: ``chi + filled_chi (1 - reliable)``.

    Parameters
    ----------
    chi : ndarray, shape (nx, ny, nz)
        Susceptibility by the reliable data alone, ppm.
    reliable : ndarray of bool, shape (nx, ny, nz)
        Where it is known.
    filled_chi : ndarray, shape (nx, ny, nz)
        Susceptibility by all data, ppm.
    filled : ndarray of bool, shape (nx, ny, nz)
        Where that is known.
    align : bool, default True
        Shift `filled_chi` so that both have one mean where both are known: susceptibility has no zero of its own. Not
        so a field.

    Returns
    -------
    chi : ndarray, float32, shape (nx, ny, nz)
        ppm; zero outside the mask.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where either is known.

    Raises
    ------
    ValueError
        If shapes differ, or the maps have no voxel in common.

    Notes
    -----
    Stewart AW, Robinson SD, O'Brien K, et al. QSMxT: Robust masking and artifact reduction for quantitative
    susceptibility mapping. Magn Reson Med 2022;87:1289-1300.
    """
    reliable = check_mask(reliable)
    check_same_shape(reliable=reliable, chi=chi, filled_chi=filled_chi, filled=filled)
    common = reliable & filled
    if not common.any():
        raise ValueError('filled has no voxel in common with reliable, must cover most of it')
    shift = np.float32(np.mean(chi[common] - filled_chi[common], dtype=float) if align else 0)
    mask = reliable | filled
    return np.where(reliable, chi, np.where(filled, filled_chi + shift, 0)).astype(np.float32), mask


def erode(mask, voxel_size, radius_mm):
    """Take away what lies within a distance of the border, of holes and of the volume's faces.

    Parameters
    ----------
    mask : ndarray of bool, shape (nx, ny, nz)
    voxel_size : sequence of float
        mm.
    radius_mm : float
        A voxel stays if the centre of every voxel outside the mask is further away than this.

    Returns
    -------
    ndarray of bool, shape (nx, ny, nz)
    """
    mask = check_mask(mask, empty=True)
    distance = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=voxel_size)
    return distance[1:-1, 1:-1, 1:-1] > radius_mm


def fill_holes(mask, max_voxels=None):
    """Fill what is enclosed by a mask and has no way to a face of the volume.

    Parameters
    ----------
    mask : ndarray of bool, shape (nx, ny, nz)
    max_voxels : int, optional
        Leave larger holes open.

    Returns
    -------
    ndarray of bool, shape (nx, ny, nz)
    """
    mask = check_mask(mask, empty=True)
    labels, count = ndimage.label(~mask)
    fill = np.ones(count + 1, bool)
    for axis in range(3):
        for face in (0, -1):
            fill[np.take(labels, face, axis)] = False
    if max_voxels is not None:
        fill &= np.bincount(labels.ravel(), minlength=count + 1) <= max_voxels
    fill[0] = True
    return fill[labels]


def component(mask, seed=None, neighbours=None):
    """Return the largest component of a mask, or that of the voxel `seed`; it hangs together by faces, or as told."""
    labels, count = ndimage.label(mask, neighbours)
    if seed is not None:
        return labels == labels[seed]
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]) if count > 1 else mask


def combine_echoes(magnitude):
    """Return the root of the sum of squares of the echoes, at most 1; ValueError if it is zero or not finite."""
    magnitude = np.asarray(magnitude)
    if magnitude.ndim not in (3, 4):
        raise ValueError(f'magnitude has shape {magnitude.shape}, must be (nx, ny, nz) or (nx, ny, nz, ne)')
    if magnitude.ndim == 3:
        image = magnitude.astype(np.float32)
    else:
        image = np.sqrt(np.einsum('...e,...e->...', magnitude, magnitude, dtype=np.float32, casting='same_kind'))
    top = image.max()
    if not np.isfinite(image).all() or top <= 0:
        raise ValueError('magnitude is zero everywhere or has non-finite voxels, must show a head')
    return image / top


def _resample(volume, step, shape, target):
    """Bring a volume to another grid about the same centre: a mean where it gets coarser, linear where finer."""
    for axis in range(3):
        here, there = ((np.arange(n) - (n - 1) / 2) * d for n, d in
                       ((volume.shape[axis], step[axis]), (shape[axis], target[axis])))
        weights = np.maximum(0, 1 - np.abs(there[:, None] - here) / max(step[axis], target[axis]))
        weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        volume = np.moveaxis(np.tensordot(weights, volume, (1, axis)), 0, axis)
    return volume


def _brain_level(image, head, fraction):
    """Return a volume that is above one half in the brain, from an image on the grid of `STEP`."""
    flat = _flatten(image, head)
    flat = _flatten(image, head & (flat < 1.4))
    core, depth = _thickest_part(flat)
    tissue = np.median(flat[core])
    vertices, faces = _icosphere(3)
    vertices = vertices * 0.6 * depth + np.argwhere(core).mean(axis=0)
    # Less strict at first: the second surface gives back what is too much, but finds no way round a dark sulcus.
    vertices = _grow(flat, tissue, vertices, faces, 400, min(fraction, 0.6))
    vertices, faces = _subdivide(vertices, faces)

    inside = ndimage.binary_erosion(_fill_surface(vertices, faces, image.shape) == 1, iterations=2)
    flat = _flatten(image, inside & (abs(flat / tissue - 1.1) < 0.6))
    vertices = _grow(flat, 1.0, vertices, faces, 150, fraction)
    return ndimage.gaussian_filter(_fill_surface(vertices, faces, image.shape), 1)


def _flatten(image, where):
    """Divide by the mean brightness of the surroundings, of which only `where` counts."""
    if not where.any():
        raise ValueError(NO_BRAIN)
    shape = tuple(-(-n // 4) for n in image.shape)
    steps = (STEP,) * 3, shape, (4 * STEP,) * 3
    bright, count = (_smooth(_resample(v.astype(np.float32), *steps)) for v in (image * where, where))
    shading = _resample(bright / count, steps[2], image.shape, steps[0])
    return np.minimum(image / np.maximum(shading, 1e-3 * shading.max()), 3)


def _smooth(volume):
    # A faint wide kernel carries the shading on to where the narrow one finds nothing, a constant yet further.
    narrow, wide = (ndimage.gaussian_filter(volume, factor * FLAT / (4 * STEP), mode='constant', truncate=6)
                    for factor in (1, 2))
    return narrow + 0.01 * wide + 1e-5 * volume.mean()


def _likeness(flat):
    # Fat is as little brain as bone is; but vessels and the tissue near a coil are a little brighter than the mean too.
    return np.minimum(flat, 1) * np.clip((2.4 - flat) / 0.8, 0, 1)


def _thickest_part(flat):
    """Return the core of the thickest piece of tissue, and the depth of its deepest point in grid steps."""
    # Faces of the volume are no end of the tissue: in a slab everything would be equally thin.
    tissue = ndimage.binary_closing(np.pad(_likeness(flat) > 0.4, 1, mode='edge'))[1:-1, 1:-1, 1:-1]
    depth = ndimage.distance_transform_edt(tissue)
    deepest = np.unravel_index(depth.argmax(), depth.shape)
    return component(depth > 0.5 * depth[deepest], deepest), depth[deepest]


def _grow(image, tissue, vertices, faces, rounds, fraction):
    """Let a closed surface grow to where the image darkens. Positions and lengths are in grid steps."""
    values = _likeness(image / tissue)
    count = np.bincount(faces.ravel())
    for _ in range(rounds):
        vertices = _step(values, vertices, faces, count, fraction)
    return vertices


@numba.njit(cache=True, nogil=True, error_model='numpy')
def _step(values, vertices, faces, count, fraction):
    """Return the vertices after one round of growth. Smith's t2 and t are the constants 0.1 and 0.3 of the tissue."""
    mean_bend = (STEP / BEND[0] + STEP / BEND[1]) / 2
    steepness = 6 / (STEP / BEND[0] - STEP / BEND[1])
    around, normals, length = _surroundings(vertices, faces)
    moved = np.empty_like(vertices)
    pull, normal = np.empty(3), np.empty(3)
    for v in range(len(vertices)):
        size = max(np.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2), 1e-12)
        outward = 0.
        for axis in range(3):
            normal[axis] = normals[v, axis] / size
            pull[axis] = around[v, axis] / count[v] - vertices[v, axis]
            outward += pull[axis] * normal[axis]
        smoothing = (1 + np.tanh(steepness * (2 * abs(outward) / length ** 2 - mean_bend))) / 2
        low, high = _inward(values, vertices[v], normal)
        force = 2 * (low - .1) / (high - .1) - 2 * fraction
        along = (smoothing - .5) * outward + .05 * length * force
        for axis in range(3):
            position = vertices[v, axis] + .5 * pull[axis] + along * normal[axis]
            moved[v, axis] = min(max(position, -.5), values.shape[axis] - .5)
    return moved


@numba.njit(cache=True, nogil=True, error_model='numpy')
def _surroundings(vertices, faces):
    """Return the sum of each vertex's neighbours, a vector outward there, and the mean length of the edges."""
    around, normals, length = np.zeros_like(vertices), np.zeros_like(vertices), 0.
    for f in range(len(faces)):
        a, b, c = faces[f]
        squared = 0.
        for axis in range(3):
            one, other = (axis + 1) % 3, (axis + 2) % 3
            normal = ((vertices[b, one] - vertices[a, one]) * (vertices[c, other] - vertices[a, other])
                      - (vertices[b, other] - vertices[a, other]) * (vertices[c, one] - vertices[a, one]))
            squared += (vertices[b, axis] - vertices[a, axis]) ** 2
            for corner, following in ((a, b), (b, c), (c, a)):
                normals[corner, axis] += normal
                around[corner, axis] += vertices[following, axis]
        length += np.sqrt(squared) / len(faces)
    return around, normals, length


@numba.njit(cache=True, nogil=True, error_model='numpy')
def _inward(values, vertex, normal):
    """Return the darkest value up to `REACH` below a point of the surface, and the brightest up to half of that."""
    low, high = np.inf, .3
    x, y, z = vertex
    for depth in range(DEPTHS):
        i, j, k = (int(np.rint(x - depth * normal[0])), int(np.rint(y - depth * normal[1])),
                   int(np.rint(z - depth * normal[2])))
        seen = values[min(max(i, 0), values.shape[0] - 1), min(max(j, 0), values.shape[1] - 1),
                      min(max(k, 0), values.shape[2] - 1)]
        low = min(low, seen)
        if depth <= DEPTHS // 2:
            high = max(high, seen)
    return max(low, .1), high


def _icosphere(level):
    """Return a tessellated unit sphere: vertices (nv, 3), faces (nf, 3) counterclockwise from outside."""
    golden = (1 + 5 ** 0.5) / 2
    corners = [np.roll((0, s, t * golden), k) for k in range(3) for s in (-1, 1) for t in (-1, 1)]
    vertices = np.array(corners) / np.hypot(1, golden)
    near = vertices @ vertices.T > 0.4
    faces = np.array([(i, j, k) for i in range(12) for j in range(i) for k in range(j)
                      if near[i, j] and near[j, k] and near[i, k]])
    inverted = np.linalg.det(vertices[faces]) < 0
    faces[inverted] = faces[inverted, ::-1]
    for _ in range(level):
        vertices, faces = _subdivide(vertices, faces)
        vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    return vertices, faces


def _subdivide(vertices, faces):
    """Make four faces of each, with new vertices in the middle of the edges."""
    edges = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], axis=2).reshape(-1, 2), axis=1)
    edges, index = np.unique(edges, axis=0, return_inverse=True)
    a, b, c = faces.T
    ab, bc, ca = index.reshape(-1, 3).T + len(vertices)
    quarters = [np.stack(corners, axis=1) for corners in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return np.concatenate([vertices, vertices[edges].mean(axis=1)]), np.concatenate(quarters)


def _fill_surface(vertices, faces, shape):
    """Return a volume that is one inside a closed surface, a half where it passes, zero outside."""
    fine = 16
    shares = np.array([(i, j, fine - i - j) for i in range(fine + 1) for j in range(fine + 1 - i)]) / fine
    points = (shares @ vertices[faces]).reshape(-1, 3)
    shell = np.zeros([n + 4 for n in shape], bool)
    shell[tuple(np.rint(points).astype(np.intp).T + 2)] = True
    outside = component(~shell, (0, 0, 0))
    level = np.where(shell, np.float32(0.5), (~outside).astype(np.float32))
    return level[2:-2, 2:-2, 2:-2]
