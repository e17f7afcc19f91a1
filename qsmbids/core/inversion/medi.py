"""Morphology enabled dipole inversion: smooth where the magnitude has no edges, data compared as complex numbers."""

import numpy as np
from numba import njit, prange

from qsmbids.core.background.balls import BallFilter, ball_radius, high_pass
from qsmbids.core.checks import check_positive, check_same_shape, check_volume, check_weighted_field
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import convolve, irfftn, rfftn
from qsmbids.core.grid import add_weighted_laplacian, bounding_box, embed, embed_mask, padded_size, place
from qsmbids.core.inversion.nonlinear import PHASE_SCALE
from qsmbids.core.inversion.strength import automatic_strength
from qsmbids.core.inversion.variational import gradient_scale, solve_tv
from qsmbids.core.krylov import conjugate_gradients

# The length of a gradient is rounded where it is below this part of `gradient_scale`.
_ROUNDING = 0.03
# Residuals beyond this many standard deviations are errors of the model.
_BAD = np.float32(6)
# Least part of the largest diagonal element that a variable is scaled by, where no penalty acts.
_LEAST = np.float32(0.1)


def invert_medi(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, magnitude=None, phase_scale=PHASE_SCALE,
                lambda_=None, edges=0.3, smv_radius=0., merit=True, tol=0.02, max_iterations=30, cg_tol=0.01,
                cg_iterations=10):
    """Invert a local field by morphology enabled dipole inversion (MEDI).

    Minimises ``1/2 |W (exp(i s d * chi) - exp(i s field))|^2 / s^2 + lambda_ |M grad chi|_1`` by Gauss-Newton steps,
    each found by conjugate gradients. M is zero at the edges of the magnitude, W and M outside the mask: sources there
    are free, they take up what the removal of the background left. The steps begin with the map of total variation of
    the same strength: from nothing they would take long to find what varies slowly.

    Parameters
    ----------
    field : ndarray, shape (nx, ny, nz)
        Local field in ppm. Values outside the mask are not used.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the field is known.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float, default (0, 0, 1)
        Unit vector of the main field in voxel axes.
    weight : ndarray, shape (nx, ny, nz), optional
        W inside the mask, 0 to 1: the field's reliability, 1 / its standard deviation up to a factor. By default 1.
    magnitude : ndarray, shape (nx, ny, nz), optional
        In any unit. Without it nothing is an edge, and 2/3 of the automatic strength is enough: the steps along three
        axes add up to 3/2 of the gradient's length.
    phase_scale : float, default 20
        s in rad per ppm, as for :func:`~qsmbids.core.inversion.nonlinear.invert_nltv`.
    lambda_ : float, optional
        Weight of the penalty in ppm mm. The published one weighs the data, twice, and takes the phase for the map: it
        is ``1 / (2 s lambda_)``, so that its 1000 is 2.5e-5 here. By default
        :func:`~qsmbids.core.inversion.strength.automatic_strength`.
    edges : float, default 0.3
        The part of all steps between neighbours, along three axes, that are edges: those where the magnitude changes
        most. As many steps as 90 % of the voxels, as published.
    smv_radius : float, default 0
        Radius in mm of a ball whose mean is taken from the field and from what the map makes of it (5 as published),
        against remains of the background. 0 for none.
    merit : bool, default True
        Whether voxels whose residual exceeds six standard deviations lose weight after each step.
    tol : float, default 0.02
        Stop when a step changes the map by less than this part of it.
    max_iterations : int, default 30
    cg_tol : float, default 0.01
        Residual at which the search for a step ends, as a part of its right side.
    cg_iterations : int, default 10
        The most iterations of it.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Susceptibility in ppm; zero outside the mask.

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty or thinner than the ball everywhere, the field is not finite inside the
        mask, the weight is not within 0 to 1 there, or a parameter is out of range.

    Notes
    -----
    Two pairs of Fourier transforms of the mask's bounding box with a margin per iteration of conjugate gradients, in
    variables scaled by the diagonal of the penalty. Scales go together as for `invert_nltv`.

    References
    ----------
    Liu T, Wisnieff C, Lou M, Chen W, Spincemaille P, Wang Y. Magn Reson Med 2013;69:467-476 (eqs. 4 and 5, MERIT).

    Examples
    --------
    >>> import numpy as np
    >>> from qsmbids.core.dipole import forward_field
    >>> chi = np.zeros((32, 32, 32), np.float32)
    >>> chi[12:20, 12:20, 12:20] = .1
    >>> mask = np.ones(chi.shape, bool)
    >>> field = forward_field(chi, (1, 1, 1))
    >>> found = invert_medi(field, mask, (1, 1, 1), magnitude=1 + chi)
    >>> round(float(found[12:20, 12:20, 12:20].mean()), 2)
    0.1
    """
    return invert_medi0(field, mask, voxel_size, b0_dir=b0_dir, weight=weight, magnitude=magnitude,
                        phase_scale=phase_scale, lambda_=lambda_, edges=edges, smv_radius=smv_radius, merit=merit,
                        tol=tol, max_iterations=max_iterations, cg_tol=cg_tol, cg_iterations=cg_iterations)


