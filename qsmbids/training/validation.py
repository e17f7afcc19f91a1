"""The frozen validation set: whole heads that no training uses, as hard as measured data."""

import numpy as np

from qsmbids.core.inversion.strength import automatic_strength
from qsmbids.core.metrics import hfen, nrmse
from qsmbids.networks.inversion import invert_with
from qsmbids.simulation.anatomy import head_from_labels, load_labels
from qsmbids.simulation.head import digital_head
from qsmbids.training.heads import training_head

SEED = 20_000
NOISES = 1., 2.      # of the heads of each anatomy


class ValidationSet:
    """Heads from held-out anatomies.

    Parameters
    ----------
    anatomies : list of path
        The parametric head if empty.
    """

    def __init__(self, anatomies):
        samples = [head_from_labels(*load_labels(path)) for path in anatomies] or [digital_head]
        self.heads = [training_head(sample, [SEED, n], noise=noise) for n, (sample, noise)
                      in enumerate((sample, noise) for sample in samples for noise in NOISES)]
        self.strengths = [automatic_strength(head.field, head.mask, head.voxel_size, b0_dir=head.b0_dir,
                                             penalty='identity') for head in self.heads]

    def score(self, network):
        """Return mean NRMSE and HFEN in percent of both maps, and their mean over the better map as 'score'."""
        rows = []
        for head, strength in zip(self.heads, self.strengths):
            maps = invert_with(network, head.field, head.mask, head.voxel_size, head.b0_dir, strength)
            rows.append([measure(chi, head.chi, head.mask) for chi in maps for measure in (nrmse, hfen)])
        projected_nrmse, projected_hfen, proposed_nrmse, proposed_hfen = np.mean(rows, axis=0)
        return {'nrmse': projected_nrmse, 'hfen': projected_hfen, 'nrmse_network': proposed_nrmse,
                'hfen_network': proposed_hfen,
                'score': min(projected_nrmse + projected_hfen, proposed_nrmse + proposed_hfen) / 2}
