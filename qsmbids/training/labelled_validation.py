"""The frozen validation set of segmentation: whole heads that no training uses."""

import numpy as np

from qsmbids.core.labels import LABELS
from qsmbids.core.metrics import dice
from qsmbids.networks.segmentation import segment_with
from qsmbids.networks.segmenter import STEP, STRUCTURES
from qsmbids.training.labelled import labelled_map, measured, simulated
from qsmbids.training.labelled_stream import MEASURED_ENDING

SEED = 20_000
SCORED = {'caudate': ('Caudate',), 'putamen': ('Putamen',), 'pallidum': ('PallidumExternal', 'PallidumInternal'),
          'thalamus': ('Thalamus',), 'red_nucleus': ('RedNucleus',), 'substantia_nigra': ('SubstantiaNigra',),
          'dentate': ('Dentate',)}
MEASURED_VOXELS = 1., 1., 3.


class SegmentationValidationSet:
    """Heads from held-out anatomies, and held-out measured maps.

    Parameters
    ----------
    anatomies : list of path
        As those of `LabelledStream`.
    """

    def __init__(self, anatomies):
        self.heads = []
        for n, path in enumerate(map(str, anatomies or [''])):
            rng = np.random.Generator(np.random.PCG64([SEED, n]))
            if path.endswith(MEASURED_ENDING):
                head = measured(path.removesuffix(MEASURED_ENDING), MEASURED_VOXELS, STRUCTURES)
                self.heads.append((head, head.chi))
            else:
                head = simulated(path or None, (SEED, n), STRUCTURES)
                self.heads.append((head, labelled_map(head, rng)))

    def score(self, network):
        """Return the mean Dice overlap of each structure, both sides together, and 1 minus their mean as 'score'."""
        rows = {name: [] for name in SCORED}
        for head, chi in self.heads:
            labels = segment_with(network, chi, head.mask, (STEP,) * 3, flip=False)
            for name, parts in SCORED.items():
                truth = np.isin(head.classes, [1 + STRUCTURES.index(part) for part in parts])
                if truth.any():
                    rows[name].append(dice(truth, np.isin(labels, [label.index for label in LABELS
                                                                   if label.structure.name in parts])))
        means = {name: float(np.mean(values)) for name, values in rows.items() if values}
        return means | {'score': 1 - float(np.mean(list(means.values())))}
