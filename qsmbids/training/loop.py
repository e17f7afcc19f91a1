"""The training loop: AdamW with a cosine schedule, a running mean of the weights, checkpoints, and exact resumption."""

import csv
import math
import os
import time
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch

from qsmbids.networks.pedqnet import MARGIN, model_loss
from qsmbids.networks.weights import NETWORKS, save_weights
from qsmbids.training.losses import LOSSES, unrolled_loss
from qsmbids.training.recipe import find_files, stream_kind
from qsmbids.training.validation import VALIDATION


def train(recipe, folder, *, anatomies_folder='.', device='cpu', minutes=None, checkpoint_every=100):
    """Train a network, or go on where an earlier call with the same folder was.

    Parameters
    ----------
    recipe : Recipe
    folder : path
        Gets ``checkpoint.pt``, ``log.csv`` and, whenever the validation is better than before, ``best.safetensors``.
    anatomies_folder : path
        Where the label maps are.
    device : str, default 'cpu'
    minutes : float, optional
        Stop after that; a later call goes on.
    checkpoint_every : int, default 100
        Steps.

    Returns
    -------
    int
        Steps done in all.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    run = _Run(recipe, folder, device)
    stream = make_stream(recipe, run.network, Path(anatomies_folder))
    kept = {name: value for name, value in recipe.stream.items() if name == 'cache'}
    validation = VALIDATION[run.network.target](find_files(anatomies_folder, recipe.validation), **kept)
    end = time.monotonic() + 60 * minutes if minutes else np.inf
    with closing(stream.batches(run.step)) as batches:
        for batch in batches:
            if run.step >= recipe.steps or time.monotonic() > end:
                break
            run.learn(batch)
            last = run.step == recipe.steps
            if last or run.step % recipe.validate_every == 0:
                run.judge(validation)
            if last or run.step % checkpoint_every == 0:
                run.save()
    run.save()
    return run.step


def make_stream(recipe, network, folder):
    """Return the stream of what a network is trained on."""
    return stream_kind(recipe.network).for_network(network, find_files(folder, recipe.anatomies), recipe.seed,
                                                   **recipe.stream)


def make_loss(recipe, network):
    """Return the loss of a network, ``loss(estimates, truth, known)`` of what it gives and what `prepare` does."""
    if network.target == 'field':
        return lambda estimates, measured, _: model_loss(estimates[0], measured, network.sparsity, MARGIN)
    return LOSSES.get(network.target, partial(unrolled_loss, edges=recipe.edges))


class _Run:
    """What changes during a run."""

    def __init__(self, recipe, folder, device):
        self.recipe, self.folder, self.device = recipe, folder, torch.device(device)
        self.network = NETWORKS[recipe.network](**recipe.architecture)
        self.network.to(self.device, memory_format=torch.channels_last_3d)
        self.mean = NETWORKS[recipe.network](**recipe.architecture).to(self.device).eval()
        self.mean.load_state_dict(self.network.state_dict())
        self.loss = make_loss(recipe, self.network)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=recipe.learning_rate, weight_decay=1e-4)
        self.step, self.best, self.losses, self.began = 0, np.inf, [], time.monotonic()
        checkpoint = folder / 'checkpoint.pt'
        if checkpoint.exists():
            state = torch.load(checkpoint, map_location=self.device, weights_only=True)
            self.network.load_state_dict(state['network'])
            self.mean.load_state_dict(state['mean'])
            self.optimizer.load_state_dict(state['optimizer'])
            self.step, self.best = state['step'], state['best']

    def learn(self, batch):
        """Make one step."""
        share = self.step / self.recipe.steps
        for group in self.optimizer.param_groups:
            group['lr'] = self.recipe.learning_rate * min((self.step + 1) / self.recipe.warmup,
                                                          .5 * (1 + math.cos(math.pi * share)))
        turns = [count for begin, count in self.recipe.unrolls.items() if float(begin) <= share]
        if turns:
            self.network.unrolls = max(turns)
        inputs, truth, known = self.network.prepare(batch, self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            estimates = self.network(**inputs)
        loss = self.loss(estimates, truth, known)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.)
        self.optimizer.step()
        self.step += 1
        self.losses.append(loss.item())
        # The mean forgets faster at first.
        decay = min(self.recipe.averaging, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for kept, new in zip(self.mean.parameters(), self.network.parameters()):
                kept.lerp_(new, 1 - decay)

    def judge(self, validation):
        """Score the running mean on the frozen heads; keep it if it is the best so far."""
        architecture = dict(self.recipe.architecture)
        if hasattr(self.network, 'unrolls'):
            architecture['unrolls'] = self.mean.unrolls = self.network.unrolls
        scores = validation.score(self.mean)
        row = {'step': self.step, 'minutes': round((time.monotonic() - self.began) / 60, 2),
               'loss': round(float(np.mean(self.losses)), 4), **{name: round(v, 3) for name, v in scores.items()}}
        self.losses = []
        log = self.folder / 'log.csv'
        fresh = not log.exists()
        with log.open('a', newline='') as stream:
            writer = csv.DictWriter(stream, row)
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        if scores['score'] < self.best:
            self.best = float(scores['score'])
            save_weights(self.mean, self.folder / 'best.safetensors', self.recipe.network, architecture,
                         {'step': self.step, 'scores': scores, 'recipe': asdict(self.recipe)})

    def save(self):
        """Write the checkpoint, whole or not at all."""
        partial = self.folder / 'checkpoint.pt.partial'
        torch.save({'network': self.network.state_dict(), 'mean': self.mean.state_dict(), 'step': self.step,
                    'optimizer': self.optimizer.state_dict(), 'best': self.best}, partial)
        os.replace(partial, self.folder / 'checkpoint.pt')
