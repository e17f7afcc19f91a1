"""Recipes: what a training run is, read from TOML."""

import tomllib
from dataclasses import dataclass, field, fields
from inspect import signature
from pathlib import Path

from qsmbids.files import FileError
from qsmbids.networks.weights import NETWORKS
from qsmbids.training.border_stream import BorderStream
from qsmbids.training.labelled_stream import LabelledStream
from qsmbids.training.lesionstream import LesionStream
from qsmbids.training.mask_stream import MaskStream
from qsmbids.training.streams import PatchStream

# What the loop tells a stream.
GIVEN = {'anatomies', 'seed', 'target', 'sparse', 'structures'}
STREAMS = {'classes': LabelledStream, 'lesions': LesionStream, 'mask': MaskStream,
           'border': BorderStream}  # of other targets: patches


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
        Label maps to train on and to validate with, for segmentation also measured maps with labels beside them, for
        what learns without a truth measured fields; relative to the folder that the command is given, or patterns
        such as ``sub-*/fmap/*_desc-local_fieldmap.nii.gz``.
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
    edges : float
        Weight of the edges' error in the loss.
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
    edges: float = .3
    validate_every: int = 100


def load_recipe(path):
    """Read a recipe.

    Raises
    ------
    FileError
        If the file cannot be read, is no TOML, names no network, lacks an entry, or has one that a recipe, its stream
        or its network does not have.
    """
    try:
        entries = tomllib.loads(Path(path).read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(f'{path}: cannot be read as a recipe ({error})') from None
    _refuse_others(path, 'a recipe', entries, {entry.name for entry in fields(Recipe)})
    if missing := {'network', 'steps'} - set(entries):
        raise FileError(f'{path}: {", ".join(sorted(missing))} is missing')
    recipe = Recipe(**entries)
    if recipe.network not in NETWORKS:
        raise FileError(f'{path}: network is {recipe.network!r}, must be one of {", ".join(NETWORKS)}')
    _refuse_others(path, recipe.network, recipe.architecture, set(signature(NETWORKS[recipe.network]).parameters))
    _refuse_others(path, 'a stream', recipe.stream, set(signature(stream_kind(recipe.network)).parameters) - GIVEN)
    return recipe


def find_files(folder, names):
    """Return the paths that names and patterns of a recipe stand for in a folder, those of a pattern in order.

    Raises
    ------
    FileError
        If one of them is not there.
    """
    found = []
    for name in names:
        paths = sorted(Path(folder).glob(name)) if '*' in name else [Path(folder) / name]
        if not paths or not paths[0].exists():
            raise FileError(f'{Path(folder) / name}: is missing; say with --anatomies where the files of the recipe '
                            'are')
        found += paths
    return found


def stream_kind(network):
    """Return the class of the streams that the networks of a name learn from."""
    return STREAMS.get(NETWORKS[network].target, PatchStream)


def _refuse_others(path, owner, entries, known):
    if unknown := sorted(set(entries) - known):
        raise FileError(f'{path}: {", ".join(unknown)} is no part of {owner}; it has {", ".join(sorted(known))}')
