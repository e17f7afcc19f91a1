"""The command line of ``qsmbids``. Imports only what is quick: ``--help`` answers at once."""

import argparse
from dataclasses import fields
from pathlib import Path

from qsmbids.cli.about import add_about
from qsmbids.config import Config, read_toml
from qsmbids.core.methods import (BACKGROUND, BIPOLAR, ECHO_FITS, INVERSION, MASKING, OFFSETS, PHASE_SIGNS, PRESETS,
                                  REFERENCES, RELAXOMETRY, UNWRAPPING, WEIGHTINGS)
from qsmbids.segmentations import CHOICES as SEGMENTATIONS

EXIT_CODES = """\
exit codes: 0 every requested participant is complete; 1 at least one failed, the others are complete; 2 the command
line is wrong; 65 there is no usable input; 70 an error inside qsmbids"""


def build_parser():
    """Return the argument parser; its defaults are those of :class:`qsmbids.config.Config`."""
    parser = argparse.ArgumentParser(
        prog='qsmbids', epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        description='Quantitative susceptibility mapping of a BIDS data set.')
    parser.add_argument('bids_dir', type=Path, help='root of the BIDS data set')
    parser.add_argument('output_dir', type=Path, help='where the derivatives go')
    parser.add_argument('analysis_level', choices=('participant', 'group'),
                        help='participant: compute maps; group: collect tables from output_dir')
    add_about(parser)
    _add_input(parser.add_argument_group('which input'))
    _add_methods(parser.add_argument_group('which methods'))
    _add_output(parser.add_argument_group('which output'))
    _add_execution(parser.add_argument_group('how to run'))
    parser.set_defaults(**{f.name: f.default for f in fields(Config)
                           if f.name not in ('bids_dir', 'output_dir', 'analysis_level', 'derivatives')})
    return parser


def parse(arguments=None):
    """Parse and check a command line.

    Returns
    -------
    Config
        With absolute paths.

    Raises
    ------
    SystemExit
        With code 2 after a message, if the command line or the ``--config-file`` is wrong.
    """
    parser = build_parser()
    first, _ = _first_parser().parse_known_args(arguments)
    if first.config_file:
        try:
            settings = read_toml(first.config_file)
        except ValueError as error:
            parser.error(str(error))
        for name in ('bids_dir', 'output_dir', 'analysis_level'):
            settings.pop(name, None)
        _check_choices(parser, settings, first.config_file)
    else:
        settings = {}
    derivatives = settings.pop('derivatives', {})
    # What was set by name wins over the preset, on the command line as in the file.
    preset = dict(PRESETS.get(first.preset or settings.get('preset', 'none'), {}))
    strength = preset.pop('inversion_lambda', None)
    parser.set_defaults(**preset | settings)
    options = vars(parser.parse_args(arguments))
    options.pop('config_file')
    options['derivatives'] = derivatives | _named_folders(parser, options['derivatives'] or [])
    for name in ('participant_label', 'session_label', 'inversion', 'output_spaces'):
        options[name] = tuple(dict.fromkeys(options[name]))
    if options['inversion_lambda'] is None and options['inversion'] == preset.get('inversion'):
        options['inversion_lambda'] = strength  # it means something to the preset's own method only
    for name, value in options.items():
        if isinstance(value, Path):
            options[name] = value.expanduser().absolute()
    config = Config(**options)
    _check(parser, config)
    return config


def _add_input(group):
    group.add_argument('--participant-label', nargs='+', metavar='LABEL', help='with or without sub-; all by default')
    group.add_argument('--session-label', nargs='+', metavar='LABEL', help='with or without ses-; all by default')
    group.add_argument('--bids-filter-file', type=Path, metavar='FILE',
                       help='JSON with further entities, such as {"megre": {"acquisition": "qsm"}}')
    group.add_argument('--bids-database-dir', type=Path, metavar='DIR', help='a saved pybids index to read or make')
    group.add_argument('--skip-bids-validation', action='store_true', help='do not check the names of files')
    group.add_argument('-d', '--derivatives', nargs='+', metavar='NAME=PATH',
                       help="derivatives to use: a desc-brain_mask of the same acquisition replaces ours; an R2map or "
                            "T2map on its grid gives R2'; a segmentation (BIDS dseg, FreeSurfer, FastSurfer, SynthSeg) "
                            'gives the regions; microbleeds are looked for in a Chimap on its grid')


