"""Lesions, and what is taken for them: what they are, their list, and how they are painted into a head on any grid.

A lesion is made of bodies, ellipsoids or tubes, in millimetres; a grid gets the share of each voxel that they fill.
What it adds to the susceptibility, summed over the voxels, is its moment on every grid: also on one whose voxels are
larger than the lesion.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numba
import numpy as np

from qsmbids.core.dipole import voxel_size_of
from qsmbids.simulation.head import Spots
from qsmbids.simulation.tissues import RELAXIVITY, TABLE_TESLA, TISSUES, at_field_strength

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
QUANTITIES = ('r2star', 'm0', 't1', 'chi_positive')  # of a head that lesions change beside chi
CAPSULE_MM = 6.        # so near the deep nuclei white matter is deep as well: the capsules
FINENESS, COARSEST, PARTS = 5, 2, 12  # samples per shortest half-axis, the fewest of them; enough per voxel

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
            at, share = cover(lesion, affine, chi.shape, size)
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
        at, share = cover(lesion, affine, shape)
        if share.size:
            labels[tuple(at[:, share >= share.max() / 2])] = number
    return labels


def lesion_table(lesions):
    """Return a row (dict) of `LESION_COLUMNS` per lesion."""
    return [dict(zip(LESION_COLUMNS, (number, *(round(float(x), 3) for x in lesion.centre), lesion.diameter,
                                      lesion.kind, lesion.moment / lesion.volume, lesion.moment, lesion.region,
                                      lesion.hemisphere)))
            for number, lesion in enumerate(lesions, 1)]


def _beyond(head, tissue, at, quantity):
    """Return how far a tissue's value lies from those of the tissues that voxels have."""
    own = np.array([getattr(other, quantity) for other in head.tissues], np.float32)[head.labels[tuple(at)]]
    return getattr(tissue, quantity) - own


def cover(lesion, affine, shape, size=1.):
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
