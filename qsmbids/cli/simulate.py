"""``qsmbids-simulate OUT``: a BIDS data set of simulated participants with its ground truth."""

import argparse
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

from qsmbids import __version__
from qsmbids.cli.about import add_about
from qsmbids.cli.environment import run_command
from qsmbids.files import FileError, cannot_write, read_json, write_json, write_text, write_tsv

VENDORS = ('siemens', 'siemens_levels', 'philips', 'ge', 'radians', 'complex')
COHORTS = ('healthy', 'parkinson', 'svd', 'pediatric')
PATTERNS = ('lobar', 'deep', 'mixed')
FIELD_OF_VIEW = (176, 208, 160)  # mm
MIDDLE = (0, -17, 8)             # of the head, mm
MOST_MICROBLEEDS = 100
LESION_STEP = 1.25               # mm: grid on which lesions find their place
SETTINGS = 'simulation.json'

README = """\
# {name}

Simulated multi-echo gradient-echo scans of digital heads by qsmbids {version}: no person was scanned.
`derivatives/truth` holds what is known of them: susceptibility and the shares of its paramagnetic and
diamagnetic sources (ppm), R2* (1/s), brain mask, tissues, lesions, and total and local field (Hz). `simulation.json`
holds the settings; the same settings give the same voxels. `sourcedata/channels` holds what every coil received, along
the fourth axis, where that was asked for.
"""


def build_parser():
    """Return the argument parser."""
    parser = argparse.ArgumentParser(prog='qsmbids-simulate', allow_abbrev=False,
                                     description='Simulate a BIDS data set with its ground truth as a derivative. '
                                                 'Participants that exist are left as they are.')
    parser.add_argument('out', type=Path, help='folder of the data set')
    add_about(parser)
    parser.add_argument('--participants', type=_count, required=True, metavar='N', help='how many')
    parser.add_argument('--cohort', choices=COHORTS, default=COHORTS[0],
                        help='parkinson, svd (small-vessel disease: 1 to 30 microbleeds, and what is taken for them): '
                             'every second one is a patient, the others are controls; pediatric: 0 to 18 years '
                             '[healthy]')
    parser.add_argument('--microbleeds', type=int, metavar='N', help='so many in every participant of any cohort')
    parser.add_argument('--pattern', choices=PATTERNS, help='where microbleeds lie: lobar, as in amyloid angiopathy; '
                        'deep, as in hypertension; mixed [random]')
    parser.add_argument('--anatomy', type=Path, nargs='+', metavar='FILE', default=[],
                        help='label maps (FreeSurfer ids, and 502 to 530 outside the brain) to make the heads of, in '
                             'turns; otherwise they come from code')
    parser.add_argument('--voxel-size', type=_positive, nargs=3, metavar=('X', 'Y', 'Z'), default=(1., 1., 1.),
                        help='mm [1 1 1]')
    parser.add_argument('--echo-times', type=_positive, nargs='+', metavar='S', default=(.004, .012, .020, .028),
                        help='in seconds [0.004 0.012 0.020 0.028]')
    parser.add_argument('--b0', type=_positive, metavar='T', default=3.,
                        help='field strength; R2* and T1 go with it [3]')
    parser.add_argument('--variation', type=float, default=3., metavar='MM',
                        help='how much the heads differ: SD of the velocity of a random deformation, 0 to 8; 0 gives '
                             'heads without it and without texture in R2* [3]')
    parser.add_argument('--vendor', choices=VENDORS, default=VENDORS[0], help='how the images are stored [siemens]')
    parser.add_argument('--tilt', type=float, metavar='DEG', default=0.,
                        help='turn of the slices about the left-right axis [0]')
    parser.add_argument('--snr', type=_positive, metavar='S', default=40.,
                        help='mean magnitude of the brain in the first echo over the SD of the noise [40]')
    parser.add_argument('--bipolar', type=_positive, nargs='?', const=2., metavar='RAD',
                        help='even echoes are read with the opposite gradient: a phase that is linear along the '
                             'readout, so much across the field of view [2]')
    parser.add_argument('--motion', type=_positive, nargs='?', const=2., metavar='MM',
                        help='the head moves in steps during the scan, by so much (SD along each axis) [2]')
    parser.add_argument('--partial-fourier', type=_share, default=1., metavar='SHARE',
                        help='share of the phase-encoding lines that are taken [1]')
    parser.add_argument('--coils', type=_count, metavar='N',
                        help='also write what each of so many coils receives, under sourcedata/channels')
    parser.add_argument('--seed', type=int, metavar='K', default=0, help='another seed is another cohort [0]')
    parser.add_argument('--nprocs', type=_count, metavar='N', help='cores to use [all of them]')
    return parser


