"""The data set that the tests run on: small, simulated, with the traps that real data sets hold.

``python -m qsmbids.simulation.testbids OUT`` writes it; ``data/testbids`` holds what this makes.
"""

import argparse
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from qsmbids.files import write_json, write_text, write_tsv
from qsmbids.simulation.bids import write_description, write_scan
from qsmbids.simulation.head import digital_head
from qsmbids.simulation.signal import Sequence, centred_affine, rotation, simulate

README = """\
# Test data set of qsmbids

Simulated gradient-echo scans of digital heads: no person was scanned. Made by
`python -m qsmbids.simulation.testbids OUT`, which writes the same voxels again; CC0.

| Participant | What it is |
|---|---|
| sub-01 | two sessions, the head moved in between; 3 echoes, 4 mm; phase as Siemens levels 0..4095; a "3 T" of 2.89 T |
| sub-02 | oblique by 25 degrees, 3 x 3 x 5 mm; real and imaginary parts; sidecars inherited from the root |
| sub-03 | sagittal slices, one echo (T2starw), 1.5 T; phase as Philips stores radians |
| sub-broken | no EchoTime in the sidecars, a few voxels: software must report it and go on |

Phase in air is stored as zero.
"""


def _pose(axis, degrees, shift):
    pose = np.eye(4)
    pose[:3, :3] = rotation(axis, degrees)
    pose[:3, 3] = shift
    return pose


@dataclass(frozen=True)
class _Recipe:
    entities: dict
    sequence: Sequence
    person: int
    pose: np.ndarray | None = None
    storage: dict = field(default_factory=dict)


_ECHO_TIMES = (.004, .012, .020)
_SHAPE_01, _SHAPE_02, _SHAPE_03, _SHAPE_BROKEN = (46, 58, 42), (60, 74, 34), (56, 42, 44), (16, 20, 14)
_SEQUENCE_01 = Sequence(_SHAPE_01, centred_affine(np.eye(3), (4, 4, 4), _SHAPE_01, (0, -17, 12)), _ECHO_TIMES,
                        imaging_frequency_mhz=123.25)
_SIEMENS = {'vendor': 'siemens_levels', 'peak': 500, 'silence': .04}
RECIPES = {
    'sub-01_ses-baseline': _Recipe({'sub': '01', 'ses': 'baseline'}, _SEQUENCE_01, 1, None, _SIEMENS),
    'sub-01_ses-followup': _Recipe({'sub': '01', 'ses': 'followup'}, _SEQUENCE_01, 1,
                                   _pose((1, .3, -.4), 4, (1.5, -2, 1)), _SIEMENS),
    'sub-02': _Recipe(
        {'sub': '02'},
        Sequence(_SHAPE_02, centred_affine(rotation((1, .4, .2), 25), (3, 3, 5), _SHAPE_02, (0, -17, 8)), _ECHO_TIMES,
                 supersampling=2),
        2, None, {'vendor': 'complex', 'peak': 300, 'inherit': True}),
    'sub-03': _Recipe(
        {'sub': '03'},
        Sequence(_SHAPE_03, centred_affine(np.eye(3)[:, [1, 2, 0]] * (-1, 1, 1), (4, 4, 4), _SHAPE_03, (0, -17, 12)),
                 (.030,), b0_tesla=1.5, supersampling=2),
        3, None, {'vendor': 'philips', 'suffix': 'T2starw', 'peak': 600, 'silence': .04}),
    'sub-broken': _Recipe(
        {'sub': 'broken'},
        Sequence(_SHAPE_BROKEN, centred_affine(np.eye(3), (12, 12, 12), _SHAPE_BROKEN, (0, -17, 12)), _ECHO_TIMES,
                 supersampling=4),
        4, None, {'vendor': 'siemens_levels', 'peak': 600, 'omit': ('EchoTime',)}),
}
NAMES = tuple(RECIPES)


@lru_cache(maxsize=None)
def acquisition(name):
    """Return a scan of the data set with its ground truth, simulated once per process.

    Parameters
    ----------
    name : str
        One of `NAMES`, e.g. ``'sub-01_ses-baseline'``.

    Returns
    -------
    Scan
        ``signal`` before it was rounded to integers; truth maps as `qsmbids.simulation.signal.Scan` describes them.

    Raises
    ------
    ValueError
        If there is no such scan.
    """
    if name not in RECIPES:
        raise ValueError(f'name is {name!r}, must be one of {", ".join(NAMES)}')
    recipe = RECIPES[name]
    sample = partial(digital_head, seed=recipe.person, pose=recipe.pose)
    return simulate(sample, recipe.sequence, seed=100 + NAMES.index(name))


def write(root):
    """Write the data set into the folder `root`."""
    root = Path(root)
    write_description(root, 'qsmbids test data', Acknowledgements='Simulated by qsmbids.simulation.testbids')
    write_text(root / 'README.md', README)
    columns = ['participant_id', 'age', 'sex', 'group']
    people = [('sub-01', 34, 'F', 'control'), ('sub-02', 67, 'M', 'control'), ('sub-03', 51, 'F', 'control'),
              ('sub-broken', None, None, None)]
    write_tsv(root / 'participants.tsv', [dict(zip(columns, person)) for person in people], columns)
    write_json(root / 'participants.json', {
        'age': {'Description': 'Age at the scan', 'Units': 'year'},
        'sex': {'Description': 'Sex', 'Levels': {'F': 'female', 'M': 'male'}},
        'group': {'Description': 'Study group', 'Levels': {'control': 'healthy'}}})
    for name, recipe in RECIPES.items():
        write_scan(root, acquisition(name), recipe.entities, **recipe.storage)


def main():
    """Write the data set where the command line says."""
    parser = argparse.ArgumentParser(prog='python -m qsmbids.simulation.testbids', description=write.__doc__)
    parser.add_argument('root', type=Path)
    write(parser.parse_args().root)


if __name__ == '__main__':
    main()
