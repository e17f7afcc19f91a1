"""SHARP and V-SHARP: a ball's mean is taken off each voxel, and what this took from the local field is put back."""

import numpy as np

from qsmbids.core.background.balls import ball_radii, ball_radius, depth, high_pass
from qsmbids.core.checks import check_mask, check_positive, check_volume, check_voxel_size
from qsmbids.core.fourier import fast_size, irfftn, rfftn
from qsmbids.core.grid import bounding_box, place


def remove_background_vsharp(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), max_radius=12.0, min_radius=1.0,
                             radius_step=1.0, threshold=0.05):
    """Remove the background field by V-SHARP.

    Every voxel loses its mean over the largest ball around it that lies inside the mask, and with that the background
    field. What this took from the local field is put back by deconvolution with the largest ball's filter.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
        Total field in ppm. Values outside the mask are not used.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the field is reliable. What lies beyond the array counts as outside.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float
        Not used: a harmonic field has the mean-value property whatever the direction of B0.
    max_radius, min_radius, radius_step : float, default 12, 1 and 1
        Radii of the balls in mm. Balls that do not reach the next voxel along every axis are left out, so that on
        coarse grids the smallest radius is the longest edge of a voxel.
    threshold : float, default 0.05
        Spatial frequencies that the largest ball's filter passes with less than this are set to zero.

    Returns
    -------
    local : ndarray, float32, shape (nx, ny, nz)
        Field of the sources inside the mask, in ppm; zero outside the returned mask.
    mask : ndarray of bool, shape (nx, ny, nz)
        The voxels of the given mask that a ball fits around.

    Raises
    ------
    ValueError
        If shapes differ, the field is not finite inside the mask, the mask is empty or thinner than the smallest
        ball everywhere, or a parameter is not positive.

    Notes
    -----
    The Fourier transforms cover the mask's bounding box with `max_radius` around it; two per radius and four more.
    Peak memory is about 8 volumes of that size.

    References
    ----------
    Schweser F et al. NeuroImage 2011;54:2789-2807. Li W, Wu B, Liu C. NeuroImage 2011;55:1645-1656.
    Wu B et al. Magn Reson Med 2012;67:137-147 (the varying radius).

    Examples
    --------
    >>> import numpy as np
    >>> from qsmbids.core.dipole import forward_field
    >>> brain = np.zeros((40, 40, 40), bool)
    >>> brain[8:32, 8:32, 8:32] = True
    >>> inside, outside = np.zeros((2, 40, 40, 40), np.float32)
    >>> inside[18:22, 18:22, 18:22], outside[2:6, 18:22, 18:22] = .1, 2
    >>> local, total = (forward_field(chi, (1, 1, 1)) for chi in (inside, inside + outside))
    >>> found, known = remove_background_vsharp(total, brain, (1, 1, 1))
    >>> error = (found - local)[known] - (found - local)[known].mean()
    >>> round(float(total[brain].std() / local[brain].std()), 1), round(float(error.std() / local[known].std()), 1)
    (2.7, 0.2)
    """
    mask = check_mask(mask)
    field = check_volume('field', field, mask)
    voxel_size = check_voxel_size(voxel_size)
    check_positive(threshold=threshold)
    return _sharp(field, mask, voxel_size, ball_radii(max_radius, min_radius, radius_step, voxel_size), threshold)


def remove_background_sharp(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), radius=6.0, threshold=0.05):
    """Remove the background field by SHARP, which is V-SHARP with a single ball.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir
        As for `remove_background_vsharp`.
    radius : float, default 6
        Of the ball in mm, at least the longest edge of a voxel. The mask shrinks by it.
    threshold : float, default 0.05
        Spatial frequencies that the ball's filter passes with less than this are set to zero.

    Returns
    -------
    local : ndarray, float32, shape (nx, ny, nz)
        Field of the sources inside the mask, in ppm; zero outside the returned mask.
    mask : ndarray of bool, shape (nx, ny, nz)
        The voxels of the given mask that the ball fits around.

    Raises
    ------
    ValueError
        As `remove_background_vsharp`.

    References
    ----------
    Schweser F et al. NeuroImage 2011;54:2789-2807.
    """
    mask = check_mask(mask)
    field = check_volume('field', field, mask)
    voxel_size = check_voxel_size(voxel_size)
    check_positive(threshold=threshold)
    return _sharp(field, mask, voxel_size, np.array([ball_radius(radius, voxel_size)]), threshold)


def _sharp(field, mask, voxel_size, radii, threshold):
    box = bounding_box(mask)
    inside = mask[box]
    deep = depth(inside, voxel_size)
    smallest, radii = radii[-1], radii[radii < deep.max()]
    if not len(radii):
        raise ValueError(f'mask is {deep.max():.2f} mm deep at most, no ball of {smallest:.2f} mm fits inside')
    # The deconvolution reaches far: without a margin one side of the brain would leak into the other.
    size = fast_size(inside.shape, np.ceil(radii[0] / np.array(voxel_size)).astype(int))
    spectrum = rfftn(np.where(inside, field[box], np.float32(0)), size)
    local = np.zeros_like(field, shape=inside.shape)
    shallower = deep.max() + 1
    for radius in radii:
        passed = high_pass(radius, size, voxel_size)
        if radius == radii[0]:
            deconvolution = np.divide(1, passed, out=np.zeros_like(passed), where=np.abs(passed) > threshold)
        shell = (deep > radius) & (deep <= shallower)
        np.copyto(local, irfftn(spectrum * passed, size, inside.shape), where=shell)
        shallower = radius
    spectrum = rfftn(local, size)
    spectrum *= deconvolution
    eroded = np.zeros_like(mask)
    eroded[box] = deep > radii[-1]
    return place(irfftn(spectrum, size, inside.shape), eroded, box), eroded
