"""Who takes part in a simulated study: age, sex, group, the iron that both put into the deep nuclei, and lesions.

Iron of pallidum, putamen and caudate grows with age as it does post mortem [1]_. In Parkinson's disease the substantia
nigra holds more, by about the effect size that a meta-analysis of QSM studies found, 1.13 [2]_.

References
----------
.. [1] Hallgren B, Sourander P. The effect of age on the non-haemin iron in the human brain. J Neurochem 1958;3:41-51.
.. [2] PubMed Central, PMC7270360.
"""

from dataclasses import dataclass, field

import numpy as np

from qsmbids.simulation.lesions import CLASSES, PATTERNS
from qsmbids.simulation.signal import rotation

COHORTS = {'healthy': (20, 85), 'parkinson': (50, 80), 'svd': (55, 85)}  # ages
ADULT = 40.  # years: the age of the table of tissues
# mg per 100 g: rise, rate (1/year), at birth; and the susceptibility of the iron at `ADULT`, ppm.
IRON = {'pallidum': (21.41, .09, .37, .144), 'putamen': (14.62, .04, .46, .047), 'caudate': (9.66, .05, .33, .053)}
NIGRAL_SD, NIGRAL_RISE = .035, .040  # ppm
MOST_MICROBLEEDS = 30  # of a patient


@dataclass(frozen=True)
class Participant:
    """One member of a cohort.

    Attributes
    ----------
    label : str
    age : int
    sex, group : str
    iron : dict
        Tissue to the susceptibility that it has beyond the table, ppm.
    pose : ndarray, shape (4, 4)
        How the head lies in the scanner.
    head_seed, scan_seed : int
    lesions : dict
        How many of each of the classes of `qsmbids.simulation.lesions`.
    pattern : str
        Where microbleeds lie (see `draw_lesions` there).
    """

    label: str
    age: int
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
    cohort : {'healthy', 'parkinson', 'svd'}
        With small-vessel disease patients have 1 to 30 microbleeds, and all participants what is taken for them.
    seed : int, default 0
    microbleeds : int, optional
        How many this participant has, whatever the cohort.
    pattern : str, optional
        Where microbleeds lie (see `qsmbids.simulation.lesions.draw_lesions`); random by default.

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
    patient = cohort != 'healthy' and number % 2 == 1
    age = int(rng.integers(*COHORTS[cohort], endpoint=True))
    iron = age_iron(age)
    rise = NIGRAL_RISE * (patient and cohort == 'parkinson')
    iron['substantia_nigra'] = max(NIGRAL_SD * rng.standard_normal() + rise, -.08)
    iron['subthalamic'] = .3 * iron['substantia_nigra']
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


def age_iron(age):
    """Return what the iron of an age adds to the susceptibility of the table, ppm, per tissue."""
    added = {}
    for name, (rise, rate, birth, chi) in IRON.items():
        now, adult = (rise * (1 - np.exp(-rate * years)) + birth for years in (age, ADULT))
        added[name] = float(chi * (now / adult - 1))
    added['pallidum_internal'] = added['pallidum']
    return added
