"""The one table of nuclei: what the indices of a segmentation stand for, and how others name the same structures.

Left has the odd index, right the even one above it. What cannot be told apart has an index of its own: FreeSurfer knows
one pallidum, of which a finer segmentation has the external and the internal part.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Structure:
    """A structure with its two sides.

    Attributes
    ----------
    name : str
        As tables have it.
    abbreviation : str
    index : int
        Of the left side; the right side's is one more. The only one where `paired` is false.
    freesurfer : tuple of tuple of int
        Ids of the left and of the right side in FreeSurfer's table, which FastSurfer and SynthSeg share; empty where
        that has none.
    aliases : tuple of str
        What others call it, in lower case without sides, spaces, dashes and underscores.
    colour : str
        Of its outline, #rrggbb.
    volume : tuple of float or None
        Of one side in adults, mL, least and most: in the label maps of twelve heads (those of SynthSeg), and what these
        lack in the MuSus-100 atlas and in anatomy.
    parts : tuple of str, optional
        Names of the structures that it is made of, for one that is the union of others.
    paired : bool, default True
    """

    name: str
    abbreviation: str
    index: int
    freesurfer: tuple
    aliases: tuple
    colour: str
    volume: tuple | None
    parts: tuple = ()
    paired: bool = True


@dataclass(frozen=True)
class Label:
    """One side of a structure.

    Attributes
    ----------
    index : int
        In a segmentation.
    structure : Structure
    hemisphere : {'L', 'R', 'B'}
        B: of what is not told apart by sides.
    """

    index: int
    structure: Structure
    hemisphere: str

    @property
    def name(self):
        """Such as ``Putamen_L``; without a side where there is one only."""
        return self.structure.name + (f'_{self.hemisphere}' if self.structure.paired else '')

    @property
    def abbreviation(self):
        return self.structure.abbreviation + (f'_{self.hemisphere}' if self.structure.paired else '')

    @property
    def freesurfer(self):
        """Ids in FreeSurfer's table; empty where that has none."""
        sides = self.structure.freesurfer
        return sides['LR'.find(self.hemisphere)] if self.structure.paired and sides else sum(sides, ())


STRUCTURES = {structure.name: structure for structure in (
    Structure('Caudate', 'CN', 1, ((11,), (50,)), ('caudatenucleus', 'nucleuscaudatus', 'cau', 'cd'), '#4daf4a',
              (2.4, 4.8)),
    Structure('Putamen', 'Pu', 3, ((12,), (51,)), ('put',), '#377eb8', (3.2, 6.8)),
    # The range of the outer part follows from the other two.
    Structure('PallidumExternal', 'GPe', 5, (),
              ('globuspallidusexternus', 'globuspallidusexterna', 'globuspallidusexternal', 'externalpallidum',
               'externalglobuspallidus', 'globuspallidusexternalsegment', 'pallidumexternum'), '#ff7f00', (.7, 2.)),
    Structure('PallidumInternal', 'GPi', 7, (),
              ('globuspallidusinternus', 'globuspallidusinterna', 'globuspallidusinternal', 'internalpallidum',
               'internalglobuspallidus', 'globuspallidusinternalsegment', 'pallidumintern'), '#ffd92f', (.25, .8)),
    Structure('Thalamus', 'Th', 9, ((10, 9), (49, 48)), ('thalamusproper', 'tha', 'thal'), '#a65628', (5.5, 10.6)),
    Structure('RedNucleus', 'RN', 11, (), ('nucleusruber', 'ruber'), '#e41a1c', (.2, .5)),
    Structure('SubstantiaNigra', 'SN', 13, (), ('nigra',), '#f781bf', (.3, .6)),
    Structure('Subthalamic', 'STN', 15, (), ('subthalamicnucleus', 'nucleussubthalamicus'), '#00ced1', (.05, .16)),
    Structure('Dentate', 'DN', 17, (), ('dentatenucleus', 'nucleusdentatus', 'cerebellardentate'), '#984ea3',
              (.6, 1.05)),
    Structure('Hippocampus', 'Hip', 19, ((17,), (53,)), ('hippo', 'hipp'), '#b3b3b3', (1.4, 5.3)),
    Structure('Amygdala', 'Amy', 21, ((18,), (54,)), ('amygdaloid', 'amyg'), '#66c2a5', (.7, 2.2)),
    Structure('Accumbens', 'NAc', 23, ((26,), (58,)),
              ('accumbensarea', 'nucleusaccumbens', 'accu', 'acc'), '#ffff99', (.3, 1.)),
    # Of fluid what surrounds the brain is left out: no reference is taken there.
    Structure('CSF', 'CSF', 25, ((4, 43, 14, 15),), ('cerebrospinalfluid', 'ventricles', 'ventricle'), '#80b1d3', None,
              paired=False),
    Structure('Pallidum', 'GP', 27, ((13,), (52,)), ('globuspallidus', 'pall', 'pal'), '#fdb462', (.95, 2.5),
              parts=('PallidumExternal', 'PallidumInternal')),
)}
LABELS = tuple(sorted((
    Label(structure.index + side, structure, hemisphere)
    for structure in STRUCTURES.values()
    for side, hemisphere in enumerate('LR' if structure.paired else 'B')), key=lambda label: label.index))
