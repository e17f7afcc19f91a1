"""The settings of one run: frozen, written to and read from TOML."""

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from qsmbids.core.methods import BACKGROUND, INVERSION, MASKING


@dataclass(frozen=True)
class Config:
    """Everything that a run was asked for. Names and defaults are those of the command line."""

    bids_dir: Path
    output_dir: Path
    analysis_level: str = 'participant'
    # Which input
    participant_label: tuple = ()
    session_label: tuple = ()
    bids_filter_file: Path | None = None
    bids_database_dir: Path | None = None
    skip_bids_validation: bool = False
    derivatives: dict = field(default_factory=dict)
    # Which methods
    preset: str = 'none'
    unwrapping: str = 'romeo'
    phase_offset: str = 'mcpc3ds'
    echo_fit: str = 'nonlinear'
    phase_sign: str = 'auto'
    bipolar: str = 'auto'
    mending: bool = True
    mask_method: str = 'surface'
    mask_margin: float = 2.0
    residual_threshold: float = 0.3
    erosion: bool = False
    weighting: str = 'residual'
    two_pass: bool = False
    background: str = 'pdf'
    inversion: tuple = ('tv',)
    inversion_lambda: float | None = None
    reference: str = 'wholebrain'
    relaxometry: str = 'arlo'
    swi: bool = True
    chi_separation: bool = False
    subcortical: str = 'auto'
    atlas: str | None = None
    longitudinal: bool = False
    microbleeds: bool = True
    microbleed_grading: str = 'network'
    # Which output
    level: str = 'full'
    output_spaces: tuple = ('native',)
    # How to run
    nprocs: int | None = None
    omp_nthreads: int | None = None
    mem: float | None = None
    low_mem: bool = False
    use_plugin: Path | None = None
    work_dir: Path = Path('work')
    clean_workdir: bool = False
    dry_run: bool = False
    stop_on_first_crash: bool = False
    resource_monitor: bool = False
    write_graph: bool = False
    boilerplate_only: bool = False
    reports_only: bool = False
    random_seed: int | None = None
    verbose: int = 0
    notrack: bool = False

    @property
    def weights(self):
        """The trained weights that the methods cannot do without, a list."""
        methods = (MASKING[self.mask_method], BACKGROUND[self.background],
                   *(INVERSION[name] for name in self.inversion))
        return [method.weights for method in methods if method.weights]

    @property
    def uses_networks(self):
        """Whether a step may be done by a network."""
        return (self.subcortical in ('auto', 'network') or self.microbleeds and self.microbleed_grading == 'network'
                or bool(self.weights))

    def to_toml(self):
        """Return the settings as TOML text, unset ones left out."""
        import tomli_w
        return tomli_w.dumps({name: _plain(value) for name, value in asdict(self).items() if value is not None})


def read_toml(path):
    """Read settings from a TOML file.

    Returns
    -------
    dict
        By the names of :class:`Config`; dashes in names may stand for underscores.

    Raises
    ------
    ValueError
        If the file cannot be read, or names or values do not fit.
    """
    try:
        content = tomllib.loads(Path(path).read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f'{path}: cannot be read as TOML ({error})') from None
    content = {name.replace('-', '_'): value for name, value in content.items()}
    known = {f.name: f for f in fields(Config)}
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise ValueError(f'{path}: unknown setting {", ".join(unknown)}; known are {", ".join(sorted(known))}')
    return {name: _typed(path, known[name], value) for name, value in content.items()}


def _typed(path, setting, value):
    kinds = {tuple: (list,), Path: (str,), Path | None: (str,), float: (int, float), float | None: (int, float),
             int | None: (int,), str | None: (str,), dict: (dict,)}
    expected = kinds.get(setting.type, (setting.type,))
    if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
        raise ValueError(f'{path}: {setting.name} is {value!r}, must be '
                         f'{" or ".join(kind.__name__ for kind in expected)}')
    if setting.type is tuple:
        return tuple(value)
    if setting.type in (Path, Path | None):
        return Path(value)
    if setting.type is dict:
        return {name: Path(folder) for name, folder in value.items()}
    return value


def _plain(value):
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value
