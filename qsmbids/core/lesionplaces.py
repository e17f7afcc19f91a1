"""Where in the brain a lesion lies: side, lobar, deep or infratentorial, by a segmentation of the deep nuclei.

The nuclei say where the standard brain lies, and the tentorium of that is a tent of a few planes: brainstem and
cerebellum need no segmentation of their own.
"""

import numpy as np
from scipy.spatial import cKDTree

from qsmbids.core.grid import move_points
from qsmbids.core.labels import BY_INDEX, BY_NAME, STRUCTURES

CAPSULE_MM = 6.      # so near the deep nuclei white matter is deep as well: the capsules
LEAST_NUCLEI = 4     # with both sides, to say where the standard brain lies
DEEP = ('Caudate', 'Putamen', 'PallidumExternal', 'PallidumInternal', 'Pallidum', 'Thalamus', 'Subthalamic',
        'Accumbens')
BRAINSTEM, CEREBELLUM = ('RedNucleus', 'SubstantiaNigra'), ('Dentate',)
LOBAR = ('Hippocampus', 'Amygdala')
# Right-hand centres in the standard brain (MNI), mm, read off its labels; the left ones mirror them.
STANDARD = {'Caudate': (13, 10, 10), 'Putamen': (26, 3, 0), 'Pallidum': (20, -3, -1), 'PallidumExternal': (21, -2, -1),
            'PallidumInternal': (18, -5, -3), 'Thalamus': (11, -18, 8), 'RedNucleus': (5, -20, -9),
            'SubstantiaNigra': (10, -18, -12), 'Subthalamic': (11, -13, -7), 'Dentate': (16, -56, -34),
            'Hippocampus': (27, -22, -15), 'Amygdala': (24, -3, -19), 'Accumbens': (10, 12, -8)}
# Names that a scale of microbleeds has for them.
MARS = dict.fromkeys(('Caudate', 'Putamen', 'PallidumExternal', 'PallidumInternal', 'Pallidum', 'Accumbens'),
                     'basal ganglia') | {'Thalamus': 'thalamus', 'Subthalamic': 'basal ganglia'}


def place_lesions(points, mask, affine, labels=None):
    """Return where points lie.

    Parameters
    ----------
    points : ndarray, shape (n, 3)
        To the right, front and top, mm.
    mask : ndarray of bool, shape (nx, ny, nz)
        The brain, whose middle tells the sides apart without labels.
    affine : ndarray, shape (4, 4)
        Voxel to mm.
    labels : ndarray of int, shape (nx, ny, nz), optional
        Indices of :mod:`qsmbids.core.labels`.

    Returns
    -------
    list of dict
        ``hemisphere`` (L or R), ``bombs_region`` (lobar, deep, infratentorial), ``mars_region`` (brainstem,
        cerebellum, basal ganglia, thalamus) and ``deep_nucleus`` (name of the structure that the point lies in), None
        where it is not known.

    Notes
    -----
    Regions are those of BOMBS (Cordonnier C, et al. Stroke 2009;40:94-99) and, where the nuclei tell, of MARS (Gregoire
    SM, et al. Neurology 2009;73:1759-1766).
    """
    points = np.reshape(np.asarray(points, float), (-1, 3))
    middle = move_points(affine, np.argwhere(mask).mean(axis=0))
    nuclei, centres = ({}, {}) if labels is None else _nuclei(labels, affine)
    standard = _to_standard(centres)
    if standard is None:
        sides = points[:, 0] - middle[0]
    else:
        points_there = points @ standard[0].T + standard[1]
        sides = points_there[:, 0]
    reach = {name: cKDTree(found) for name, found in nuclei.items() if name in DEEP}
    places = []
    for number, point in enumerate(points):
        place = {'hemisphere': 'L' if sides[number] < 0 else 'R', 'bombs_region': None, 'mars_region': None,
                 'deep_nucleus': None}
        if labels is not None:
            place['deep_nucleus'] = _structure_at(labels, affine, point)
            near = any(tree.query(point, distance_upper_bound=CAPSULE_MM)[0] < np.inf for tree in reach.values())
            below = None if standard is None else part_below_tentorium(points_there[number])
            place |= _region(place['deep_nucleus'], near, below, standard is not None)
        places.append(place)
    return places


def part_below_tentorium(point):
    """Return brainstem or cerebellum for a point of the standard brain, mm, or None if it lies above the tentorium."""
    side, y, z = abs(point[0]), point[1], point[2]
    if y < -30 - side / 4 and z < -4 - .38 * side - .35 * max(-70 - y, 0):
        return 'cerebellum'
    return 'brainstem' if side < 18 and -45 < y < -8 and z < -4 else None


def _region(structure, near, below, fitted):
    if structure in LOBAR:
        return {'bombs_region': 'lobar'}
    if structure in DEEP:
        return {'bombs_region': 'deep', 'mars_region': MARS[structure]}
    below = 'brainstem' if structure in BRAINSTEM else 'cerebellum' if structure in CEREBELLUM else below
    if below:
        return {'bombs_region': 'infratentorial', 'mars_region': below}
    if near:
        return {'bombs_region': 'deep'}
    return {'bombs_region': 'lobar' if fitted else None}


def _nuclei(labels, affine):
    """Return the places of the voxels of each structure, and the centre of each side that there is."""
    nuclei, centres = {}, {}
    at = np.argwhere(labels)
    index, places = labels[tuple(at.T)], move_points(affine, at)
    for name, structure in STRUCTURES.items():
        if not structure.paired:
            continue
        sides = [places[index == BY_NAME[f'{name}_{side}'].index] for side in 'LR']
        if len(sides[0]) or len(sides[1]):
            nuclei[name] = np.concatenate(sides)
        if len(sides[0]) and len(sides[1]):
            centres[name] = [side.mean(axis=0) for side in sides]
    return nuclei, centres


def _to_standard(centres):
    """Return matrix and shift of the similarity that takes centres nearest to those of the standard brain, or None.

    Umeyama S. IEEE Trans Pattern Anal Mach Intell 1991;13:376-380, equations 40 to 42.
    """
    names = [name for name in centres if name in STANDARD]
    if len(names) < LEAST_NUCLEI:
        return None
    here = np.array([centre for name in names for centre in centres[name]])
    there = np.array([(way * STANDARD[name][0], *STANDARD[name][1:]) for name in names for way in (-1, 1)], float)
    middle, aim = here.mean(axis=0), there.mean(axis=0)
    left, sizes, right = np.linalg.svd((there - aim).T @ (here - middle))
    signs = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
    matrix = (left * signs) @ right * (sizes @ signs) / np.sum((here - middle) ** 2)
    return matrix, aim - matrix @ middle


def _structure_at(labels, affine, point):
    at = np.rint(np.linalg.solve(affine[:3, :3], point - affine[:3, 3])).astype(int)
    if np.any(at < 0) or np.any(at >= labels.shape):
        return None
    label = BY_INDEX.get(int(labels[tuple(at)]))
    return label.structure.name if label and label.structure.paired else None
