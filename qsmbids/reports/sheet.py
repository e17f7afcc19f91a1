"""A sheet of pictures: pixels that are put where they belong, letters and lines over them, as a small PNG file."""

import struct
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np

DPI = 100
GROUND, INK = '#101317', '#e8ecf1'


class Sheet:
    """A picture that is put together in pixels from its top left.

    Parameters
    ----------
    width, height : int
    scale : matplotlib.colors.Colormap
        Whose colours the file keeps.
    """

    def __init__(self, width, height, scale):
        self.width, self.height, self._scale = width, height, scale
        self._pixels = np.empty((height, width, 3), np.uint8)
        self._pixels[:] = _rgb(GROUND)
        self._lines, self._texts = {}, []

    def put(self, values, limits, left, top):
        """Put values into the picture in colours of the scale; what is not finite stays ground.

        Parameters
        ----------
        values : ndarray, shape (rows, columns)
            From the top row to the bottom.
        limits : tuple of float
            Of the scale.
        left, top : int
        """
        known = np.isfinite(values)
        share = (np.where(known, values, limits[0]) - limits[0]) / (limits[1] - limits[0])
        steps = np.clip(share * self._scale.N, 0, self._scale.N - 1).astype(np.uint8)
        part = self._pixels[top:top + values.shape[0], left:left + values.shape[1]]
        np.copyto(part, _table(self._scale)[steps], where=known[..., None])

    def write(self, x, y, text, *, align=0., points=8, boxed=False):
        """Write a text, its middle at the height `y`; a `boxed` one darkens what it stands on.

        Parameters
        ----------
        x, y : float
            Of its left end; of its middle with an `align` of .5, of its right end with 1.
        text : str
        align : float
        points : float
            Size of the letters.
        boxed : bool
        """
        letters = _letters(text, points)
        height, width = letters.shape
        self._texts.append((letters, round(x - align * width), round(y - height / 2), boxed))

    def mark(self, left, top, width, height, colour):
        """Fill a part of the picture with a colour."""
        left, top = round(left), round(top)
        self._pixels[top:top + height, left:left + width] = _rgb(colour)

    def draw(self, lines, colour, width=.9):
        """Draw lines, each an ndarray of shape (n, 2) of places to the right and down, in a colour."""
        self._lines.setdefault((colour, width), []).extend(lines)

    def png(self):
        """Return the sheet as a PNG file, bytes."""
        if self._lines:
            self._add_lines()
        for letters, left, top, boxed in self._texts:
            if boxed:
                self._blend(_rgb(GROUND), .6, left - 2, top - 1, left + letters.shape[1] + 2,
                            top + letters.shape[0] + 1)
            self._blend(_rgb(INK), letters[..., None], left, top, left + letters.shape[1], top + letters.shape[0])
        return _encode(self._pixels, self._scale)

    def _add_lines(self):
        from matplotlib.collections import LineCollection
        from matplotlib.figure import Figure
        from matplotlib.transforms import Affine2D
        canvas = Figure(figsize=(self.width / DPI, self.height / DPI), dpi=DPI, facecolor='none')
        # Lines count pixels from the top, too.
        down = Affine2D().scale(1, -1).translate(0, self.height)
        for (colour, width), lines in self._lines.items():
            canvas.add_artist(LineCollection(lines, colors=colour, linewidths=width, transform=down))
        over = _render(canvas)
        seen = np.nonzero(over[..., 3])
        share = over[seen][:, 3:] / np.float32(255)
        self._pixels[seen] = share * over[seen][:, :3] + (1 - share) * self._pixels[seen] + .5

    def _blend(self, colour, share, left, top, right, bottom):
        """Mix a colour into a part of the picture, which must not begin to the left or above of it."""
        part = self._pixels[top:bottom, left:right]
        if np.ndim(share):
            share = share[:part.shape[0], :part.shape[1]]
        part[:] = share * colour + (1 - share) * part + .5


