"""What the interactive viewer of a page shows: volumes cut to the brain, in few bytes, as JSON."""

import base64
import zlib

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff

from qsmbids.core.grid import move_points
from qsmbids.core.labels import BY_INDEX
from qsmbids.core.lesiontable import places_of
from qsmbids.reports.figures import FIGURES, OUTLINES
from qsmbids.reports.lesionfigure import COLOURS, shown_lesions

# Beyond so many voxels in the box of the brain, blocks of them are shown as one: half a head at 0.5 mm.
MOST_VOXELS = 6_000_000
STEP_PPM = 1e-3     # of a susceptibility that is shown
REACH_PPM = .5      # of the sliders
GREYS = 63          # of a magnitude: more would be noise, of which half of the page would consist
RING_MM = 2.        # between a lesion and the circle around it


def pack_viewer(view, affine, *, chi, magnitude, masks, labels=None, lesions=()):
    """Return the volumes of an acquisition as the script of the page reads them.

    Parameters
    ----------
    view : qsmbids.reports.figures.View
        Whose box is shown, and how the axes are turned.
    affine : ndarray, shape (4, 4)
        Voxel to mm.
    chi : dict of str to ndarray, shape (nx, ny, nz)
        Susceptibility by method, ppm.
    magnitude : ndarray, shape (nx, ny, nz)
    masks : dict of str to ndarray of bool, shape (nx, ny, nz)
        By keys of :data:`qsmbids.reports.figures.OUTLINES`; eight at most.
    labels : ndarray of int, shape (nx, ny, nz), optional
        Indices of :data:`qsmbids.core.labels.BY_INDEX`.
    lesions : list of dict
        Rows of the table of lesions, as text.

    Returns
    -------
    dict
        For JSON. ``shape``, ``size`` (mm) and ``maps``, ``masks``, ``labels`` of a grid that runs to the right, to the
        front and to the top; ``mm`` and ``file`` take its indices to scanner coordinates and to voxels of the file.
        ``data`` is base64 of a zlib stream of bytes, the first axis fastest; of two bytes, all lower ones come first.
    """
    factors = _factors(view)

    def cut(volume):
        return apply_orientation(volume, view.orientation)[view.box]

    def sample(volume):
        return cut(volume)[tuple(slice(f // 2, None, f) for f in factors)][tuple(slice(n) for n in shape)]

    shape = [len(range(*part.indices(n))) // f for part, n, f in zip(view.box, view.shape, factors)]
    to_file = inv_ornt_aff(view.orientation, _unturned(view)) @ _corner(view, factors)
    to_mm = affine @ to_file
    content = {
        'shape': shape, 'size': [size * f for size, f in zip(view.voxel_size, factors)],
        'shrunk': max(factors) > 1, 'mm': _rounded(to_mm), 'file': _rounded(to_file),
        'maps': [_susceptibility(method, _mean(cut(volume), factors, shape)) for method, volume in chi.items()]
        + [_magnitude(_mean(cut(magnitude), factors, shape))],
        'masks': {'names': [list(reversed(OUTLINES[name])) for name in masks],
                  'data': _encode(sum(sample(mask).astype(np.uint8) << bit
                                      for bit, mask in enumerate(masks.values())))},
        'lesions': [_lesion(row, np.linalg.inv(to_mm)) for row in shown_lesions(lesions)]}
    if labels is not None:
        found = sample(labels).astype(np.uint8)
        content['labels'] = {'data': _encode(found), 'names': {
            str(index): [BY_INDEX[index].name, BY_INDEX[index].structure.colour]
            for index in np.unique(found).tolist() if index in BY_INDEX}}
    return content


def _factors(view):
    """Return how many voxels along each axis are shown as one."""
    shape = np.array([len(range(*part.indices(n))) for part, n in zip(view.box, view.shape)])
    factors = np.ones(3, int)
    while np.prod(shape // factors) > MOST_VOXELS:
        factors[np.argmin(np.array(view.voxel_size) * factors)] += 1
    return factors.tolist()


def _unturned(view):
    """Return the shape of the file's grid."""
    return tuple(view.shape[int(axis)] for axis in view.orientation[:, 0])


def _corner(view, factors):
    """Return the matrix from shown voxels to those of the whole turned grid."""
    matrix = np.diag([*factors, 1.])
    matrix[:3, 3] = [(part.start or 0) + (f - 1) / 2 for part, f in zip(view.box, factors)]
    return matrix


def _mean(volume, factors, shape):
    """Return the means of blocks of voxels."""
    volume = np.nan_to_num(np.asarray(volume, np.float32), copy=False, posinf=0, neginf=0)
    if max(factors) == 1:
        return volume
    whole = volume[tuple(slice(n * f) for n, f in zip(shape, factors))]
    return whole.reshape([part for pair in zip(shape, factors) for part in pair]).mean(axis=(1, 3, 5))


def _susceptibility(method, volume):
    steps = np.clip(np.rint(volume / STEP_PPM), -32768, 32767).astype('<i2')
    low, high = FIGURES['chi'].limits
    return {'name': f'Susceptibility ({method})', 'unit': 'ppm', 'step': STEP_PPM, 'bytes': 2, 'window': [low, high],
            'limits': [-REACH_PPM, REACH_PPM], 'data': _encode(steps)}


def _magnitude(volume):
    top = float(np.percentile(volume[::2, ::2, ::2], 99.9)) if volume.size else 0.
    top = top if top > 0 else 1.
    steps = np.clip(np.rint(volume * (GREYS / top)), 0, GREYS).astype(np.uint8)
    return {'name': 'Magnitude', 'unit': '', 'step': top / GREYS, 'bytes': 1, 'window': [0., top], 'limits': [0., top],
            'data': _encode(steps)}


def _encode(volume):
    content = np.asarray(volume).tobytes(order='F')
    if volume.dtype.itemsize == 2:
        content = content[::2] + content[1::2]
    return base64.b64encode(zlib.compress(content, 1)).decode('ascii')


def _lesion(row, to_voxels):
    place = move_points(to_voxels, places_of([row]))[0]
    return {'index': row['index'], 'name': f'{row["index"]}: {row["class"]}, {row["certainty"]}',
            'place': [round(float(value), 2) for value in place], 'colour': COLOURS[row['class']],
            'radius': float(row['diameter_mm']) / 2 + RING_MM}


def _rounded(matrix):
    return [[round(float(value), 6) for value in row] for row in matrix[:3]]
