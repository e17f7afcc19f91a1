"""The frozen validation set of brain masks: heads that no training uses, of all ages."""

import numpy as np

from qsmbids.core.metrics import dice
from qsmbids.training.masks import mask_head, mask_sample, mask_window

SEED = 20_000
AGES = .1, 1.5, 40., 80.    # years
SAMPLES = 3                 # of each head


class MaskValidationSet:
    """Magnitudes of heads from held-out anatomies.

    Parameters
    ----------
    anatomies : list of path
        The parametric head if empty.
    cache : str, optional
        As that of `MaskStream`.
    """

    def __init__(self, anatomies, cache=None):
        self.samples = []
        for n, path in enumerate(anatomies or [None]):
            for age in AGES:
                head = mask_head(path and str(path), (SEED, n, int(10 * age)), cache, age)
                rng = np.random.Generator(np.random.PCG64([SEED, n]))
                windows = [mask_window(mask_sample(head, rng), rng) for _ in range(SAMPLES)]
                self.samples += [(age, window) for window in windows if window]

    def score(self, network):
        """Return the Dice overlap, mean over young and over grown-up heads and smallest of all, and a 'score'.

        That is 1 minus the mean over all, so that less is better.
        """
        rows = []
        for age, sample in self.samples:
            image, share, surface = (sample[name].astype(np.float32) for name in ('magnitude', 'share', 'surface'))
            found = network.find(image, sample['seen'], surface) > .5
            rows.append((age < 18, dice((share > .5) & sample['seen'], found & sample['seen'])))
        young, overlaps = (np.array(values) for values in zip(*rows))
        return {'young': float(overlaps[young].mean()), 'grown': float(overlaps[~young].mean()),
                'worst': float(overlaps.min()), 'score': 1 - float(overlaps.mean())}
