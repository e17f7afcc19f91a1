"""Where the regions of an acquisition come from: the first rung of the ladder that applies, and why others did not."""

import re
from dataclasses import dataclass
from pathlib import Path

from qsmbids.core.labels import BY_INDEX, FREESURFER, label_named
from qsmbids.files import FileError, read_tsv
from qsmbids.headers import check_grid
from qsmbids.templates import Template, check_engine, find_atlas

RUNGS = ('given', 'network', 'atlas')
CHOICES = ('auto', *RUNGS, 'none')
WEIGHTS = 'dgm'
# Years. Dice of the large nuclei in simulated heads: .2 to .6 at a month, .6 to .9 at a year (docs/benchmarks.md).
YOUNGEST = 1.
# Of one FreeSurfer or FastSurfer subject, the best first.
_VOLUMES = ('aparc.DKTatlas+aseg.deep.mgz', 'aparc.DKTatlas+aseg.mgz', 'aparc+aseg.mgz', 'aseg.mgz', 'aseg.auto.mgz')
_IMAGES = ('T1.mgz', 'orig.mgz', 'nu.mgz', 'norm.mgz', 'brain.mgz')
_ENDINGS = ('.nii.gz', '.nii', '.mgz')
_OWN_SPACES = ('T1w', 'orig', 'individual', 'native', 'scanner', 'MEGRE', 'T2starw', 'GRE')
_FREESURFER_NAMES = re.compile('aseg|aparc|synthseg|fastsurfer', re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """Where regions come from.

    Attributes
    ----------
    rung : {'given', 'network', 'atlas'}
    name : str
        What tables call it: the name given with ``--derivatives``, that of the weights or of the atlas.
    path, table, image : str or None
        A label map that is given, the TSV that says what its indices are (FreeSurfer's without one), and an image of
        the same space to align it by.
    aligned : bool
        Whether the label map lies in the space of the acquisition already.
    template : Template or None
        Of an atlas; `path` and `table` are its regions, `image` is the participant's T1w image.
    skipped : tuple of str
        Why the rungs before it did not apply.
    """

    rung: str
    name: str
    path: str | None = None
    table: str | None = None
    image: str | None = None
    aligned: bool = False
    template: Template | None = None
    skipped: tuple = ()


def choose_source(wanted, derivatives, acquisition, *, bids_dir=None, atlas=None):
    """Return where the regions of an acquisition come from.

    Parameters
    ----------
    wanted : {'auto', 'given', 'network', 'atlas', 'none'}
        With auto a given segmentation, else the atlas if one is named, else the network.
    derivatives : dict of str to path
        ``NAME=PATH`` of ``--derivatives``.
    acquisition : qsmbids.bids.Acquisition
    bids_dir : path, optional
        Where to look for a T1w image.
    atlas : str, optional
        A folder or the name of a template.

    Returns
    -------
    Source or None
        None if nothing applies; with `wanted` none it does not look.
    skipped : tuple of str
        Why what comes before it, or all, did not apply.
    """
    if wanted == 'none':
        return None, ()
    order = [wanted]
    if wanted == 'auto':
        order = [*['given'] * bool(derivatives), *['atlas'] * bool(atlas), 'network']
    skipped = []
    for rung in order:
        try:
            if rung == 'given':
                found = find_given(derivatives, acquisition, bids_dir)
            elif rung == 'network':
                found = _find_network(acquisition, asked_for=wanted == 'network')
            else:
                found = _find_atlas(atlas, find_t1w(bids_dir, acquisition))
            return Source(**{**found.__dict__, 'skipped': tuple(skipped)}), tuple(skipped)
        except FileError as error:
            skipped.append(f'{rung}: {error}')
    return None, tuple(skipped)


def _find_atlas(atlas, image):
    if not atlas:
        raise FileError('no --atlas was named')
    check_engine()
    template = find_atlas(str(atlas))
    return Source('atlas', template.name, template.labels, template.table, image, template=template)


def _find_network(acquisition, asked_for):
    if not acquisition.has_phase:
        raise FileError('the network needs a susceptibility map, and there is no phase')
    if acquisition.age is not None and acquisition.age.years < YOUNGEST and not asked_for:
        raise FileError(f'the network does not know the heads of infants, and this participant is '
                        f'{acquisition.age.years:.2g} years old; give regions with -d or --atlas, or ask for it with '
                        '--subcortical network')
    from qsmbids.networks.shipped import shipped
    shipped(WEIGHTS)
    return Source('network', WEIGHTS)


def find_given(derivatives, acquisition, bids_dir=None):
    """Return the segmentation of another pipeline for an acquisition.

    In each folder, in this order: a BIDS ``dseg`` of the participant (with its TSV, or FreeSurfer's ids), the volumes
    of a FreeSurfer or FastSurfer subject, an output of SynthSeg.

    Raises
    ------
    FileError
        If there is none.
    """
    for name, folder in derivatives.items():
        for find in (_find_dseg, _find_freesurfer, _find_synthseg):
            found = find(Path(folder), acquisition)
            if found:
                path, table, image = found
                return Source('given', name, str(path), table and str(table),
                              image or find_t1w(bids_dir, acquisition), _is_aligned(path, acquisition))
    raise FileError('no segmentation of this participant was found'
                    + (f' in {", ".join(map(str, derivatives.values()))}' if derivatives else
                       ': none was given with --derivatives'))


def read_table(path):
    """Return which of our indices each index of a segmentation stands for.

    Parameters
    ----------
    path : path or None
        TSV with the columns index and name; hemisphere and mapping (ids of FreeSurfer) count, too. Without it the
        indices are FreeSurfer's.

    Returns
    -------
    dict of int to int
        Without structures that are none of ours.

    Raises
    ------
    FileError
        If it has no column index or name, or an index that is no number.
    """
    if path is None:
        return dict(FREESURFER)
    rows = read_tsv(path)
    if not rows or not {'index', 'name'} <= set(rows[0]):
        raise FileError(f'{path}: must have the columns index and name')
    found = {}
    for row in rows:
        try:
            index = int(float(row['index']))
        except ValueError:
            raise FileError(f'{path}: the index {row["index"]!r} is no number') from None
        label = label_named(row['name'], row.get('hemisphere', row.get('hemi')))
        number = row.get('mapping', '')
        if label is None and number.isdigit():
            label = BY_INDEX.get(FREESURFER.get(int(number)))
        if label is not None:
            found[index] = label.index
    return found


def _places(folder, acquisition):
    """Return the folders of a participant in a BIDS data set, and what the names of its files begin with."""
    subject, session = f'sub-{acquisition.subject}', acquisition.session
    if session:
        yield folder / subject / f'ses-{session}' / 'anat', f'{subject}_ses-{session}'
    yield folder / subject / 'anat', subject


def _find_dseg(folder, acquisition):
    """Return the BIDS segmentation that tells most of our structures, with its table; of its own acquisition first."""
    candidates = []
    for place, stem in _places(folder, acquisition):
        for path in sorted(path for ending in _ENDINGS for path in place.glob(f'{stem}_*dseg{ending}')):
            space = re.search(r'_space-([a-zA-Z0-9]+)', path.name)
            session = re.search(r'_ses-([a-zA-Z0-9]+)', path.name)
            if (space and space[1] not in _OWN_SPACES) or (session and session[1] != acquisition.session):
                continue
            table = _table_of(path, folder)
            told = len(set(read_table(table).values())) if table else 6 * bool(_FREESURFER_NAMES.search(path.name))
            if told:
                candidates.append((path.name.startswith(f'{acquisition.name}_') and not space, told, path, table))
    if not candidates:
        return None
    _, _, path, table = max(candidates, key=lambda found: found[:2])
    return path, table, _image_beside(path.parent, path.name.split('_dseg')[0].split('_')[0])


def _table_of(path, folder):
    """Return the TSV of a segmentation: beside it, or one that it inherits from."""
    stem = path.name.split('.')[0]
    entities = stem.split('_')
    names = [stem, *('_'.join(entities[n:]) for n in range(1, len(entities)))]
    for place in (path.parent, *path.parent.parents):
        for name in names:
            if (place / f'{name}.tsv').is_file():
                return place / f'{name}.tsv'
        if place == folder:
            break
    return None


def _find_freesurfer(folder, acquisition):
    subject = acquisition.subject
    names = [f'sub-{subject}_ses-{acquisition.session}'] if acquisition.session else []
    for name in (*names, f'sub-{subject}', subject):
        for volume in _VOLUMES:
            path = folder / name / 'mri' / volume
            if path.is_file():
                images = [path.with_name(image) for image in _IMAGES if path.with_name(image).is_file()]
                return path, None, str(images[0]) if images else None
    return None


def _find_synthseg(folder, acquisition):
    for place, stem in _places(folder, acquisition):
        for where in (place, place.parent, folder):
            found = sorted(path for path in where.glob(f'{stem}[_.]*') if 'synthseg' in path.name.lower()
                           and path.name.endswith(_ENDINGS))
            if found:
                return found[0], None, _image_beside(where, stem)
    return None


def _image_beside(place, stem):
    for pattern in ('*desc-preproc_T1w', '*T1w', '*_synthsr'):
        for ending in _ENDINGS:
            found = [path for path in sorted(place.glob(f'{stem}_{pattern}{ending}'.replace('_*', '*')))
                     if 'space-' not in path.name or any(f'space-{own}_' in path.name for own in _OWN_SPACES)]
            if found:
                return str(found[0])
    return None


def find_t1w(bids_dir, acquisition):
    """Return the T1w image of a participant in a raw data set, or None."""
    if bids_dir is None:
        return None
    return next((image for place, stem in _places(Path(bids_dir), acquisition)
                 if (image := _image_beside(place, stem))), None)


def _is_aligned(path, acquisition):
    """Return whether a segmentation was made on the acquisition's own images: by its name, or its grid."""
    if path.name.startswith(f'{acquisition.name}_') and '_space-' not in path.name \
            and set(acquisition.entities) - {'subject', 'session'}:
        return True
    try:
        check_grid(path, next(iter(acquisition.files.values()))[0])
    except FileError:
        return False
    return True
