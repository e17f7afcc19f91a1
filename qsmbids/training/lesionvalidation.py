"""The frozen validation set of the census: scans of heads that no training uses."""

import numpy as np
import torch
from torch.nn import functional

from qsmbids.core.lesiongrade import LISTED, POSSIBLE
from qsmbids.core.metrics import froc, match_lesions, near_by_distance
from qsmbids.networks.lesionnet import CLASSES, FEATURES
from qsmbids.networks.lesions import class_shares
from qsmbids.training.lesionstream import TOLERANCE, UNCLEAR, looks_at

SEED = 20_010
SCANS = 3                        # of each anatomy
RATES = .25, .5, 1., 2., 4.      # false positives per map, at which the sensitivity counts
STEPS = 60                       # of the fit of the scores to frequencies


class LesionValidationSet:
    """Scans from held-out anatomies.

    Parameters
    ----------
    anatomies : list of path
        The parametric head if empty.
    cache : str, optional
        Folder that keeps the candidates of scans.
    """

    def __init__(self, anatomies, cache=''):
        heads = [str(path) for path in anatomies] or [None]
        self.looks = [look for s in range(SCANS) for n, path in enumerate(heads)
                      for look in looks_at(path, (SEED + s, n), cache)]

    def score(self, network):
        """Fit the network's scores to the frequencies of this set, and return how well it does.

        Returns
        -------
        dict
            sensitivity at one false positive per map; that of possible ones, and their false positives per map;
            entropy, cross-entropy of the fitted probabilities; score: 1 minus the mean sensitivity at `RATES`.
        """
        calibrate(network, self.looks)
        shares = [class_shares(network, look['patches'], look['features']) for look in self.looks]
        heads = [detections(look, share) for look, share in zip(self.looks, shares)]
        curve = froc(heads, at=(*RATES, 1.), resamples=1)
        clear = [look['classes'] != UNCLEAR for look in self.looks]
        found = np.concatenate([share[here][np.arange(here.sum()), look['classes'][here]]
                                for look, share, here in zip(self.looks, shares, clear)])
        sensitivities = [point.sensitivity for point in curve.points]
        return {'sensitivity': sensitivities[-1], **_at(heads, POSSIBLE),
                'entropy': float(-np.log(np.maximum(found, 1e-6)).mean()),
                'score': 1 - float(np.mean(sensitivities[:-1]))}


def detections(look, shares):
    """Return the `core.metrics.Detections` of microbleeds in one map."""
    bleed, stone = shares[:, CLASSES.index('cmb')], shares[:, CLASSES.index('calcification')]
    dark = look['features'][:, FEATURES.index('sign')] < 0
    here = np.flatnonzero((bleed >= min(LISTED, .01)) & (bleed >= stone) & ~dark)
    bleeds = look['bleeds']
    near = near_by_distance(look['places'][here], bleeds[:, :3], bleeds[:, 3], TOLERANCE)
    unclear = (look['classes'][here] == UNCLEAR) & ~near.any(axis=1)
    return match_lesions(near[~unclear], bleed[here][~unclear])


def _at(heads, least):
    hits, wrong, total = (np.array(values) for values in zip(*(
        ((head.hits & (head.scores >= least)).sum(), (~head.hits & (head.scores >= least)).sum(), head.lesions)
        for head in heads)))
    return {'possible': float(hits.sum() / max(total.sum(), 1)), 'wrong': float(wrong.mean())}


def calibrate(network, looks):
    """Set the factor and the shifts of a network's scores so that probabilities are frequencies in these maps."""
    network.sharpness.fill_(1)
    network.prior.zero_()
    scores, truth = [], []
    for look in looks:
        clear = look['classes'] != UNCLEAR
        shares = class_shares(network, look['patches'][clear], look['features'][clear])
        scores.append(torch.from_numpy(np.log(np.maximum(shares, 1e-12))))
        truth.append(torch.from_numpy(look['classes'][clear].astype(np.int64)))
    scores, truth = torch.cat(scores), torch.cat(truth)
    factor, shift = torch.zeros((), requires_grad=True), torch.zeros(len(CLASSES), requires_grad=True)
    solver = torch.optim.LBFGS([factor, shift], max_iter=STEPS, line_search_fn='strong_wolfe')

    def loss():
        solver.zero_grad()
        value = functional.cross_entropy(scores * factor.exp() + shift, truth)
        value.backward()
        return value

    solver.step(loss)
    network.sharpness.copy_(factor.detach().exp())
    network.prior.copy_(shift.detach() - shift.detach().mean())
