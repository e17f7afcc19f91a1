"""The sessions of a participant in one space, from what lies in the output directory."""

from pathlib import Path

import numpy as np

from qsmbids.core.labels import BY_INDEX
from qsmbids.core.longitudinal import Session, common_values
from qsmbids.core.registration import LEAST_GAIN
from qsmbids.files import FileError
from qsmbids.headers import load_image, read_voxels
from qsmbids.reports.cohort import find_statistics

_SUFFIXES = {'chi': ('Chimap', 'qsm'), 'R2star': ('R2starmap', 'brain')}


def common_means(scans):
    """Return the means of the regions that all sessions of a participant share.

    Parameters
    ----------
    scans : list of dict
        Acquisitions of different sessions, with their ``folder``, ``stem`` and ``values`` (rows of the table).

    Returns
    -------
    means : list of dict
        For each of them: metric, map, structure and side to the mean. Empty if the sessions cannot be compared so.
    flag : str
        Why, or what is doubtful; empty if all is well.
    """
    kinds = list(dict.fromkeys((row['metric'], row['map']) for row in scans[0]['values'] if row['metric'] in _SUFFIXES))
    try:
        sessions = [_read(scan, kinds) for scan in scans]
        values, gains = common_values(sessions)
    except (FileError, ValueError) as error:
        return [{} for _ in scans], f'no common space: {error}'
    doubtful = f'the sessions hardly fit each other (gain {min(gains):.2f})' if min(gains) < LEAST_GAIN else ''
    return [{(*kind, BY_INDEX[index].structure.name, BY_INDEX[index].hemisphere): mean
             for (kind, index), mean in found.items()} for found in values], doubtful


def _read(scan, kinds):
    anat, stem = Path(scan['folder']) / 'anat', scan['stem']
    table = find_statistics(anat, stem)
    labels = anat / table.name.replace('_stats.tsv', '_dseg.nii.gz')
    brain = _voxels(anat / f'{stem}_desc-brain_mask.nii.gz') > .5
    maps = {}
    for metric, name in kinds:
        suffix, mask = _SUFFIXES[metric]
        path = anat / f'{stem}_desc-{name}_{suffix}.nii.gz'
        if path.is_file():
            maps[metric, name] = _voxels(path), _voxels(anat / f'{stem}_desc-{mask}_mask.nii.gz') > .5
    magnitude = Path(scan['folder']) / 'fmap' / f'{stem}_magnitude.nii.gz'
    image = _voxels(magnitude) if magnitude.is_file() else next(iter(maps.values()))[0]
    return Session(image, brain, read_voxels(labels).astype(np.int16), maps, load_image(labels).affine)


def _voxels(path):
    return np.ascontiguousarray(read_voxels(path), dtype=np.float32)