def _add_methods(group):
    group.add_argument('--preset', choices=tuple(PRESETS),
                       help='settings that go together; what is set beside it wins. consensus: the example pipeline of '
                            'the consensus recommendation, ROMEO, V-SHARP, weak-harmonic nonlinear total variation; '
                            'deep: the networks POCSnet1 and POCSnet2, and that total variation beside them; '
                            'pediatric: the mask of the network, fluid as reference, no microbleeds [none]')
    group.add_argument('--unwrapping', choices=tuple(UNWRAPPING), help='phase unwrapping [romeo]')
    group.add_argument('--phase-offset', choices=tuple(OFFSETS), help='removal of the coil phase offset [mcpc3ds]')
    group.add_argument('--echo-fit', choices=tuple(ECHO_FITS), help='combination of the echoes [nonlinear]')
    group.add_argument('--phase-sign', choices=PHASE_SIGNS,
                       help='+: phase grows where the field is stronger; -: it falls; auto: + unless the scanner is '
                            'known to do otherwise [auto]')
    group.add_argument('--bipolar', choices=BIPOLAR,
                       help='whether to take out a phase that alternates between the echoes of a bipolar readout; '
                            'auto: where one is found [auto]')
    group.add_argument('--mending', action=argparse.BooleanOptionalAction,
                       help='move doubtful voxels of the field by whole turns, and fill those of pure noise, where '
                            'dipoles explain the field around them [yes]')
    group.add_argument('--mask-method', choices=tuple(MASKING),
                       help='brain mask, unless --derivatives give one. surface: a deformable surface, '
                            'with the fluid around the brain; network: the same with its border moved to where the '
                            'brain ends [surface]')
    group.add_argument('--mask-margin', type=float, metavar='MM',
                       help='how far beyond a brain mask that ends with the brain, from --derivatives or the network, '
                            'field and background are computed, for the sake of the map at its border [2]')
    group.add_argument('--residual-threshold', type=float, metavar='R',
                       help='voxels whose relative echo-fit residual exceeds this are left out [0.3]')
    group.add_argument('--erosion', action=argparse.BooleanOptionalAction,
                       help='take the outermost voxel off what is left everywhere, not just beside unreliable voxels '
                            '[no]')
    group.add_argument('--weighting', choices=WEIGHTINGS,
                       help='how much a voxel counts in inversions that can weigh: all alike, by the relative residual '
                            'of the echo fit, or by the certainty of the field [residual]; PDF takes the last, unless it '
                            'is none')
    group.add_argument('--two-pass', action='store_true',
                       help='compute susceptibility from reliable voxels alone, and take the rest of the brain from a '
                            'second map: fewer streaks around bleeds, values in them, twice the time')
    group.add_argument('--background', choices=tuple(BACKGROUND), help='background field removal [pdf]')
    group.add_argument('--inversion', nargs='+', choices=tuple(INVERSION),
                       help='dipole inversion, one map per method [tv]')
    group.add_argument('--inversion-lambda', type=float, metavar='L',
                       help="regularisation strength; each method's own default otherwise")
    group.add_argument('--reference', choices=REFERENCES,
                       help='region whose mean susceptibility is zero in the map; the means of the other regions '
                            'are in its sidecar [wholebrain]')
    group.add_argument('--relaxometry', choices=tuple(RELAXOMETRY), help='R2* fit [arlo]')
    group.add_argument('--chi-separation', action='store_true',
                       help="also separate each susceptibility map into positive and negative sources by R2'; give a "
                            'measured R2 or T2 map with --derivatives, or R2 is taken as one constant')
    group.add_argument('--subcortical', choices=SEGMENTATIONS,
                       help='regions whose values are tabled: given with --derivatives, found by the network, or of '
                            'the --atlas; auto: the first of given, atlas (if one is named) and network that there '
                            'is; none: no table [auto]')
    group.add_argument('--atlas', metavar='DIR|NAME',
                       help='a folder with a template, its dseg and TSV, or a TemplateFlow template such as '
                            'MNI152NLin2009cAsym; needs qsmbids[atlas]')
    group.add_argument('--microbleeds', action=argparse.BooleanOptionalAction,
                       help='find microbleeds and calcifications, table them, and leave them out of the values of '
                            'regions; research use only, not a diagnosis [yes]')
    group.add_argument('--microbleed-grading', choices=('network', 'rules'),
                       help='what tells microbleeds, calcifications and what is neither apart [network]')
    group.add_argument('--swi', action=argparse.BooleanOptionalAction,
                       help='susceptibility-weighted images and their minimum-intensity projections, with --level full '
                            '[yes]')


