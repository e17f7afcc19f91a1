"""Reading a BIDS data set into acquisitions, and naming derivatives. The only module that knows pybids."""

import json
import os
import re
import shutil
import uuid
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from qsmbids.ages import Age, find_age
from qsmbids.core.dipole import b0_direction, voxel_size_of
from qsmbids.core.phase import GAMMA_HZ_PER_TESLA, center_frequency
from qsmbids.files import FileError
from qsmbids.headers import check_grid, check_voxels, load_image

SUFFIXES = ('MEGRE', 'T2starw')
PARTS = ('mag', 'phase', 'real', 'imag')
# Entities that tell two acquisitions apart, in the order in which BIDS writes them.
ENTITIES = ('subject', 'session', 'acquisition', 'ceagent', 'reconstruction', 'run')
BIDS_VERSION = '1.10.0'  # of the data sets that are written
DEFAULT_FILTER = {'suffix': list(SUFFIXES)}
_SHORT = {'subject': 'sub', 'session': 'ses', 'acquisition': 'acq', 'ceagent': 'ce', 'reconstruction': 'rec',
          'run': 'run'}
_STEM = ('sub-{subject}[_ses-{session}][_acq-{acquisition}][_ce-{ceagent}][_rec-{reconstruction}][_run-{run}]'
         '[_space-{space}][_seg-{segmentation}][_res-{resolution}][_label-{label}][_desc-{desc}]_{suffix}{extension}')
_PATTERNS = [f'sub-{{subject}}[/ses-{{session}}]/{{datatype}}/{_STEM}']
# Lower and upper bound, in s, of an echo time that a gradient-echo scan can have. A value above is in ms by mistake.
ECHO_TIME_RANGE = (1e-4, 0.3)
# Of a voxel, in mm: an edge outside is in another unit by mistake. Of a volume: along each axis.
VOXEL_RANGE, LEAST_VOXELS = (0.05, 30.0), 4
STRONGEST = 25.0  # T
_LARGEST_SIDECAR = 5_000_000  # bytes


