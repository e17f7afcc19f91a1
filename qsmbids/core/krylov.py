"""Linear equations and least squares by conjugate directions, for operators that are functions of volumes."""

import numpy as np
from numba import njit, prange

from qsmbids.core.checks import check_positive


def conjugate_gradients(operator, right, tol, max_iterations):
    """Solve ``operator(x) = right`` for a symmetric operator without negative eigenvalues, from zero.

    Parameters
    ----------
    operator : callable
        Takes and returns a float32 volume, and leaves what it takes as it is.
    right : ndarray, float32
        Used up.
    tol : float
        Stop when the residual's length is below this part of that of `right`.
    max_iterations : int

    Returns
    -------
    ndarray, float32
    """
    check_positive(tol=tol, max_iterations=max_iterations)
    residual = np.ascontiguousarray(right)
    x, direction = np.zeros_like(residual), residual.copy()
    energy = first = _product(residual, residual)
    for _ in range(max_iterations):
        if energy <= tol ** 2 * first:
            break
        image = np.ascontiguousarray(operator(direction))
        curvature = _product(direction, image)
        if curvature <= 0:
            break
        _advance(x, residual, direction, image, energy / curvature)
        del image  # not while the operator makes the next
        before, energy = energy, _product(residual, residual)
        _turn(direction, residual, energy / before)
    return x


def image_least_squares(gram, data, tol, max_iterations, damping=0.):
    """Minimise ``|A x - data|^2 + damping |x|^2`` in the space of the data: return u, of which ``x = A^T u``.

    The iterates x are those of LSQR, which applies A and its transpose in turn: where ``A A^T`` is a convolution
    between two masks, it costs half as much here.

    Parameters
    ----------
    gram : callable
        ``gram(u) = A A^T u``; takes and returns a float32 volume, and leaves what it takes as it is.
    data : ndarray, float32
        Used up.
    tol : float
        Stop when the gradient's length is below this part of the first one; 0 for never.
    max_iterations : int
    damping : float, default 0

    Returns
    -------
    ndarray, float32

    References
    ----------
    Paige CC, Saunders MA. ACM Trans Math Softw 1982;8:43-71 (LSQR). Hestenes MR, Stiefel E. J Res Natl Bur Stand
    1952;49:409-436 (section 10, the inner products by which both are the same).
    """
    check_positive(max_iterations=max_iterations)
    residual = np.ascontiguousarray(data)
    u, direction = np.zeros_like(residual), residual.copy()
    image = np.ascontiguousarray(gram(residual))
    # The square of the gradient's length in x: A^T takes the residual to the gradient.
    energy = first = _product(residual, image)
    for iteration in range(max_iterations):
        if energy <= tol ** 2 * first:
            break
        curvature = _product(image, image) + damping * _product(direction, image)
        _advance(u, residual, direction, image, energy / curvature, damping)
        if iteration + 1 == max_iterations:
            break
        mapped = np.ascontiguousarray(gram(residual))
        before, energy = energy, _product(residual, mapped)
        _turn(direction, residual, energy / before)
        _turn(image, mapped, energy / before)
        del mapped
    return u


def _product(a, b):
    return float(np.vdot(a, b))


def _advance(x, residual, direction, image, step, damping=0.):
    _go(x.ravel(), residual.ravel(), direction.ravel(), image.ravel(), np.float32(step), np.float32(damping))


def _turn(direction, residual, keep):
    _add(direction.ravel(), residual.ravel(), np.float32(keep))


@njit(cache=True, parallel=True)
def _go(x, residual, direction, image, step, damping):
    for i in prange(x.size):
        x[i] += step * direction[i]
        residual[i] -= step * (image[i] + damping * direction[i])


@njit(cache=True, parallel=True)
def _add(direction, residual, keep):
    for i in prange(direction.size):
        direction[i] = residual[i] + keep * direction[i]
