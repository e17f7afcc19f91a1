"""Which regions of a segmentation can be trusted: what has no value, and what has a doubtful one, with the reason."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from qsmbids.core.grid import bounding_box
from qsmbids.core.labels import LABELS, STRUCTURES, parts_of

LEAST_VOXELS = 10       # of which a mean is taken
LEAST_COVERAGE = .5     # share of the region with values that count
GOOD_COVERAGE = .9
OPEN_SURFACE = .1       # share of the surface beyond which there are no values: the region may go on there
EXTREME_PPM = .6        # beyond this, either sign, is what bleeds and calcifies, not iron of a nucleus
SOME_EXTREME, MOST_EXTREME = .05, .5    # share of the region
SIDE_RATIO = .6         # of the volumes of both sides
LARGEST_PIECE = .8      # of a region, in its largest piece
# What adults have is widened by these for disease, children and other borders.
VOLUME_MARGIN = (.5, 1.6)
THICK_MM = 2.           # partial volume lowers small nuclei by about 10 % beyond it
SMALL = ('RedNucleus', 'SubstantiaNigra', 'Subthalamic', 'Dentate')
STATES = ('pass', 'warn', 'fail', 'missing')


@dataclass(frozen=True)
class Verdict:
    """What is to be thought of a region.

    Attributes
    ----------
    state : {'pass', 'warn', 'fail', 'missing'}
        A region that fails keeps its values; one that is missing has none.
    reasons : tuple of str
    """

    state: str = 'pass'
    reasons: tuple = ()

    def with_reason(self, state, reason):
        """Return the verdict with one more reason; its state is the worse of both."""
        return Verdict(max(self.state, state, key=STATES.index), (*self.reasons, reason))

    def joined(self, other):
        """Return the worse state with the reasons of both, each once."""
        return Verdict(max(self.state, other.state, key=STATES.index),
                       tuple(dict.fromkeys(self.reasons + other.reasons)))


def region_masks(labels):
    """Return the voxels of every label of the table: what parts there are of a union are joined.

    Parameters
    ----------
    labels : ndarray of int, shape (nx, ny, nz)
        Indices of :data:`qsmbids.core.labels.LABELS`; others are left out.

    Returns
    -------
    dict of Label to ndarray of bool
        In the order of the table; empty masks for what is not there.
    """
    masks = {}
    for label in LABELS:
        parts = [part.index for part in parts_of(label)]
        masks[label] = np.isin(labels, parts) if parts and np.isin(labels, parts).any() else labels == label.index
    return masks


def judge_regions(masks, mask, voxel_size, *, exclude=None, extreme=None, known=None, adult=True):
    """Say of every region whether its values can be trusted.

    Parameters
    ----------
    masks : dict of Label to ndarray of bool, shape (nx, ny, nz)
        As from :func:`region_masks`.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where there are values.
    voxel_size : sequence of float
        mm.
    exclude : ndarray of bool, shape (nx, ny, nz), optional
        What does not count, such as microbleeds.
    extreme : ndarray of bool, shape (nx, ny, nz), optional
        Where the susceptibility is beyond `EXTREME_PPM`.
    known : collection of int, optional
        Indices that the segmentation tells apart; a region that it does not know is missing for another reason than
        one that it did not find.
    adult : bool, default True
        Whether the volumes of adults are expected.

    Returns
    -------
    dict of Label to Verdict

    Notes
    -----
    Ranges of volume hold for adults (:data:`qsmbids.core.labels.STRUCTURES`), widened by `VOLUME_MARGIN`. That thick
    slices lower the values of small nuclei: Front Neurosci 2020, doi 10.3389/fnins.2020.607705.
    """
    usable = mask if exclude is None else mask & ~exclude
    verdicts = {label: _judge(label, region, mask, usable, extreme, voxel_size, known, adult)
                for label, region in masks.items()}
    for structure in STRUCTURES.values():
        pair = [label for label in masks if label.structure is structure and label.hemisphere in 'LR']
        volumes = [int(masks[label].sum()) for label in pair]
        if len(pair) == 2 and all(verdicts[label].state != 'missing' for label in pair):
            ratio = volumes[0] / volumes[1]
            if not SIDE_RATIO <= ratio <= 1 / SIDE_RATIO:
                for label in pair:
                    verdicts[label] = verdicts[label].with_reason('fail', f'the left side has {ratio:.2g} times the '
                                                                          'volume of the right')
    return verdicts


def _judge(label, region, mask, usable, extreme, voxel_size, known, adult):
    count = int(region.sum())
    if not count:
        told = known is None or {label.index, *(part.index for part in parts_of(label))} & set(known)
        return Verdict('missing', ('the segmentation found no such region' if told
                                   else 'the segmentation does not tell this region',))
    box = bounding_box(region, (1, 1, 1))
    whole, known_there = region[box], mask[box]
    if any(whole.take(end, axis).any() for axis, n in enumerate(region.shape) if n > 1 for end in (0, -1)):
        return Verdict('missing', ('cropped: the region reaches the edge of the image',))
    inside, counting = int((whole & known_there).sum()), int((whole & usable[box]).sum())
    if counting < LEAST_COVERAGE * count:
        what = 'has values' if inside < LEAST_COVERAGE * count else 'is free of excluded lesions'
        share = (inside if inside < LEAST_COVERAGE * count else counting) / count
        return Verdict('missing', (f'only {share:.0%} of the region {what}',))
    if counting < LEAST_VOXELS:
        return Verdict('missing', (f'only {counting} voxels, fewer than {LEAST_VOXELS}',))
    beyond = 0 if extreme is None else (whole & usable[box] & extreme[box]).sum() / counting
    text = f'{beyond:.0%} of the region beyond {EXTREME_PPM} ppm, as blood or calcium are'
    if beyond > MOST_EXTREME:
        return Verdict('missing', (text,))
    verdict = Verdict().with_reason('fail', text) if beyond > SOME_EXTREME else Verdict()
    return _doubts(verdict, label, whole, known_there, inside / count, voxel_size, adult)


def _doubts(verdict, label, region, mask, coverage, voxel_size, adult):
    """Return the verdict on a region that has values, with what else is doubtful."""
    volume = region.sum() * float(np.prod(voxel_size)) / 1000
    if coverage < GOOD_COVERAGE:
        verdict = verdict.with_reason('warn', f'{1 - coverage:.0%} of the region lies where there are no values')
    surface = ndimage.binary_dilation(region) & ~region
    if (open_ := (surface & ~mask).sum() / max(surface.sum(), 1)) > OPEN_SURFACE:
        verdict = verdict.with_reason('warn', f'{open_:.0%} of its surface lies where there are no values: it may be '
                                              'larger')
    if label.structure.volume:
        low, high = (bound * margin for bound, margin in zip(label.structure.volume, VOLUME_MARGIN))
        if adult and not low <= volume <= high:
            verdict = verdict.with_reason('fail', f'{volume:.3g} mL, outside of {low:.3g} to {high:.3g} mL')
        pieces, number = ndimage.label(region, np.ones((3, 3, 3)))
        largest = np.bincount(pieces.ravel())[1:].max() / region.sum()
        if largest < LARGEST_PIECE:
            verdict = verdict.with_reason('fail', f'in {number} pieces, the largest of {largest:.0%}')
    if label.structure.name in SMALL and max(voxel_size) > THICK_MM:
        verdict = verdict.with_reason('warn', f'voxels of {max(voxel_size):.2g} mm lower the values of a nucleus as '
                                              'small as this')
    return verdict
