"""What the tissues of a head are: susceptibility of both signs, relaxation, water; at any field strength.

The table holds what an adult has at 3 T: susceptibility, R2*, M0 and T1 follow the QSM reconstruction challenge [1]_
and the susceptibility separation phantom built on it, with R2* = R2 + 137 Hz/ppm (chi+ + |chi-|) [2]_.

At other field strengths the last part grows as the field does. R2 grows as the square of the field by a share that fits
grey and white matter at 1.5, 3 and 7 T within 5 % [3]_, and T1 as a power of it that fits what the table's own source
measured at these three within 12 % [4]_; water keeps its T1.

References
----------
.. [1] Marques JP, et al. QSM reconstruction challenge 2.0: A realistic in silico head phantom for MRI data simulation
   and evaluation of susceptibility mapping procedures. Magn Reson Med 2021;86:526-542. Table 1.
.. [2] Shin H-G, et al. chi-separation: Magnetic susceptibility source separation toward iron and myelin mapping in the
   brain. NeuroImage 2021;240:118371. Eq. 3.
.. [3] Cox EF, Gowland PA. Simultaneous quantification of T2 and T'2 using a combined gradient echo-spin echo sequence
   at ultrahigh field. Magn Reson Med 2010;64:1440-1445.
.. [4] Wright PJ, et al. Water proton T1 measurements in brain tissue at 7, 3, and 1.5 T using IR-EPI, IR-TSE, and
   MPRAGE: results and optimization. MAGMA 2008;21:121-130.
"""

from dataclasses import dataclass, replace

import numpy as np

from qsmbids.core.labels import STRUCTURES
from qsmbids.core.separation import R2_GROWTH, RELAXIVITY

TABLE_TESLA = 3.
T1_EXPONENT, T1_EXPONENT_WHITE = .28, .36


@dataclass(frozen=True)
class Tissue:
    """What a tissue is.

    Attributes
    ----------
    chi : float
        ppm relative to water: the sum of what its paramagnetic and its diamagnetic sources make.
    r2star : float
        1/s.
    m0 : float
        Relative to water.
    t1 : float
        s.
    brain : bool
        Whether a brain mask covers it.
    diamagnetic : float, optional
        The part of the diamagnetic sources in chi, ppm, not above 0. All of a negative chi if None.
    """

    chi: float
    r2star: float
    m0: float
    t1: float
    brain: bool = True
    diamagnetic: float | None = None

    @property
    def chi_negative(self):
        """Susceptibility of the diamagnetic sources, ppm; not above 0."""
        return min(self.chi, 0.) if self.diamagnetic is None else self.diamagnetic

    @property
    def chi_positive(self):
        """Susceptibility of the paramagnetic sources, ppm."""
        return self.chi - self.chi_negative

    @property
    def r2_sources(self):
        """The part of R2* at 3 T that the magnetic sources make, 1/s."""
        return min(RELAXIVITY * (self.chi_positive - self.chi_negative), self.r2star)


TISSUES = {
    'air': Tissue(9.2, 0, 0, 1, False),
    'fat': Tissue(.019, 25, .8, .45, False),
    'muscle': Tissue(0, 33, .8, 1.75, False),
    'bone': Tissue(-2.1, 0, 0, 1, False),
    'vitreous': Tissue(.019, 1, 1, 4.391, False, -.009),
    'csf': Tissue(.019, 1, 1, 4.391, False, -.009),
    'dural_sinus': Tissue(.3, 40, .8, 1.6, False),
    'sulcus': Tissue(.019, 1, 1, 4.391, diamagnetic=-.009),
    'ventricle': Tissue(.019, 1, 1, 4.391, diamagnetic=-.009),
    'cortex': Tissue(.020, 16, .83, 1.607, diamagnetic=-.019),
    'white_matter': Tissue(-.030, 20, .70, .838, diamagnetic=-.036),
    'caudate': Tissue(.044, 20, .8, 1.395, diamagnetic=-.009),
    'putamen': Tissue(.038, 21, .8, 1.332, diamagnetic=-.009),
    'pallidum': Tissue(.131, 37, .8, 1.1, diamagnetic=-.013),
    'thalamus': Tissue(.020, 23, .8, 1.2, diamagnetic=-.031),
    'red_nucleus': Tissue(.100, 31, .8, 1.1, diamagnetic=-.011),
    'substantia_nigra': Tissue(.111, 32, .8, 1.1, diamagnetic=-.011),
    'dentate': Tissue(.152, 34, .8, 1.2, diamagnetic=-.016),
    'vein': Tissue(.3, 40, .8, 1.6),
    'pallidum_internal': Tissue(.131, 37, .8, 1.1, diamagnetic=-.013),
    'subthalamic': Tissue(.111, 32, .8, 1.1, diamagnetic=-.011),
    'hippocampus': Tissue(.020, 16, .83, 1.607, diamagnetic=-.019),  # as cortex
    'amygdala': Tissue(.020, 16, .83, 1.607, diamagnetic=-.019),
    'cerebellar_cortex': Tissue(.020, 16, .83, 1.607, diamagnetic=-.019),
    'cerebellar_white_matter': Tissue(-.030, 20, .70, .838, diamagnetic=-.036),
    'brainstem': Tissue(-.030, 20, .70, .838, diamagnetic=-.036),
    'accumbens': Tissue(.044, 20, .8, 1.395, diamagnetic=-.009),  # as caudate
}
# Parts that vary together with the tissue they are like.
LIKE = {'pallidum_internal': 'pallidum', 'subthalamic': 'substantia_nigra', 'hippocampus': 'cortex',
        'amygdala': 'cortex', 'cerebellar_cortex': 'cortex', 'cerebellar_white_matter': 'white_matter',
        'brainstem': 'white_matter', 'accumbens': 'caudate'}
