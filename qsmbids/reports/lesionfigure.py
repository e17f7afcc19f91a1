"""The figure of microbleeds: where they lie in a glass brain, and each in three planes."""

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation
from scipy import ndimage

from qsmbids.core.lesiontable import counts, places_of
from qsmbids.reports.figures import FIGURES, PLANES, WIDTH, silhouette
from qsmbids.reports.sheet import DPI, GROUND, INK, encode_png

MOST = 12                # lesions that are shown
HALF_MM = 10.            # of a thumbnail
_TILE, _GAP, _LABEL, _GLASS, _COLUMNS = 84, 6, 20, 260, 4
COLOURS = {'cmb': '#ff6f91', 'calcification': '#5ec8ff', 'deep_iron': '#ffd84d'}


def shown_lesions(rows):
    """Return the lesions of a table that a page shows: those that count, of a class with a colour."""
    return [row for row in rows if counts(row) and row['class'] in COLOURS]


def draw_lesions(chi, affine, brain, rows):
    """Draw a glass brain with lesions, and the most probable of them in three planes.

    Parameters
    ----------
    chi : ndarray, shape (nx, ny, nz)
        ppm.
    affine : ndarray, shape (4, 4)
        Voxel to mm.
    brain : ndarray of bool, shape (nx, ny, nz)
    rows : list of dict
        Of the table of lesions, as text.

    Returns
    -------
    bytes
        A PNG file.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure as Canvas
    rows = shown_lesions(rows)
    shown = rows[:MOST]
    lines = -(-len(shown) // _COLUMNS)
    height = _GLASS + 2 * _GAP + lines * (_TILE + _LABEL + _GAP) + _LABEL
    canvas = Canvas(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor=GROUND)
    axes = canvas.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, WIDTH), ylim=(height, 0), autoscale_on=False)
    colours = colormaps['gray'].resampled(128)
    style = dict(color=INK, fontsize=8, va='center')
    points = places_of(rows)
    _draw_glass(axes, affine, brain, rows, points, style)
    low, high = FIGURES['microbleeds'].limits
    for number, (row, point) in enumerate(zip(shown, points)):
        left = _GAP + number % _COLUMNS * (WIDTH - _GAP) / _COLUMNS
        top = _GLASS + 2 * _GAP + number // _COLUMNS * (_TILE + _LABEL + _GAP) + _LABEL
        axes.text(left, top - _LABEL / 2, f'{row["index"]} {row["class"]} {float(row["probability"]):.2f}, '
                  f'{float(row["diameter_mm"]):.1f} mm', **style | {'color': COLOURS[row['class']]})
        for column, plane in enumerate(PLANES):
            start = left + column * (_TILE + _GAP / 2)
            axes.imshow(_cut(chi, affine, point, plane), cmap=colours, vmin=low, vmax=high, origin='lower',
                        extent=(start, start + _TILE, top + _TILE, top), aspect='auto', interpolation='nearest')
    more = f'; {MOST} of them in three planes, all in the table' if len(rows) > MOST else ''
    text = f'{len(rows)} in the brain' if rows else 'none was found'
    axes.text(_GAP, height - _LABEL / 2, f'{text}{more}; {low:g} to {high:g} ppm; research use only, not a diagnosis',
              **style)
    return encode_png(canvas, colours)


def _draw_glass(axes, affine, brain, rows, points, style):
    """Draw the outline of the brain from above, in front and the right, and the places of lesions in it."""
    orientation = io_orientation(affine)
    turned = apply_orientation(brain, orientation)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)[np.argsort(orientation[:, 0])]
    places = [_turn(np.linalg.solve(affine[:3, :3], point - affine[:3, 3]), orientation, brain.shape)
              for point in points]
    for column, (plane, (_, right, up)) in enumerate(PLANES.items()):
        flat = silhouette(turned, plane)
        scale = (_GLASS - 2 * _GAP) / max(np.array(flat.shape) * (sizes[right], sizes[up]))
        left = _GAP + column * (WIDTH - _GAP) / 3
        x = left + (np.arange(flat.shape[0]) + .5) * sizes[right] * scale
        y = _GLASS - (np.arange(flat.shape[1]) + .5) * sizes[up] * scale
        if min(flat.shape) > 1:
            axes.contour(x, y, flat.T.astype(np.float32), levels=[.5], colors=INK, linewidths=.9)
        axes.text(left, _GAP + 8, plane, **style)
        for row, place in zip(rows, places):
            axes.plot(left + (place[right] + .5) * sizes[right] * scale, _GLASS - (place[up] + .5) * sizes[up] * scale,
                      'o', markersize=5 if row['certainty'] == 'definite' else 4, color=COLOURS[row['class']],
                      fillstyle='full' if row['certainty'] == 'definite' else 'none')


def _turn(at, orientation, shape):
    """Return a place in voxels after the turn of the axes to right, anterior, superior."""
    turned = np.empty(3)
    for axis, (to, way) in enumerate(orientation):
        turned[int(to)] = at[axis] if way > 0 else shape[axis] - 1 - at[axis]
    return turned


def _cut(volume, affine, point, plane):
    """Return a square through a point in one plane, rows upwards."""
    _, right, up = PLANES[plane]
    reach = np.linspace(-HALF_MM, HALF_MM, _TILE // 2)
    places = np.repeat(np.array(point, float)[:, None], reach.size ** 2, axis=1)
    places[right] += np.tile(reach, reach.size)
    places[up] += np.repeat(reach, reach.size)
    at = np.linalg.solve(affine[:3, :3], places - affine[:3, 3:])
    # Only the part around it: a volume that lies on disk is not read as a whole.
    low = np.clip(np.floor(at.min(axis=1)).astype(int) - 1, 0, np.array(volume.shape) - 1)
    high = np.clip(np.ceil(at.max(axis=1)).astype(int) + 2, 1, volume.shape)
    part = np.asarray(volume[tuple(slice(a, b) for a, b in zip(low, high))], np.float32)
    return ndimage.map_coordinates(part, at - low[:, None], order=0).reshape(reach.size, reach.size)
