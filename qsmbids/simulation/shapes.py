"""Random shapes with their fields: what networks that know no anatomy are trained on.

``'sums'`` are ellipsoids and cuboids that add up, as the published generator of POCSnet makes them (38 of them, chi of
0.2 ppm SD); ``'layers'`` are cuboids and spheres that hide what lies under them, the later the smaller, as DeepQSM was
trained on [1]_; ``'tubes'`` are sums with cylinders among them, long and thin as veins are. Small sources of strong
susceptibility outside the mask make the background field.

References
----------
.. [1] Bollmann S, et al. DeepQSM - using deep learning to solve the dipole inversion for quantitative susceptibility
   mapping. NeuroImage 2019;195:373-383.
"""

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
import scipy.fft
from scipy.ndimage import map_coordinates

from qsmbids.core.checks import check_voxel_size
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import fast_size

ELLIPSOID, CUBOID, CYLINDER = range(3)
CHI_SD = .2                   # ppm
SOURCE_CHI, SOURCE_SD = 6.28, .5
STYLES = ('sums', 'layers', 'tubes')


@dataclass(frozen=True)
class ShapeSample:
    """Shapes and their fields; all arrays have one shape and are zero outside the mask.

    Attributes
    ----------
    chi : ndarray, float32
        ppm.
    local_field : ndarray, float32
        The field of `chi`, ppm.
    total_field : ndarray, float32
        With that of the sources outside the mask, ppm.
    mask : ndarray, bool
    """

    chi: np.ndarray
    local_field: np.ndarray
    total_field: np.ndarray
    mask: np.ndarray


def random_shapes(shape=(64, 64, 64), seed=0, *, style='sums', voxel_size=(1., 1., 1.), b0_dir=(0., 0., 1.), sources=4):
    """Make one training sample.

    Parameters
    ----------
    shape : tuple of int, default (64, 64, 64)
    seed : int or sequence of int, default 0
        Of everything that is random (PCG64).
    style : {'sums', 'layers', 'tubes'}
        See above.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float
        Unit vector of the main field in voxel axes.
    sources : int, default 4
        How many sources lie outside the mask; each of +-6.28 ppm, one in four negative.

    Returns
    -------
    ShapeSample

    Raises
    ------
    ValueError
        If `style` is unknown, an axis is shorter than 8 voxels, or `sources` is negative.
    """
    if style not in STYLES:
        raise ValueError(f'style is {style!r}, must be one of {", ".join(STYLES)}')
    shape = tuple(int(n) for n in shape)
    if len(shape) != 3 or min(shape) < 8:
        raise ValueError(f'shape is {shape}, must be three sizes of at least 8 voxels')
    if sources < 0:
        raise ValueError(f'sources is {sources}, must be at least 0')
    rng = np.random.Generator(np.random.PCG64(seed))
    level = _level(shape, rng)
    mask = level < 1
    chi = np.zeros(shape, np.float32)
    paint_shapes(chi, *_objects(style, rng), style == 'layers')
    chi *= mask
    outside = np.zeros(shape, np.float32)
    if sources:
        paint_shapes(outside, *_sources(level, sources, rng), True)
        outside *= level > 1.06
    voxel_size, b0_dir = check_voxel_size(voxel_size), tuple(float(b) for b in b0_dir)
    local = _field(chi, voxel_size, b0_dir) * mask
    total = local + _field(outside, voxel_size, b0_dir) * mask if sources else local.copy()
    return ShapeSample(chi, local, total, mask)


def _level(shape, rng):
    """Return a function of the position that is below 1 in the mask: a turned ellipsoid with a soft, uneven surface."""
    coarse = rng.standard_normal((6, 6, 6)).astype(np.float32)
    axes, turn, centre = rng.uniform(.72, 1., 3), random_rotations(1, rng)[0], rng.uniform(-.1, .1, 3)
    lines = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    grid = np.meshgrid(*(1 + (line + 1) * 1.5 for line in lines), indexing='ij')
    noise = map_coordinates(coarse, grid, order=1)
    turned = (turn / axes[:, None]).astype(np.float32)
    x, y, z = np.meshgrid(*(line - np.float32(c) for line, c in zip(lines, centre)), indexing='ij', sparse=True)
    squared = np.zeros(shape, np.float32)
    for row in turned:
        squared += (row[0] * x + row[1] * y + row[2] * z) ** 2
    return np.sqrt(squared) + np.float32(.1) * noise