class BIDSInputError(Exception):
    """The data set as a whole, or what was asked of it, cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Acquisition:
    """One gradient-echo acquisition: what the workflow needs to know, and what is wrong with it.

    Attributes
    ----------
    entities : dict
        BIDS entities that identify it, by their pybids names.
    suffix : str
        ``'MEGRE'`` or ``'T2starw'``.
    files : dict of str to tuple of str
        Paths per part (``'mag'``, ``'phase'``, ``'real'``, ``'imag'``), in the order of the echoes; one path for a 4D
        file that holds all echoes.
    echo_times : tuple of float
        s.
    b0_tesla, center_frequency_hz : float
        Field strength and the frequency that turns Hz into ppm.
    b0_dir, voxel_size : tuple of float
        Direction of the main field in voxel axes; mm.
    shape : tuple of int
    phase_units : str or None
        ``Units`` of the phase sidecar.
    metadata : dict
        Sidecar of the first echo, inheritance applied.
    sources : tuple of str
        BIDS URIs of all input images.
    problems : tuple of str
        Why it cannot be processed at all; empty for a usable acquisition.
    warnings : tuple of str
        What the user should check.
    notes : tuple of str
        What was found out on the way.
    age : qsmbids.ages.Age or None
    """

    entities: dict
    suffix: str
    files: dict
    echo_times: tuple = ()
    b0_tesla: float = 0.0
    center_frequency_hz: float = 0.0
    b0_dir: tuple = (0.0, 0.0, 1.0)
    voxel_size: tuple = (1.0, 1.0, 1.0)
    shape: tuple = ()
    phase_units: str | None = None
    metadata: dict = field(default_factory=dict)
    sources: tuple = ()
    problems: tuple = ()
    warnings: tuple = ()
    notes: tuple = ()
    age: Age | None = None

    @property
    def subject(self):
        return self.entities['subject']

    @property
    def session(self):
        return self.entities.get('session')

    @property
    def name(self):
        """File name stem, such as ``sub-01_ses-1_run-2``."""
        return '_'.join(f'{_SHORT[key]}-{self.entities[key]}' for key in ENTITIES if key in self.entities)

    @property
    def has_phase(self):
        return bool(self.files.get('phase') or self.files.get('real'))

    @property
    def manufacturer(self):
        """Return the name of the vendor; None where the sidecar has something else in its place."""
        name = self.metadata.get('Manufacturer')
        return name if isinstance(name, str) else None

    def path(self, suffix, *, datatype='anat', desc=None, label=None, segmentation=None, space=None, resolution=None,
             extension='.nii.gz'):
        """Return the path of a derivative, relative to the output directory."""
        from bids.layout.writing import build_path
        named = dict(suffix=suffix, datatype=datatype, desc=desc, label=label, segmentation=segmentation, space=space,
                     resolution=resolution, extension=extension)
        return build_path({**self.entities, **{k: v for k, v in named.items() if v is not None}}, _PATTERNS)


def find_subjects(bids_dir, wanted=()):
    """Return the participant labels of a data set, all of them or those in `wanted`.

    Raises
    ------
    BIDSInputError
        If the folder is no BIDS data set, has no participants, or lacks one that is wanted.
    """
    bids_dir = Path(bids_dir)
    if not (bids_dir / 'dataset_description.json').is_file():
        raise BIDSInputError(f'{bids_dir} has no dataset_description.json: it is not the root of a BIDS data set. '
                             'Point qsmbids at the folder that holds the sub-* folders and that file.')
    description = bids_dir / 'dataset_description.json'
    if reason := _why_unreadable(description):
        raise BIDSInputError(f'{description}: cannot be read: {reason}. Correct it.')
    known = sorted(p.name[4:] for p in bids_dir.glob('sub-?*') if p.is_dir())
    if not known:
        raise BIDSInputError(f'{bids_dir} has no sub-* folder: there is no participant to process.')
    wanted = [label.removeprefix('sub-') for label in wanted]
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        shown = ', '.join(known[:20]) + (f', ... ({len(known)} in all)' if len(known) > 20 else '')
        raise BIDSInputError(f'no participant {", ".join(unknown)} in {bids_dir}; it has: {shown}')
    return sorted(set(wanted)) or known


def check_sessions(bids_dir, subjects, wanted):
    """Raise BIDSInputError if none of the participants has any of the sessions in `wanted`."""
    wanted = {label.removeprefix('ses-') for label in wanted}
    known = {path.name[4:] for subject in subjects for path in (Path(bids_dir) / f'sub-{subject}').glob('ses-*')}
    if wanted and not wanted & known:
        raise BIDSInputError(f'no session {", ".join(sorted(wanted))}; these participants have: '
                             f'{", ".join(sorted(known)) or "no sessions"}')


def load_layout(bids_dir, subjects, *, validate=True, database_dir=None):
    """Index the given participants of a data set, and nobody else: the time does not grow with the cohort."""
    from bids.layout import BIDSLayout, BIDSLayoutIndexer
    others = re.compile(r'/sub-(?!(?:' + '|'.join(map(re.escape, subjects)) + r')(?:/|_|$))')
    skip = [re.compile(rf'^/{name}(/|$)') for name in ('code', 'derivatives', 'sourcedata', 'stimuli', 'work')]
    skip += [re.compile(r'/\.')]
    if database_dir:
        return _load_saved(bids_dir, Path(database_dir), validate, skip)
    folders = [f'sub-{subject}' for subject in subjects]
    skip += [others, *_broken_sidecars(bids_dir, folders), *_inner_links(bids_dir, folders)]
    try:
        return BIDSLayout(bids_dir, validate=validate,
                          indexer=BIDSLayoutIndexer(validate=validate, ignore=skip, index_metadata=True))
    except (OSError, ValueError) as error:
        raise BIDSInputError(f'{bids_dir}: cannot be indexed ({" ".join(str(error).split())}). Correct its '
                             'dataset_description.json, or pass over what it lacks with --skip-bids-validation.'
                             ) from None


def _load_saved(bids_dir, folder, validate, skip):
    """Return the layout of a saved index, which is made first if it is not there.

    It appears whole or not at all: many jobs may start at once, and one may be killed.
    """
    from bids.layout import BIDSLayout, BIDSLayoutIndexer
    if not any(folder.glob('*')):
        partial = folder.with_name(f'.{folder.name}-{uuid.uuid4()}')
        try:
            partial.mkdir(parents=True)
            folders = [path.name for path in Path(bids_dir).glob('sub-*')]
            skip = [*skip, *_broken_sidecars(bids_dir, folders), *_inner_links(bids_dir, folders)]
            BIDSLayout(bids_dir, database_path=partial, validate=validate,
                       indexer=BIDSLayoutIndexer(validate=validate, ignore=skip, index_metadata=True))
            try:
                partial.rename(folder)
            except OSError:  # another process was faster
                if not any(folder.glob('*')):
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return BIDSLayout(bids_dir, database_path=folder, validate=validate)


def _broken_sidecars(bids_dir, folders):
    """Return patterns of the JSON files that no metadata can be read from: pybids would give up the whole data set."""
    root = Path(bids_dir)
    paths = [*root.glob('*.json'), *(path for folder in folders for path in (root / folder).rglob('*.json'))]
    return [_pattern(path, root) for path in paths
            if path.name != 'dataset_description.json' and _why_unreadable(path)]


def _inner_links(bids_dir, folders):
    """Return patterns of links to folders of the same data set: pybids would follow them round and round."""
    root = Path(bids_dir)
    links = [Path(current, name) for folder in folders for current, names, _ in os.walk(root / folder) for name in names
             if Path(current, name).is_symlink()]
    return [_pattern(link, root) for link in links if link.resolve().is_relative_to(root.resolve())]


def _pattern(path, root):
    return re.compile(f'^/{re.escape(path.relative_to(root).as_posix())}(/|$)')


def _why_unreadable(path):
    """Return why a JSON file cannot be used as a sidecar, or None."""
    try:
        if path.stat().st_size > _LARGEST_SIDECAR:
            return f'it has {path.stat().st_size / 1e6:.0f} MB'
        content = json.loads(path.read_text(encoding='utf-8'))
        json.dumps(content, ensure_ascii=False).encode()
    except RecursionError:
        return 'it is nested too deeply'
    except (OSError, ValueError) as error:
        return ' '.join(str(error).split())
    return None if isinstance(content, dict) else 'it holds no object'


def find_acquisitions(layout, subjects, *, sessions=(), bids_filter=None):
    """Return every gradient-echo acquisition of the given participants, usable or not.

    Parameters
    ----------
    layout : bids.layout.BIDSLayout
        As from :func:`load_layout`.
    subjects : sequence of str
        Participant labels.
    sessions : sequence of str, optional
        Session labels to keep; all by default.
    bids_filter : dict, optional
        More pybids entities that the files must have.

    Returns
    -------
    list of Acquisition
        In the order of their names. What is wrong with one stands in its ``problems``.
    """
    query = {**DEFAULT_FILTER, 'extension': ['.nii', '.nii.gz'], **(bids_filter or {}), 'subject': list(subjects)}
    if sessions:
        query['session'] = [label.removeprefix('ses-') for label in sessions]
    groups = defaultdict(list)
    for image in layout.get(**query):
        entities = image.get_entities()
        if 'space' in entities or 'desc' in entities or entities.get('part', 'mag') not in PARTS:
            continue
        key = tuple((e, str(entities[e])) for e in ENTITIES if e in entities)
        groups[key, entities['suffix']].append(image)
    found = [_read_acquisition(dict(key), suffix, images, layout) for (key, suffix), images in groups.items()]
    return _without_collisions(sorted(found, key=lambda acquisition: (acquisition.name, acquisition.suffix)))


def _without_collisions(acquisitions):
    """Mark all but the first of acquisitions whose derivatives would bear the same names."""
    kept = {}
    for index, acquisition in enumerate(acquisitions):
        first = kept.setdefault(acquisition.name, acquisition)
        if first is not acquisition:
            acquisitions[index] = replace(acquisition, problems=(
                *acquisition.problems, f'{acquisition.name} has both {first.suffix} and {acquisition.suffix} images, '
                f'and only {first.suffix} is processed: their derivatives would have the same names. Tell them apart '
                'by acq-, or choose one suffix with --bids-filter-file.'))
    return acquisitions


def _read_acquisition(entities, suffix, images, layout):
    parts = defaultdict(list)
    for image in sorted(images, key=lambda i: (int(i.get_entities().get('echo', 0)), i.path)):
        parts[image.get_entities().get('part', 'mag')].append(image)
    acquisition = dict(
        entities=entities, suffix=suffix,
        files={part: tuple(i.path for i in found) for part, found in parts.items()},
        sources=tuple(f'bids:raw:{Path(i.path).relative_to(layout.root).as_posix()}' for i in images))
    problems, warnings = [], []
    for check in (_check_inheritance, _check_parts, _check_sidecars, _check_field, _check_headers):
        try:
            found = check(parts)
        except (ValueError, FileError) as error:
            problems.append(str(error))
            if check in (_check_inheritance, _check_parts):
                break
        else:
            warnings += found.pop('warnings', [])
            acquisition |= found
    if not problems and len(acquisition['echo_times']) != acquisition.pop('echo_count'):
        problems.append(f'{_names(_first(parts))}: the images hold another number of echoes than the sidecars state '
                        f'({len(acquisition["echo_times"])}). Write one EchoTime per echo, as a list for a 4D file.')
    acquisition.pop('echo_count', None)
    try:
        acquisition['age'] = age = find_age(layout.root, entities['subject'], entities.get('session'))
    except FileError as error:
        warnings.append(str(error))
    else:
        if age and not age.is_adult:
            acquisition['notes'] = (*acquisition.get('notes', ()), f'age: {age.years:.2g} years, {age.said}: no region is '
                                    'judged by the size of adults')
    return Acquisition(**acquisition, problems=tuple(problems), warnings=tuple(warnings))


def _check_inheritance(parts):
    """Can all sidecars that hold for the images be read?"""
    for image in (image for images in parts.values() for image in images):
        words, suffix = _words(image.filename), image.get_entities()['suffix']
        for folder in Path(image.path).parents:
            for path in folder.glob(f'*{suffix}.json'):
                if _words(path.name) <= words and (reason := _why_unreadable(path)):
                    raise ValueError(f'{path}: cannot be read as a sidecar: {reason}. Correct it or write it again.')
            if (folder / 'dataset_description.json').is_file():
                break
    return {}


def _words(name):
    """Return what a file name without its extension is made of, as a set."""
    return frozenset(name.split('.')[0].split('_'))


def _check_parts(parts):
    """Which parts are there, and do they belong together?"""
    for images in parts.values():
        _refuse_duplicates(images)
    counts = {part: len(found) for part, found in parts.items()}
    if ('real' in counts) != ('imag' in counts):
        raise ValueError(f'{_names(_first(parts))}: real and imaginary parts must come together; only '
                         f'part-{"real" if "real" in counts else "imag"} was found')
    if 'mag' not in counts and 'real' not in counts:
        raise ValueError(f'{_names(parts["phase"])}: there is phase but no magnitude; add the part-mag images')
    echoes = {part: [str(i.get_entities().get('echo', '-')) for i in found] for part, found in parts.items()}
    if len({tuple(numbers) for numbers in echoes.values()}) > 1:
        raise ValueError('the parts have different echoes ('
                         + '; '.join(f'part-{part}: {", ".join(numbers)}' for part, numbers in echoes.items())
                         + f') beside {_names(_first(parts))}; a file is missing')
    warnings = []
    if 'phase' not in counts and 'real' not in counts:
        warnings.append('magnitude only: no phase was found, so there is no susceptibility map')
    return {'warnings': warnings}


def _refuse_duplicates(images):
    """Raise ValueError if an echo is there more than once."""
    seen = {}
    for image in images:
        echo = int(image.get_entities().get('echo', 0))
        if echo in seen:
            raise ValueError(f'{seen[echo]} and {image.filename} are the same echo of the same acquisition. Remove one '
                             'of them, or tell them apart by acq- or run-.')
        seen[echo] = image.filename


def _check_sidecars(parts):
    """Echo times and the sidecar of the first echo."""
    images = _first(parts)
    sidecars = [image.get_metadata() for image in images]
    missing = [image.filename for image, sidecar in zip(images, sidecars) if 'EchoTime' not in sidecar]
    if missing:
        raise ValueError(f'{", ".join(missing)}: EchoTime is missing. Add it, in seconds, to the JSON sidecar '
                         'or to one that it inherits from.')
    try:
        times = [float(t) for sidecar in sidecars for t in np.atleast_1d(sidecar['EchoTime'])]
    except (TypeError, ValueError):
        raise ValueError(f'{_names(images)}: EchoTime is not a number: '
                         f'{[s["EchoTime"] for s in sidecars]}') from None
    low, high = ECHO_TIME_RANGE
    if not times or not np.isfinite(times).all():
        raise ValueError(f'{_names(images)}: EchoTime is {times}, must be a number. Correct the sidecars.')
    if max(times) > high:
        raise ValueError(f'{_names(images)}: EchoTime is {max(times):g}, which would be {max(times):g} s. '
                         'BIDS wants seconds; this looks like milliseconds. Divide it by 1000.')
    if min(times) < low:
        raise ValueError(f'{_names(images)}: EchoTime is {min(times):g} s, too short for a gradient echo')
    if len(set(times)) < len(times):
        raise ValueError(f'{_names(images)}: two echoes have the same EchoTime ({times}). Correct the sidecars; if '
                         'these are two acquisitions, tell them apart by run- or acq-.')
    if times != sorted(times):
        raise ValueError(f'{_names(images)}: the echo times do not rise with the echo number: {times}')
    phase_images = parts.get('phase') or parts.get('real') or images
    units = phase_images[0].get_metadata().get('Units')
    if 'phase' in parts and units not in (None, 'rad', 'arbitrary'):
        raise ValueError(f'{phase_images[0].filename}: Units is {units!r}, must be rad or arbitrary. Correct the '
                         'sidecar.')
    warnings = []
    numbers = [int(image.get_entities().get('echo', 0)) for image in images]
    if missing := sorted(set(range(1, max(numbers) + 1)) - set(numbers)):
        warnings.append(f'echo {", ".join(map(str, missing))} is missing; the others are used')
    if sidecars[0].get('PartialFourier', 1) not in (1, None) or sidecars[0].get('PartialFourierDirection'):
        warnings.append('partial Fourier acquisition: the smallest veins and bleeds are blurred')
    if str(sidecars[0].get('MRAcquisitionType', '3D')).upper() == '2D':
        warnings.append('2D acquisition: slices may differ in phase; the consensus asks for 3D')
    if len(times) == 1:
        offset = 'the coil phase offset cannot be told from the field, and ' if 'mag' not in parts or 'phase' in parts \
            else ''
        warnings.append(f'single echo: {offset}there is no R2*')
    # NaN, which is no JSON, could not be written again.
    metadata = json.loads(json.dumps(sidecars[0]), parse_constant=lambda name: None)
    return {'echo_times': tuple(times), 'metadata': metadata | {'PhaseUnits': units}, 'phase_units': units,
            'warnings': warnings}


def _check_field(parts):
    """Field strength and centre frequency."""
    image = _first(parts)[0]
    b0, imaging = (_number(image, name) for name in ('MagneticFieldStrength', 'ImagingFrequency'))
    warnings = []
    if b0 is None and imaging is None:
        raise ValueError(f'{image.filename}: MagneticFieldStrength and ImagingFrequency are both missing; add one '
                         'of them to the JSON sidecar: without it Hz cannot become ppm.')
    if b0 is None:
        b0 = imaging * 1e6 / GAMMA_HZ_PER_TESLA
        warnings.append(f'MagneticFieldStrength is missing; {b0:.3f} T follows from ImagingFrequency')
    if not 0 < b0 <= STRONGEST:
        raise ValueError(f'{image.filename}: MagneticFieldStrength is {b0:g} T, must lie in (0, {STRONGEST:g}]. '
                         'Correct the sidecar: BIDS wants tesla, and ImagingFrequency in MHz.')
    try:
        frequency = center_frequency(b0, imaging)
    except ValueError as error:
        raise ValueError(f'{image.filename}: {error}. Correct the sidecar: BIDS wants MagneticFieldStrength in tesla, '
                         'and ImagingFrequency in MHz.') from None
    return {'b0_tesla': b0, 'center_frequency_hz': frequency, 'warnings': warnings}


def _number(image, name):
    """Return a number of a sidecar, or None if it is not there."""
    value = image.get_metadata().get(name)
    if value is None:
        return None
    try:
        if isinstance(value, bool) or not np.isfinite(number := float(value)):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f'{image.filename}: {name} is {value!r}, must be a number. Correct the sidecar.') from None
    return number


def _check_headers(parts):
    """Shapes and affines of all images; the geometry follows from the first."""
    first = affine = shape = None
    echoes, channels = {}, defaultdict(set)
    for part, images in parts.items():
        echoes[part] = 0
        for image in images:
            header = load_image(image.path)
            if header.ndim not in (3, 4) or min(header.shape[:3]) < LEAST_VOXELS or min(header.shape) < 1:
                raise ValueError(f'{image.path}: has the shape {header.shape}; 3D, or 4D with the echoes last, of '
                                 f'{LEAST_VOXELS} voxels or more along each axis of space is expected. Convert it '
                                 'again.')
            check_voxels(image.path)
            if first is None:
                first, affine, shape = image, header.affine, header.shape[:3]
            check_grid(image.path, first.path)
            deep = header.shape[3] if header.ndim == 4 else 1
            channels[part].add(deep)
            echoes[part] += 1 if len(images) > 1 else deep
            coded = header.header
            unplaced = int(coded['sform_code']) == 0 and int(coded['qform_code']) == 0
    if len(set(echoes.values())) > 1:
        raise ValueError(f'{first.path}: the parts hold different numbers of echoes: {echoes}')
    uncombined = _count_channels(parts, channels)
    try:
        direction = b0_direction(affine)
    except ValueError as error:
        raise ValueError(f'{first.path}: {error}. Correct the header or convert it again.') from None
    edges, (shortest, longest) = voxel_size_of(affine), VOXEL_RANGE
    if not all(shortest <= edge <= longest for edge in edges):
        raise ValueError(f'{first.path}: the voxels measure {" x ".join(f"{edge:g}" for edge in edges)} mm. NIfTI '
                         'wants mm; is this another unit? Correct the header or convert it again.')
    warnings, notes = [], []
    if uncombined > 1:
        notes.append(f'{uncombined} uncombined channels along the fourth axis of each echo')
    if unplaced:
        warnings.append('the header has neither sform nor qform: the third axis is taken as the direction of B0')
    tilt = np.degrees(np.arccos(min(1, max(abs(b) for b in direction))))
    if tilt > 1:
        notes.append(f'oblique: B0 is {tilt:.1f} degrees from the nearest voxel axis, as the affine says')
    return {'notes': tuple(notes), 'b0_dir': direction, 'voxel_size': voxel_size_of(affine),
            'shape': tuple(int(n) for n in shape), 'echo_count': next(iter(echoes.values())), 'warnings': warnings}


def _count_channels(parts, channels):
    """How many channels the fourth axis of several files, one per echo, holds; BIDS has no entity for them."""
    first = _first(parts)
    counts = set().union(*channels.values())
    if len(first) == 1 or counts == {1}:
        return 1
    if len(counts) > 1:
        raise ValueError(f'{_names(first)}: the fourth axis, which holds channels where there is a file per echo, has '
                         f'different lengths: {sorted(counts)}')
    if not set(parts) & {'phase', 'real'}:
        raise ValueError(f'{_names(first)}: channels cannot be combined without phase; add the part-phase images')
    return counts.pop()


def _first(parts):
    """Return the images of the part whose sidecars count: the magnitude, or else what there is."""
    return next(parts[part] for part in ('mag', 'real', 'imag', 'phase') if parts.get(part))


def _names(images):
    return ', '.join(image.filename for image in images)


def find_brain_mask(derivatives, acquisition):
    """Return the brain mask of another pipeline for an acquisition, or None.

    Parameters
    ----------
    derivatives : dict of str to path
        ``NAME=PATH`` of ``--derivatives``.
    acquisition : Acquisition

    Returns
    -------
    str or None
        Path of a ``desc-brain_mask`` with all the acquisition's entities, which must lie on its grid.
    """
    for folder in derivatives.values():
        for extension in ('.nii.gz', '.nii'):
            path = Path(folder) / acquisition.path('mask', desc='brain', extension=extension)
            if path.is_file():
                return str(path)
    return None


def find_r2_map(derivatives, acquisition):
    """Return a measured R2 or T2 map for an acquisition, or None.

    Parameters
    ----------
    derivatives : dict of str to path
        ``NAME=PATH`` of ``--derivatives``. Raw data sets with such maps will do, too.
    acquisition : Acquisition

    Returns
    -------
    str or None
        Path of an ``R2map`` or ``T2map``, with or without ``desc-``, of the acquisition or else of its participant and
        session. It must lie on the acquisition's grid.
    """
    session = f'sub-{acquisition.subject}' + (f'_ses-{acquisition.session}' if acquisition.session else '')
    for folder in derivatives.values():
        place = Path(folder) / Path(acquisition.path('R2map')).parent
        for stem in dict.fromkeys((acquisition.name, session)):
            for suffix in ('R2map', 'T2map'):
                found = sum(_plain_and_described(place, stem, suffix), [])
                if found:
                    return str(found[0])
    return None


def _plain_and_described(folder, stem, suffix):
    """Return the images of a folder without and with ``desc-``, two lists, each compressed ones first, by name."""
    return [[path for extension in ('.nii.gz', '.nii')
             for path in sorted(folder.glob(f'{stem}{described}_{suffix}{extension}'))]
            for described in ('', '_desc-*')]


def find_chi_map(derivatives, acquisition):
    """Return the susceptibility map of another software for an acquisition, or None.

    Parameters
    ----------
    derivatives : dict of str to path
        ``NAME=PATH`` of ``--derivatives``.
    acquisition : Acquisition

    Returns
    -------
    str or None
        Path of a ``Chimap`` with all the acquisition's entities, with or without ``desc-``, but of the sources of both
        signs; of several in one folder the first by name. It must lie on the acquisition's grid.
    """
    for folder in derivatives.values():
        place = Path(folder) / Path(acquisition.path('Chimap')).parent
        for found in _plain_and_described(place, acquisition.name, 'Chimap'):
            whole = [path for path in found if not path.name.split('_Chimap')[0].endswith(('positive', 'negative'))]
            if whole:
                return str(min(whole))
    return None


def read_filter(path):
    """Read a ``--bids-filter-file``.

    Raises
    ------
    BIDSInputError
        If it is not JSON, or not ``{"megre": {entity: value}}`` (or the entities alone).
    """
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise BIDSInputError(f'{path}: cannot be read as JSON ({error})') from None
    if not isinstance(content, dict):
        raise BIDSInputError(f'{path}: must hold an object such as {{"megre": {{"acquisition": "qsm"}}}}')
    known = {*ENTITIES, 'suffix', 'datatype', 'extension'}
    chosen = content.get('megre', content)
    unknown = sorted(set(chosen) - known) if isinstance(chosen, dict) else ['megre']
    if unknown:
        raise BIDSInputError(f'{path}: unknown entity {", ".join(unknown)}; known are {", ".join(sorted(known))}')
    for name, value in chosen.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, (dict, list, bool)):
                raise BIDSInputError(f'{path}: {name} is {value!r}, must be a text, a number, null or a list of these')
    return chosen
