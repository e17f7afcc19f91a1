"""How many cores and how much memory this process may use: the least of machine, control group and SLURM."""

import os
import re
from pathlib import Path
from typing import NamedTuple

CGROUP_ROOT, OWN_CGROUPS = Path('/sys/fs/cgroup'), Path('/proc/self/cgroup')
# Of what there is; the rest is for the system and for what an estimate may be wrong by.
_SHARE = 0.9


class Limits(NamedTuple):
    """Cores in all, cores for one step, memory in GB, and who set the limit of the memory."""

    nprocs: int
    threads: int
    memory_gb: float
    source: str


def limits(config):
    """Return what a run may use: what its settings say, or else what there is."""
    nprocs = config.nprocs or available_cores()
    memory_gb, source = (config.mem, '--mem') if config.mem else available_memory_gb()
    return Limits(nprocs, min(config.omp_nthreads or 8, nprocs), memory_gb, source)


def available_cores():
    """Return the number of cores that may be used."""
    limits = [len(os.sched_getaffinity(0))]
    for folder in _groups('cpu'):
        found = _read(folder, 'cpu.max') or _read(folder, 'cpu.cfs_quota_us') + _read(folder, 'cpu.cfs_period_us')
        if len(found) == 2 and found[0] > 0:
            limits.append(max(1, found[0] // found[1]))
    if (granted := os.environ.get('SLURM_CPUS_PER_TASK', '')).isdigit():
        limits.append(max(1, int(granted)))
    return min(limits)


def available_memory_gb():
    """Return the memory to plan with, in GB, and where the limit comes from: machine, control group or SLURM."""
    import psutil
    limits = {'machine': psutil.virtual_memory().available / 1e9}
    groups = [limit for folder in _groups('memory')
              for limit in _read(folder, 'memory.max') + _read(folder, 'memory.limit_in_bytes')]
    if groups:
        limits['control group'] = min(groups) / 1e9
    granted = os.environ.get('SLURM_MEM_PER_NODE', '')
    if granted.isdigit() and int(granted):  # in MiB; 0 stands for all of it
        limits['SLURM'] = int(granted) * 2 ** 20 / 1e9
    source = min(limits, key=limits.get)
    return limits[source] * _SHARE, source


def _groups(controller):
    """Yield the folders of this process's control groups for a controller, and of all groups that these are in."""
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = line.split(':', 2)
        # Version 2 has one hierarchy without a name, version 1 one for each controller.
        if names and controller not in names.split(','):
            continue
        top = CGROUP_ROOT / (controller if names else '')
        # In a container the group's own folder is often the top of what can be seen.
        folder = top / path.strip('/')
        yield from (place for place in (folder, *folder.parents) if place.is_relative_to(top))


def _read(folder, name):
    """Return the numbers in a file of a control group; none if it is missing or says max."""
    try:
        return tuple(int(number) for number in re.findall(r'-?\d+', (folder / name).read_text()))
    except OSError:
        return ()
