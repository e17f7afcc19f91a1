"""Figures for the page of a participant: slices of a volume as the patient lies, whatever its axes and voxels are.

All show the neurological convention: the patient's left is on the left of the picture.
"""

from dataclasses import dataclass, replace

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, io_orientation

from qsmbids.core.labels import STRUCTURES
from qsmbids.reports.sheet import INK, Sheet, contours, stretch

# Axis that a plane is cut across, then the axes that run to the right and up; 0, 1, 2 are right, anterior, superior.
PLANES = {'axial': (2, 0, 1), 'coronal': (1, 0, 2), 'sagittal': (0, 1, 2)}
OUTLINES = {'brain': ('#5ec8ff', 'brain mask'), 'reliable': ('#ffd84d', 'reliable mask'),
            'qsm': ('#ff6f91', 'susceptibility mask'), 'csf': ('#ffd84d', 'reference region'),
            **{name: (structure.colour, structure.abbreviation) for name, structure in STRUCTURES.items()}}
_ENDS = (('L', 'R'), ('P', 'A'), ('I', 'S'))
# Where in the brain's bounding box the slices lie.
_FRACTIONS = (0.25, 0.39, 0.5, 0.6, 0.74)
_TILE, _GAP, _FOOT = 208, 6, 46
_BAR = (24, 34, 250, 10)   # from the left and the bottom, length, thickness
WIDTH = _GAP + len(_FRACTIONS) * (_TILE + _GAP)


@dataclass(frozen=True)
class Figure:
    """What one kind of figure shows and how to read it.

    Attributes
    ----------
    title, caption : str
        The caption says what to look for and which failure it shows.
    unit : str
    limits : tuple of float or None
        Of the colour scale; from the data if None.
    colours : str
        matplotlib colour map.
    masked : bool
        Whether what lies outside of the brain is left out.
    content : str
        What a reader who does not see it is told.
    """

    title: str
    caption: str
    unit: str = ''
    limits: tuple | None = None
    colours: str = 'gray'
    masked: bool = True
    content: str = "rows of slices, the patient's left on the left"


