"""The figure of a map against its field: the dipole kernel as both measure it, and where the field says B0 points."""

import numpy as np

from qsmbids.core.consistency import LEAST_CONTRAST
from qsmbids.reports.figures import FIGURES, WIDTH
from qsmbids.reports.sheet import DPI, GROUND, INK, encode_png

_HEIGHT, _TOP, _SIDE = 306, 34, 196
_CURVE = (62, 372)  # from the left, width; as all lengths in pixels
_PANELS = (468, 668, 868)
_SEEN, _AXIS = '#5ec8ff', '#ffd84d'
# Decades to either side of what the field's power is at other angles.
_DECADES = 1.0


def draw_kernel(kernel, axis_angle, contrast):
    """Draw the backward kernel of a map.

    Parameters
    ----------
    kernel : qsmbids.core.consistency.BackwardKernel
        With its slices in the plane of B0 and the axis that the field shows.
    axis_angle : float
        Degrees between these two.
    contrast : float
        How clearly the field shows it, as in :class:`qsmbids.core.consistency.FieldAxis`.

    Returns
    -------
    bytes
        A PNG file.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure as Canvas
    canvas = Canvas(figsize=(WIDTH / DPI, _HEIGHT / DPI), dpi=DPI, facecolor=GROUND)
    figure = FIGURES['kernel']
    colours = colormaps[figure.colours].resampled(128)
    _draw_curve(canvas, kernel)
    measured, theory, power = kernel.slices
    for left, title, content, scale, limits in (
            (_PANELS[0], 'kernel, measured', measured, colours, figure.limits),
            (_PANELS[1], 'kernel, as it should be', theory, colours, figure.limits),
            (_PANELS[2], "field's power", power, colormaps['gray'].resampled(64), (-_DECADES, _DECADES))):
        axes = _add_axes(canvas, left, _SIDE)
        axes.imshow(content, cmap=scale, vmin=limits[0], vmax=limits[1], origin='lower', extent=(-1, 1, -1, 1))
        axes.set(xlim=(-1, 1), ylim=(-1, 1), xticks=[], yticks=[])
        axes.set_title(title, fontsize=9, color=INK, pad=4)
        _draw_cone(axes)
        axes.set_xlabel(f'edge: {kernel.reach:.2g} cycles/mm', fontsize=8, color=INK)
    if contrast >= LEAST_CONTRAST:
        lean = np.radians(axis_angle)
        axes.plot((-np.sin(lean), np.sin(lean)), (-np.cos(lean), np.cos(lean)), color=_AXIS, linewidth=1.5)
    canvas.text(_CURVE[0] / WIDTH, 14 / _HEIGHT, _describe(kernel, axis_angle, contrast), fontsize=8.5, color=INK,
                va='center', parse_math=False)
    return encode_png(canvas, colours)


def _add_axes(canvas, left, width):
    axes = canvas.add_axes((left / WIDTH, 1 - (_TOP + _SIDE) / _HEIGHT, width / WIDTH, _SIDE / _HEIGHT),
                           facecolor=GROUND)
    axes.tick_params(labelsize=8, colors=INK, length=2, pad=2)
    for edge in axes.spines.values():
        edge.set_color('#56606c')
    return axes


def _draw_curve(canvas, kernel):
    axes = _add_axes(canvas, *_CURVE)
    axes.axhline(0, color='#56606c', linewidth=0.8)
    axes.plot(kernel.angle, kernel.theory, color=INK, linewidth=1.2, linestyle='--', label='as it should be')
    axes.plot(kernel.angle, kernel.measured, color=_SEEN, linewidth=1.8, marker='.', markersize=4, label='measured')
    axes.set(xlim=(0, 90), xticks=range(0, 91, 15))
    found = np.concatenate((kernel.measured, kernel.theory))
    found = found[np.isfinite(found)]
    # Wider than the kernel only where something goes far beyond it.
    axes.set_ylim(min(-0.75, 1.05 * found.min(initial=0)), max(0.45, 1.05 * found.max(initial=0)))
    axes.set_title('field over map, averaged over k-space', fontsize=9, color=INK, pad=4)
    axes.set_xlabel('angle between k and B0, degrees', fontsize=8, color=INK)
    axes.legend(loc='lower right', fontsize=8, facecolor=GROUND, edgecolor='none', labelcolor=INK)


def _draw_cone(axes):
    """Draw where the kernel of the header's direction is zero."""
    across = np.sqrt(2)  # per length along B0
    for side in (-1, 1):
        axes.plot((-side, side), (-1 / across, 1 / across), color=INK, linewidth=0.8, linestyle='--')


def _describe(kernel, axis_angle, contrast):
    parts = [(f'gain {kernel.gain:.2f}', kernel.gain), (f'offset {kernel.offset:+.2f}', kernel.offset),
             (f'difference from theory {kernel.rms_difference:.3f}', kernel.rms_difference),
             (f'coherence {kernel.coherence:.2f}', kernel.coherence),
             (f'error of the field {kernel.field_nrmse:.0%}', kernel.field_nrmse),
             (f'B0 by field and map {kernel.axis_angle:.1f}\N{DEGREE SIGN} off', kernel.axis_angle),
             (f'by the field alone {axis_angle:.1f}\N{DEGREE SIGN} off',
              axis_angle if contrast >= LEAST_CONTRAST else np.nan)]
    return '    '.join(text for text, value in parts if np.isfinite(value)) or 'nothing to compare'
