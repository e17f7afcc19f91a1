"""Real Fourier transforms of volumes, padded to fast sizes, and the grids that go with them.

Convention of the package: a volume keeps its place at the start of a padded array, so that ``rfftn(x, size)`` pads
and ``irfftn(y, size, x.shape)`` crops. Half spectra have the shape ``(nx, ny, nz // 2 + 1)``.
"""

import numpy as np
import scipy.fft


def fast_size(shape, margin=0):
    """Return the smallest array size with fast FFTs that leaves `margin` voxels behind each axis.

    Parameters
    ----------
    shape : tuple of int
        Size of the volume, ``(nx, ny, nz)``.
    margin : int or tuple of int, default 0
        Voxels to add per axis at least. The transform is periodic, so `margin` zeros behind an axis separate
        both of its ends.

    Returns
    -------
    tuple of int
    """
    margins = np.broadcast_to(margin, len(shape))
    return tuple(scipy.fft.next_fast_len(int(n + m), real=True) for n, m in zip(shape, margins))


def rfftn(volume, size):
    """Transform a real volume, zero-padded at the end of each axis to `size`, into its half spectrum."""
    return scipy.fft.rfftn(volume, s=size)


def irfftn(spectrum, size, shape=None):
    """Transform a half spectrum of a volume of `size` back and crop it to `shape`; `spectrum` may be overwritten."""
    volume = scipy.fft.irfftn(spectrum, s=size, overwrite_x=True)
    if shape is None:
        return volume
    return volume[tuple(slice(n) for n in shape)]


def convolve(volume, kernel):
    """Return the periodic convolution of a volume with a kernel that is given as a half spectrum."""
    spectrum = rfftn(volume, volume.shape)
    spectrum *= kernel
    return irfftn(spectrum, volume.shape)


def resample(volume, size):
    """Return a periodic volume on a grid of another size over the same field of view, by its Fourier series.

    Parameters
    ----------
    volume : ndarray, shape (nx, ny, nz)
    size : tuple of int
        Voxels of the new grid along each axis.

    Returns
    -------
    ndarray, shape `size`
        The first voxels of both grids lie at the same place. Frequencies that either grid does not tell from their
        negatives are left out.
    """
    spectrum = rfftn(volume, volume.shape)
    kept = np.zeros((*size[:2], size[2] // 2 + 1), spectrum.dtype)
    halves = [(min(old, new) - 1) // 2 for old, new in zip(volume.shape, size)]
    for x in _both_signs(halves[0]):
        for y in _both_signs(halves[1]):
            part = x, y, slice(halves[2] + 1)
            kept[part] = spectrum[part]
    kept *= np.float32(np.prod(size) / volume.size)
    return irfftn(kept, size)


def _both_signs(half):
    return [slice(half + 1), slice(-half, None)] if half else [slice(1)]


def frequencies(size, voxel_size):
    """Return the spatial frequencies of a half spectrum, one broadcastable array per axis.

    Parameters
    ----------
    size : tuple of int
        Size of the transformed volume, ``(nx, ny, nz)``.
    voxel_size : sequence of float
        mm per voxel along each axis.

    Returns
    -------
    list of ndarray
        float32 arrays in cycles/mm with the shapes ``(nx, 1, 1)``, ``(1, ny, 1)`` and ``(1, 1, nz // 2 + 1)``.
    """
    grids = []
    for axis, (n, step) in enumerate(zip(size, voxel_size)):
        line = scipy.fft.rfftfreq(n, step) if axis == len(size) - 1 else scipy.fft.fftfreq(n, step)
        grids.append(line.astype(np.float32).reshape([-1 if i == axis else 1 for i in range(len(size))]))
    return grids