FIGURES = {
    'magnitude': Figure(
        'Magnitude and masks',
        'The blue line should follow the surface of the brain. Inside it, yellow bounds where the echo fit of the '
        'phase can be trusted, and red bounds the susceptibility map. Look for brain outside of the blue line, scalp '
        'or eyes inside of it, and for holes that are not veins, bleeds or the air above the sinuses.',
        'arbitrary units', masked=False),
    'phase': Figure(
        'Wrapped phase',
        'Fringes should be smooth, closed or running out of the brain, and denser in the last echo. A fringe that '
        'ends inside the brain is a failed coil combination; stripes from slice to slice are a vendor\'s sign '
        'pattern that was not undone; grey noise all over means phase that was scaled wrongly.',
        'rad', (-np.pi, np.pi)),
    'unwrapped': Figure(
        'Unwrapped phase of the last echo',
        'It should change smoothly, but near air and in veins. A sharp step along a line or around a patch is a wrap '
        'that was left, and becomes a streak in the susceptibility map.',
        'rad'),
    'totalfield': Figure(
        'Total field',
        'Large and smooth, strongest above the sinuses and the ear canals. A step, a patch of another colour or '
        'speckles inside the brain are failures of unwrapping or of the echo fit.',
        'ppm', colours='RdBu_r'),
    'residual': Figure(
        'Residual of the echo fit, and the reliable mask',
        'Dark is good: one field explains all echoes. Yellow bounds what is trusted. Bright is expected at the '
        'sinuses, in large vessels and at the rim. Bright patches elsewhere are motion, flow or unwrapping errors; a '
        'bright brain as a whole points to a phase offset between the echoes.',
        'relative', (0.0, 0.6)),
    'background': Figure(
        'Background field that was removed',
        'Total less local field. It should be smooth and know nothing of anatomy: veins, nuclei or the cortex in it '
        'are field of the tissue that was removed with the background, and values in the map are too small there.',
        'ppm', colours='RdBu_r'),
    'localfield': Figure(
        'Local field',
        'Veins, nuclei and the cortex should stand out on an even grey. Broad shading from one side of the brain to '
        'the other, or a dark or bright rim, is background that was left.',
        'ppm', (-0.05, 0.05), masked=False),
    'chi': Figure(
        'Susceptibility',
        'Veins and iron-rich nuclei should be bright, calcifications dark. All the other way round: the phase has '
        'the wrong sign (--phase-sign). Streaks that cross the brain at a slant come from errors at their tip; a '
        'cloudy, shaded map comes from background that was left; a flat one from too much regularisation.',
        'ppm', (-0.1, 0.1), masked=False),
    'companion': Figure(
        'How far the map of the network may be trusted',
        'Uncertainty: SD of the map over the ways to turn over its axes. Departure: the map less its own projection on '
        'the measured field. Grey is good; where either is as large as the contrast of the map, the network made it '
        'up.',
        'ppm', (-0.05, 0.05), masked=False),
    'regionschi': Figure(
        'Regions on the susceptibility',
        'Each line should follow the rim of its nucleus on both sides. A line beside its nucleus, or a nucleus of one '
        'side only, makes the values of that region wrong, whatever the table says.',
        'ppm', (-0.1, 0.2), masked=False),
    'regionsmagnitude': Figure(
        'Regions on the magnitude',
        'The same lines on the image that was measured: ventricles and thalamus show here where they lie, iron-rich '
        'nuclei are dark at the later echoes.'),
    'microbleeds': Figure(
        'Microbleeds and calcifications',
        'Research use only, not a diagnosis. Above, where they lie: the brain from above, in front and the right, with '
        'microbleeds in red, calcifications in blue, iron of nuclei in yellow; a ring is a possible one. Below, '
        'the most probable ones in three planes of 20 mm on the susceptibility: index, class, score, diameter. A '
        'microbleed is a bright ball in all three planes. One that is long in a plane is a vein, one that touches the '
        'rim of the brain may be its edge.',
        'ppm', (-0.1, 0.3), masked=False, content='a glass brain, and lesions in three planes each'),
    'kernel': Figure(
        'Does the map make its field?',
        'In k-space the field over the map is the dipole kernel, for a map of any method. Left: averaged over all '
        'frequencies at one angle to B0, it should follow the dashed line; a steeper curve is a map that is too weak, '
        'a flatter one a map that is too strong. Then a slice through k-space with B0 upwards, red for positive: the '
        'kernel as measured and as it should be. Right: the power of the field alone, which knows nothing of the map. '
        'It should be dark along the dashed lines, where the kernel is zero, and the yellow line, the direction of B0 '
        'that it shows, should be upright. If it leans, the orientation in the header is wrong, whatever the other '
        'parts look like: a map that was computed with a wrong direction agrees with that direction.',
        'field over map', (-2 / 3, 2 / 3), 'RdBu_r',
        content='a curve over the angle to B0, and three slices through k-space'),
    'swi': Figure(
        'Susceptibility-weighted image',
        'Veins, bleeds and iron-rich nuclei are dark on an even grey. Dark clouds above the sinuses are the field of '
        'the air, not blood; bright speckles at the rim are phase that should not have been trusted.',
        'relative', (0.0, 1.4)),
    'minip': Figure(
        'Minimum-intensity projection of it',
        'Veins run on as lines over several slices, a bleed stays a dot. It is made over axial slices: the other two '
        'planes show it smeared from foot to head.',
        'relative', (0.0, 1.4)),
    'r2star': Figure(
        'R2*',
        'Nuclei and veins bright, ventricles dark, grey and white matter around 15 to 25 1/s at 3 T. Bright clouds '
        'above the sinuses are dephasing across voxels, not iron; rings or ghosts are motion.',
        '1/s', (0.0, 50.0)),
    'csf': Figure(
        'Reference region on R2*',
        'The yellow line should enclose fluid of the ventricles only. Choroid plexus, a vein or tissue in it '
        'shifts every value that refers to it. No line: no ventricles were found.',
        '1/s', (0.0, 50.0)),
}