def _add_output(group):
    group.add_argument('--level', choices=('minimal', 'full'),
                       help='minimal: susceptibility maps and masks; full: also field maps, R2*, T2*, S0, residual, '
                            'SWI [full]')
    group.add_argument('--output-spaces', nargs='+', metavar='SPACE',
                       help='native, and templates of TemplateFlow such as MNI152NLin2009cAsym; those need '
                            'qsmbids[atlas] [native]')
    group.add_argument('--longitudinal', action='store_true',
                       help='group level: compare the sessions of a participant in the middle of their positions, too; '
                            'some seconds for each')


def _add_execution(group):
    group.add_argument('--nprocs', '--nthreads', '--n-cpus', type=positive, metavar='N',
                       help='cores to use in all [all that machine, control group or SLURM give]')
    group.add_argument('--omp-nthreads', type=positive, metavar='N', help='cores for one step at most')
    group.add_argument('--mem', '--mem-gb', type=gigabytes, metavar='GB',
                       help='memory to plan with, such as 8 or 8000MB; what needs more is not begun [90 %% of what '
                            'machine, control group or SLURM give]')
    group.add_argument('--low-mem', action='store_true', help='run one step at a time')
    group.add_argument('--use-plugin', type=Path, metavar='FILE',
                       help='nipype plugin settings, TOML, JSON or YAML: plugin, plugin_args')
    group.add_argument('-w', '--work-dir', type=Path, metavar='DIR',
                       help='intermediate results; a second run goes on from them [work]')
    group.add_argument('--clean-workdir', action='store_true', help='empty the work directory first')
    group.add_argument('--config-file', type=Path, metavar='FILE',
                       help='TOML with any of these settings; the command line wins')
    group.add_argument('--dry-run', action='store_true',
                       help='say what would run, on what, how long and with how much memory, and write nothing')
    group.add_argument('--stop-on-first-crash', action='store_true', help='stop everything at the first failure')
    group.add_argument('--resource-monitor', action='store_true', help="record each step's memory and cores")
    group.add_argument('--write-graph', action='store_true', help='write the workflow graph into the logs')
    group.add_argument('--boilerplate-only', action='store_true', help='write the methods text and stop')
    group.add_argument('--reports-only', action='store_true', help='make the reports again from existing outputs')
    group.add_argument('--random-seed', type=int, metavar='N',
                       help='recorded with the outputs; no method so far uses chance')
    group.add_argument('-v', '--verbose', action='count', help='more messages; twice for all of them')
    group.add_argument('--notrack', action='store_true', help='accepted for compatibility: there is no telemetry')