def _objects(style, rng):
    """Return kinds, centres, half-axes, rotations and values of random shapes; lengths over half the field of view."""
    count = {'sums': 38, 'layers': 180, 'tubes': 50}[style]
    values = CHI_SD * rng.standard_normal(count)
    centres = rng.uniform(-.9, .9, (count, 3))
    order = np.arange(count)[:, None] / count
    if style == 'layers':
        kinds = rng.permutation(np.repeat([CUBOID, ELLIPSOID], [100, 80]))
        axes = rng.uniform(.01, .5, (count, 3)) / (1 + order)
        axes[kinds == ELLIPSOID] = axes[kinds == ELLIPSOID, :1]
        return kinds, centres, axes, np.broadcast_to(np.eye(3), (count, 3, 3)).copy(), values
    kinds = rng.integers(2, size=count)
    axes = rng.uniform(0, 1, (count, 3)) * (1 - order / 2)
    axes[:, 1] = axes[:, 0]
    if style == 'tubes':
        kinds[38:] = CYLINDER
        axes[38:] = np.column_stack([rng.uniform(.015, .08, (count - 38, 1)).repeat(2, 1),
                                     rng.uniform(.2, 1, count - 38)])
    return kinds, centres, axes, random_rotations(count, rng), values


def _sources(level, count, rng):
    """Return shapes around the mask."""
    free = np.argwhere((level > 1.15) & (level < 1.45))
    if not len(free):
        free = np.argwhere(level >= level.max())
    centres = 2 * free[rng.integers(len(free), size=count)] / (np.array(level.shape) - 1) - 1
    values = SOURCE_CHI + SOURCE_SD * rng.standard_normal(count)
    values[rng.permutation(count) < (count + 2) // 4] *= -1
    return (rng.integers(3, size=count), centres, rng.uniform(.1, .3, (count, 3)), random_rotations(count, rng), values)


def random_rotations(count, rng):
    """Return random rotations, from unit quaternions."""
    w, x, y, z = (q := rng.standard_normal((4, count))) / np.sqrt((q * q).sum(axis=0))
    return np.moveaxis(np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                                 [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                                 [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]]), 2, 0)


@numba.njit(cache=True, nogil=True)
def paint_shapes(volume, kinds, centres, axes, rotations, values, replace):
    """Add shapes to a volume, or let each replace what is there; positions and half-axes in -1 to 1 along each axis.

    Parameters
    ----------
    volume : ndarray, float32, shape (nx, ny, nz)
        Changed.
    kinds : ndarray of int, shape (n,)
        `ELLIPSOID`, `CUBOID` or `CYLINDER`.
    centres, axes : ndarray, shape (n, 3)
    rotations : ndarray, shape (n, 3, 3)
    values : ndarray, shape (n,)
        ppm.
    replace : bool
    """
    for n in range(len(kinds)):
        first, last = np.empty(3, np.int64), np.empty(3, np.int64)
        half = np.empty(3)
        for i in range(3):
            size = volume.shape[i]
            half[i] = (size - 1) / 2
            reach = 0.
            for j in range(3):
                reach += abs(rotations[n, i, j]) * axes[n, j]
            first[i] = max(0, np.ceil((centres[n, i] - reach + 1) * half[i]))
            last[i] = min(size - 1, np.floor((centres[n, i] + reach + 1) * half[i]))
        p, u = np.empty(3), np.empty(3)
        for x in range(first[0], last[0] + 1):
            p[0] = x / half[0] - 1 - centres[n, 0]
            for y in range(first[1], last[1] + 1):
                p[1] = y / half[1] - 1 - centres[n, 1]
                for z in range(first[2], last[2] + 1):
                    p[2] = z / half[2] - 1 - centres[n, 2]
                    for j in range(3):
                        u[j] = (rotations[n, 0, j] * p[0] + rotations[n, 1, j] * p[1]
                                + rotations[n, 2, j] * p[2]) / max(axes[n, j], 1e-6)
                        u[j] *= u[j]
                    if kinds[n] == ELLIPSOID:
                        inside = u[0] + u[1] + u[2] < 1
                    elif kinds[n] == CUBOID:
                        inside = max(u[0], u[1], u[2]) < 1
                    else:
                        inside = u[0] + u[1] < 1 and u[2] < 1
                    if inside:
                        volume[x, y, z] = values[n] + (0. if replace else volume[x, y, z])


@lru_cache(maxsize=4)
def _kernel(size, voxel_size, b0_dir):
    return dipole_kernel(size, voxel_size, b0_dir)


def _field(chi, voxel_size, b0_dir):
    """Return `forward_field`, in less than half its time: lines of zeros are not transformed, the kernel is kept."""
    nx, ny, nz = chi.shape
    size = fast_size(chi.shape, chi.shape)
    spectrum = scipy.fft.rfft(chi, size[2], axis=2)
    for axis in (1, 0):
        spectrum = scipy.fft.fft(spectrum, size[axis], axis=axis, overwrite_x=True)
    spectrum *= _kernel(size, voxel_size, b0_dir)
    spectrum = scipy.fft.ifft(spectrum, axis=0, overwrite_x=True)[:nx]
    spectrum = scipy.fft.ifft(spectrum, axis=1, overwrite_x=True)[:, :ny]
    return scipy.fft.irfft(spectrum, size[2], axis=2)[..., :nz]
