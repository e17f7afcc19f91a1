"""Measured local fields to learn from, without any truth."""

import numpy as np

from qsmbids.core.dipole import b0_direction, voxel_size_of
from qsmbids.files import FileError
from qsmbids.headers import load_image, read_voxels
from qsmbids.training.heads import TrainingHead


def measured_head(path):
    """Read a local field as a head whose susceptibility nobody knows.

    Parameters
    ----------
    path : path
        NIfTI, zero outside the mask, such as a ``*_desc-local_fieldmap.nii.gz`` of `qsmbids`. In any unit: what learns
        from it divides it by its own scale.

    Returns
    -------
    TrainingHead
        Of which `chi` is zero.

    Raises
    ------
    FileError
        If it cannot be read, is not 3D, not finite or zero everywhere.
    """
    affine = load_image(path).affine
    field = np.ascontiguousarray(read_voxels(path), np.float32)
    if field.ndim != 3:
        raise FileError(f'{path}: a local field must be 3D, this one has the shape {field.shape}')
    mask = field != 0
    if not mask.any() or not np.isfinite(field).all():
        raise FileError(f'{path}: is zero everywhere or not finite; a local field is zero outside its mask only')
    return TrainingHead(np.zeros_like(field), field, field, field, mask, voxel_size_of(affine), b0_direction(affine))
