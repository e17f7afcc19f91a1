"""A digital head from code alone: implicit surfaces in millimetres, painted with tissues.

Head coordinates are those of the usual atlases: mm, x to the right, y to the front, z up, the origin near the anterior
commissure. Every structure is a function of the position, so that a head can be sampled on any grid. The surfaces use
only operations that round alike on every processor (no exp, no sin per voxel): a seed gives the same labels everywhere.
"""

from dataclasses import dataclass, replace

import numpy as np

from qsmbids.core.threads import over_slabs
from qsmbids.simulation.age import Stature, stature, tissues_at
from qsmbids.simulation.deformation import (Form, age_deformation, compose, random_affine, random_deformation,
                                            smooth_noise)
from qsmbids.simulation.surfaces import Balls, balls, ellipsoid, norm, smooth_min, tube
from qsmbids.simulation.tissues import LABELS, RELAXIVITY, TABLE_TESLA, TISSUES, at_field_strength, vary_tissues

SLAB_VOXELS = 500_000
TEXTURE_SD, TEXTURE_MAX = .004, .016  # ppm
VARIATION_MAX = 8.  # mm
WATER_PER_PPM = 4.  # M0 falls by this share for each ppm of texture

CEREBRUM = ((0, -17, 12), (70, 88, 66))  # centre, half-axes, mm
# Right side, mm: centre, half-axes, and how far the front turns inwards in degrees.
ELLIPSOID_NUCLEI = {
    'thalamus': ((12.3, -19, 7), (9.1, 15.8, 11.3), 20),
    'putamen': ((27.5, 3, 1), (5.7, 17.2, 12.0), 12),
    'pallidum': ((19.0, -3, -1), (4.2, 10.5, 8.3), 20),
    'red_nucleus': ((5.2, -21, -9), (3.8, 4.2, 4.4), 0),
    'substantia_nigra': ((10.5, -17, -13), (2.7, 7.4, 4.8), 35),
    'dentate': ((15, -57, -34), (4.8, 8.8, 4.8), 20),
}
# Painted on demand, after the others: the first into the pallidum, the others into white matter and cortex.
FINE_NUCLEI = {
    'pallidum_internal': ((15.9, -6.0, -2.5), (4.0, 9.0, 7.2), 20),
    'subthalamic': ((11, -13, -6.5), (2.4, 4.4, 2.3), 35),
    'amygdala': ((26, -2, -20), (7.0, 8.0, 7.2), 0),
}
MIDBRAIN_TOP = -7
HIPPOCAMPUS = ((28, -12, -21, 6), (30, -20, -17, 6), (31, -30, -9, 4.8), (27, -39, 1, 3.4))
# Tubes: x, y, z, radius along the middle line, mm.
CAUDATE = ((11.5, 19, -1, 5), (13.5, 10, 9, 6), (17, -2, 18, 4.6), (20, -16, 22, 3), (25, -32, 18, 2))
LATERAL_VENTRICLE = ((10, 30, 3, 2.5), (7.5, 18, 9, 4), (7, 4, 17, 4.5), (10, -15, 21, 4.5), (19, -35, 17, 6),
                     (26, -45, 8, 5.5), (25, -64, 6, 2.5))
TEMPORAL_HORN = ((26, -43, 6, 4.5), (31, -36, -5, 3), (33, -20, -16, 2.2), (28, -8, -19, 2))
THIRD_VENTRICLE, FOURTH_VENTRICLE = ((0, -12, 0), (2.2, 14, 9)), ((0, -47, -33), (6, 5, 9))
AQUEDUCT = ((0, -28, -4, 1.2), (0, -40, -24, 1.2))
BRAINSTEM = ((0, -22, -6, 14), (0, -25, -28, 16), (0, -36, -50, 9), (0, -46, -80, 6.5), (0, -48, -260, 6))
PHARYNX = ((0, 34, -66, 7), (0, 14, -80, 8), (0, 6, -260, 8))
EAR_CANAL = ((56, -26, -40, 3), (100, -18, -40, 3))
AIR_CELLS = (  # centre (right side), half-axes
    ((4, 29, -33), (8, 11, 9)),        # sphenoid
    ((7, 47, -29), (6, 16, 9)),        # ethmoid
    ((11, 79, -9), (10, 4, 9)),        # frontal
    ((29, 54, -60), (13, 15, 16)),     # maxillary
    ((56, -30, -42), (8, 9, 11)),      # mastoid
    ((4, 68, -54), (7, 30, 18)),       # nose
)


