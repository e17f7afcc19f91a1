"""The frozen validation sets: whole heads that no training uses, as hard as measured data."""

import numpy as np

from qsmbids.core.inversion.strength import automatic_strength
from qsmbids.core.metrics import hfen, nrmse
from qsmbids.networks.background import remove_with
from qsmbids.networks.direct import invert_total
from qsmbids.networks.inversion import invert_with
from qsmbids.simulation.anatomy import head_from_labels, load_labels
from qsmbids.simulation.head import digital_head
from qsmbids.training.heads import training_head
from qsmbids.training.labelled_validation import SegmentationValidationSet
from qsmbids.training.lesionvalidation import LesionValidationSet
from qsmbids.training.mask_validation import MaskValidationSet

SEED = 20_000
NOISES = .4, .9              # of the heads of each anatomy
BACKGROUND_NOISES = .15, .3  # less of it: the truth is without, and no background removal takes it away


class ValidationSet:
    """Heads from held-out anatomies, for inversions.

    Parameters
    ----------
    anatomies : list of path
        The parametric head if empty.
    """

    def __init__(self, anatomies):
        self.heads = _heads(anatomies, NOISES)
        self.strengths = [automatic_strength(head.field, head.mask, head.voxel_size, b0_dir=head.b0_dir,
                                             penalty='identity') for head in self.heads]

    def score(self, network):
        """Return mean NRMSE and HFEN in percent of both maps, and their mean over the better map as 'score'."""
        rows = []
        for head, strength in zip(self.heads, self.strengths):
            maps = invert_with(network, head.field, head.mask, head.voxel_size, head.b0_dir, strength)
            rows.append([measure(chi, head.chi, head.mask) for chi in maps for measure in (nrmse, hfen)])
        return _summary(rows)


class FieldValidationSet(ValidationSet):
    """The same for networks that learn from the field alone and whose own map is what they are for."""

    def score(self, network):
        """Return mean NRMSE and HFEN in percent, and their mean as 'score'."""
        maps = (invert_with(network, head.field, head.mask, head.voxel_size, head.b0_dir, strength)[1]
                for head, strength in zip(self.heads, self.strengths))
        return _summary_of_maps(maps, self.heads)


class BackgroundValidationSet:
    """Heads from held-out anatomies, for background removals.

    Parameters
    ----------
    anatomies : list of path
        The parametric head if empty.
    """

    def __init__(self, anatomies):
        self.heads = _heads(anatomies, BACKGROUND_NOISES, removals={'none': 1.})

    def score(self, network):
        """Return mean NRMSE and HFEN in percent against the true local field where it is known, as `ValidationSet`."""
        rows = []
        for head in self.heads:
            maps, known = remove_with(network, head.total, head.mask, head.voxel_size, head.b0_dir)
            rows.append([measure(local, head.local, known) for local in maps for measure in (nrmse, hfen)])
        return _summary(rows)


class DirectValidationSet:
    """The heads of `ValidationSet` before any background removal, for inversions of the total field.

    Parameters
    ----------
    anatomies : list of path
        The parametric head if empty.
    """

    def __init__(self, anatomies):
        self.heads = _heads(anatomies, NOISES, removals={'none': 1.})

    def score(self, network):
        """Return mean NRMSE and HFEN in percent, and their mean as 'score'."""
        maps = (invert_total(network, head.total, head.mask, head.voxel_size, head.b0_dir) for head in self.heads)
        return _summary_of_maps(maps, self.heads)


VALIDATION = {'chi': ValidationSet, 'field': FieldValidationSet, 'local': BackgroundValidationSet,
              'direct': DirectValidationSet, 'classes': SegmentationValidationSet, 'lesions': LesionValidationSet,
              'mask': MaskValidationSet, 'border': MaskValidationSet}


def _heads(anatomies, noises, **options):
    samples = [head_from_labels(*load_labels(path)) for path in anatomies] or [digital_head]
    return [training_head(sample, [SEED, n], noise=noise, **options) for n, (sample, noise)
            in enumerate((sample, noise) for sample in samples for noise in noises)]


def _summary_of_maps(maps, heads):
    """Return the `_summary` of one susceptibility map of each head."""
    return _summary([[measure(chi, head.chi, head.mask) for measure in (nrmse, hfen)]
                     for chi, head in zip(maps, heads)])


def _summary(rows):
    means = np.mean(rows, axis=0)
    names = ('nrmse', 'hfen', 'nrmse_network', 'hfen_network')
    return dict(zip(names, means.tolist())) | {'score': float(means.reshape(-1, 2).mean(axis=1).min())}
