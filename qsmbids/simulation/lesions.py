"""Lesions of small-vessel disease, and what is taken for them: drawn into the tissues of a head, painted on any grid.

A lesion is made of bodies, ellipsoids or tubes, in millimetres; a grid gets the share of each voxel that they fill.
What it adds to the susceptibility, summed over the voxels, is its moment on every grid: also on one whose voxels are
larger than the lesion. Sizes, susceptibilities and mimics are those that a study of microbleeds meets [1]_ [2]_.

References
----------
.. [1] Greenberg SM, et al. Cerebral microbleeds: a guide to detection and interpretation. Lancet Neurol 2009;8:165-174.
.. [2] Liu T, et al. Cerebral microbleeds: burden assessment by using quantitative susceptibility mapping. Radiology
   2012;262:269-278.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numba
import numpy as np
from scipy.ndimage import distance_transform_edt

from qsmbids.core.dipole import voxel_size_of
from qsmbids.simulation.head import Spots
from qsmbids.simulation.shapes import random_rotations
from qsmbids.simulation.tissues import LABELS, RELAXIVITY, TABLE_TESLA, TISSUES, at_field_strength

CLASSES = {
    'cmb': 'microbleed',
    'calcification': 'calcification, diamagnetic',
    'vessel': 'stub of a vein, straight or forked',
    'deep_iron': 'mineralised focus of the pallidum',
    'haemorrhage': 'haemorrhage with a rim of haemosiderin',
    'pvs': 'perivascular space, filled as the ventricles are',
}
REGIONS = {
    'lobar': ('cortex', 'white_matter', 'hippocampus', 'amygdala'),
    'deep': ('caudate', 'putamen', 'pallidum', 'pallidum_internal', 'thalamus', 'subthalamic'),
    'infratentorial': ('cerebellar_cortex', 'cerebellar_white_matter', 'brainstem', 'dentate', 'red_nucleus',
                       'substantia_nigra'),
}
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
QUANTITIES = ('r2star', 'm0', 't1', 'chi_positive')  # of a head that lesions change beside chi
CAPSULE_MM = 6.        # so near the deep nuclei white matter is deep as well: the capsules
CAPSULE_SHARE = .25    # of the places of deep lesions
GAP_MM = 1.            # between lesions
CLUSTERED = .15        # share of the microbleeds that lie beside another one
MOST_FLUID = .1        # share of a lesion that may lie in a sulcus or a vein
FINENESS, COARSEST, PARTS = 5, 2, 12  # samples per shortest half-axis, the fewest of them; enough per voxel
TRIES, SIZES = 300, 20

LESION_COLUMNS = {
    'index': {'Description': 'Label in seg-lesions_desc-truth_dseg'},
    **{f'{axis}_ras_mm': {'Description': f'Centre, scanner coordinates: {way}', 'Units': 'mm'}
       for axis, way in (('x', 'to the right'), ('y', 'to the front'), ('z', 'to the top'))},
    'diameter_mm': {'Description': 'Diameter of the ball of the same volume', 'Units': 'mm'},
    'class': {'Description': 'What it is', 'Levels': CLASSES},
    'chi_ppm': {'Description': 'Mean susceptibility relative to the tissue around it', 'Units': 'ppm'},
    'moment_ppm_mm3': {'Description': 'Susceptibility relative to the tissue, integrated over the lesion',
                       'Units': 'ppm mm^3'},
    'region': {'Description': 'Where it lies', 'Levels': {
        'lobar': 'cortex and white matter of the cerebrum',
        'deep': f'deep nuclei, and white matter within {CAPSULE_MM:g} mm of them',
        'infratentorial': 'brainstem and cerebellum'}},
    'hemisphere': {'Description': 'Side', 'Levels': {'L': 'left', 'R': 'right'}},
}


@dataclass(frozen=True)
class Body:
    """An ellipsoid; or a tube, where its third axis is stretched.

    Attributes
    ----------
    centre : ndarray, shape (3,)
        mm.
    frame : ndarray, shape (3, 3)
        Unit vectors of its axes (columns).
    axes : tuple of float
        Half-axes, mm.
    stretch : float
        Half the length of the straight part along the third axis, mm.
    """

    centre: np.ndarray
    frame: np.ndarray
    axes: tuple
    stretch: float = 0.

    @property
    def volume(self):
        """mm^3."""
        a, b, c = self.axes
        return np.pi * a * b * (4 / 3 * c + 2 * self.stretch)


@dataclass(frozen=True)
class Lesion:
    """A lesion.

    Attributes
    ----------
    kind : str
        A key of `CLASSES`.
    bodies : tuple of Body
        Their union.
    chi : float
        Susceptibility relative to the tissue around it, ppm; R2* rises by `RELAXIVITY` times its magnitude.
    core : tuple of float
        How far a core reaches, as a share of the radius, and its susceptibility, ppm.
    fill : str, optional
        The tissue that takes the place of the one around.
    region, hemisphere : str
        A key of `REGIONS`; L or R.
    """

    kind: str
    bodies: tuple
    chi: float
    core: tuple = (0., 0.)
    fill: str | None = None
    region: str = ''
    hemisphere: str = ''

    @cached_property
    def volume(self):
        """mm^3."""
        if len(self.bodies) == 1:
            return float(self.bodies[0].volume)
        step = min(min(body.axes) for body in self.bodies) / 8
        return float(_shares(self.bodies, np.diag([step, step, step, 1.]))[1].sum() * step ** 3)

    @property
    def moment(self):
        """Susceptibility relative to the tissue, integrated, ppm mm^3."""
        inner = self.core[0] ** 3
        return self.volume * (self.chi * (1 - inner) + self.core[1] * inner)

    @property
    def layers(self):
        """Size, susceptibility within and that of the layer around, of each layer from the outside."""
        return [(1., self.chi, 0.), (*self.core, self.chi)][:2 if self.core[0] else 1]

    @property
    def diameter(self):
        """Of the ball of the same volume, mm."""
        return float(np.cbrt(6 * self.volume / np.pi))

    @property
    def centre(self):
        """mm."""
        return np.average([body.centre for body in self.bodies], axis=0, weights=[body.volume for body in self.bodies])

    @property
    def reach(self):
        """Radius of a ball about the centre that holds the lesion, mm."""
        return max(np.linalg.norm(body.centre - self.centre) + max(*body.axes[:2], body.axes[2] + body.stretch)
                   for body in self.bodies)

    def moved(self, pose):
        """Return the lesion after a rigid motion, shape (4, 4)."""
        pose = np.asarray(pose, float)
        return replace(self, bodies=tuple(replace(body, centre=pose[:3, :3] @ body.centre + pose[:3, 3],
                                                  frame=pose[:3, :3] @ body.frame) for body in self.bodies))


def paint_lesions(head, affine, lesions, b0_tesla=TABLE_TESLA):
    """Return a head with lesions.

    Parameters
    ----------
    head : Head
    affine : array_like, shape (4, 4)
        Voxel to the coordinates of the lesions, mm.
    lesions : sequence of Lesion
    b0_tesla : float, default 3
        R2* of lesions grows as the field does.

    Returns
    -------
    Head
        Its labels are those of the tissue beneath.
    """
    if not lesions:
        return head
    chi, spots = head.chi.copy(), [head.spots] if head.spots else []
    fluids = at_field_strength({lesion.fill: TISSUES[lesion.fill] for lesion in lesions if lesion.fill}, b0_tesla)
    for lesion in lesions:
        for size, inner, outer in lesion.layers:
            at, share = _on_grid(lesion, affine, chi.shape, size)
            if lesion.fill:
                added = {name: _beyond(head, fluids[lesion.fill], at, name) for name in QUANTITIES}
            else:
                added = dict.fromkeys(QUANTITIES, 0.) | {
                    'r2star': RELAXIVITY * b0_tesla / TABLE_TESLA * (abs(inner) - abs(outer)),
                    'chi_positive': max(inner, 0) - max(outer, 0)}
            added['chi'] = inner - outer
            spots.append(Spots(at, {name: share * np.float32(value) for name, value in added.items()}))
            chi[tuple(at)] += spots[-1].added['chi']
    return replace(head, chi=chi, spots=Spots(
        np.concatenate([part.at for part in spots], axis=1),
        {name: np.concatenate([part.added[name] for part in spots]) for name in spots[0].added}))


def with_lesions(sample, lesions, b0_tesla=TABLE_TESLA):
    """Return an object with lesions: ``sample(shape, affine) -> Head``, as `simulate` takes it."""
    def painted(shape, affine):
        return paint_lesions(sample(shape, affine), affine, lesions, b0_tesla)
    return painted


def lesion_labels(lesions, shape, affine):
    """Return the label map of lesions, numbered from 1: uint16, the voxels that each fills at least half.

    Of a lesion that fills no voxel, those that hold at least half as much of it as the one that holds most.

    Parameters
    ----------
    lesions : sequence of Lesion
    shape : tuple of int
        ``(nx, ny, nz)``.
    affine : array_like, shape (4, 4)
        Voxel to the coordinates of the lesions, mm.
    """
    labels = np.zeros(shape, np.uint16)
    for number, lesion in enumerate(lesions, 1):
        at, share = _on_grid(lesion, affine, shape)
        if share.size:
            labels[tuple(at[:, share >= share.max() / 2])] = number
    return labels


def lesion_table(lesions):
    """Return a row (dict) of `LESION_COLUMNS` per lesion."""
    return [dict(zip(LESION_COLUMNS, (number, *(round(float(x), 3) for x in lesion.centre), lesion.diameter,
                                      lesion.kind, lesion.moment / lesion.volume, lesion.moment, lesion.region,
                                      lesion.hemisphere)))
            for number, lesion in enumerate(lesions, 1)]


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
        reach = np.ceil(CAPSULE_MM / np.array(voxel_size)).astype(int) + 1
        box = []
        for axis in range(3):
            filled = np.flatnonzero(nuclei.any(axis=tuple(i for i in range(3) if i != axis)))
            box.append(slice(max(filled[0] - reach[axis], 0), filled[-1] + reach[axis] + 1))
        box = tuple(box)
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


def _beyond(head, tissue, at, quantity):
    """Return how far a tissue's value lies from those of the tissues that voxels have."""
    own = np.array([getattr(other, quantity) for other in head.tissues], np.float32)[head.labels[tuple(at)]]
    return getattr(tissue, quantity) - own


