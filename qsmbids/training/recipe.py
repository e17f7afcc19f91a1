"""Recipes: what a training run is, read from TOML."""

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

from qsmbids.files import FileError


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes
    ----------
    network : str
        Name in `networks.weights.NETWORKS`.
    architecture : dict
        Arguments of the network.
    stream : dict
        Arguments of the stream beside its seed and anatomies.
    anatomies, validation : list of str
        Label maps to train on and to validate with; relative to the folder that the command is given.
    seed : int
    steps : int
    learning_rate : float
        At the end of the warm-up; falls to nothing as a cosine.
    warmup : int
        Steps.
    averaging : float
        Decay of the running mean of the weights that is kept.
    unrolls : dict
        Share of the steps, as text, from which on there are so many turns.
    validate_every : int
        Steps.
    """

    network: str
    steps: int
    architecture: dict = field(default_factory=dict)
    stream: dict = field(default_factory=dict)
    anatomies: list = field(default_factory=list)
    validation: list = field(default_factory=list)
    seed: int = 1
    learning_rate: float = 1.5e-3
    warmup: int = 50
    averaging: float = .998
    unrolls: dict = field(default_factory=dict)
    validate_every: int = 100


def load_recipe(path):
    """Read a recipe.

    Raises
    ------
    FileError
        If the file cannot be read, is no TOML, or has an entry that a recipe does not have.
    """
    try:
        entries = tomllib.loads(Path(path).read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(f'{path}: cannot be read as a recipe ({error})') from None
    known = {entry.name for entry in fields(Recipe)}
    if unknown := sorted(set(entries) - known):
        raise FileError(f'{path}: {", ".join(unknown)} is no part of a recipe; it has {", ".join(sorted(known))}')
    if missing := {'network', 'steps'} - set(entries):
        raise FileError(f'{path}: {", ".join(sorted(missing))} is missing')
    return Recipe(**entries)
