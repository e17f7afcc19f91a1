"""Who takes part in a simulated study: age, sex, group, the iron of the person and of the disease, and lesions.

In Parkinson's disease the substantia nigra holds more iron, by about the effect size that a meta-analysis of QSM
studies found, 1.13 [1]_. What age does is the head's own affair (see `qsmbids.simulation.age`).

References
----------
.. [1] PubMed Central, PMC7270360.
"""

from dataclasses import dataclass, field

import numpy as np

from qsmbids.simulation.age import age_iron
from qsmbids.simulation.disease import PATTERNS
from qsmbids.simulation.lesions import CLASSES
from qsmbids.simulation.signal import rotation
from qsmbids.simulation.tissues import TISSUES

COHORTS = {'healthy': (20, 85), 'parkinson': (50, 80), 'svd': (55, 85), 'pediatric': (0, 18)}  # ages
HEALTHY = ('healthy', 'pediatric')
NIGRAL_SD, NIGRAL_RISE = .035, .040  # ppm
MOST_MICROBLEEDS = 30  # of a patient


@dataclass(frozen=True)
class Participant:
    """One member of a cohort.

    Attributes
    ----------
    label : str
    age : int or float
        Years; of the cohort ``'pediatric'`` to the hundredth.
    sex, group : str
    iron : dict
        Tissue to the susceptibility that it has beyond its age, ppm.
    pose : ndarray, shape (4, 4)
        How the head lies in the scanner.
    head_seed, scan_seed : int
    lesions : dict
        How many of each of the classes of `qsmbids.simulation.lesions`.
    pattern : str
        Where microbleeds lie (see `qsmbids.simulation.disease`).
    """

    label: str
    age: float
    sex: str
    group: str
    iron: dict
    pose: np.ndarray
    head_seed: int
    scan_seed: int
    lesions: dict = field(default_factory=dict)
    pattern: str = 'mixed'


def draw_participant(number, cohort='healthy', seed=0, microbleeds=None, pattern=None):
    """Return one member of a cohort, which does not depend on how many there are.

    Parameters
    ----------
    number : int
        From 1 on. In the cohorts of a disease every second participant, from the first on, is a patient.
    cohort : {'healthy', 'parkinson', 'svd', 'pediatric'}
        With small-vessel disease patients have 1 to 30 microbleeds, and all participants what is taken for them. Of
        children, a quarter are infants of up to 14 months.
    seed : int, default 0
    microbleeds : int, optional
        How many this participant has, whatever the cohort.
    pattern : str, optional
        Where microbleeds lie (see `qsmbids.simulation.disease.draw_lesions`); random by default.

    Returns
    -------
    Participant

    Raises
    ------
    ValueError
        If `cohort` is unknown or `number` below 1.
    """
    if cohort not in COHORTS:
        raise ValueError(f'cohort is {cohort!r}, must be one of {", ".join(COHORTS)}')
    if number < 1:
        raise ValueError(f'number is {number}, must be at least 1')
    rng = np.random.Generator(np.random.PCG64([seed, number]))
    patient = cohort not in HEALTHY and number % 2 == 1
    if cohort == 'pediatric':
        # More of those in whom much changes in a year.
        age = round(COHORTS[cohort][1] * rng.random() ** 2, 2)
    else:
        age = int(rng.integers(*COHORTS[cohort], endpoint=True))
    # Persons differ less before there is iron in which they could.
    spread = NIGRAL_SD * (1 + age_iron(age)['substantia_nigra'] / TISSUES['substantia_nigra'].chi_positive)
    rise = NIGRAL_RISE * (patient and cohort == 'parkinson')
    nigral = float(spread * max(rng.standard_normal(), -2.3) + rise)
    iron = {'substantia_nigra': nigral, 'subthalamic': .3 * nigral}
    pose = np.eye(4)
    pose[:3, :3] = rotation(rng.standard_normal(3), min(abs(4 * rng.standard_normal()), 10))
    pose[:3, 3] = np.round(2 * rng.standard_normal(3), 6)
    head_seed, scan_seed = (int(s) for s in rng.integers(2 ** 31, size=2))
    # A generator of its own: the others are the same people with and without lesions.
    lesions, drawn = _lesions(np.random.Generator(np.random.PCG64([seed, number, 1])), cohort, patient)
    if microbleeds is not None:
        lesions['cmb'] = microbleeds
    return Participant(f'{number:02d}', age, 'FM'[rng.integers(2)], cohort if patient else 'control', iron, pose,
                       head_seed, scan_seed, lesions, pattern or drawn)


def _lesions(rng, cohort, patient):
    """Return how many lesions of each class a participant has, and where microbleeds lie."""
    counts = dict.fromkeys(CLASSES, 0)
    if cohort == 'svd':
        counts |= {'cmb': int((MOST_MICROBLEEDS + 1) ** rng.random()) * patient,
                   'calcification': int(1 + rng.poisson(.8)), 'vessel': int(rng.integers(3, 10)),
                   'deep_iron': int(rng.poisson(.8)), 'haemorrhage': int(rng.random() < .1) * patient,
                   'pvs': int(rng.integers(2, 12))}
    return counts, str(rng.choice(list(PATTERNS)))
