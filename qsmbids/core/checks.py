"""What the numerics ask of their input, said once: a clear error beats a map of NaN.

Every function returns its argument in the form that the numerics use: float32 and C-contiguous, bool, or a tuple of
three floats. Nothing is copied that has this form already.
"""

import numpy as np


def check_mask(mask, empty=False):
    """Return `mask` as bool of shape ``(nx, ny, nz)``; ValueError if it is no volume, or empty unless it may be."""
    mask = np.ascontiguousarray(mask)
    if mask.ndim != 3:
        raise ValueError(f'mask has shape {mask.shape}, must be (nx, ny, nz)')
    mask = mask.astype(bool, copy=False)
    if not (empty or mask.any()):
        raise ValueError('mask is empty, must hold at least one voxel')
    return mask


def check_volume(name, volume, mask):
    """Return `volume` as float32 of the mask's shape; ValueError if it is of another shape or not finite inside."""
    volume = np.ascontiguousarray(volume, dtype=np.float32)
    check_same_shape(mask=mask, **{name: volume})
    bad = np.count_nonzero(~np.isfinite(volume) & mask)
    if bad:
        raise ValueError(f'{name} has {bad} non-finite voxels inside the mask, must have none')
    return volume


def check_weight(weight, mask):
    """Return `weight` as `check_volume` does; ValueError unless it lies within 0 and 1 inside the mask, not all 0."""
    weight = check_volume('weight', weight, mask)
    low, high = weight[mask].min(), weight[mask].max()
    if low < 0 or high > 1 or high == 0:
        raise ValueError(f'weight is {low:.3g} to {high:.3g} inside the mask, must be within 0 and 1 and not all 0')
    return weight


def check_weighted_field(field, mask, voxel_size, weight=None):
    """Return a field, its mask, the voxel size and its weight, by default 1, each as its own check returns it."""
    mask = check_mask(mask)
    field = check_volume('field', field, mask)
    weight = check_weight(np.ones_like(field) if weight is None else weight, mask)
    return field, mask, check_voxel_size(voxel_size), weight


def check_same_shape(**volumes):
    """Raise ValueError unless all `volumes` have the shape of the first of them."""
    (first, reference), *others = volumes.items()
    for name, volume in others:
        if volume.shape != reference.shape:
            raise ValueError(f'{name} has shape {volume.shape}, must have that of {first}, {reference.shape}')


def check_voxel_size(voxel_size):
    """Return `voxel_size` as three floats in mm; ValueError unless they are positive and finite."""
    lengths = np.asarray(voxel_size, dtype=float)
    if lengths.shape != (3,) or not np.all(np.isfinite(lengths)) or np.any(lengths <= 0):
        raise ValueError(f'voxel_size is {lengths.tolist()}, must be three positive numbers in mm')
    return tuple(lengths.tolist())


def check_positive(**values):
    """Raise ValueError naming the first of `values` that is not a positive finite number."""
    for name, value in values.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f'{name} is {value}, must be a positive number')
