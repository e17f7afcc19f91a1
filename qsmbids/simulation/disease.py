"""Small-vessel disease: which lesions there are in a head, where they lie, and what is there to be taken for them.

Sizes, susceptibilities and mimics are those that a study of microbleeds meets [1]_ [2]_.

References
----------
.. [1] Greenberg SM, et al. Cerebral microbleeds: a guide to detection and interpretation. Lancet Neurol 2009;8:165-174.
.. [2] Liu T, et al. Cerebral microbleeds: burden assessment by using quantitative susceptibility mapping. Radiology
   2012;262:269-278.
"""

from dataclasses import replace

import numpy as np
from scipy.ndimage import distance_transform_edt

from qsmbids.core.dipole import voxel_size_of
from qsmbids.core.grid import bounding_box
from qsmbids.simulation.lesions import CAPSULE_MM, CLASSES, REGIONS, Body, Lesion
from qsmbids.simulation.shapes import random_rotations
from qsmbids.simulation.tissues import LABELS, TISSUES

# Where microbleeds lie: as in amyloid angiopathy, in hypertension, and both.
PATTERNS = {'lobar': {'lobar': 1.}, 'deep': {'deep': .75, 'infratentorial': .25},
            'mixed': {'lobar': .55, 'deep': .3, 'infratentorial': .15}}
MIMICS = {'calcification': {'lobar': .4, 'deep': .45, 'infratentorial': .15},
          'vessel': {'lobar': .8, 'deep': .1, 'infratentorial': .1},
          'deep_iron': {'deep': 1.},
          'haemorrhage': {'lobar': .4, 'deep': .5, 'infratentorial': .1},
          'pvs': {'lobar': .5, 'deep': .5}}
HOSTS = {'deep_iron': ('pallidum', 'pallidum_internal'),
         'pvs': ('white_matter', 'putamen', 'caudate', 'thalamus', 'pallidum')}
CAPSULE_SHARE = .25    # of the places of deep lesions
GAP_MM = 1.            # between lesions
CLUSTERED = .15        # share of the microbleeds that lie beside another one
MOST_FLUID = .1        # share of a lesion that may lie in a sulcus or a vein
TRIES, SIZES = 300, 20


def draw_lesions(head, affine, counts, seed=0, pattern='mixed', view=None):
    """Draw lesions into the tissues of a head.

    Parameters
    ----------
    head : Head
        On a grid of 1.5 mm or less: all of it, or a part, which then holds all lesions whatever their usual regions.
        Brainstem and cerebellum must be tissues of their own (``digital_head(..., fine=True)``, or of a label map).
    affine : array_like, shape (4, 4)
        Voxel to mm, to the right, front and top.
    counts : dict
        How many of each of `CLASSES`.
    seed : int or sequence of int, default 0
    pattern : {'lobar', 'deep', 'mixed'}, default 'mixed'
        Where microbleeds lie: as in amyloid angiopathy, hypertension, or both.
    view : tuple, optional
        Shape and affine (voxel to the same mm) of a scan that must hold them whole.

    Returns
    -------
    tuple of Lesion
        No two of them touch, none reaches into a ventricle or out of the brain.

    Raises
    ------
    ValueError
        If `counts` or `pattern` holds what does not exist, or there is no room for a lesion.
    """
    for kind, count in counts.items():
        if kind not in CLASSES or count < 0:
            raise ValueError(f'counts is {counts}, must hold {", ".join(CLASSES)}, each at least 0')
    if pattern not in PATTERNS:
        raise ValueError(f'pattern is {pattern!r}, must be one of {", ".join(PATTERNS)}')
    rng = np.random.Generator(np.random.PCG64(seed))
    ground = _Ground(head, affine, view)
    lesions = []
    # The largest first, while there is room.
    for kind in ('haemorrhage', 'cmb', 'calcification', 'deep_iron', 'vessel', 'pvs'):
        mix = PATTERNS[pattern] if kind == 'cmb' else MIMICS[kind]
        for _ in range(counts.get(kind, 0)):
            lesions.append(_place(kind, mix, lesions, ground, rng))
    return tuple(sorted(lesions, key=lambda lesion: list(CLASSES).index(lesion.kind)))