def _on_grid(lesion, affine, shape, size=1.):
    """Return the voxels of a grid that a lesion touches, (3, n), and its share of each, float32.

    The shares of all voxels, those beyond the grid too, add up to its volume; `size` scales it about its centre.
    """
    affine = np.asarray(affine, float)
    first, shares = _shares(lesion.bodies, affine, size)
    # What samples miss is shared out at the surface.
    partial, full = (shares > 0) & (shares < 1), np.count_nonzero(shares == 1)
    volume = size ** 3 * lesion.volume / abs(np.linalg.det(affine[:3, :3]))
    shares[partial] *= (volume - full) / shares[partial].sum()
    at = np.argwhere(shares)
    values = shares[tuple(at.T)].astype(np.float32)
    at += first
    inside = np.all((at >= 0) & (at < shape), axis=1)
    return at[inside].T, values[inside]


def _shares(bodies, affine, size=1.):
    """Return the index of the first voxel of a box around bodies, and the share of each voxel that they fill."""
    linear, back = affine[:3, :3], np.linalg.inv(affine[:3, :3])
    axes = np.array([body.axes for body in bodies]) * size
    stretch = np.array([body.stretch for body in bodies]) * size
    centres = np.array([back @ (body.centre - affine[:3, 3]) for body in bodies])
    turned = np.array([back @ body.frame for body in bodies])
    extent = np.sqrt(((turned * axes[:, None]) ** 2).sum(axis=2)) + np.abs(turned[:, :, 2]) * stretch[:, None]
    to_ball = np.array([body.frame.T @ linear / a[:, None] for body, a in zip(bodies, axes)])
    # Enough samples for the thinnest body, but no more than a coarse voxel needs; some of each voxel for the largest.
    per_voxel = np.array(voxel_size_of(affine)) / axes.min()
    parts = np.minimum(FINENESS * per_voxel, np.maximum(PARTS, COARSEST * per_voxel))
    parts = np.maximum(np.ceil(parts), 3).astype(int)
    low = np.floor(((centres - extent).min(axis=0) + .5) * parts).astype(int)
    high = np.ceil(((centres + extent).max(axis=0) + .5) * parts).astype(int)
    first = low // parts
    counts = np.zeros(high // parts - first + 1)
    _count(counts, low, high, first, parts, centres, to_ball, stretch / axes[:, 2])
    return first, counts / parts.prod()


@numba.njit(cache=True, nogil=True)
def _count(counts, low, high, first, parts, centres, to_ball, stretch):
    """Count the samples from `low` to `high`, `parts` per voxel, that lie in one of the bodies."""
    for i in range(low[0], high[0]):
        x = (i + .5) / parts[0] - .5
        for j in range(low[1], high[1]):
            y = (j + .5) / parts[1] - .5
            for k in range(low[2], high[2]):
                z = (k + .5) / parts[2] - .5
                for n in range(len(centres)):
                    a, b, c = x - centres[n, 0], y - centres[n, 1], z - centres[n, 2]
                    m = to_ball[n]
                    u = m[0, 0] * a + m[0, 1] * b + m[0, 2] * c
                    v = m[1, 0] * a + m[1, 1] * b + m[1, 2] * c
                    w = max(abs(m[2, 0] * a + m[2, 1] * b + m[2, 2] * c) - stretch[n], 0.)
                    if u * u + v * v + w * w < 1:
                        counts[i // parts[0] - first[0], j // parts[1] - first[1], k // parts[2] - first[2]] += 1
                        break
