"""Training samples from digital heads: whole heads with their fields, of which patches are cut.

The field is that of the whole head, so that a patch holds the field of what lies outside of it, as in vivo. It has what
makes measured fields differ from the field of any map: noise, remains of background removal, and parts that follow the
tissue but no dipole, as microstructure and anisotropy make them.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import binary_erosion, binary_fill_holes, gaussian_filter

from qsmbids.core.dipole import forward_field
from qsmbids.core.fourier import frequencies, irfftn, rfftn
from qsmbids.core.grid import bounding_box
from qsmbids.core.methods import BACKGROUND
from qsmbids.simulation.shapes import CYLINDER, ELLIPSOID, paint_shapes, random_rotations
from qsmbids.simulation.tissues import LABELS

FIELD_OF_VIEW = (166., 204., 170.)   # mm; holds the brain of any of the heads
LOWEST = (-83., -120., -82.)         # its corner in head coordinates, mm
# How the local field comes about: that of the sources inside the mask alone, or by removal of the background.
REMOVALS = {'none': .45, 'vsharp': .3, 'lbv': .15, 'pdf': .1}


@dataclass(frozen=True)
class TrainingHead:
    """A head with its fields; arrays of shape (nx, ny, nz), zero outside the mask, ppm.

    Attributes
    ----------
    chi : ndarray, float32
        Without its mean over the mask.
    total : ndarray, float32
        Field of all sources, with noise.
    local : ndarray, float32
        Field of the sources inside the mask.
    field : ndarray, float32
        What an inversion gets: with noise, errors and what background removal left or took.
    mask : ndarray of bool
    voxel_size, b0_dir : tuple of float
    """

    chi: np.ndarray
    total: np.ndarray
    local: np.ndarray
    field: np.ndarray
    mask: np.ndarray
    voxel_size: tuple
    b0_dir: tuple


def training_head(sample, seed, *, noise=None, removals=REMOVALS):
    """Make one head with everything random.

    Parameters
    ----------
    sample : callable
        Of `simulation.anatomy.head_from_labels`, or `simulation.head.digital_head`.
    seed : sequence of int
    noise : float, optional
        SD of all errors of the field over that of the local field; random if not given. In vivo at 3 T it is 0.9 by the
        spectrum of the 2016 challenge's field.
    removals : dict
        How probable each of `REMOVALS` is.

    Returns
    -------
    TrainingHead
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    voxel_size, b0_dir = _geometry(rng)
    affine = np.diag([*voxel_size, 1.])
    affine[:3, 3] = LOWEST
    shape = tuple(int(np.ceil(side / step)) for side, step in zip(FIELD_OF_VIEW, voxel_size))
    head = sample(shape, affine, seed=int(rng.integers(2 ** 31)), variation=rng.uniform(.5, 3.))
    head, brain = without_holes(head)
    # Edges of air that are sharper than a voxel ring all over the field.
    chi = gaussian_filter(head.chi - np.float32(head.chi_outside), 1.)
    np.copyto(chi, _varied(head, brain, voxel_size, rng) - np.float32(head.chi_outside), where=brain)
    gaussian_filter(chi, rng.uniform(.2, .55), output=chi)
    mask = brain
    erosion = int(rng.integers(0, 4))
    if erosion:
        mask = binary_erosion(mask, iterations=erosion)
    return _with_fields(chi, mask, voxel_size, b0_dir, rng,
                        rng.uniform(.1, 1.3) if noise is None else noise, removals)


def without_holes(head):
    """Return a head whose brain encloses nothing but brain, and where that is; what it encloses becomes fluid.

    Label maps have single voxels of bone or air there, whose field would be stronger than that of all of the brain.
    """
    tissue = np.array([tissue.brain for tissue in head.tissues])[head.labels]
    brain = binary_fill_holes(tissue)
    enclosed = brain & ~tissue
    labels, chi = head.labels.copy(), head.chi.copy()
    labels[enclosed] = LABELS['sulcus']
    chi[enclosed] = head.tissues[LABELS['sulcus']].chi
    return replace(head, labels=labels, chi=chi), brain


def _geometry(rng):
    """Return a voxel size and a direction of the field."""
    step = rng.uniform(.85, 1.2)
    voxel_size = [step, step, step]
    if rng.random() < .35:
        voxel_size[2] *= rng.uniform(1, 2)
    tilt = np.deg2rad(rng.uniform(0, 35)) if rng.random() < .6 else 0.
    turn = rng.uniform(0, 2 * np.pi)
    return tuple(voxel_size), (np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt))