@dataclass(frozen=True)
class Spots:
    """Voxels that differ from their tissue, as those of lesions do.

    Attributes
    ----------
    at : ndarray of int, shape (3, n)
        Their indices on the grid of a head; one may occur more than once.
    added : dict
        Quantity to what each has beyond its tissue, float32, shape (n,): chi, chi_positive and those of `Head.map`.
    """

    at: np.ndarray
    added: dict

    def cut(self, index, shape):
        """Return those in a part of a grid: `index` is a slice or a tuple of slices, of step 1."""
        at, inside = self.at.copy(), np.ones(self.at.shape[1], bool)
        for axis, part in enumerate(index if isinstance(index, tuple) else (index,)):
            first, end, _ = part.indices(shape[axis])
            at[axis] -= first
            inside &= (at[axis] >= 0) & (at[axis] < end - first)
        return Spots(at[:, inside], {name: values[inside] for name, values in self.added.items()})


@dataclass(frozen=True)
class Head:
    """A head, or any other object, on a grid.

    Attributes
    ----------
    labels : ndarray, uint8, shape (nx, ny, nz)
        Index into `tissues`.
    chi : ndarray, float32, shape (nx, ny, nz)
        Susceptibility relative to water, ppm.
    tissues : tuple of Tissue
        What the labels stand for.
    chi_outside : float
        Susceptibility beyond the grid, ppm.
    spots : Spots, optional
        Where `map` is not that of the tissue alone; `chi` holds what they change already.
    relaxivity : float
        R2* (Hz) for each ppm of the texture of chi. Above 0, M0 has texture too.
    """

    labels: np.ndarray
    chi: np.ndarray
    tissues: tuple
    chi_outside: float = TISSUES['air'].chi
    spots: Spots | None = None
    relaxivity: float = 0.

    def map(self, quantity):
        """Return ``'r2star'``, ``'m0'``, ``'t1'`` or ``'brain'`` of the tissue in each voxel."""
        kind = bool if quantity == 'brain' else np.float32
        values = self._of_tissues(quantity, kind)
        if self.relaxivity and quantity == 'r2star':
            # More of the sources that prevail.
            values += self._of_tissues(lambda tissue: np.sign(tissue.chi) * self.relaxivity) * self._texture()
        if self.relaxivity and quantity == 'm0':
            values *= 1 - np.float32(WATER_PER_PPM) * self._texture()
        if self.spots is not None and quantity in self.spots.added:
            np.add.at(values, tuple(self.spots.at), self.spots.added[quantity])
        return values

    def chi_positive(self):
        """Return the susceptibility of the paramagnetic sources, ppm; the rest of `chi` is not above zero.

        What a voxel has beyond its tissue belongs to the sources that prevail there, unless `spots` says otherwise.
        """
        negative = self._of_tissues(lambda tissue: tissue.chi_negative if tissue.chi >= 0 else 0)
        positive = self._of_tissues(lambda tissue: tissue.chi_positive if tissue.chi < 0 else 0)
        positive = np.maximum(self._chi_without_spots() - negative, positive)
        if self.spots is not None:
            np.add.at(positive, tuple(self.spots.at), self.spots.added['chi_positive'])
        return positive

    def _chi_without_spots(self):
        if self.spots is None:
            return self.chi
        chi = self.chi.copy()
        np.subtract.at(chi, tuple(self.spots.at), self.spots.added['chi'])
        return chi

    def _of_tissues(self, quantity, kind=np.float32):
        of = quantity if callable(quantity) else lambda tissue: getattr(tissue, quantity)
        return np.array([of(tissue) for tissue in self.tissues], kind)[self.labels]

    def _texture(self):
        texture = self._chi_without_spots() - self._of_tissues('chi')
        texture[self.labels < LABELS['cortex']] = 0
        return np.clip(texture, -TEXTURE_MAX, TEXTURE_MAX, out=texture)

    def __getitem__(self, index):
        spots = self.spots and self.spots.cut(index, self.labels.shape)
        return replace(self, labels=self.labels[index], chi=self.chi[index], spots=spots)


