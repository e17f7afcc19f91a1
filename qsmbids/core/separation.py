"""Paramagnetic and diamagnetic sources told apart: susceptibility adds them up, relaxation adds up their sizes.

With the susceptibility of both signs, ``chi = chi+ + chi-``, and the relaxation that both make alike,
``R2' = Dr (chi+ - chi-)`` [1]_, two maps give two unknowns in each voxel.

References
----------
.. [1] Shin H-G, Lee J, Yun YH, et al. chi-separation: Magnetic susceptibility source separation toward iron and myelin
   mapping in the brain. NeuroImage 2021;240:118371. Eq. 3 and 6.
.. [2] Cox EF, Gowland PA. Simultaneous quantification of T2 and T'2 using a combined gradient echo-spin echo sequence
   at ultrahigh field. Magn Reson Med 2010;64:1440-1445.
"""

from dataclasses import dataclass

import numpy as np

from qsmbids.core.checks import check_mask, check_positive, check_volume

RELAXIVITY = 137.0  # Dr at 3 T, 1/s per ppm, of both signs of susceptibility [1]_
TISSUE_R2 = 12.0    # 1/s at 3 T, between white matter (14) and cortex (8); for want of a measured map
R2_GROWTH = .12     # R2 rises by this share of itself for each rise of the squared field by that of 3 T [2]_


@dataclass(frozen=True)
class Sources:
    """What `separate_sources` returns; float32 of shape (nx, ny, nz), in ppm, zero outside the mask.

    Attributes
    ----------
    positive : ndarray
        Susceptibility of the paramagnetic sources, such as iron; not below zero.
    negative : ndarray
        Of the diamagnetic sources, such as myelin and calcium; not above zero.
    """

    positive: np.ndarray
    negative: np.ndarray


def separate_sources(chi, r2prime, mask, b0_tesla, *, relaxivity=RELAXIVITY):
    """Separate positive and negative susceptibility in each voxel.

    Where chi is larger than R2' allows, which noise and a lack of a common zero bring about, no pair of values fits
    both. Then the source of the other sign is zero, and the one left is the least-squares compromise, half way between.

    Parameters
    ----------
    chi : ndarray, shape (nx, ny, nz)
        Susceptibility, ppm. Its zero should be that of tissue without sources: an offset goes half into each part.
    r2prime : ndarray, shape (nx, ny, nz)
        R2' in 1/s (`relaxometry.r2_prime`). Below zero counts as zero.
    mask : ndarray of bool, shape (nx, ny, nz)
    b0_tesla : float
        Field strength, T: the relaxation by sources grows with it.
    relaxivity : float, default 137
        1/s per ppm at 3 T.

    Returns
    -------
    Sources

    Raises
    ------
    ValueError
        If shapes disagree, values in the mask are not finite, or `b0_tesla` or `relaxivity` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> chi, r2prime = np.array([[[.02]]]), np.array([[[.10 * 137]]])
    >>> found = separate_sources(chi, r2prime, np.ones((1, 1, 1), bool), 3)
    >>> round(float(found.positive[0, 0, 0]), 3), round(float(found.negative[0, 0, 0]), 3)
    (0.06, -0.04)
    """
    mask = check_mask(mask)
    chi, r2prime = check_volume('chi', chi, mask), check_volume('r2prime', r2prime, mask)
    check_positive(b0_tesla=b0_tesla, relaxivity=relaxivity)
    size = np.maximum(r2prime, 0) / np.float32(relaxivity_at(b0_tesla, relaxivity))
    # The half sums solve both equations. Where one has the wrong sign its source is zero, and then the other half sum
    # is the least-squares value of the source left.
    positive, negative = np.maximum(chi + size, 0) / 2, np.minimum(chi - size, 0) / 2
    return Sources(positive * mask, negative * mask)


def relaxivity_at(b0_tesla, relaxivity=RELAXIVITY):
    """Return Dr at a field strength, 1/s per ppm, from that at 3 T: static dephasing grows as the field does."""
    return relaxivity * b0_tesla / 3


def tissue_r2(b0_tesla):
    """Return R2 of brain tissue at a field strength, 1/s: the one value that stands in for a map of it."""
    return TISSUE_R2 * (1 + R2_GROWTH * ((b0_tesla / 3) ** 2 - 1))