def invert_medi0(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, magnitude=None, csf=None,
                 phase_scale=PHASE_SCALE, lambda_=None, edges=0.3, smv_radius=0., merit=True, csf_weight=0.1, tol=0.02,
                 max_iterations=30, cg_tol=0.01, cg_iterations=10):
    """Invert a local field by MEDI with uniform fluid (MEDI+0).

    As :func:`invert_medi`, with ``csf_weight / 2 |chi - mean chi|^2`` over the voxels of `csf` added to what is
    minimised.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir, weight, magnitude, phase_scale, lambda_, edges, smv_radius, merit, tol, \
    max_iterations, cg_tol, cg_iterations
        As for `invert_medi`.
    csf : ndarray of bool, shape (nx, ny, nz), optional
        Ventricular fluid, which is made uniform. Without it, or where it is empty, nothing is.
    csf_weight : float, default 0.1
        As published, 100 to 1000 of the data.

    Returns
    -------
    ndarray, float32, shape (nx, ny, nz)
        Susceptibility in ppm; zero outside the mask.

    Raises
    ------
    ValueError
        As `invert_medi`.

    References
    ----------
    Liu Z, Spincemaille P, Yao Y, Zhang Y, Wang Y. Magn Reson Med 2018;79:2795-2803.
    """
    field, mask, voxel_size, weight = check_weighted_field(field, mask, voxel_size, weight)
    check_positive(phase_scale=phase_scale, csf_weight=csf_weight, tol=tol, max_iterations=max_iterations,
                   cg_tol=cg_tol, cg_iterations=cg_iterations)
    if not 0 <= edges < 1:
        raise ValueError(f'edges is {edges}, must be at least 0 and below 1')
    magnitude = np.ones_like(field) if magnitude is None else check_volume('magnitude', magnitude, mask)
    fluid = np.zeros_like(mask) if csf is None else np.asarray(csf, dtype=bool)
    check_same_shape(mask=mask, csf=fluid)
    if not field[mask].any():
        return np.zeros_like(field)
    if lambda_ is None:
        lambda_ = automatic_strength(field, mask, voxel_size, b0_dir=b0_dir, weight=weight)
    check_positive(lambda_=lambda_)

    box = bounding_box(mask)
    size = padded_size(mask[box].shape)
    data, squared, kernel = _equations(field, weight, mask, box, size, voxel_size, b0_dir, smv_radius)
    inside, scale = embed_mask(mask, box, size), gradient_scale(field, mask)
    if smv_radius:  # what varies slowly is not in the data, and stays zero
        phase = np.zeros_like(data)
    else:
        phase = solve_tv(data, squared.copy(), kernel, inside, voxel_size, lambda_, scale)
        phase *= inside
    for volume in (phase, data):
        volume *= np.float32(phase_scale)
    smooth = np.zeros((3, *size), bool)
    smooth[(slice(None), *(slice(n) for n in mask[box].shape))] = mask[box] & smooth_steps(magnitude[box], mask[box],
                                                                                           voxel_size, edges)
    penalty = _Penalty(smooth, embed(fluid, mask, box, size).astype(bool), voxel_size, phase_scale * lambda_,
                       csf_weight)
    del magnitude, weight, smooth
    _gauss_newton(phase, data, squared, kernel, penalty, inside if merit else None, phase_scale * scale, tol,
                  max_iterations, cg_tol, cg_iterations)
    phase /= np.float32(phase_scale)
    return place(phase, mask, box)


def smooth_steps(magnitude, mask, voxel_size, edges):
    """Tell which steps from a voxel to the next along each axis are no edges of the magnitude.

    Parameters
    ----------
    magnitude : ndarray, shape (nx, ny, nz)
    mask : ndarray of bool, shape (nx, ny, nz)
        What lies outside counts as zero, so that its border is an edge unless `edges` is small.
    voxel_size : sequence of float
        mm.
    edges : float
        The part of the steps from voxels of the mask that are edges, at the most.

    Returns
    -------
    ndarray of bool, shape (3, nx, ny, nz)
    """
    magnitude = np.where(mask, check_volume('magnitude', magnitude, mask), np.float32(0))
    steps = np.stack([np.abs(np.diff(magnitude, axis=axis, append=np.float32(0))) / np.float32(step)
                      for axis, step in enumerate(voxel_size)])
    return steps <= np.quantile(steps[:, mask], 1 - edges, method='higher')


def _equations(field, weight, mask, box, size, voxel_size, b0_dir, smv_radius):
    """Return the field, its squared weight and the kernel that makes it of a map, with the ball's mean taken away."""
    kernel = dipole_kernel(size, voxel_size, b0_dir)
    squared = np.square(weight)
    if smv_radius:
        radius = ball_radius(smv_radius, voxel_size)
        ball = BallFilter(mask[box], radius, voxel_size)
        field, squared = field.copy(), squared.copy()
        field[box] = ball(np.where(mask[box], field[box], np.float32(0)))
        squared[box] *= ball.kept
        kernel *= high_pass(radius, size, voxel_size)
    return embed(field, mask, box, size), embed(squared, mask, box, size), kernel