def _first_parser():
    """Return a parser of what decides about the defaults of the others."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--config-file', type=Path)
    parser.add_argument('--preset')
    return parser


def _check_choices(parser, settings, path):
    """Values from a file pass by argparse's own check of choices."""
    for action in parser._actions:
        if action.choices and action.dest in settings:
            values = settings[action.dest] if isinstance(settings[action.dest], tuple) else (settings[action.dest],)
            wrong = [value for value in values if value not in action.choices]
            if wrong:
                parser.error(f'{path}: {action.dest} is {wrong[0]!r}, must be one of {", ".join(action.choices)}')


def _check(parser, config):
    if config.output_dir.resolve() == config.bids_dir.resolve():
        parser.error('output_dir is bids_dir: the derivatives need a folder of their own, such as '
                     f'{config.bids_dir / "derivatives" / "qsmbids"}')
    if config.analysis_level == 'participant':
        if not config.bids_dir.is_dir():
            parser.error(f'bids_dir {config.bids_dir} is no folder')
        if _inside(config.work_dir, config.bids_dir):
            parser.error(f'the work directory {config.work_dir} lies inside the input data set; set -w elsewhere')
        if config.clean_workdir and (_inside(config.bids_dir, config.work_dir)
                                     or _inside(config.output_dir, config.work_dir)):
            parser.error(f'--clean-workdir would delete {config.work_dir}, which holds the input or the output')
    if config.boilerplate_only and config.reports_only:
        parser.error('--boilerplate-only and --reports-only exclude each other')
    if not 0 < config.residual_threshold <= 2:
        parser.error(f'--residual-threshold is {config.residual_threshold:g}, must lie in (0, 2]')
    if not 0 <= config.mask_margin < 100:
        parser.error(f'--mask-margin is {config.mask_margin:g}, must lie in [0, 100)')
    if config.inversion_lambda is not None:
        if config.inversion_lambda <= 0:
            parser.error(f'--inversion-lambda is {config.inversion_lambda:g}, must be positive')
        if len(config.inversion) > 1:
            parser.error('--inversion-lambda means something else to each method: give it with one --inversion')
    if config.nprocs and config.omp_nthreads and config.omp_nthreads > config.nprocs:
        parser.error(f'--omp-nthreads {config.omp_nthreads} is more than --nprocs {config.nprocs}')
    for space in config.output_spaces:
        if not space.isalnum():
            parser.error(f'--output-spaces: {space!r} is no name of a template, such as MNI152NLin2009cAsym')
    if config.subcortical == 'atlas' and not config.atlas:
        parser.error('--subcortical atlas needs an --atlas')
    for name, folder in config.derivatives.items():
        if not folder.is_dir():
            parser.error(f'--derivatives {name}: {folder} is no folder')
    for name in ('bids_filter_file', 'use_plugin'):
        path = getattr(config, name)
        if path and not path.is_file():
            parser.error(f'--{name.replace("_", "-")}: {path} is no file')


def _inside(path, folder):
    return path.resolve().is_relative_to(folder.resolve())


def _named_folders(parser, pairs):
    folders = {}
    for pair in pairs:
        name, sign, path = pair.partition('=')
        if not sign or not name or not path:
            parser.error(f'--derivatives takes NAME=PATH, not {pair!r}')
        folders[name] = Path(path).expanduser().absolute()
    return folders


def positive(text):
    """Return a command-line argument that must be a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{value} must be at least 1')
    return value


def gigabytes(text):
    """Return a command-line argument that is an amount of memory, in GB."""
    units = {'KB': 1e-6, 'MB': 1e-3, 'GB': 1.0, 'TB': 1e3, 'K': 1e-6, 'M': 1e-3, 'G': 1.0, 'T': 1e3}
    upper = text.strip().upper()
    scale = 1.0
    for unit, factor in units.items():
        if upper.endswith(unit):
            upper, scale = upper[:-len(unit)], factor
            break
    try:
        value = float(upper) * scale
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is no amount of memory, such as 8 or 8000MB') from None
    if not value > 0:
        raise argparse.ArgumentTypeError(f'{text!r} must be positive')
    return value
