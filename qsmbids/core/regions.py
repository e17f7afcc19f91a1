"""Regions: the reference that susceptibility is measured from."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from qsmbids.core.methods import REFERENCES


@dataclass(frozen=True)
class Reference:
    """What a susceptibility map is relative to.

    Attributes
    ----------
    name : str
        One of `REFERENCES`, or what the caller named the region.
    mean, sd : float
        ppm, of the region relative to the mean of the whole brain: the mean is what changing over from the whole brain
        to this reference took away.
    voxels : int
        Size of the region inside the mask.
    """

    name: str
    mean: float
    sd: float
    voxels: int


def reference(chi, mask, region, name=None):
    """Make a susceptibility map relative to its mean over a region.

    Parameters
    ----------
    chi : ndarray, shape (nx, ny, nz)
        ppm.
    mask : ndarray of bool, shape (nx, ny, nz)
        The brain, or what of it `chi` covers.
    region : ndarray of bool, shape (nx, ny, nz), or None
        Only what lies in `mask` counts. None leaves `chi` as it is.
    name : str, optional
        By default 'none' without a region, 'wholebrain' where it covers the mask, and 'csf' otherwise.

    Returns
    -------
    chi : ndarray, float32, shape (nx, ny, nz)
        Zero outside the mask.
    reference : Reference

    Raises
    ------
    ValueError
        If shapes differ, or nothing of the region or mask is left.

    Notes
    -----
    Mean and SD relative to the whole brain are what the consensus asks for with any other reference: QSM Consensus
    Organization Committee (Bilgic B, et al.). Magn Reson Med 2024;91:1834-1862.
    """
    inside = mask if region is None else region & mask
    if chi.shape != mask.shape:
        raise ValueError(f'chi has shape {chi.shape}, must be that of mask, {mask.shape}')
    if not inside.any():
        raise ValueError('region has no voxel inside mask, must overlap it')
    values, brain = chi[inside].astype(np.float64), chi[mask].mean(dtype=np.float64)
    zero = 0 if region is None else values.mean()
    if name is None:
        name = 'none' if region is None else 'wholebrain' if values.size == mask.sum() else 'csf'
    referenced = np.where(mask, chi - zero, 0).astype(np.float32)
    return referenced, Reference(name, float(values.mean() - brain), float(values.std()), int(values.size))


def fluid_limit(age=None):
    """Return the R2* below which there is fluid, 1/s.

    Before the first birthday tissue without myelin decays almost as slowly as fluid does.

    Parameters
    ----------
    age : float, optional
        Years.

    Examples
    --------
    >>> fluid_limit(), fluid_limit(.5)
    (5.0, 3.0)
    """
    return 3.0 if age is not None and age < 1 else 5.0


def csf_mask(r2star, mask, voxel_size, *, max_r2star=5.0, radius_mm=30.0, min_volume_ml=0.5,
             max_smoothing_mm=6.0):
    """Find the fluid of the ventricles, as a reference.

    Fluid decays slowly. The large pieces of it near the middle of the brain are the ventricles and, where these are
    wide, the cisterns around the midbrain; that around the brain is too far out.

    Parameters
    ----------
    r2star : ndarray, shape (nx, ny, nz)
        1/s.
    mask : ndarray of bool, shape (nx, ny, nz)
        The brain.
    voxel_size : sequence of float
        mm.
    max_r2star : float, default 5
        1/s. What is below is fluid.
    radius_mm : float, default 30
        How far from the mask's centroid to look.
    min_volume_ml : float, default 0.5
        A smaller region is not trusted.
    max_smoothing_mm : float, default 6
        R2* is averaged over three voxels along each axis where these are not longer.

    Returns
    -------
    ndarray of bool, shape (nx, ny, nz)
        At most three components, none smaller than a tenth of the largest.

    Raises
    ------
    ValueError
        If shapes differ, `mask` is empty, or there is too little fluid: then the whole brain has to be the reference.

    Notes
    -----
    Liu Z, Spincemaille P, Yao Y, Zhang Y, Wang Y. MEDI+0: Morphology enabled dipole inversion with automatic uniform
    cerebrospinal fluid zero reference for quantitative susceptibility mapping. Magn Reson Med 2018;79:2795-2803.
    """
    if r2star.shape != mask.shape:
        raise ValueError(f'r2star has shape {r2star.shape}, must be that of mask, {mask.shape}')
    if not mask.any():
        raise ValueError('mask is empty, must cover the brain')
    grids = [axis * step for axis, step in zip(np.ogrid[tuple(map(slice, mask.shape))], voxel_size)]
    middle = [np.mean(np.broadcast_to(grid, mask.shape)[mask]) for grid in grids]
    central = sum((grid - c) ** 2 for grid, c in zip(grids, middle)) < radius_mm ** 2
    # Noise breaks up the parenchyma's and the fluid's voxels alike; their mean over the neighbours tells them apart.
    # A voxel that is as large as these has less noise, and neighbours of another tissue.
    width = [3 if 3 * step <= max_smoothing_mm else 1 for step in voxel_size]
    weight = ndimage.uniform_filter(mask.astype(np.float32), width)
    smooth = ndimage.uniform_filter(np.where(mask, r2star, 0).astype(np.float32), width) / np.maximum(weight, 1e-3)
    labels, count = ndimage.label((smooth < max_r2star) & mask & central)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    keep = (sizes >= 0.1 * sizes.max()) & (sizes >= np.sort(sizes)[-3:][0]) & (sizes > 0)
    volume = sizes[keep].sum() * np.prod(voxel_size) / 1000
    if volume < min_volume_ml:
        raise ValueError(f'r2star is below {max_r2star} 1/s in only {volume:.2f} ml around the middle of mask, must be '
                         f'in {min_volume_ml} ml at least to be a reference: use the whole brain')
    return keep[labels]


def find_csf(r2star, mask, voxel_size, age=None):
    """Return :func:`csf_mask`, empty where there is too little fluid, and the warnings that this gives (a list).

    What is fluid depends on `age`, see :func:`fluid_limit`.
    """
    try:
        return csf_mask(r2star, mask, voxel_size, max_r2star=fluid_limit(age)), []
    except ValueError as error:
        return np.zeros_like(mask), [f'no CSF reference: {error}']


@dataclass(frozen=True)
class Referenced:
    """A susceptibility map relative to one reference, and all references that there are.

    Attributes
    ----------
    chi : ndarray, float32, shape (nx, ny, nz)
        ppm.
    used : str
        The reference whose mean is zero in `chi`.
    references : tuple of Reference
    warnings : tuple of str
    """

    chi: np.ndarray
    used: str
    references: tuple[Reference, ...]
    warnings: tuple[str, ...] = ()


def reference_chi(chi, mask, csf=None, wanted='wholebrain'):
    """Make a susceptibility map relative to the reference that is wanted, and describe every one that there is.

    Parameters
    ----------
    chi : ndarray, shape (nx, ny, nz)
        ppm.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where `chi` is known.
    csf : ndarray of bool, shape (nx, ny, nz), optional
        Ventricular fluid, as from :func:`csf_mask`.
    wanted : {'wholebrain', 'csf', 'none'}
        Without fluid in the mask the whole brain takes its place, with a warning.

    Returns
    -------
    Referenced

    Raises
    ------
    ValueError
        If `wanted` is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> chi, mask = np.array([[[.1, .2, .3]]]), np.ones((1, 1, 3), bool)
    >>> found = reference_chi(chi, mask)
    >>> found.used, found.chi.round(2)
    ('wholebrain', array([[[-0.1, -0. ,  0.1]]], dtype=float32))
    >>> reference_chi(chi, mask, wanted='csf').warnings
    ('no fluid was found in the mask, so the whole brain is the reference instead of CSF',)
    """
    if wanted not in REFERENCES:
        raise ValueError(f'wanted is {wanted!r}, must be one of {", ".join(REFERENCES)}')
    regions = {'wholebrain': mask}
    if csf is not None and (csf & mask).any():
        regions['csf'] = csf
    results = {name: reference(chi, mask, region, name) for name, region in regions.items()}
    warnings = ()
    if wanted == 'none':
        results['none'] = reference(chi, mask, None, 'none')
    elif wanted not in results:
        warnings = ('no fluid was found in the mask, so the whole brain is the reference instead of CSF',)
        wanted = 'wholebrain'
    return Referenced(results[wanted][0], wanted, tuple(results[name][1] for name in regions), warnings)
