"""Who takes part in a simulated study: age, sex, group, and the iron that both put into the deep nuclei.

Iron of pallidum, putamen and caudate grows with age as it does post mortem [1]_. In Parkinson's disease the substantia
nigra holds more, by about the effect size that a meta-analysis of QSM studies found, 1.13 [2]_.

References
----------
.. [1] Hallgren B, Sourander P. The effect of age on the non-haemin iron in the human brain. J Neurochem 1958;3:41-51.
.. [2] PubMed Central, PMC7270360.
"""

from dataclasses import dataclass

import numpy as np

from qsmbids.simulation.signal import rotation

COHORTS = {'healthy': (20, 85), 'parkinson': (50, 80)}  # ages
ADULT = 40.  # years: the age of the table of tissues
# mg per 100 g: rise, rate (1/year), at birth; and the susceptibility of the iron at `ADULT`, ppm.
IRON = {'pallidum': (21.41, .09, .37, .144), 'putamen': (14.62, .04, .46, .047), 'caudate': (9.66, .05, .33, .053)}
NIGRAL_SD, NIGRAL_RISE = .035, .040  # ppm


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
    """

    label: str
    age: int
    sex: str
    group: str
    iron: dict
    pose: np.ndarray
    head_seed: int
    scan_seed: int


def draw_participant(number, cohort='healthy', seed=0):
    """Return one member of a cohort, which does not depend on how many there are.

    Parameters
    ----------
    number : int
        From 1 on. In the cohort ``'parkinson'`` every second participant, from the first on, is a patient.
    cohort : {'healthy', 'parkinson'}
    seed : int, default 0

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
    patient = cohort == 'parkinson' and number % 2 == 1
    age = int(rng.integers(*COHORTS[cohort], endpoint=True))
    iron = age_iron(age)
    iron['substantia_nigra'] = max(NIGRAL_SD * rng.standard_normal() + NIGRAL_RISE * patient, -.08)
    iron['subthalamic'] = .3 * iron['substantia_nigra']
    pose = np.eye(4)
    pose[:3, :3] = rotation(rng.standard_normal(3), min(abs(4 * rng.standard_normal()), 10))
    pose[:3, 3] = np.round(2 * rng.standard_normal(3), 6)
    head_seed, scan_seed = (int(s) for s in rng.integers(2 ** 31, size=2))
    return Participant(f'{number:02d}', age, 'FM'[rng.integers(2)], 'parkinson' if patient else 'control', iron, pose,
                       head_seed, scan_seed)


def age_iron(age):
    """Return what the iron of an age adds to the susceptibility of the table, ppm, per tissue."""
    added = {}
    for name, (rise, rate, birth, chi) in IRON.items():
        now, adult = (rise * (1 - np.exp(-rate * years)) + birth for years in (age, ADULT))
        added[name] = float(chi * (now / adult - 1))
    added['pallidum_internal'] = added['pallidum']
    return added