LABELS = {name: index for index, name in enumerate(TISSUES)}
NUCLEI = ('caudate', 'putamen', 'pallidum', 'thalamus', 'red_nucleus', 'substantia_nigra', 'dentate')
WHITE = ('white_matter', 'cerebellar_white_matter', 'brainstem')
WATER = ('vitreous', 'csf', 'sulcus', 'ventricle')
# mL on each side in adults; the pallidum with its internal part.
VOLUMES = {tissue: STRUCTURES[name].volume for tissue, name in (
    ('thalamus', 'Thalamus'), ('caudate', 'Caudate'), ('putamen', 'Putamen'), ('pallidum', 'Pallidum'),
    ('substantia_nigra', 'SubstantiaNigra'), ('red_nucleus', 'RedNucleus'), ('dentate', 'Dentate'),
    ('pallidum_internal', 'PallidumInternal'), ('subthalamic', 'Subthalamic'), ('hippocampus', 'Hippocampus'),
    ('amygdala', 'Amygdala'))}


def vary_tissues(rng, iron=None, tissues=TISSUES):
    """Return the tissues of one person.

    Parameters
    ----------
    rng : Generator
    iron : dict, optional
        Name of a tissue to the susceptibility (ppm) that its iron adds; R2* follows.
    tissues : dict of Tissue, optional
        What persons like this one have on average, at 3 T; the table by default.

    Returns
    -------
    dict of Tissue
        chi varies by 6 % (SD, 12 % at most), by more or less of the sources that prevail, and R2* with it.
    """
    varied, factors = {}, {}
    for name, tissue in tissues.items():
        if name in NUCLEI + ('vein', 'cortex', 'white_matter'):
            factors[name] = 1 + np.clip(.06 * rng.standard_normal(), -.12, .12)
        elif name in LIKE:
            factors[name] = factors[LIKE[name]]
        varied[name] = _scaled(tissue, factors[name]) if name in factors else tissue
    for name, added in (iron or {}).items():
        tissue = varied[name]
        varied[name] = replace(tissue, chi=tissue.chi + added, r2star=max(tissue.r2star + RELAXIVITY * added, 1.))
    return varied


def at_field_strength(tissues, b0_tesla):
    """Return tissues, a dict whose values hold at 3 T, as they are at another field strength.

    Raises
    ------
    ValueError
        If `b0_tesla` is not positive.
    """
    if not b0_tesla > 0:
        raise ValueError(f'b0_tesla is {b0_tesla}, must be positive')
    ratio = b0_tesla / TABLE_TESLA
    if ratio == 1:
        return tissues
    scaled = {}
    for name, tissue in tissues.items():
        exponent = 0 if name in WATER else T1_EXPONENT_WHITE if name in WHITE else T1_EXPONENT
        r2 = (tissue.r2star - tissue.r2_sources) * (1 + R2_GROWTH * (ratio ** 2 - 1))
        scaled[name] = replace(tissue, t1=tissue.t1 * ratio ** exponent, r2star=r2 + tissue.r2_sources * ratio)
    return scaled


def _scaled(tissue, factor):
    chi = float(tissue.chi * factor)
    diamagnetic = tissue.diamagnetic
    if diamagnetic is not None and tissue.chi < 0:
        diamagnetic += chi - tissue.chi
    r2star = tissue.r2star + RELAXIVITY * (abs(chi) - abs(tissue.chi))
    return replace(tissue, chi=chi, r2star=float(r2star), diamagnetic=diamagnetic)