BY_INDEX = {label.index: label for label in LABELS}
BY_NAME = {label.name: label for label in LABELS}
CSF = BY_NAME['CSF'].index
# What a segmentation that tells all apart has: the others are unions of these.
FINEST = tuple(label for label in LABELS if not label.structure.parts)
# Our index of each of FreeSurfer's ids.
FREESURFER = {number: label.index for label in LABELS for number in label.freesurfer}
_SIDES = (('L', re.compile(r'^(left|lh|l)[\s_.-]+|[\s_.-]+(left|lh|l)$|^left|left$', re.IGNORECASE)),
          ('R', re.compile(r'^(right|rh|r)[\s_.-]+|[\s_.-]+(right|rh|r)$|^right|right$', re.IGNORECASE)))


def parts_of(label):
    """Return the labels whose union a label is; empty for one that is no union."""
    return tuple(found for found in LABELS
                 if found.structure.name in label.structure.parts and found.hemisphere == label.hemisphere)


def freesurfer_ids(name):
    """Return all ids of a structure, on either side, in FreeSurfer's table."""
    return tuple(number for side in STRUCTURES[name].freesurfer for number in side)


def label_named(name, hemisphere=None):
    """Return the label that the table of a segmentation means, or None.

    Parameters
    ----------
    name : str
        Such as ``Left-Putamen``, ``putamen_L``, ``lh.Pu`` or ``right red nucleus``.
    hemisphere : str, optional
        ``L`` or ``R`` (``left``, ``right``), where the table says it in a column of its own.

    Returns
    -------
    Label or None
        None if the structure is none of the table, or its side is not said.

    Examples
    --------
    >>> label_named('Left-Putamen').index, label_named('right red nucleus').name
    (3, 'RedNucleus_R')
    >>> label_named('putamen') is None
    True
    >>> label_named('putamen', 'R').name
    'Putamen_R'
    """
    side = (hemisphere or '').strip()[:1].upper()
    text = name.strip()
    for letter, pattern in _SIDES:
        if pattern.search(text):
            text, side = pattern.sub('', text), letter
            break
    plain = re.sub(r'[\W_]', '', text).lower()
    for structure in STRUCTURES.values():
        if plain in (structure.name.lower(), structure.abbreviation.lower(), *structure.aliases):
            return BY_NAME.get(f'{structure.name}_{side}' if structure.paired else structure.name)
    return None


def label_rows(labels=FINEST):
    """Return the rows of the TSV beside a segmentation, dicts of index, name, abbreviation, hemisphere, mapping, color.

    Mapping is the first id of the structure in FreeSurfer's table, ``n/a`` where that has none.
    """
    return [{'index': label.index, 'name': label.name, 'abbreviation': label.abbreviation,
             'hemisphere': label.hemisphere, 'mapping': label.freesurfer[0] if label.freesurfer else 'n/a',
             'color': label.structure.colour} for label in labels]