@dataclass(frozen=True)
class View:
    """Which slices of a grid to show, and which part of them.

    Attributes
    ----------
    orientation : ndarray, shape (3, 2)
        Turns the voxel axes to right, anterior, superior; as from :func:`nibabel.orientations.io_orientation`.
    voxel_size : tuple of float
        mm along right, anterior, superior.
    box : tuple of slice
        What of each axis to show, in turned voxels.
    positions : tuple of tuple of int
        Slices across each axis, in turned voxels.
    shape : tuple of int
        Of the grid, turned.
    """

    orientation: np.ndarray
    voxel_size: tuple
    box: tuple
    positions: tuple
    shape: tuple

    def cut(self, volume, plane, position):
        """Return a slice of a volume, shape ``(rows, columns)``, from inferior or posterior row to the opposite."""
        across, right, up = PLANES[plane]
        index = [slice(None)] * 3
        index[right], index[up], index[across] = self.box[right], self.box[up], position
        return np.asarray(apply_orientation(volume, self.orientation)[tuple(index)]).T

    def index(self, axis, position):
        """Return where a slice is in the file, such as ``k 57``."""
        source = int(np.flatnonzero(self.orientation[:, 0] == axis)[0])
        flipped = self.orientation[source, 1] < 0
        return f'{"ijk"[source]} {self.shape[axis] - 1 - position if flipped else position}'

    def whole(self):
        """Return the view of the same slices from edge to edge."""
        return replace(self, box=(slice(None),) * 3)

    def through(self, mask):
        """Return the view with slices that pass through a mask, unless that is empty."""
        bounds = _bounds(apply_orientation(mask, self.orientation))
        return replace(self, positions=_positions(bounds)) if bounds else self


def view_brain(mask, affine, margin=8.0):
    """Return the view of a brain.

    Parameters
    ----------
    mask : ndarray of bool, shape (nx, ny, nz)
    affine : ndarray, shape (4, 4)
    margin : float
        mm to show around it.

    Returns
    -------
    View
    """
    orientation = io_orientation(affine)
    turned = apply_orientation(mask, orientation)
    sizes = voxel_sizes(affine)[np.argsort(orientation[:, 0])]
    bounds = _bounds(turned) or [(0, n - 1) for n in turned.shape]
    widths = [int(np.ceil(margin / size)) for size in sizes]
    box = tuple(slice(max(low - width, 0), high + width + 1) for (low, high), width in zip(bounds, widths))
    return View(orientation, tuple(float(size) for size in sizes), box, _positions(bounds), turned.shape)


def draw_figure(name, view, layers, brain, outlines=None):
    """Draw slices of one or more volumes in three planes (two if there are several volumes).

    Parameters
    ----------
    name : str
        Key of :data:`FIGURES`.
    view : View
    layers : dict of str to ndarray, shape (nx, ny, nz)
        Volumes by their label, which may be empty.
    brain : ndarray of bool, shape (nx, ny, nz)
        Whose values set the colour scale, where it is not fixed.
    outlines : dict of str to ndarray of bool, shape (nx, ny, nz), optional
        Masks to outline, by keys of :data:`OUTLINES`.

    Returns
    -------
    bytes
        A PNG file.
    """
    figure, outlines = FIGURES[name], outlines or {}
    planes = tuple(PLANES) if len(layers) == 1 else ('axial', 'sagittal')
    rows = []
    for label, volume in layers.items():
        for plane in planes:
            rows.append(_cut_row(f'{label} {plane}'.strip(), plane, view, volume, brain, outlines))
    limits = figure.limits or _limits(rows, symmetric=figure.colours != 'gray')
    sheet = Sheet(WIDTH, _GAP + sum(row.height + _GAP for row in rows) + _FOOT, _colours(figure))
    top = _GAP
    for row in rows:
        _add_row(sheet, row, top, limits, figure.masked)
        top += row.height + _GAP
    _add_foot(sheet, figure, limits, outlines)
    return sheet.png()


@dataclass(frozen=True)
class _Row:
    label: str
    plane: str
    height: int
    indices: list
    tiles: list
    inside: list
    outlines: dict


def silhouette(turned, plane):
    """Return where a mask, turned to right, anterior, superior, is seen in a plane, shape (to the right, up)."""
    across, right, up = PLANES[plane]
    flat = turned.any(axis=across)
    return flat if right < up else flat.T