def main(arguments=None):
    """Simulate and return the exit code: 0 done, 1 failed, 2 wrong command line."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    _check(parser, options)
    return run_command('qsmbids-simulate', lambda: _run_in_threads(options))


def _run_in_threads(options):
    from qsmbids.core.threads import use_threads
    with use_threads(options.nprocs or len(os.sched_getaffinity(0))):
        run(options)


def run(options):
    """Write the participants that do not exist yet; each appears when it is whole."""
    from qsmbids.simulation.cohort import draw_participant
    out = options.out.expanduser().absolute()
    _claim(out, options)
    # A smaller number than before takes nobody out of the table.
    there = max((int(path.name[4:]) for path in out.glob('sub-*') if path.name[4:].isdigit()), default=0)
    people = [draw_participant(number, options.cohort, options.seed, options.microbleeds, options.pattern)
              for number in range(1, max(options.participants, there) + 1)]
    heads = {}
    for number, person in enumerate(people[:options.participants]):
        if not (out / f'sub-{person.label}').exists():
            _write_participant(out, person, _head(options.anatomy, number, heads), options)
            _write_tables(out, people)
            print(f'sub-{person.label}: {person.group}, {person.age} years', flush=True)
    _write_tables(out, people)
    print(f'{out}: {options.participants} participants')


def _check(parser, options):
    from qsmbids.bids import ECHO_TIME_RANGE
    if any(later <= earlier for earlier, later in zip(options.echo_times, options.echo_times[1:])):
        parser.error('--echo-times must grow')
    if max(options.echo_times) > ECHO_TIME_RANGE[1]:
        parser.error(f'--echo-times: {max(options.echo_times):g} s is too long; give seconds, not milliseconds')
    if max(options.voxel_size) > 12:
        parser.error(f'--voxel-size: {max(options.voxel_size):g} mm is too coarse, must be 12 mm or less')
    if min(options.voxel_size) < .3:
        parser.error(f'--voxel-size: {min(options.voxel_size):g} mm is too fine, must be 0.3 mm or more')
    if abs(options.tilt) > 90:
        parser.error(f'--tilt is {options.tilt:g}, must lie within -90 and 90 degrees')
    if options.microbleeds is not None and not 0 <= options.microbleeds <= MOST_MICROBLEEDS:
        parser.error(f'--microbleeds is {options.microbleeds}, must be 0 to {MOST_MICROBLEEDS}')
    if not 0 <= options.variation <= 8:
        parser.error(f'--variation is {options.variation:g}, must be 0 to 8 mm')
    if options.seed < 0:
        parser.error(f'--seed is {options.seed}, must be at least 0')
    for path in options.anatomy:
        if not path.is_file():
            parser.error(f'--anatomy: {path} is no file')


def _claim(out, options):
    """Make the folder a data set with these settings, or see that it is one already."""
    from qsmbids.simulation.bids import write_description
    settings = {name: [str(path) for path in value] if name == 'anatomy' else value
                for name, value in vars(options).items() if name not in ('out', 'participants', 'nprocs')}
    settings = {'version': __version__} | {name: list(value) if isinstance(value, tuple) else value
                                           for name, value in settings.items()}
    if (out / SETTINGS).is_file():
        before = read_json(out / SETTINGS)
        changed = [name for name in settings if settings[name] != before.get(name)]
        if changed:
            raise FileError(f'{out}: was simulated with another {", ".join(changed)}; choose another folder')
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileError(f'{out}: is no data set of qsmbids-simulate; choose a new or empty folder')
    name = f'Simulated cohort, {options.cohort}'
    write_description(out, name)
    write_text(out / 'README.md', README.format(name=name, version=__version__))
    write_text(out / '.bidsignore', f'{SETTINGS}\n')
    # Last: a folder with settings is complete but for participants.
    write_json(out / SETTINGS, settings)


def _head(paths, number, made):
    """Return the head of a participant; those of label maps are kept in `made`."""
    if not paths:
        from qsmbids.simulation.head import digital_head
        return partial(digital_head, fine=True)
    from qsmbids.simulation.anatomy import head_from_labels, load_labels
    path = paths[number % len(paths)]
    try:
        if path not in made:
            made[path] = head_from_labels(*load_labels(path))
    except ValueError as error:
        raise FileError(f'{path}: {error}') from None
    return made[path]


def _sequence(options):
    import numpy as np
    from qsmbids.simulation.artefacts import Bipolar, Motion
    from qsmbids.simulation.signal import Sequence, centred_affine, rotation
    voxel_size = tuple(options.voxel_size)
    shape = tuple(2 * round(side / step / 2) for side, step in zip(FIELD_OF_VIEW, voxel_size))
    fineness = min(max(2, int(np.ceil(max(voxel_size) / 1.5))), 4)
    return Sequence(shape, centred_affine(rotation((1, 0, 0), options.tilt), voxel_size, shape, MIDDLE),
                    tuple(options.echo_times), repetition_time=max(.05, round(max(options.echo_times) * 1.3, 3)),
                    b0_tesla=options.b0, snr=options.snr, supersampling=fineness, channels=options.coils or 0,
                    bipolar=Bipolar(options.bipolar) if options.bipolar else None,
                    motion=Motion(shift=options.motion) if options.motion else None,
                    partial_fourier=options.partial_fourier)


def _write_participant(out, person, head, options):
    """Simulate into a hidden folder beside the data and move it in: truth first, so that images never lack it."""
    from qsmbids.simulation.bids import write_channels, write_scan, write_truth
    from qsmbids.simulation.lesions import with_lesions
    from qsmbids.simulation.signal import simulate
    sequence = _sequence(options)
    head = partial(head, seed=person.head_seed, iron=person.iron, age=person.age, variation=options.variation,
                   b0_tesla=options.b0)
    lesions = _lesions(head, person, sequence)
    scan = simulate(with_lesions(partial(head, pose=person.pose), lesions, options.b0), sequence, person.scan_seed)
    name = f'sub-{person.label}'
    hidden = None
    try:
        hidden = Path(tempfile.mkdtemp(prefix='.', dir=out))
        write_scan(hidden, scan, {'sub': person.label}, options.vendor)
        parts = [write_truth(hidden, scan, {'sub': person.label}, lesions)]
        if scan.channels is not None:
            parts.append(write_channels(hidden, scan, {'sub': person.label}, options.vendor))
        for part in parts:
            kept = out / part.relative_to(hidden)
            kept.mkdir(parents=True, exist_ok=True)
            for path in part.iterdir():
                if path.name == name and (kept / name).exists():
                    shutil.rmtree(kept / name)  # of a run that was stopped just here
                os.replace(path, kept / path.name)
        os.replace(hidden / name, out / name)
    except OSError as error:
        raise cannot_write(out / name, error) from error
    finally:
        if hidden:
            shutil.rmtree(hidden, ignore_errors=True)


def _lesions(head, person, sequence):
    """Draw the lesions of a participant, as they lie in the scanner.

    They are drawn into the head before it is moved: the same in scans of any voxel size and tilt that show all of it.
    """
    import numpy as np
    from qsmbids.simulation.disease import draw_lesions
    from qsmbids.simulation.signal import centred_affine
    if not any(person.lesions.values()):
        return ()
    shape = tuple(round(side / LESION_STEP) for side in FIELD_OF_VIEW)
    affine = centred_affine(np.eye(3), (LESION_STEP,) * 3, shape, MIDDLE)
    drawn = draw_lesions(head(shape, affine), affine, person.lesions, (person.head_seed, 1), person.pattern,
                         view=(sequence.shape, np.linalg.inv(person.pose) @ sequence.affine))
    return tuple(lesion.moved(person.pose) for lesion in drawn)


def _write_tables(out, people):
    """Write ``participants.tsv`` of all participants that are there."""
    from qsmbids.simulation.lesions import CLASSES
    columns = ['participant_id', 'age', 'sex', 'group', *CLASSES]
    write_tsv(out / 'participants.tsv',
              [dict(zip(columns, (f'sub-{p.label}', p.age, p.sex, p.group))) | p.lesions for p in people
               if (out / f'sub-{p.label}').is_dir()], columns)
    write_json(out / 'participants.json', {
        'age': {'Description': 'Age at the scan, of children with fractions', 'Units': 'year'},
        'sex': {'Description': 'Sex', 'Levels': {'F': 'female', 'M': 'male'}},
        'group': {'Description': 'Study group', 'Levels': {'control': 'healthy', 'parkinson': "Parkinson's disease",
                                                             'svd': 'cerebral small-vessel disease'}},
        **{name: {'Description': f'Number of lesions: {what}'} for name, what in CLASSES.items()}})


def _count(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{value} must be at least 1')
    return value


def _share(text):
    value = float(text)
    if not .5 < value <= 1:
        raise argparse.ArgumentTypeError(f'{text} must be above 0.5 and at most 1')
    return value


def _positive(text):
    value = float(text)
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} must be positive')
    return value


if __name__ == '__main__':
    sys.exit(main())