def stretch(tile, shape, known=None):
    """Return a tile in another size, each new value the mean of the known ones next to its place.

    Parameters
    ----------
    tile : ndarray, shape (rows, columns)
    shape : tuple of int
    known : ndarray of bool, shape (rows, columns), optional
        Values that count; NaN stands where most do not. Those that are not finite never do.

    Returns
    -------
    ndarray of float32, shape `shape`
    """
    known = np.isfinite(tile) if known is None else known & np.isfinite(tile)
    down, across = (_triangles(*sizes) for sizes in zip(tile.shape, shape))
    share = down @ known.astype(np.float32) @ across.T
    values = down @ np.where(known, tile, 0).astype(np.float32) @ across.T
    return np.where(share > .5, values / np.maximum(share, .5), np.nan)


def contours(mask, left, top, shape):
    """Return the outlines of a mask, shape (rows, columns), stretched to a shape: lines for `Sheet.draw`."""
    from contourpy import contour_generator
    rows, columns = mask.shape
    lines = contour_generator(z=np.pad(mask, 1).astype(np.float32)).lines(.5)
    return [(line - .5) * (shape[1] / columns, shape[0] / rows) + (left, top) for line in lines]


def _rgb(colour):
    """Return a colour such as #101317 as three bytes."""
    return np.array([int(colour[at:at + 2], 16) for at in (1, 3, 5)], np.uint8)


@lru_cache(maxsize=512)
def _letters(text, points):
    """Return how much of each pixel a line of text covers, float32, as high as the font, whatever the letters."""
    from PIL import Image, ImageDraw
    font = _font(points)
    picture = Image.new('L', (max(round(font.getlength(text)), 1), sum(font.getmetrics())))
    ImageDraw.Draw(picture).text((0, 0), text, 255, font)
    return np.asarray(picture, np.float32) / 255


@lru_cache(maxsize=8)
def _font(points):
    import matplotlib
    from PIL import ImageFont
    return ImageFont.truetype(Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf'), points * DPI / 72)


@lru_cache(maxsize=64)
def _triangles(size, wanted):
    """Return the weights of linear interpolation, or of averages if there are fewer places, shape (wanted, size)."""
    places = (np.arange(wanted) + .5) * size / wanted - .5
    weights = np.maximum(1 - np.abs(np.clip(places, 0, size - 1)[:, None] - np.arange(size)) / max(size / wanted, 1), 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _table(scale):
    return scale(np.arange(scale.N), bytes=True)[:, :3]


def encode_png(canvas, scale):
    """Return a drawing as a PNG file of 256 colours, those of the scale among them: a third of the usual size."""
    return _encode(_render(canvas)[..., :3], scale)


def _render(canvas):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    agg = FigureCanvasAgg(canvas)
    agg.draw()
    return np.asarray(agg.buffer_rgba())


def _encode(pixels, scale):
    # Seven bits of each channel tell all colours of the scales apart, and keep the table of colours small.
    packed = _pack(pixels)
    height, width = packed.shape
    counts = np.bincount(packed.ravel(), minlength=1 << 21)
    counts[_pack(_table(scale))] += packed.size
    present = np.flatnonzero(counts)
    chosen = present[np.argsort(-counts[present], kind='stable')[:256]]
    colours, palette = _unpack(present), _unpack(chosen)
    # The blends at the edges of lines and letters that found no place become their nearest neighbours.
    lookup = np.zeros(len(counts), np.uint8)
    lookup[present] = ((palette ** 2).sum(axis=1) - 2 * colours @ palette.T).argmin(axis=1)
    scanlines = np.zeros((height, width + 1), np.uint8)
    scanlines[:, 1:] = lookup[packed]
    chunks = ((b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 3, 0, 0, 0)),
              (b'PLTE', np.round(palette * (255 / 127)).astype(np.uint8).tobytes()),
              (b'IDAT', zlib.compress(scanlines.tobytes(), 4)), (b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        for kind, data in chunks)


def _pack(colours):
    return (colours >> 1).astype(np.int32) @ np.array((1 << 14, 1 << 7, 1), np.int32)


def _unpack(packed):
    return np.stack((packed >> 14, packed >> 7 & 127, packed & 127), axis=1).astype(np.float32)