def _cut_row(label, plane, view, volume, brain, outlines):
    across, right, up = PLANES[plane]
    positions = view.positions[across]

    def cut(source):
        return [view.cut(source, plane, position) for position in positions]

    tiles = cut(volume)
    rows, columns = tiles[0].shape
    # A slab of few slices still has room for its label.
    height = max(round(_TILE * rows * view.voxel_size[up] / (columns * view.voxel_size[right])), 48)
    return _Row(label, plane, height, [view.index(across, position) for position in positions], tiles, cut(brain),
                {key: cut(mask) for key, mask in outlines.items()})


def _bounds(mask):
    """Return the first and last index of a mask along each axis; None if it is empty."""
    found = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return [(int(where[0]), int(where[-1])) for where in found] if len(found[0]) else None


def _positions(bounds):
    return tuple(tuple(int(round(low + fraction * (high - low))) for fraction in _FRACTIONS) for low, high in bounds)


def _limits(rows, symmetric):
    values = np.concatenate([tile[inside] for row in rows for tile, inside in zip(row.tiles, row.inside)])
    values = values[np.isfinite(values)]
    if not values.size or values.min() == values.max():
        return (-1.0, 1.0) if symmetric else (0.0, 1.0)
    low, high = (float(value) for value in np.percentile(values, (1, 99)))
    if symmetric:
        return -max(-low, high), max(-low, high)
    return (0.0, 1.15 * high) if values.min() >= 0 else (low, high)


def _colours(figure):
    from matplotlib import colormaps
    # Half of the 256 colours that a small PNG can hold; the others are for lines and letters.
    return colormaps[figure.colours].resampled(128)


def _add_row(sheet, row, top, limits, masked):
    """Add the slices of a row, their outlines and labels."""
    shape = row.height, _TILE
    for column, (tile, inside, index) in enumerate(zip(row.tiles, row.inside, row.indices)):
        left = _GAP + column * (_TILE + _GAP)
        sheet.put(stretch(tile[::-1], shape, inside[::-1] if masked else None), limits, left, top)
        for key, masks in row.outlines.items():
            if min(tile.shape) > 1:
                sheet.draw(contours(masks[column][::-1], left, top, shape), OUTLINES[key][0])
        sheet.write(left + _TILE - 4, top + row.height - 9, index, align=1, points=7, boxed=True)
    low, high = _ENDS[PLANES[row.plane][1]]
    sheet.write(_GAP + 4, top + row.height / 2, low, boxed=True)
    sheet.write(_GAP + _TILE - 4, top + row.height / 2, high, align=1, boxed=True)
    sheet.write(_GAP + 4, top + 10, row.label, boxed=True)


def _add_foot(sheet, figure, limits, outlines):
    """Add the colour bar with its unit, the names of the outlines, and which side is left."""
    from matplotlib.ticker import MaxNLocator
    left, top, long, thick = _BAR[0], sheet.height - _BAR[1], *_BAR[2:]
    sheet.put(np.broadcast_to(np.linspace(*limits, long), (thick, long)), limits, left, top)
    for value in MaxNLocator(5, steps=(1, 2, 5, 10)).tick_values(*limits):
        if limits[0] <= value <= limits[1]:
            at = left + (value - limits[0]) / (limits[1] - limits[0]) * long
            sheet.mark(at, top + thick, 1, 3, INK)
            sheet.write(at, top + thick + 11, f'{value:.6g}'.replace('-', '\N{MINUS SIGN}'), align=.5)
    middle = top + thick / 2
    sheet.write(290, middle, figure.unit)
    rows = 1 if len(outlines) <= 3 else 2
    step = 150 if rows == 1 else 62
    for number, key in enumerate(outlines):
        colour, label = OUTLINES[key]
        left, height = 400 + step * (number // rows), middle + (number % rows - (rows - 1) / 2) * 16
        sheet.mark(left, height - 1, 22, 3, colour)
        sheet.write(left + 28, height, label)
    sheet.write(sheet.width - _GAP - 4, middle, "L: patient's left (neurological)", align=1)
