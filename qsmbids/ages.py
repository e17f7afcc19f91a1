"""How old a participant was: the column age of sessions.tsv or participants.tsv, in the unit of its dictionary."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from qsmbids.files import FileError, read_json, read_tsv

ADULT_FROM = 5.
"""Years below which nothing that holds for adults is taken for granted."""
UNITS = {'day': 1 / 365.25, 'week': 7 / 365.25, 'month': 1 / 12, 'year': 1.}
OLDEST = 130.


@dataclass(frozen=True)
class Age:
    """The age at a scan.

    Attributes
    ----------
    years : float
    said : str
        What is said of it, and where.
    """

    years: float
    said: str

    @property
    def is_adult(self):
        return self.years >= ADULT_FROM


def find_age(bids_dir, subject, session=None):
    """Return how old a participant was, or None if that is said nowhere.

    Parameters
    ----------
    bids_dir : path
    subject : str
        Label without ``sub-``.
    session : str, optional
        Label without ``ses-``. The age of its row in ``sub-X_sessions.tsv`` comes before that in ``participants.tsv``.

    Returns
    -------
    Age or None
        In years, as BIDS says, unless the JSON dictionary of the table has other ``Units`` for the column: days, weeks
        or months.

    Raises
    ------
    FileError
        If a table has an age that is no number, a unit that is none of these, or more than 130 years.
    """
    found = session_age(bids_dir, subject, session) if session else None
    return found or _age_in(Path(bids_dir, 'participants.tsv'), 'participant_id', f'sub-{subject}')


def session_age(bids_dir, subject, session):
    """Return how old a participant was at a session by ``sub-X_sessions.tsv``, or None; else as `find_age`."""
    return _age_in(Path(bids_dir, f'sub-{subject}', f'sub-{subject}_sessions.tsv'), 'session_id', f'ses-{session}')


@lru_cache(maxsize=8)
def _ages(path, key, _):
    """Return the column age by participant or session, and its unit; the time tells that the table has changed."""
    rows = {row.get(key): row.get('age', 'n/a') for row in read_tsv(path)}
    try:
        said = read_json(Path(path).with_suffix('.json')).get('age', {})
    except FileError:
        said = {}
    return rows, str(said.get('Units', 'year') if isinstance(said, dict) else 'year')


def _age_in(path, key, name):
    if not path.is_file():
        return None
    ages, unit = _ages(str(path), key, path.stat().st_mtime_ns)
    text = ages.get(name, 'n/a').strip()
    if text.lower() in ('n/a', ''):
        return None
    # Data sets that are shared say 89+ of the oldest.
    number = re.fullmatch(r'(\d+(?:\.\d+)?)\+?', text)
    known = UNITS.get(unit.strip().lower().rstrip('s'))
    if not number or known is None:
        raise FileError(f'{path}: the age of {name} is {text!r} in {unit!r}; it must be a number, in years, or in '
                        'days, weeks or months if the Units of age in the JSON file beside it say so')
    years = float(number[1]) * known
    if years > OLDEST:
        raise FileError(f'{path}: the age of {name} is {years:.0f} years; say in the Units of age, in '
                        f'{path.with_suffix(".json").name} beside it, if it is in days, weeks or months')
    return Age(years, f'{text} {unit} ({path.name})')