def _gauss_newton(phase, data, squared, kernel, penalty, refine, scale, tol, max_iterations, cg_tol, cg_iterations):
    """Turn a phase in rad into that which minimises data term and penalty; voxels of `refine` may lose their weight."""
    weight = squared
    # Where nothing tells edges yet the first step smoothes everything alike.
    rounding = _ROUNDING * scale if phase.any() else scale
    for _ in range(max_iterations):
        penalty.linearize(phase, rounding)
        rounding = _ROUNDING * scale
        residual = convolve(phase, kernel)
        residual -= data
        if refine is not None:
            weight = _without_outliers(squared, residual, refine)
        right = _descent(phase, residual, weight, kernel, penalty)
        del residual
        step = _step(right, weight, kernel, penalty, cg_tol, cg_iterations)
        phase += step
        if np.linalg.norm(step) <= tol * np.linalg.norm(phase):
            break


def _descent(phase, residual, weight, kernel, penalty):
    """Return minus the gradient of the cost; `residual` is used up."""
    np.sin(residual, out=residual)
    residual *= weight
    gradient = convolve(residual, kernel)
    penalty.add(phase, gradient)
    return np.negative(gradient, out=gradient)


def _step(right, weight, kernel, penalty, cg_tol, cg_iterations):
    scaling = penalty.diagonal()
    scaling += _LEAST
    np.divide(1, np.sqrt(scaling, out=scaling), out=scaling)
    right *= scaling

    def normal(volume):
        volume = scaling * volume
        image = convolve(volume, kernel)
        image *= weight
        spectrum = rfftn(image, image.shape)
        del image  # not two of them at a time
        spectrum *= kernel
        image = irfftn(spectrum, volume.shape)
        del spectrum
        penalty.add(volume, image)
        image *= scaling
        return image

    step = conjugate_gradients(normal, right, cg_tol, cg_iterations)
    step *= scaling
    return step


def _without_outliers(squared, residual, inside):
    """Return the squared weight divided by the fourth power of how many times a residual exceeds what is plausible."""
    distance = np.where(inside, np.sqrt(squared) * np.abs(np.sin(residual / 2)), np.float32(0))
    distance /= _BAD * max(np.std(distance[inside]), np.finfo(np.float32).tiny)
    if distance.max() <= 1:
        return squared
    np.maximum(distance, 1, out=distance)
    return squared / distance ** 4


class _Penalty:
    """The penalty's quadratic form around a map, for a phase in rad.

    Parameters
    ----------
    smooth : ndarray of bool, shape (3, nx, ny, nz)
        The steps between neighbours on which it acts.
    fluid : ndarray of bool, shape (nx, ny, nz)
        What is made uniform.
    voxel_size : sequence of float
        mm.
    strength : float
        Of the gradient's absolute value, rad mm.
    fluid_weight : float
    """

    def __init__(self, smooth, fluid, voxel_size, strength, fluid_weight):
        self._fluid = fluid
        self._per_mm = np.divide(1, voxel_size).astype(np.float32)
        self._strength = np.float32(strength)
        self._fluid_weight = np.float32(fluid_weight)
        # Zero stays zero.
        self._stiffness = smooth.astype(np.float32)

    def linearize(self, phase, rounding):
        """Take the penalty around `phase`, with lengths of gradients rounded below `rounding` rad/mm."""
        _stiffen(phase, self._per_mm, self._strength, np.float32(rounding), self._stiffness)

    def add(self, volume, out):
        """Add the gradient of the quadratic form at `volume` to `out`."""
        add_weighted_laplacian(volume, self._stiffness, out)
        if self._fluid.any():
            values = volume[self._fluid]
            out[self._fluid] += self._fluid_weight * (values - values.mean())

    def diagonal(self):
        """Return the diagonal of the smoothness."""
        return sum(stiffness + np.roll(stiffness, 1, axis) for axis, stiffness in enumerate(self._stiffness))


@njit(cache=True, parallel=True, error_model='numpy')
def _stiffen(phase, per_mm, strength, rounding, stiffness):
    nx, ny, nz = phase.shape
    for i in prange(nx):
        for j in range(ny):
            for k in range(nz):
                here = phase[i, j, k]
                steps = (phase[i + 1 if i + 1 < nx else 0, j, k] - here, phase[i, j + 1 if j + 1 < ny else 0, k] - here,
                         phase[i, j, k + 1 if k + 1 < nz else 0] - here)
                for axis in range(3):
                    slope = per_mm[axis] * steps[axis]
                    if stiffness[axis, i, j, k] > 0:
                        stiffness[axis, i, j, k] = (strength * per_mm[axis] * per_mm[axis]
                                                    / np.sqrt(slope * slope + rounding * rounding))
