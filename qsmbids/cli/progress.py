"""How far a run is, live in a terminal: what runs now, what is done, and how long the rest will take."""

import logging
import math
import sys
import threading
import time
from dataclasses import dataclass, field

# So many seconds of estimated work weigh as much as what was estimated before anything ran.
_PRIOR_SECONDS = 30.0
_EFFICIENCY = 0.8   # of several cores
_BAR = 24


@dataclass
class _Part:
    """An acquisition: number and estimated seconds of its steps, what is done, and what runs since when."""

    steps: int
    seconds: float
    done: float = 0.0
    ended: int = 0
    running: dict = field(default_factory=dict)


class Tally:
    """How far a run is, from the steps that began and ended and from what they were estimated to take.

    Parameters
    ----------
    participants : int
        Of the whole run; most are not known in detail before their batch begins.
    cores : int
    clock : callable
        Returns seconds.
    """

    def __init__(self, participants, cores, clock=time.monotonic):
        self.participants, self.known = participants, 0
        self.parts = {}
        self._pace, self._clock, self._begun = 1 / (1 + _EFFICIENCY * (cores - 1)), clock, None
        self._lock = threading.Lock()

    def plan(self, name, steps, seconds):
        """Expect an acquisition with so many steps, which one core would take so many seconds for."""
        with self._lock:
            self._begun = self._clock() if self._begun is None else self._begun
            self.parts[name] = _Part(steps, seconds)

    def step(self, name, label, seconds, status):
        """Note that a step of an acquisition begins (``'start'``) or has ended, well or not."""
        with self._lock:
            part = self.parts.get(name)
            if part is None:
                return
            if status == 'start':
                part.running[label] = (self._clock(), seconds)
            else:
                part.running.pop(label, None)
                part.done = min(part.done + seconds, part.seconds)
                part.ended += 1

    def settle(self, name):
        """Note that nothing more comes of an acquisition, be it complete or failed."""
        with self._lock:
            if name in self.parts:
                part = self.parts[name]
                part.running, part.done, part.ended = {}, part.seconds, part.steps

    def fraction(self):
        """Return the part of all work that is done, 0 to 1."""
        done, total = self._work()
        return done / total if total else 0.0

    def remaining(self):
        """Return the seconds that the rest will take; None before anything is known."""
        done, total = self._work()
        if not total:
            return None
        passed = self._clock() - self._begun
        pace = (passed + _PRIOR_SECONDS * self._pace) / (done + _PRIOR_SECONDS)
        return pace * (total - done)

    def active(self):
        """Return the acquisitions that have begun and not ended: name, part done, label of a step, its seconds."""
        with self._lock:
            now = self._clock()
            found = []
            for name, part in self.parts.items():
                if part.running or 0 < part.ended < part.steps:
                    label, (start, _) = next(iter(part.running.items()), ('', (now, 0.0)))
                    found.append((name, self._done(part) / part.seconds if part.seconds else 0.0, label, now - start))
            return found

    def ended(self):
        """Return how many acquisitions have ended, and how many there are as far as is known."""
        return sum(part.ended >= part.steps for part in self.parts.values()), len(self.parts)

    def _done(self, part):
        now = self._clock()
        # A step that takes longer than was thought is not done before it ends.
        begun = sum(min(now - start, 0.95 * seconds) for start, seconds in part.running.values())
        return min(part.done + begun, part.seconds)

    def _work(self):
        """Return the estimated seconds that are done, and those of all participants."""
        with self._lock:
            planned = sum(part.seconds for part in self.parts.values())
            done = sum(map(self._done, self.parts.values()))
        ahead = max(self.participants - self.known, 0) * planned / self.known if self.known else 0.0
        return done, planned + ahead


class Silence:
    """What stands for the display where there is no terminal: nothing is shown."""

    callback = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def know(self, participants):
        pass

    def plan(self, acquisitions, workflow):
        pass

    def settle(self, acquisition):
        pass


class Display:
    """The live display of a run; log messages scroll by above it.

    Parameters
    ----------
    participants, cores : int
    speed : float
        Of this machine, as from :func:`qsmbids.workflows.estimate.measure_speed`.
    console : rich.console.Console
    """

    def __init__(self, participants, cores, speed, console):
        from rich.live import Live
        self.tally, self._speed = Tally(participants, cores), speed
        self._sizes, self._handlers = {}, []
        self._start = time.monotonic()
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=4, transient=True)

    def __enter__(self):
        self._live.start()
        # What is logged goes through the display, or it would tear it.
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.__stderr__:
                self._handlers.append((handler, handler.setStream(sys.stderr)))
        return self

    def __exit__(self, *error):
        for handler, stream in self._handlers:
            handler.setStream(stream)
        self._live.stop()

    def know(self, participants):
        """Note that the acquisitions of so many more participants have been found."""
        self.tally.known += participants

    def plan(self, acquisitions, workflow):
        """Expect the steps of acquisitions in a workflow."""
        from qsmbids.workflows.estimate import node_seconds
        for acquisition in acquisitions:
            name = f'{acquisition.name.replace("-", "_")}_wf'
            self._sizes[name] = (acquisition.name, math.prod(acquisition.shape), len(acquisition.echo_times))
            nodes = list(workflow.get_node(name)._get_all_nodes())
            costs = [node_seconds(node, *self._sizes[name][1:], self._speed) for node in nodes]
            self.tally.plan(acquisition.name, sum(cost > 0 for cost in costs), sum(costs))

    def callback(self, node, status):
        """Take note of a step; nipype calls this."""
        from qsmbids.workflows.estimate import node_seconds
        _, part, *within = node.fullname.split('.')
        if part in self._sizes:
            name, voxels, echoes = self._sizes[part]
            label = ' '.join(step.removesuffix('_wf').replace('_', ' ') for step in within)
            self.tally.step(name, label, node_seconds(node, voxels, echoes, self._speed), status)

    def settle(self, acquisition):
        self.tally.settle(acquisition.name)

    def _draw(self):
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        rows = Table.grid(padding=(0, 2))
        for name, fraction, label, seconds in self.tally.active():
            rows.add_row(name, ProgressBar(1, fraction, width=_BAR), f'{fraction:4.0%}',
                         f'{label} {clock_text(seconds)}' if label else '', style='dim')
        ended, known = self.tally.ended()
        left = self.tally.remaining()
        counted = f'{ended} of {known}' + (' so far' if self.tally.known < self.tally.participants else '')
        counted = counted if known else 'reading the data set'
        rows.add_row(counted, ProgressBar(1, self.tally.fraction(), width=_BAR), f'{self.tally.fraction():4.0%}',
                     f'{clock_text(time.monotonic() - self._start)} passed'
                     + (f', about {clock_text(left)} left' if left and left >= 1 else ''))
        return rows


def show_progress(participants, cores):
    """Return the display of a run: a live one if standard output is a terminal, else one that shows nothing."""
    if not sys.stdout.isatty():
        return Silence()
    from rich.console import Console
    console = Console()
    if console.is_dumb_terminal:
        return Silence()
    from qsmbids.workflows.estimate import measure_speed
    return Display(participants, cores, measure_speed(), console)


def clock_text(seconds):
    """Return a duration such as ``1:02:03`` or ``4:05``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else f'{minutes}:{seconds:02d}'
