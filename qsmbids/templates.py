"""Templates and atlases: folders of one's own, and those of TemplateFlow through its client."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from qsmbids.files import FileError

INSTALL = "pip install 'qsmbids[atlas]'"
# What the image of a folder may be called, by how it is compared with the data.
_CONTRASTS = {'hybrid': 'hybrid', 'T1w': 'T1w', 'Chimap': 'chi', 'QSM': 'chi', 'T2starw': 'magnitude',
              'template': 'T1w'}


@dataclass(frozen=True)
class Template:
    """A template, and perhaps regions on it.

    Attributes
    ----------
    name : str
    image : str
        Path of the template.
    contrast : {'T1w', 'chi', 'hybrid', 'magnitude'}
        What it shows; a hybrid is a T1w image from 0 to 255 less 400 times the susceptibility in ppm.
    labels, table : str or None
        Label map and TSV; FreeSurfer's ids without one.
    """

    name: str
    image: str
    contrast: str
    labels: str | None = None
    table: str | None = None


def find_atlas(text):
    """Return the atlas that ``--atlas`` names.

    Parameters
    ----------
    text : str
        A folder that holds one template (``*_T1w``, ``*_Chimap``, ``*_hybrid``, ``*_T2starw`` or ``*template*``), one
        ``*_dseg`` and its TSV; or a TemplateFlow template, with one of its atlases after a colon if not its
        FreeSurfer segmentation: ``MNI152NLin2009cAsym:MASSP20``.

    Returns
    -------
    Template

    Raises
    ------
    FileError
        If something is missing; the message says what, and how to get it.
    """
    if Path(text).is_dir():
        return _read_folder(Path(text))
    if os.sep in text:
        raise FileError(f'{text}: there is no such folder')
    name, _, atlas = text.partition(':')
    chosen = {'atlas': atlas} if atlas else {'atlas': None, 'segmentation': 'aseg'}
    image = find_space(name).image
    labels = _fetch(name, resolution=1, suffix='dseg', extension='.nii.gz', **chosen)
    table = None
    if atlas:
        table = _fetch(name, suffix='dseg', extension='.tsv', **chosen)
    return Template(text, image, 'T1w', labels, table)


def find_space(name):
    """Return the template of an output space, by its name in TemplateFlow; FileError if it cannot be had."""
    return Template(name, _fetch(name, resolution=1, suffix='T1w', desc=None, extension='.nii.gz'), 'T1w')


def check_engine():
    """Raise FileError unless what registers images is installed; nothing is imported."""
    if importlib.util.find_spec('ants') is None:
        raise FileError(f'atlases and output spaces other than native need antspyx: {INSTALL}')


def _read_folder(folder):
    labels = sorted(path for ending in ('.nii.gz', '.nii') for path in folder.glob(f'*dseg{ending}'))
    if len(labels) != 1:
        raise FileError(f'{folder}: must hold one file *_dseg.nii.gz, there are {len(labels)}')
    for kind, contrast in _CONTRASTS.items():
        images = sorted(path for ending in ('.nii.gz', '.nii') for path in folder.glob(f'*{kind}*{ending}')
                        if path not in labels)
        if images:
            table = Path(str(labels[0]).removesuffix('.gz').removesuffix('.nii') + '.tsv')
            return Template(folder.name, str(images[0]), contrast, str(labels[0]),
                            str(table) if table.is_file() else None)
    raise FileError(f'{folder}: has no template beside its dseg; its name must hold one of {", ".join(_CONTRASTS)}')


def _fetch(template, **entities):
    """Return the path of a file of TemplateFlow; what is on the disk is used without a network."""
    os.environ.setdefault('TEMPLATEFLOW_AUTOUPDATE', '0')
    said = ', '.join(f'{name}={value!r}' for name, value in entities.items())
    try:
        from templateflow import api
    except ImportError:
        raise FileError(f'{template} is no folder, and templates of TemplateFlow need its client: {INSTALL}') from None
    except Exception as error:  # its archive cannot be set up
        raise FileError(f'TemplateFlow cannot be used ({error}); set TEMPLATEFLOW_HOME to a folder that holds '
                        f'{template}') from None
    get = (f'run  python -c "from templateflow import api; api.get({template!r}, {said})"  where there is a network, '
           'and set TEMPLATEFLOW_HOME to that folder')
    try:
        found = api.get(template, raise_empty=True, **entities)
    except Exception as error:  # of the layout, of requests, of the file system
        home = os.environ.get('TEMPLATEFLOW_HOME', '~/.cache/templateflow')
        raise FileError(f'{template} ({said}) is not in {home} and cannot be had ({error}): {get}') from None
    path = Path(found[0] if isinstance(found, list) else found)
    if not path.is_file() or path.stat().st_size < 1000 and path.name.endswith('.nii.gz'):
        raise FileError(f'{path} is missing: {get}')
    return str(path)
