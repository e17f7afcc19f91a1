"""What a run will take, in seconds and memory, before anything runs."""

import json
import time
from functools import cache
from importlib import resources
from typing import NamedTuple

COSTS = resources.files('qsmbids') / 'data' / 'costs.json'
# The interpreter with nipype and pybids, and the server that workers are forked from; a worker that waits; in GB.
MAIN_GB, _IDLE_GB = 0.35, 0.25
# From the command to the first step, and after the last one; what nipype takes for a step; in s.
_START_SECONDS, _STEP_SECONDS = 4.0, 0.1
# How much of its time a second thread saves, at least.
_THREAD_GAIN = 0.5
_PROBE = (96, 96, 96)


class Step(NamedTuple):
    """One node: seconds with its threads, memory in GB, threads, and which steps of the list come before it."""

    name: str
    seconds: float
    gigabytes: float
    threads: int
    after: tuple


class Estimate(NamedTuple):
    """Seconds of the clock, peak memory of all processes in GB, and the step that needs most."""

    seconds: float
    gigabytes: float
    largest: Step


def cost_key(interface):
    """Return the name under which the cost of an interface stands in the table: its class and what it was told to use.

    Parameters
    ----------
    interface : nipype interface
    """
    chosen = [getattr(interface.inputs, name) for name in ('method', 'unwrapping') if hasattr(interface.inputs, name)]
    return ':'.join([type(interface).__name__, *map(str, chosen)])


def list_steps(workflow, voxels, echoes, speed=1.0):
    """Return the steps of an acquisition's workflow, each after those that it needs.

    Parameters
    ----------
    workflow : nipype workflow
        As from :func:`qsmbids.workflows.base.init_acquisition_wf`.
    voxels, echoes : int
        Size of one volume, and how many there are.
    speed : float
        Of this machine, as from :func:`measure_speed`.

    Returns
    -------
    list of Step
    """
    import networkx
    graph = workflow._create_flat_graph()
    nodes = list(networkx.topological_sort(graph))
    place = {node: index for index, node in enumerate(nodes)}
    return [Step(node.name, node_seconds(node, voxels, echoes, speed), node.mem_gb, node.n_procs,
                 tuple(place[before] for before in graph.predecessors(node))) for node in nodes]


def node_seconds(node, voxels, echoes, speed=1.0):
    """Return the seconds that a node takes, with arguments as in :func:`list_steps`; 0 for one that only hands on."""
    key, costs = cost_key(node.interface), _costs()
    if key == 'IdentityInterface':
        return 0.0
    if key in costs:
        fixed, each, echo = costs[key]
    else:  # what nobody has measured is taken for twice the slowest of its kind, or of all
        kin = [cost for name, cost in costs.items() if name.split(':')[0] == key.split(':')[0]]
        fixed, each, echo = (2 * part for part in max(kin or costs.values(), key=lambda cost: cost[1]))
    alone = voxels * 1e-6 * (each + echo * echoes)
    return (_STEP_SECONDS + fixed + alone / (1 + _THREAD_GAIN * (node.n_procs - 1))) / speed


@cache
def _costs():
    return json.loads(COSTS.read_text())['seconds']


def for_steps(memory_gb):
    """Return what is left of an amount of memory for the steps, beside the process that starts them."""
    return max(memory_gb - MAIN_GB, 0.1)


def estimate(steps, nprocs, memory_gb, one_at_a_time=False):
    """Return what a run of steps takes with so many cores and so much memory to plan with.

    It starts steps as nipype does: as soon as what they need is there, and cores and memory are free.

    Parameters
    ----------
    steps : list of Step
    nprocs : int
    memory_gb : float
    one_at_a_time : bool
        As with ``--low-mem``.

    Returns
    -------
    Estimate
    """
    largest = max(steps, key=lambda step: step.gigabytes)
    if one_at_a_time or nprocs == 1:
        return Estimate(_START_SECONDS + sum(step.seconds for step in steps), MAIN_GB + largest.gigabytes, largest)
    now, peak, running, done, memory_gb = 0.0, 0.0, {}, set(), for_steps(memory_gb)
    waiting = dict(enumerate(steps))
    while waiting or running:
        cores = nprocs - sum(steps[index].threads for index in running)
        memory = memory_gb - sum(steps[index].gigabytes for index in running)
        for index, step in list(waiting.items()):
            fits = min(step.threads, nprocs) <= cores and min(step.gigabytes, memory_gb) <= memory
            if fits and done.issuperset(step.after):
                del waiting[index]
                running[index] = now + step.seconds
                cores, memory = cores - step.threads, memory - step.gigabytes
        peak = max(peak, sum(steps[index].gigabytes for index in running) + _IDLE_GB * (nprocs - len(running)))
        first = min(running, key=running.get)
        now = running.pop(first)
        done.add(first)
    return Estimate(_START_SECONDS + now, MAIN_GB + peak, largest)


def join(lists):
    """Return the steps of several acquisitions as those of one run."""
    joined = []
    for steps in lists:
        offset = len(joined)
        joined += [step._replace(after=tuple(offset + index for index in step.after)) for step in steps]
    return joined


def measure_speed():
    """Return how fast one core of this machine is, relative to the one that the table of costs was made on."""
    return json.loads(COSTS.read_text())['probe_seconds'] / probe()


def probe():
    """Return the processor's seconds for a real Fourier transform and its inverse of a fixed volume."""
    import numpy as np
    from scipy.fft import irfftn, rfftn
    volume = np.ones(_PROBE, np.float32)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        irfftn(rfftn(volume, workers=1), _PROBE, workers=1)
        seconds.append(time.process_time() - start)
    return min(seconds)