def digital_head(shape, affine, seed=0, pose=None, iron=None, fine=False, *, age=None, variation=0., b0_tesla=3.):
    """Sample a parametric head on a grid.

    Parameters
    ----------
    shape : tuple of int
        ``(nx, ny, nz)``.
    affine : array_like, shape (4, 4)
        Voxel to scanner, mm. Any rotation, permutation and anisotropy.
    seed : int, default 0
        The person: size (2 % SD), folding, veins, positions, sizes and susceptibilities of the nuclei.
    pose : array_like, shape (4, 4), optional
        Rigid motion from head to scanner coordinates; none by default.
    iron : dict, optional
        Tissue to the susceptibility that its iron adds, ppm (see `qsmbids.simulation.tissues.vary_tissues`).
    fine : bool, default False
        Also internal pallidum (part of the pallidum otherwise), subthalamic nucleus, hippocampus and amygdala;
        cerebellum and brainstem apart from the cerebrum.
    age : float, optional
        Years, from 0 on: size, skull, sinuses, ventricles, sulci, iron, myelin and water (see
        `qsmbids.simulation.age`). An adult of 40 by default.
    variation : float, default 0
        SD of the velocity of a random deformation, mm; 3 to 6 makes heads that differ as people do. Above 0 there is
        also a random linear map (15 % at most), and texture in R2* and M0 as there is in chi.
    b0_tesla : float, default 3
        Field strength at which R2* and T1 hold.

    Returns
    -------
    Head

    Raises
    ------
    ValueError
        If `pose` is no rigid motion, or `age`, `variation` or `b0_tesla` is out of range.

    Notes
    -----
    Beside the result (5 bytes per voxel) it needs about 100 MB per thread (see `use_threads`) for a slab of the grid.

    Examples
    --------
    >>> import numpy as np
    >>> from qsmbids.simulation.tissues import LABELS
    >>> affine = np.diag([6., 6., 6., 1.])
    >>> affine[:3, 3] = -90, -110, -80
    >>> head = digital_head((30, 34, 28), affine, seed=5)
    >>> head.labels.shape, bool((head.labels == LABELS['putamen']).any())
    ((30, 34, 28), True)
    """
    person = _person(seed, iron, age, variation, b0_tesla)
    to_head = np.asarray(affine, float)
    if pose is not None:
        to_head = inverse_rigid(np.asarray(pose, float)) @ to_head
    labels = np.empty(shape, np.uint8)
    chi = np.empty(shape, np.float32)
    values = np.array([tissue.chi for tissue in person.tissues], np.float32)

    def paint(slab):
        points = person.form.original(positions(slab, shape, to_head))
        painted = _paint(points, person, fine)
        labels[slab] = painted.reshape(labels[slab].shape)
        susceptibility = values[painted]
        add_texture(susceptibility, painted, points, person.lattice[2])
        chi[slab] = susceptibility.reshape(chi[slab].shape)

    over_slabs(paint, shape[0], max(1, SLAB_VOXELS // (shape[1] * shape[2])))
    return Head(labels, chi, person.tissues, relaxivity=texture_relaxivity(variation, b0_tesla))


def texture_relaxivity(variation, b0_tesla):
    """Return what texture makes of R2* at a field strength, Hz/ppm; nothing in heads without variation."""
    return RELAXIVITY * b0_tesla / TABLE_TESLA if variation else 0.


@dataclass(frozen=True)
class _Person:
    form: Form
    stature: Stature
    lattice: np.ndarray      # random numbers that fold the cortex and texture the tissues
    nuclei: dict             # name -> [(centre, half-axes, turn)] of both sides
    veins: Balls
    tissues: tuple


def _person(seed, iron, age=None, variation=0., b0_tesla=3.):
    check_variation(variation)
    rng = np.random.Generator(np.random.PCG64(seed))
    scale = (1 + np.clip(.02 * rng.standard_normal(3), -.04, .04)).astype(np.float32)
    lattice = rng.standard_normal((3, 32, 32, 32)).astype(np.float32)
    nuclei = {}
    for name, (centre, axes, turn) in ELLIPSOID_NUCLEI.items():
        # Both sides differ from the table together, and a little from each other.
        shift, growth = rng.standard_normal(3) * .4, .03 * rng.standard_normal()
        nuclei[name] = [(np.add(centre, shift + .2 * rng.standard_normal(3)) * (side, 1, 1),
                         np.multiply(axes, 1 + growth + .01 * rng.standard_normal()), side * turn) for side in (1, -1)]
    tissues = at_field_strength(vary_tissues(rng, iron, tissues_at(age)), b0_tesla)
    figure = stature(age)
    deformation = age_deformation(figure, _ventricles, lambda points: _cover(_brain_parts(points)))
    linear = None
    if variation:
        # Of its own generator: a head with variation is the same person.
        linear = random_affine(np.random.Generator(np.random.PCG64([seed, 1])))
        deformation = compose(random_deformation((seed, 2), float(variation)), deformation)
    return _Person(Form(scale * np.float32(figure.size), linear, deformation), figure, lattice, nuclei,
                   balls(_vein_points(rng)), tuple(tissues.values()))


def check_variation(variation):
    """Raise ValueError unless `variation` is an SD in mm under which nothing is torn."""
    if not 0 <= variation <= VARIATION_MAX:
        raise ValueError(f'variation is {variation}, must be 0 to {VARIATION_MAX:g} mm')


def _paint(points, person, fine):
    """Return the labels of `points`, shape (3, n), float32 in mm of head coordinates."""
    labels = np.full(points.shape[1], LABELS['air'], np.uint8)
    near = np.flatnonzero((np.abs(points[0]) < 105) & (np.abs(points[1]) < 135) & (points[2] < 110))
    points = points[:, near]
    parts = _brain_parts(points)
    cerebrum, temporal, cerebellum, stem = parts
    brain = np.minimum(np.minimum(cerebrum, temporal), np.minimum(cerebellum, stem))
    cavity = _cover(parts)
    surface = _head_surface(points, cavity)
    painted = np.full(near.size, LABELS['air'], np.uint8)
    painted[surface < 0] = LABELS['fat']
    painted[surface < -5] = LABELS['muscle']
    painted[(cavity < 6) & (surface < -2)] = LABELS['bone']
    painted[cavity < 0] = LABELS['csf']
    _paint_face(painted, points, (brain > 1.5) & (surface < 0), person.stature.air)
    inside = np.flatnonzero(brain < 0)
    painted[inside] = _paint_brain(points[:, inside], *(part[inside] for part in parts), person)
    if fine:
        painted[inside] = _paint_fine(painted[inside], points[:, inside], [part[inside] for part in parts], person)
    _paint_veins(painted, points, brain, person)
    labels[near] = painted
    return labels


def _brain_parts(p):
    """Return distances to the surfaces of cerebrum, temporal lobes, cerebellum and brainstem; negative inside."""
    side = np.abs(p[0])
    cerebrum = np.maximum(ellipsoid(p, *CEREBRUM), -17 - p[2])
    temporal = ellipsoid((side, p[1], p[2]), (43, -14, -19), (22, 44, 24))
    cerebellum = np.maximum(ellipsoid(p, (0, -62, -36), (51, 33, 26)), p[2] + 20)
    return cerebrum, temporal, cerebellum, tube(p, BRAINSTEM)


def _cover(parts):
    """Return the distance to the inside of the skull."""
    cerebrum, temporal, cerebellum, stem = parts
    return smooth_min(smooth_min(smooth_min(cerebrum, temporal, 20), cerebellum, 16), stem, 12) - 3


def _ventricles(p):
    """Return the distance to the walls of the lateral and the third ventricle."""
    mirrored = (np.abs(p[0]), p[1], p[2])
    spaces = [tube(mirrored, path) for path in (LATERAL_VENTRICLE, TEMPORAL_HORN)]
    return np.minimum.reduce([*spaces, ellipsoid(p, *THIRD_VENTRICLE)])


def _head_surface(p, cavity):
    face = ellipsoid(p, (0, 36, -62), (60, 54, 70))
    nose = ellipsoid(p, (0, 92, -54), (12, 14, 18))
    neck = np.maximum((norm((p[0] / 56, (p[1] + 28) / 62)) - 1) * 58, p[2] + 60)
    head = smooth_min(smooth_min(cavity - 11, face, 15), neck, 25)
    return smooth_min(head, nose, 8)


def _paint_face(painted, p, allowed, air):
    """Paint eyes, sinuses (`air` times their size) and airways where `allowed`."""
    allowed = np.flatnonzero(allowed)
    p = (np.abs(p[0, allowed]), p[1, allowed], p[2, allowed])
    painted[allowed[ellipsoid(p, (32, 60, -30), (17, 22, 16)) < 0]] = LABELS['fat']
    painted[allowed[ellipsoid(p, (32, 70, -30), (12, 12, 12)) < 0]] = LABELS['vitreous']
    for centre, axes in AIR_CELLS:
        painted[allowed[ellipsoid(p, centre, np.multiply(axes, air)) < 0]] = LABELS['air']
    for path in (PHARYNX, EAR_CANAL):
        painted[allowed[tube(p, path) < 0]] = LABELS['air']


def _paint_brain(p, cerebrum, temporal, cerebellum, stem, person):
    mirrored = (np.abs(p[0]), p[1], p[2])
    pial = np.empty(p.shape[1], np.float32)
    lower = cerebellum < np.minimum(cerebrum, temporal)
    upper, lower = np.flatnonzero(~lower), np.flatnonzero(lower)
    pial[upper] = _cerebral_surface(p[:, upper], cerebrum[upper], temporal[upper], person.lattice[0])
    # Thin leaves across the height of the cerebellum.
    pial[lower] = _folded((p[0, lower] * .4, p[1, lower], p[2, lower] * 1.3), -cerebellum[lower], person.lattice[0],
                          2.6, 9)
    if person.stature.sulci:
        pial -= np.float32(person.stature.sulci)
    labels = np.full(pial.size, LABELS['white_matter'], np.uint8)
    labels[pial < 2.7] = LABELS['cortex']
    labels[pial < 0] = LABELS['sulcus']
    core = (stem < 0) | (ellipsoid(mirrored, (14, -10, 4), (26, 34, 22)) < 0)
    labels[core & (mirrored[0] < 42)] = LABELS['white_matter']
    for space in (_ventricles(p), tube(mirrored, AQUEDUCT), ellipsoid(p, *FOURTH_VENTRICLE)):
        labels[space < 0] = LABELS['ventricle']
    labels[tube(mirrored, CAUDATE) < 0] = LABELS['caudate']
    for name, both in person.nuclei.items():
        for centre, axes, turn in both:
            paint_nucleus(labels, LABELS[name], p, centre, axes, turn, person.lattice[1])
    return labels


def _cerebral_surface(p, cerebrum, temporal, lattice):
    """Return the depth under the folded surface of the cerebrum."""
    side = np.abs(p[0])
    fissure = np.maximum(side, 24 - 24 * norm(((p[1] + 8) / 40, (p[2] - 3) / 25)))
    sylvian = np.maximum(np.abs(cerebrum - temporal) / 2, 30 - side)
    hull = np.minimum(cerebrum, temporal)
    return np.minimum(np.minimum(np.minimum(fissure, sylvian), -hull) - .7,
                      _folded(p, -np.minimum(ellipsoid(p, *CEREBRUM), temporal), lattice, 5.5, 17))


def _paint_fine(labels, p, parts, person):
    cerebrum, temporal, cerebellum, stem = parts
    labels = labels.copy()
    mirrored = (np.abs(p[0]), p[1], p[2])
    solid = np.isin(labels, [LABELS[name] for name in ('white_matter', 'cortex', 'sulcus')])
    labels[solid & (tube(mirrored, HIPPOCAMPUS) < 0)] = LABELS['hippocampus']
    for name, (centre, axes, turn) in FINE_NUCLEI.items():
        host = labels == LABELS['pallidum'] if name == 'pallidum_internal' else solid
        for side in (1, -1):
            painted = labels.copy()
            paint_nucleus(painted, LABELS[name], p, np.multiply(centre, (side, 1, 1)), axes, side * turn,
                          person.lattice[1])
            labels[host] = painted[host]
    lower = cerebellum < np.minimum(cerebrum, temporal)
    for name in ('cortex', 'white_matter'):
        labels[lower & (labels == LABELS[name])] = LABELS[f'cerebellar_{name}']
    white = (labels == LABELS['white_matter']) | (labels == LABELS['cerebellar_white_matter'])
    labels[white & (stem < 0) & (p[2] < MIDBRAIN_TOP)] = LABELS['brainstem']
    return labels


def paint_nucleus(labels, label, p, centre, axes, turn, lattice):
    """Paint an ellipsoid whose surface a random lattice dents, in place; `p` in mm, `turn` in degrees."""
    reach = 1.3 * max(axes)
    near = np.flatnonzero(np.abs(p[0] - np.float32(centre[0])) < reach)
    for i in (1, 2):
        near = near[np.abs(p[i, near] - np.float32(centre[i])) < reach]
    if not near.size:
        return
    near_points = p[:, near]
    cosine, sine = np.float32(np.cos(np.deg2rad(turn))), np.float32(np.sin(np.deg2rad(turn)))
    x, y, z = (near_points[i] - np.float32(centre[i]) for i in range(3))
    scaled = ((cosine * x + sine * y) / np.float32(axes[0]), (cosine * y - sine * x) / np.float32(axes[1]),
              z / np.float32(axes[2]))
    dents = smooth_noise(lattice, near_points, .7 * min(axes) + 2)
    labels[near[norm(scaled) < 1 + np.float32(.06) * dents]] = label


def _folded(p, depth, lattice, cell, deepest):
    """Return the distance to a surface with sulci: sheets where a random field is zero, down to `deepest` mm.

    The field varies `cell` mm along the surface, and slowly across it: sulci stand upright.
    """
    # The head's centre pulls every point out to about the same sphere.
    radius = np.maximum(norm([q - np.float32(c) for q, c in zip(p, CEREBRUM[0])]), 10) / 75
    root = np.sqrt(radius)
    root *= np.sqrt(root)
    upright = np.stack([q / root for q in p])
    slope = 1.7 / cell  # mean gradient of the field
    sheet = np.abs(smooth_noise(lattice, upright, cell)) / np.float32(slope)
    return np.minimum(depth, np.maximum(sheet, depth - deepest)) - np.float32(.7)


def _vein_points(rng):
    """Return points on all veins: the dural sinuses, the inner veins, and seeded ones on and in the brain."""
    angle = np.deg2rad(np.arange(-50, 81, 10))
    upper = [(0, -17 - 90 * np.sin(a), 12 + 68 * np.cos(a), 3) for a in angle]
    paths = [upper, [(0, -42, 4, 1.6), (0, -100, -10, 2.4)]]
    for side in (1, -1):
        paths.append([(0, -103, -12, 3), (side * 35, -92, -19, 3), (side * 60, -52, -25, 3)])
        paths.append([(side * 2.5, 4, 15, .9), (side * 2.5, -36, 11, 1.2), (0, -42, 4, 1.6)])
        for _ in range(10):  # across the convexity to the upper sinus
            a, reach = np.deg2rad(rng.uniform(-45, 75)), rng.uniform(.6, 1.2)
            tilt = rng.uniform(-.3, .3)
            paths.append([(side * 69 * np.sin(b), -17 - 87 * np.sin(a + tilt * b) * np.cos(b),
                           12 + 65 * np.cos(a + tilt * b) * np.cos(b), 1.0) for b in np.linspace(.03, reach, 8)])
        for _ in range(12):  # through white matter to the ventricle
            start = np.array([side * 18, rng.uniform(-45, 25), 20])
            end = start + (side * rng.uniform(8, 25), rng.uniform(-12, 12), rng.uniform(5, 28))
            paths.append([(*start, rng.uniform(.6, 1)), (*end, .4)])
    return np.concatenate([along_path(np.array(path), .3) for path in paths])


def along_path(path, step):
    """Return points every `step` mm or less on a broken line of (x, y, z, radius)."""
    pieces = []
    for a, b in zip(path[:-1], path[1:]):
        count = int(np.ceil(np.sqrt(((b - a)[:3] ** 2).sum()) / step))
        pieces.append(a + (b - a) * (np.arange(count + 1) / count)[:, None])
    return np.concatenate(pieces)


def _paint_veins(painted, p, brain, person):
    hit = person.veins.inside(p)
    hit = hit[(brain[hit] > -50) & (brain[hit] < 12)]
    painted[hit] = np.where(brain[hit] < 0, LABELS['vein'], LABELS['dural_sinus'])


def add_texture(chi, labels, points, lattice):
    """Let chi vary smoothly by 0.004 ppm (SD) inside solid brain tissue, in place."""
    solid = np.flatnonzero(labels >= LABELS['cortex'])
    chi[solid] += np.float32(TEXTURE_SD) * smooth_noise(lattice, points[:, solid], 8)


def positions(slab, shape, affine):
    """Return the coordinates of a slab's voxels, shape (3, n), float32."""
    i, j, k = np.ogrid[slab, :shape[1], :shape[2]]
    positions = np.empty((3, slab.stop - slab.start, shape[1], shape[2]), np.float32)
    for axis in range(3):
        m = affine[axis]
        positions[axis] = (m[0] * i + m[1] * j) + (m[2] * k + m[3])
    return positions.reshape(3, -1)


def inverse_rigid(pose):
    """Return the inverse of a rigid motion, shape (3, 4); ValueError if it is none."""
    rotation = pose[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6):
        raise ValueError(f'pose is {pose.tolist()}, must be a rigid motion')
    return np.hstack([rotation.T, -rotation.T @ pose[:3, 3:]])
