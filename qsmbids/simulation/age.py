"""What age changes in a head, from birth to old age: size and shape, iron, myelin and water.

Iron of pallidum, putamen and caudate grows as it does post mortem [1]_; the nuclei of midbrain and cerebellum follow
the pallidum, cortex the putamen, and the thalamus loses iron after 40 [2]_. The susceptibility of the diamagnetic
sources goes with myelin: little at birth, most of it after two years, all in mid-life, less in old age [2]_. Water
makes the relaxation of infants slow; that of white matter so much that its contrast to grey matter turns round: at
birth R1 of cortex is 1.3 times that of white matter at 3 T, and R2 1.8 times [3]_.

The skull's inside reaches 77 % of its final volume at two years and 90 % at five [4]_; ventricles and sulci widen after
40, the latter by 0.6 mL and the former by 0.3 mL a year [5]_. Curves between the ages of a table are straight.

References
----------
.. [1] Hallgren B, Sourander P. The effect of age on the non-haemin iron in the human brain. J Neurochem 1958;3:41-51.
.. [2] Li W, et al. Differential developmental trajectories of magnetic susceptibility in human brain gray and white
   matter over the lifespan. Hum Brain Mapp 2014;35:2698-2713. Treit S, et al. R2* and quantitative susceptibility
   mapping in deep gray matter of 498 healthy controls from 5 to 90 years. Hum Brain Mapp 2021;42:4597-4610.
.. [3] Williams L-A, et al. Neonatal brain: regional variability of in vivo MR imaging relaxation rates at 3.0 T.
   Radiology 2005;235:595-603.
.. [4] Sgouros S, et al. Intracranial volume change in childhood. J Neurosurg 1999;91:610-616.
.. [5] Pfefferbaum A, et al. A quantitative magnetic resonance imaging study of changes in brain morphology from infancy
   to late adulthood. Arch Neurol 1994;51:874-887.
"""

from dataclasses import dataclass, replace

import numpy as np

from qsmbids.simulation.tissues import LIKE, NUCLEI, RELAXIVITY, TISSUES, WHITE

ADULT = 40.   # years: the age of the table of tissues and of the geometry
OLDEST = 120.
# mg per 100 g: rise, rate (1/year), at birth.
IRON = {'pallidum': (21.41, .09, .37), 'putamen': (14.62, .04, .46), 'caudate': (9.66, .05, .33)}
IRON_OF = {'red_nucleus': 'pallidum', 'substantia_nigra': 'pallidum', 'dentate': 'pallidum', 'thalamus': 'pallidum',
           'cortex': 'putamen', 'white_matter': 'putamen'}
THALAMUS_LOSS = .004     # of its iron, a year after 40
UNMYELINATED = (.65, .15)  # shares of myelin that are missing at birth and come with these times, years
MYELIN_YEARS = (.7, 8.)
MYELIN_LOSS = .15 / 40 ** 2  # a year squared after 50
WATER_YEARS = .9         # time with which the brain dries
# At birth over the adult's: T1, R2, M0.
NEWBORN_WHITE, NEWBORN_GREY = (2.8, .29, 1.22), (1.18, .85, 1.08)
# Years to the adult's share, or to mm.
SIZE = ((0, .66), (.25, .74), (.5, .79), (1, .86), (2, .917), (5, .965), (10, .99), (15, 1))
SKULL_LOSS = ((0, 3.), (1, 2.3), (5, 1.3), (10, .7), (18, 0))  # mm less than an adult of the same size
AIR = ((0, .3), (2, .5), (6, .7), (12, .9), (18, 1))           # of the sinuses' diameters
WIDENING = ((0, -.5), (5, 0), (40, 0), (60, .8), (85, 2.5), (OLDEST, 3.5))  # of the ventricles, mm on each side
SULCI = ((40, 0), (60, .15), (85, .4), (OLDEST, .6))           # mm on each wall


@dataclass(frozen=True)
class Stature:
    """How the geometry of a head differs from an adult's.

    Attributes
    ----------
    size : float
        Factor on all lengths; those below are before it.
    skull_loss : float
        How much thinner the skull is, mm.
    air : float
        Factor on the sinuses.
    widening : float
        How far the walls of the ventricles lie further out, mm.
    sulci : float
        How far each wall of a sulcus draws back, mm.
    """

    size: float = 1.
    skull_loss: float = 0.
    air: float = 1.
    widening: float = 0.
    sulci: float = 0.


def stature(age=None):
    """Return the geometry of an age in years, that of an adult if None.

    Raises
    ------
    ValueError
        If `age` is not between 0 and 120.
    """
    if age is None:
        return Stature()
    check_age(age)
    return Stature(*(float(np.interp(age, *zip(*curve))) for curve in (SIZE, SKULL_LOSS, AIR, WIDENING, SULCI)))


def tissues_at(age=None):
    """Return the table of tissues (dict, at 3 T) at an age in years; as it is if None.

    Raises
    ------
    ValueError
        If `age` is not between 0 and 120.
    """
    if age is None:
        return TISSUES
    iron, myelin, dry = age_iron(age), myelin_share(age), 1 - np.exp(-age / WATER_YEARS)
    aged = {}
    for name, tissue in TISSUES.items():
        if LIKE.get(name, name) not in NUCLEI + ('cortex', 'white_matter'):
            aged[name] = tissue
            continue
        t1, r2, m0 = (dry + (1 - dry) * at_birth for at_birth in (NEWBORN_WHITE if name in WHITE else NEWBORN_GREY))
        r2 *= tissue.r2star - tissue.r2_sources
        positive, negative = tissue.chi_positive + iron[name], tissue.chi_negative * myelin
        aged[name] = replace(tissue, chi=positive + negative, diamagnetic=negative, m0=tissue.m0 * m0,
                             t1=tissue.t1 * t1, r2star=r2 + RELAXIVITY * (positive - negative))
    return aged


def age_iron(age):
    """Return what the iron of an age adds to the susceptibility of an adult, ppm, per tissue."""
    check_age(age)
    added = {}
    for name in IRON.keys() | IRON_OF.keys():
        rise, rate, birth = IRON[IRON_OF.get(name, name)]
        now, adult = (rise * (1 - np.exp(-rate * years)) + birth for years in (age, ADULT))
        share = now / adult
        if name == 'thalamus':
            share = min(share, 1.) - THALAMUS_LOSS * max(age - ADULT, 0)
        added[name] = float(TISSUES[name].chi_positive * (share - 1))
    return added | {name: added[other] for name, other in LIKE.items()}


def myelin_share(age):
    """Return how much myelin there is at an age over that of an adult."""
    missing, adult = (sum(share * np.exp(-years / time) for share, time in zip(UNMYELINATED, MYELIN_YEARS))
                      for years in (age, ADULT))
    return float((1 - missing) / (1 - adult) - MYELIN_LOSS * max(age - 50, 0) ** 2)


def check_age(age):
    """Raise ValueError unless an age lies between 0 and 120 years."""
    if not 0 <= age <= OLDEST:
        raise ValueError(f'age is {age}, must be 0 to {OLDEST:g} years')