class _Ground:
    """Where lesions may lie."""

    def __init__(self, head, affine, view):
        self.head, self.affine = head, np.asarray(affine, float)
        self.to_index = np.linalg.inv(self.affine)
        self.views = [(head.labels.shape, self.affine)] + ([view] if view else [])
        self.regions = _regions(head.labels, voxel_size_of(self.affine))
        self.kept = {}
        names = np.array(list(LABELS))
        solid = np.isin(names, [name for tissues in REGIONS.values() for name in tissues])
        self.wet = np.isin(names, ('sulcus', 'vein'))
        self.barred = ~(solid | self.wet)

    def candidates(self, kind, region):
        """Return the flat indices of the voxels of a region where a lesion's centre may lie."""
        if (kind, region) not in self.kept:
            allowed = self.regions == 1 + list(REGIONS).index(region)
            if kind in HOSTS:
                allowed &= np.isin(self.head.labels, self._hosts(kind))
            found = np.flatnonzero(allowed)
            if region == 'deep':
                white = self.head.labels.flat[found] == LABELS['white_matter']
                grey, white = found[~white], found[white]
                most = int(grey.size * CAPSULE_SHARE / (1 - CAPSULE_SHARE)) or white.size
                found = np.concatenate([grey, white[::max(white.size // max(most, 1), 1)]])
            self.kept[kind, region] = found
        return self.kept[kind, region]

    def region_at(self, point):
        """Return the region at a point in mm, or None."""
        index = np.rint(self.to_index[:3, :3] @ point + self.to_index[:3, 3]).astype(int)
        if np.any(index < 0) or np.any(index >= self.regions.shape):
            return None
        return (None, *REGIONS)[self.regions[tuple(index)]]

    def holds(self, body, kind):
        """Return whether a body lies in solid tissue, but for a little in sulci and veins; half of it in its host."""
        axes = np.array(body.axes) + .5
        points = np.concatenate([_BALL * axes + (0, 0, t * body.stretch) for t in np.linspace(-1, 1, 5)])
        points = body.frame @ points.T + body.centre[:, None]
        for shape, affine in reversed(self.views):
            at = np.rint(np.linalg.solve(affine[:3, :3], points - affine[:3, 3:])).astype(int)
            if np.any(at < 0) or np.any(at >= np.array(shape)[:, None]):
                return False
        labels = self.head.labels[tuple(at)]
        at_home = kind not in HOSTS or np.isin(labels, self._hosts(kind)).mean() >= .5
        return at_home and not self.barred[labels].any() and self.wet[labels].mean() <= MOST_FLUID

    def _hosts(self, kind):
        return [LABELS[name] for name in HOSTS[kind]]


_BALL = np.stack(np.meshgrid(*[np.linspace(-1, 1, 9)] * 3), axis=-1).reshape(-1, 3)
_BALL = _BALL[(_BALL ** 2).sum(axis=1) <= 1]


def _regions(labels, voxel_size):
    """Return 1 + the index of the region of each voxel in `REGIONS`; 0 elsewhere."""
    table = np.zeros(256, np.uint8)
    for number, tissues in enumerate(REGIONS.values(), 1):
        table[[LABELS[name] for name in tissues]] = number
    regions = table[labels]
    nuclei = regions == 2
    if nuclei.any():
        box = bounding_box(nuclei, np.ceil(CAPSULE_MM / np.array(voxel_size)).astype(int) + 1)
        near = distance_transform_edt(~nuclei[box], sampling=voxel_size) <= CAPSULE_MM
        regions[box][near & (labels[box] == LABELS['white_matter'])] = 2
    return regions


def _place(kind, mix, lesions, ground, rng):
    """Return a lesion somewhere in a head where it fits."""
    others = [(lesion.centre, lesion.reach) for lesion in lesions]
    bleeds = [lesion for lesion in lesions if lesion.kind == 'cmb']
    beside = bleeds[rng.integers(len(bleeds))] if kind == 'cmb' and bleeds and rng.random() < CLUSTERED else None
    region = beside.region if beside else _region(kind, mix, ground, rng)
    candidates = ground.candidates(kind, region)
    for attempt in range(SIZES * TRIES):
        if attempt % TRIES == 0:
            lesion = _MAKERS[kind](rng)
        if beside and attempt < TRIES:
            way = random_rotations(1, rng)[0][0]
            centre = beside.centre + way * (beside.reach + lesion.reach + GAP_MM + rng.uniform(0, 3))
        else:
            index = np.unravel_index(candidates[rng.integers(candidates.size)], ground.regions.shape)
            centre = ground.affine[:3, :3] @ (np.array(index) + rng.uniform(-.5, .5, 3)) + ground.affine[:3, 3]
        if (ground.region_at(centre) != region
                or any(np.linalg.norm(centre - c) <= lesion.reach + r + GAP_MM for c, r in others)):
            continue
        pose = np.eye(4)
        pose[:3, 3] = centre - lesion.centre
        put = lesion.moved(pose)
        if all(ground.holds(body, kind) for body in put.bodies):
            return _settled(put, region, ground)
    raise ValueError(f'counts asks for a {kind} more than the head has room for ({region}, {len(lesions)} lesions)')


def _region(kind, mix, ground, rng):
    """Return a region, of those that the grid shows."""
    there = [name for name in mix if ground.candidates(kind, name).size]
    if not there:
        raise ValueError(f'head has no tissue in which a {kind} could lie ({", ".join(mix)})')
    weights = np.array([mix[name] for name in there])
    return there[rng.choice(len(there), p=weights / weights.sum())]


def _settled(lesion, region, ground):
    """Return a lesion with what its place tells."""
    if lesion.fill:
        at = np.rint(ground.to_index[:3, :3] @ lesion.centre + ground.to_index[:3, 3]).astype(int)
        lesion = replace(lesion, chi=float(TISSUES[lesion.fill].chi - ground.head.chi[tuple(at)]))
    return replace(lesion, region=region, hemisphere='R' if lesion.centre[0] > 0 else 'L')


def _log_uniform(rng, low, high):
    return float(low * (high / low) ** rng.random())


def _ellipsoid(rng, radius, most=1.5):
    """Return an ellipsoid of the volume of a ball, its longest axis at most `most` times the shortest."""
    axes = most ** rng.random(3)
    axes *= radius / np.cbrt(axes.prod())
    return Body(np.zeros(3), random_rotations(1, rng)[0], tuple(float(a) for a in axes))


def _microbleed(rng):
    return Lesion('cmb', (_ellipsoid(rng, _log_uniform(rng, .7, 5)),), _log_uniform(rng, .15, 3))


def _calcification(rng):
    return Lesion('calcification', (_ellipsoid(rng, _log_uniform(rng, .7, 4)),), -_log_uniform(rng, .3, 2))


def _deep_iron(rng):
    return Lesion('deep_iron', (_ellipsoid(rng, _log_uniform(rng, .7, 2.5)),), _log_uniform(rng, .1, .4))


def _haemorrhage(rng):
    return Lesion('haemorrhage', (_ellipsoid(rng, rng.uniform(5, 10)),), _log_uniform(rng, .4, 1.2),
                  (float(rng.uniform(.75, .9)), float(rng.uniform(.05, .3))))


def _perivascular_space(rng):
    radius = float(rng.uniform(.5, 1.5))
    return Lesion('pvs', (_tube(np.zeros(3), random_rotations(1, rng)[0], radius, rng.uniform(1, 6)),), 0.,
                  fill='ventricle')


def _vessel(rng):
    """Half of the stubs stand upright, as dots in transverse slices; a third are forked."""
    frame = random_rotations(1, rng)[0]
    if rng.random() < .5:
        tilt = np.deg2rad(rng.uniform(0, 15))
        x, y, z = frame[:, 2]
        across = np.array([-y, x, 0]) / np.hypot(x, y)
        up = np.array([0, 0, np.cos(tilt)]) + np.sin(tilt) * np.array([x, y, 0]) / np.hypot(x, y)
        frame = np.column_stack([np.cross(across, up), across, up])
    radius, length = float(rng.uniform(.4, 1.)), rng.uniform(3, 10)
    bodies = [_tube(np.zeros(3), frame, radius, length)]
    if rng.random() < 1 / 3:
        for side in (1, -1):
            angle = side * np.deg2rad(rng.uniform(20, 45))
            c, s = np.cos(angle), np.sin(angle)
            turned = frame @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
            branch = rng.uniform(.4, .7) * length
            bodies.append(_tube(frame[:, 2] * length / 2 + turned[:, 2] * branch / 2, turned, .8 * radius, branch))
    return Lesion('vessel', tuple(bodies), float(rng.uniform(.2, .45)))


def _tube(centre, frame, radius, length):
    return Body(centre, frame, (radius, radius, radius), float(length / 2))


_MAKERS = {'cmb': _microbleed, 'calcification': _calcification, 'vessel': _vessel, 'deep_iron': _deep_iron,
           'haemorrhage': _haemorrhage, 'pvs': _perivascular_space}