def _varied(head, brain, voxel_size, rng):
    """Return chi of the brain with other tissues, textures, vessels and lesions than the head has."""
    values = np.array([tissue.chi for tissue in head.tissues])
    change = values * (rng.uniform(.5, 1.6, values.size) - 1)
    change += rng.uniform(.003, .02) * rng.standard_normal(values.size)
    chi = head.chi + change.astype(np.float32)[head.labels]
    # From tissue as even as in a drawing to more grain than measured maps have.
    for power, longest, strength in ((rng.uniform(.3, 2), 30, .015), (rng.uniform(1, 3), 30, .015), (4, 80, .012)):
        texture = random_texture(chi.shape, voxel_size, power, rng, longest)
        chi += np.float32(strength * 20 ** -rng.random()) * texture
    at = np.argwhere(brain)
    count = int(rng.integers(300, 1500))
    radius = rng.uniform(.35, 1.15, count) ** 2
    values = rng.uniform(.03, .35, count)
    axes = np.column_stack([radius, radius, rng.uniform(3, 22, count)])
    paint_at_random(chi, CYLINDER, at, axes, values, voxel_size, rng)
    count = int(rng.integers(0, 6))
    radius = rng.uniform(.8, 4, count) ** 1.3
    values = rng.uniform(.1, 1.5, count) * rng.choice([-1, 1], count)
    axes = radius[:, None] * rng.uniform(.6, 1.4, (count, 3))
    paint_at_random(chi, ELLIPSOID, at, axes, values, voxel_size, rng)
    return chi


def paint_at_random(chi, kind, at, axes, values, voxel_size, rng):
    """Add turned shapes with half-axes in mm at random voxels."""
    if not len(values):
        return
    half = (np.array(chi.shape) - 1) / 2
    centres = at[rng.integers(len(at), size=len(values))] / half - 1
    # The painter's axes are relative to a volume that is the same in all directions: near enough for random shapes.
    paint_shapes(chi, np.full(len(values), kind), centres, axes / np.mean(half * voxel_size),
                 random_rotations(len(values), rng), values, False)


def random_texture(shape, voxel_size, power, rng, longest=30):
    """Return a Gaussian random field of SD 1 whose power falls with the frequency to the power of `-power`.

    Waves longer than `longest` mm have the power of that.
    """
    spectrum = rfftn(rng.standard_normal(shape, dtype=np.float32), shape)
    x, y, z = frequencies(shape, voxel_size)
    squared = x * x + y * y + z * z
    squared[0, 0, 0] = np.inf
    spectrum *= (squared + np.float32(longest) ** -2) ** np.float32(-power / 4)
    spectrum[0, 0, 0] = 0
    texture = irfftn(spectrum, shape)
    texture /= texture.std()
    return texture


def _with_fields(chi, mask, voxel_size, b0_dir, rng, noise, removals):
    box = bounding_box(mask, (2, 2, 2))
    total = forward_field(chi, voxel_size, b0_dir, margin=48)[box]
    mask, chi = mask[box], chi[box].copy()
    chi -= chi[mask].mean()
    chi *= mask
    local = forward_field(chi, voxel_size, b0_dir, margin=48) * mask
    errors = np.float32(noise) * field_errors(chi, local, mask, voxel_size, rng)
    total = (total + errors) * mask
    removal = rng.choice(list(removals), p=list(removals.values()))
    if removal == 'none':
        field = (local + errors) * mask
    else:
        field, known = BACKGROUND[removal].load()(total, mask, voxel_size, b0_dir=b0_dir)
        mask = mask & known
        chi = (chi - chi[mask].mean()) * mask
        field = field * mask
    return TrainingHead(chi, total, local, field, mask, voxel_size, b0_dir)


def field_errors(chi, local, mask, voxel_size, rng):
    """Return what no map makes: noise, phase that is no dipole's, and the field of dipoles that point elsewhere.

    The second goes with the tissue as microstructure does, the third as anisotropy does. Their shares are random; their
    sum has the SD of the local field, which strong lesions do not raise.

    Parameters
    ----------
    chi, local : ndarray, float32, shape (nx, ny, nz)
        Map and its field, ppm.
    mask : ndarray of bool, shape (nx, ny, nz)
    voxel_size : sequence of float
        mm.
    rng : Generator

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        ppm.
    """
    white = rng.standard_normal(mask.shape, dtype=np.float32)
    uneven = np.exp(np.float32(.25) * random_texture(mask.shape, voxel_size, 3.5, rng))
    errors = np.float32(rng.uniform(.02, .3)) * white * uneven
    smooth = gaussian_filter(rng.standard_normal(mask.shape, dtype=np.float32), rng.uniform(.8, 2.5))
    errors += np.float32(rng.uniform(0, .35) / smooth.std()) * smooth
    fine = chi - gaussian_filter(chi, 8 / np.mean(voxel_size))
    fine = np.clip(fine, -.1, .1) * mask
    share = (random_texture(mask.shape, voxel_size, 3.5, rng) + np.float32(rng.standard_normal())) * fine
    errors += np.float32(rng.uniform(0, .7) / share[mask].std()) * share
    axis = rng.standard_normal(3)
    turned = forward_field(random_texture(mask.shape, voxel_size, 3.5, rng) * fine, voxel_size, axis, margin=16)
    errors += np.float32(rng.uniform(0, 1.) / turned[mask].std()) * turned
    return errors * np.float32(np.median(np.abs(local[mask])) / .6745 / errors[mask].std())
