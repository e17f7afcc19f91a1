import subprocess
import sys

import pytest

from qsmbids.core.labels import BY_INDEX, CSF, FINEST, FREESURFER, LABELS, STRUCTURES, label_named, label_rows, parts_of


def test_indices_are_unique_and_sides_stand_beside_each_other():
    assert len(BY_INDEX) == len(LABELS) and BY_INDEX[CSF].name == 'CSF' and min(BY_INDEX) == 1
    for structure in STRUCTURES.values():
        if structure.paired:
            left, right = BY_INDEX[structure.index], BY_INDEX[structure.index + 1]
            assert (left.hemisphere, right.hemisphere) == ('L', 'R') and left.structure is right.structure
            assert left.index % 2 == 1


def test_the_finest_segmentation_counts_without_a_gap():
    assert [label.index for label in FINEST] == list(range(1, len(FINEST) + 1))
    assert {'CSF', 'SubstantiaNigra_R', 'PallidumInternal_L', 'Dentate_L', 'Accumbens_R'} <= {x.name for x in FINEST}


def test_freesurfer_ids_are_those_of_its_table():
    named = {number: BY_INDEX[index].name for number, index in FREESURFER.items()}
    assert named[11] == 'Caudate_L' and named[50] == 'Caudate_R' and named[12] == 'Putamen_L'
    assert named[13] == 'Pallidum_L' and named[52] == 'Pallidum_R' and named[49] == 'Thalamus_R'
    assert named[17] == 'Hippocampus_L' and named[54] == 'Amygdala_R' and named[58] == 'Accumbens_R'
    assert {number for number, name in named.items() if name == 'CSF'} == {4, 43, 14, 15}
    assert len(named) == sum(len(label.freesurfer) for label in LABELS)


def test_a_union_is_made_of_its_own_side():
    names = {label.name: [part.name for part in parts_of(label)] for label in LABELS}
    assert names['Pallidum_R'] == ['PallidumExternal_R', 'PallidumInternal_R'] and names['Putamen_L'] == []


@pytest.mark.parametrize(('name', 'hemisphere', 'expected'), [
    ('Left-Caudate', None, 'Caudate_L'), ('Right-Thalamus-Proper', None, 'Thalamus_R'),
    ('putamen_L', None, 'Putamen_L'),
    ('lh.Pu', None, 'Putamen_L'), ('right red nucleus', None, 'RedNucleus_R'), ('SN', 'R', 'SubstantiaNigra_R'),
    ('GPi', 'left', 'PallidumInternal_L'), ('Globus pallidus', 'L', 'Pallidum_L'), ('CSF', None, 'CSF'),
    ('Left-Accumbens-area', None, 'Accumbens_L'), ('STN_r', None, 'Subthalamic_R'), ('Putamen', None, None),
    ('left liver', None, None), ('Dentate gyrus', 'L', None), ('rednucleus', 'R', 'RedNucleus_R')])
def test_names_of_others(name, hemisphere, expected):
    found = label_named(name, hemisphere)
    assert (found and found.name) == expected


def test_names_of_our_own_come_back():
    for row in label_rows(LABELS):
        assert label_named(row['name']).index == row['index'] == label_named(row['abbreviation']).index


def test_the_table_needs_no_numpy():
    code = "import sys; sys.modules['numpy'] = None; import importlib.util as u; " \
           "s = u.spec_from_file_location('labels', sys.argv[1]); m = u.module_from_spec(s); " \
           "sys.modules['labels'] = m; s.loader.exec_module(m)"
    from qsmbids.core import labels
    subprocess.run([sys.executable, '-c', code, labels.__file__], check=True)
