"""NIfTI in and out, for interfaces and command-line tools."""

import nibabel
import numpy as np

from qsmbids.files import FileError, write_atomically
from qsmbids.headers import check_grid, load_image, read_voxels

_BLOCK = 8  # voxels


def load_array(path, dtype=np.float32):
    """Return the voxels of a NIfTI file, scaled as its header says, in C order.

    Raises
    ------
    FileError
        If the file is missing, damaged or truncated.
    """
    voxels = read_voxels(path)
    if np.iscomplexobj(voxels):
        raise FileError(f'{path}: holds complex numbers; write real and imaginary part to files of their own')
    return _in_c_order(voxels, dtype) if voxels.ndim == 3 else np.ascontiguousarray(voxels, dtype=dtype)


def _in_c_order(volume, dtype):
    """Return a volume in C order, copied in blocks that fit in the cache in both orders: half the time of one copy."""
    if volume.flags.c_contiguous:
        return np.ascontiguousarray(volume, dtype=dtype)
    turned = np.empty(volume.shape, dtype)
    for i in range(0, volume.shape[0], _BLOCK):
        for k in range(0, volume.shape[2], _BLOCK):
            block = np.s_[i:i + _BLOCK, :, k:k + _BLOCK]
            turned[block] = volume[block]
    return turned


def load_echoes(paths):
    """Return the echoes of one 4D file or several 3D files, echo last, float32, shape ``(nx, ny, nz, ne)``."""
    if len(paths) == 1:
        echoes = load_array(paths[0])
        return echoes if echoes.ndim == 4 else echoes[..., None]
    echoes = None
    for index, path in enumerate(paths):
        volume = load_array(path)
        if volume.ndim == 4 and volume.shape[3] == 1:
            volume = volume[..., 0]
        if volume.ndim != 3:
            raise FileError(f'{path}: has the shape {volume.shape}; one 3D volume per echo is needed')
        check_grid(path, paths[0])
        if echoes is None:
            echoes = np.empty((*volume.shape, len(paths)), np.float32)
        echoes[..., index] = volume
    return echoes


def load_mask(path):
    """Return a mask as bool, shape ``(nx, ny, nz)``.

    Raises
    ------
    FileError
        If it is empty or not 3D.
    """
    mask = load_array(path)
    if mask.ndim != 3:
        raise FileError(f'{path}: a mask must be 3D, this one has the shape {mask.shape}')
    mask = mask > 0.5
    if not mask.any():
        raise FileError(f'{path}: the mask is empty, there is nothing to compute in. Give another one.')
    return mask


def save_array(path, array, like):
    """Write an array to a NIfTI file in the space of the image `like`; masks as uint8, all else as float32.

    The file appears under its name only when it is complete.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    reference = like if isinstance(like, nibabel.spatialimages.SpatialImage) else load_image(like)
    kind = np.uint8 if array.dtype in (np.bool_, np.uint8) else np.float32
    image = nibabel.Nifti1Image(array.astype(kind, copy=False), None)
    code = 1
    if isinstance(reference, nibabel.Nifti1Image):
        code = int(reference.header['sform_code'] or reference.header['qform_code'])
    image.set_sform(reference.affine, code)
    image.set_qform(reference.affine, code)
    image.header.set_xyzt_units('mm', 'sec')
    write_atomically(path, lambda temporary: nibabel.save(image, temporary))
    return str(path)
