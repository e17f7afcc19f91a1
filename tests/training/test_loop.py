"""The training loop: exact resumption, learning, and what it leaves in its folder."""

import csv

import pytest
import torch

from qsmbids.networks.weights import load_weights
from qsmbids.training import loop
from qsmbids.training.recipe import Recipe
from qsmbids.training.streams import make_block


class Scores:
    """Stands in for heads: the best score is the second one."""

    def __init__(self, anatomies):
        self.scores = [3., 1., 2., 4.]

    def score(self, network):
        assert not network.training
        return {'nrmse': 50., 'score': self.scores.pop(0)}


@pytest.fixture(autouse=True)
def no_heads(monkeypatch):
    monkeypatch.setattr(loop, 'VALIDATION', {'local': Scores, 'chi': Scores})


def recipe(network='pocsnet1', **options):
    stream = {'kind': 'shapes', 'patch': 24, 'heads': 2, 'patches': 4, 'batch': 2}
    return Recipe(network, **({'steps': 6, 'architecture': {'width': 4}, 'warmup': 2, 'validate_every': 2, 'edges': 0.,
                               'stream': stream} | options))


def state(folder):
    return torch.load(folder / 'checkpoint.pt', weights_only=True)


def equal(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_a_run_that_was_killed_goes_on_as_if_it_had_not(tmp_path, monkeypatch):
    settings = recipe(validate_every=100)
    assert loop.train(settings, tmp_path / 'whole') == 6
    learn = loop._Run.learn

    def killed(run, batch):
        if run.step == 4:
            raise KeyboardInterrupt
        learn(run, batch)
    monkeypatch.setattr(loop._Run, 'learn', killed)
    with pytest.raises(KeyboardInterrupt):
        loop.train(settings, tmp_path / 'parts', checkpoint_every=3)
    assert state(tmp_path / 'parts')['step'] == 3
    monkeypatch.setattr(loop._Run, 'learn', learn)
    assert loop.train(settings, tmp_path / 'parts', checkpoint_every=3) == 6
    assert equal(state(tmp_path / 'whole'), state(tmp_path / 'parts'))
    assert not equal(state(tmp_path / 'whole')['network'], state(tmp_path / 'whole')['mean'])


def test_the_best_weights_are_kept_and_every_score_is_logged(tmp_path):
    loop.train(recipe('sharqnet'), tmp_path)
    with (tmp_path / 'log.csv').open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row['step'], float(row['score'])) for row in rows] == [('2', 3.), ('4', 1.), ('6', 2.)]
    network, card = load_weights(tmp_path / 'best.safetensors')
    assert card['step'] == 4 and card['scores']['score'] == 1 and card['recipe']['network'] == 'sharqnet'
    assert not network.training


def test_turns_grow_with_the_share_of_the_steps(tmp_path):
    run = loop._Run(recipe(unrolls={'0': 1, '0.5': 3}, averaging=0.), tmp_path, 'cpu')
    turns = []
    for _ in range(6):
        run.learn(make_block([], 1, 'local', 'shapes', None, False, 24, 1, 2, 0).patches())
        turns.append(run.network.unrolls)
    assert turns == [1, 1, 1, 3, 3, 3]


def test_the_mean_follows_and_the_loss_falls(tmp_path):
    torch.manual_seed(0)
    run = loop._Run(recipe('sharqnet', steps=60, architecture={'width': 8}, learning_rate=5e-3), tmp_path, 'cpu')
    block = make_block([], 1, 'local', 'shapes', None, False, 24, 1, 2, 0).patches()
    for _ in range(40):
        run.learn(block)
    assert run.losses[-1] < .8 * run.losses[0]
    for one, other in zip(run.network.parameters(), run.mean.parameters()):
        assert torch.allclose(one, other, atol=.1)
