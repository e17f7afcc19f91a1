"""PDF: the background field as that of dipoles outside the mask."""

import numpy as np

from qsmbids.core.checks import check_positive, check_weighted_field
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import convolve, fast_size
from qsmbids.core.grid import bounding_box, embed, embed_mask, place
from qsmbids.core.krylov import conjugate_gradients


def remove_background_pdf(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, margin=16.0, tol=1e-4,
                          max_iterations=30):
    """Remove the background field by projection onto dipole fields.

    Sources outside the mask are sought whose field explains that inside it as well as possible: they minimise
    ``|W M (d * ((1 - M) chi) - field)|``. What they do not explain is the local field.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
        Total field in ppm. Values outside the mask are not used.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the field is reliable.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float, default (0, 0, 1)
        Unit vector of the main field in voxel axes.
    weight : ndarray, shape (nx, ny, nz), optional
        W inside the mask, 0 to 1: the field's reliability, 1 / its standard deviation up to a factor. By default 1.
    margin : float, default 16
        How far beyond the mask's bounding box sources are sought, mm. Those further away have counterparts near by.
    tol : float, default 1e-4
        Stop when the gradient is below this part of the first one.
    max_iterations : int, default 30
        Stopping before `tol` regularises: more iterations fit the noise at the rim.

    Returns
    -------
    local : ndarray, float32, shape (nx, ny, nz)
        Field of the sources inside the mask, in ppm; zero outside the mask.
    mask : ndarray of bool, shape (nx, ny, nz)
        The given mask.

    Raises
    ------
    ValueError
        If shapes differ, the field is not finite inside the mask, the mask is empty, the weight is not within 0 to 1
        there, or a parameter is not positive.

    Notes
    -----
    Conjugate gradients, two pairs of Fourier transforms per iteration of the mask's bounding box with the margin.

    References
    ----------
    Liu T et al. NMR Biomed 2011;24:1129-1136 (whose weight is that of `qsmbids.core.certainty.field_weight`).

    Examples
    --------
    >>> import numpy as np
    >>> from qsmbids.core.dipole import forward_field
    >>> brain = np.zeros((40, 40, 40), bool)
    >>> brain[8:32, 8:32, 8:32] = True
    >>> inside, outside = np.zeros((2, 40, 40, 40), np.float32)
    >>> inside[18:22, 18:22, 18:22], outside[2:6, 18:22, 18:22] = .1, 2
    >>> local, total = (forward_field(chi, (1, 1, 1)) for chi in (inside, inside + outside))
    >>> found, known = remove_background_pdf(total, brain, (1, 1, 1))
    >>> error = (found - local)[known] - (found - local)[known].mean()
    >>> round(float(total[brain].std() / local[brain].std()), 1), round(float(error.std() / local[known].std()), 1)
    (2.7, 0.2)
    """
    field, mask, voxel_size, weight = check_weighted_field(field, mask, voxel_size, weight)
    check_positive(margin=margin)
    box = bounding_box(mask)
    shape = mask[box].shape
    # The transform is periodic: what lies behind the end also lies before the start.
    size = fast_size(shape, np.ceil(2 * margin / np.array(voxel_size)).astype(int))
    kernel = dipole_kernel(size, voxel_size, b0_dir)
    inside = embed_mask(mask, box, size)
    total = embed(field, mask, box, size)
    squared = embed(np.square(weight), mask, box, size)

    def normal(sources):
        induced = convolve(sources, kernel)
        induced *= squared
        induced = convolve(induced, kernel)
        induced[inside] = 0
        return induced

    right = convolve(squared * total, kernel)
    right[inside] = 0
    sources = conjugate_gradients(normal, right, tol, max_iterations)
    total -= convolve(sources, kernel)
    return place(total, mask, box), mask.copy()
