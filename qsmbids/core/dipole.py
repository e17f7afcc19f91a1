"""The unit dipole: the one definition of how a susceptibility map makes a field map.

The field of a susceptibility distribution, relative to B0 and with the Lorentz sphere taken out, is
``f(k) = D(k) chi(k)`` with ``D(k) = 1/3 - (k.b)^2 / |k|^2`` [1]_ [2]_.

References
----------
.. [1] Salomir R, de Senneville BD, Moonen CTW. A fast calculation method for magnetic field inhomogeneity due to an
   arbitrary distribution of bulk susceptibility. Concepts Magn Reson B 2003;19B:26-34. Eq. 6.
.. [2] Marques JP, Bowtell R. Application of a Fourier-based method for rapid calculation of field inhomogeneity due to
   spatial variation of magnetic susceptibility. Concepts Magn Reson B 2005;25B:65-78. Eq. 13.
"""

import numpy as np

from qsmbids.core.fourier import fast_size, frequencies, irfftn, rfftn


def b0_direction(affine):
    """Return the direction of the main field in voxel axes.

    The scanner's z axis is the field's; each column of `affine` says where a voxel axis points in scanner space. With
    the columns at unit length the field's share along each voxel axis is the z component of that column.

    Parameters
    ----------
    affine : array_like, shape (4, 4) or (3, 3)
        Voxel-to-scanner matrix in mm.

    Returns
    -------
    tuple of float
        Unit vector, so that ``b . (index * voxel_size)`` is the position along B0.

    Raises
    ------
    ValueError
        If a column is zero or not finite, or if the axes are not perpendicular to each other (a sheared grid has no
        dipole kernel of this form).

    Examples
    --------
    >>> b0_direction([[0, 0, 2], [1, 0, 0], [0, 3, 0]])
    (0.0, 1.0, 0.0)
    """
    axes = np.asarray(affine, dtype=float)[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not np.all(np.isfinite(axes)) or np.any(lengths == 0):
        raise ValueError(f'affine has a zero or non-finite column: {axes.tolist()}')
    axes = axes / lengths
    shear = np.abs(axes.T @ axes - np.eye(3)).max()
    if shear > 1e-2:
        raise ValueError(f'affine is sheared: its axes deviate from right angles by a cosine of {shear:.3f}')
    direction = axes[2] / np.linalg.norm(axes[2])
    return tuple(float(b) + 0.0 for b in direction)


def voxel_size_of(affine):
    """Return the voxel size in mm of an affine of shape (4, 4), a tuple of three floats: the lengths of its columns.

    Examples
    --------
    >>> voxel_size_of([[0, 0, 2, 0], [1, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1]])
    (1.0, 3.0, 2.0)
    """
    return tuple(float(step) for step in np.sqrt((np.asarray(affine, dtype=float)[:3, :3] ** 2).sum(axis=0)))


def dipole_kernel(size, voxel_size, b0_dir=(0., 0., 1.)):
    """Return the dipole kernel on the half spectrum of a volume.

    Parameters
    ----------
    size : tuple of int
        Size of the transformed volume, ``(nx, ny, nz)``.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float, default (0, 0, 1)
        Unit vector of the main field in voxel axes.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz // 2 + 1)
        ``D(k)``, dimensionless, from -2/3 to 1/3; ``D(0) = 0``.

    Notes
    -----
    At the Nyquist frequency of an even axis both signs of k share one coefficient. The terms that are odd in such a k
    cancel in the mean of both signs and are left out, so that the operator is real and equal to its own adjoint for
    every direction.
    """
    grids = frequencies(size, voxel_size)
    b = unit_direction(b0_dir)
    squared = grids[0] ** 2 + grids[1] ** 2 + grids[2] ** 2
    along = b[0] ** 2 * grids[0] ** 2 + b[1] ** 2 * grids[1] ** 2 + b[2] ** 2 * grids[2] ** 2
    odd = [_without_nyquist(k, n) for k, n in zip(grids, size)]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        if b[i] * b[j] != 0:
            along = along + (2 * b[i] * b[j]) * odd[i] * odd[j]
    squared[0, 0, 0] = 1
    kernel = np.divide(along, squared, out=np.broadcast_to(along, squared.shape).copy())
    np.subtract(np.float32(1 / 3), kernel, out=kernel)
    kernel[0, 0, 0] = 0
    return kernel


def forward_field(chi, voxel_size, b0_dir=(0., 0., 1.), margin=None):
    """Return the field that a susceptibility map makes.

    Parameters
    ----------
    chi : ndarray, shape (nx, ny, nz)
        Susceptibility in ppm; zero beyond the array.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float, default (0, 0, 1)
        Unit vector of the main field in voxel axes.
    margin : int or tuple of int, optional
        Zeros to add behind each axis against wrap-around. By default as many as the array is long.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Field in ppm of B0; positive where the field is stronger.

    Examples
    --------
    >>> import numpy as np
    >>> chi = np.zeros((32, 32, 32))
    >>> chi[14:18, 14:18, 14:18] = .1
    >>> field = forward_field(chi, (1, 1, 1))
    >>> bool(field[16, 16, 26] > 0 > field[26, 16, 16])
    True
    """
    chi = np.asarray(chi, dtype=np.float32)
    size = fast_size(chi.shape, chi.shape if margin is None else margin)
    spectrum = rfftn(chi, size)
    spectrum *= dipole_kernel(size, voxel_size, b0_dir)
    return irfftn(spectrum, size, chi.shape)


def unit_direction(vector):
    """Return a direction of the main field as three floats of length 1; ValueError unless it is one."""
    vector = np.asarray(vector, dtype=float)
    length = np.linalg.norm(vector)
    if vector.shape != (3,) or not np.isfinite(length) or length == 0:
        raise ValueError(f'b0_dir is {vector.tolist()}, must be a direction of three finite numbers')
    return (vector / length).astype(np.float32)


def _without_nyquist(grid, n):
    if n % 2:
        return grid
    grid = grid.copy()
    grid.reshape(-1)[n // 2] = 0
    return grid
