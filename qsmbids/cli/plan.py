"""``--dry-run``: what would run, on what, how long and with how much memory. Nothing is written."""

import math
import sys

from qsmbids.cli.environment import run_command
from qsmbids.cli.resources import limits


class Planner:
    """Estimates of acquisitions with the settings of a run; those of one kind are made once.

    Parameters
    ----------
    config : qsmbids.config.Config
    allowed : qsmbids.cli.resources.Limits
    speed : float
        As from :func:`qsmbids.workflows.estimate.measure_speed`.
    """

    def __init__(self, config, allowed, speed=1.0):
        self.config, self.allowed, self.speed = config, allowed, speed
        self._steps, self._estimates = {}, {}

    def estimate(self, acquisitions):
        """Return the :class:`qsmbids.workflows.estimate.Estimate` of acquisitions that run together."""
        from qsmbids.workflows.estimate import estimate, join
        kinds = tuple(self._kind(acquisition) for acquisition in acquisitions)
        if kinds not in self._estimates:
            self._estimates[kinds] = estimate(
                join(self._list_steps(kind, acquisition) for kind, acquisition in zip(kinds, acquisitions)),
                self.allowed.nprocs, self.allowed.memory_gb, self.config.low_mem)
        return self._estimates[kinds]

    def _kind(self, acquisition):
        from qsmbids.bids import find_brain_mask, find_r2_map
        from qsmbids.workflows.base import find_regions
        own = self.config.derivatives
        regions, _ = find_regions(self.config, acquisition)
        return (acquisition.shape, len(acquisition.echo_times), tuple(acquisition.files),
                bool(find_brain_mask(own, acquisition)), bool(find_r2_map(own, acquisition)),
                regions and (regions.rung, regions.aligned))

    def _list_steps(self, kind, acquisition):
        from qsmbids.workflows.base import init_single_wf
        from qsmbids.workflows.estimate import list_steps
        if kind not in self._steps:
            workflow = init_single_wf(self.config, acquisition, self.allowed.threads)
            self._steps[kind] = list_steps(workflow, math.prod(acquisition.shape), len(acquisition.echo_times),
                                           self.speed)
        return self._steps[kind]


def run(config):
    """Print the plan of a participant-level run and return the exit code."""
    return run_command('qsmbids', lambda: _print_plan(config))


def _print_plan(config):
    from qsmbids.bids import BIDSInputError, check_sessions, find_subjects, read_filter
    from qsmbids.reports.status import latest_states
    from qsmbids.workflows.estimate import measure_speed
    try:
        subjects = find_subjects(config.bids_dir, config.participant_label)
        check_sessions(config.bids_dir, subjects, config.session_label)
        bids_filter = read_filter(config.bids_filter_file) if config.bids_filter_file else None
    except BIDSInputError as error:
        print(f'qsmbids: {error}', file=sys.stderr)
        return 2
    allowed = limits(config)
    planner = Planner(config, allowed, measure_speed())
    source = '' if allowed.source == '--mem' else f' (90 % of what the {allowed.source} gives)'
    print(f'qsmbids --dry-run: nothing is written. {allowed.nprocs} cores, {allowed.threads} for one step; '
          f'{allowed.memory_gb:.1f} GB{source}; speed of a core {planner.speed:.1f} times that of the table of costs')
    print(_line('acquisition', 'voxels', 'echoes', 'time', 'GB', 'largest step'))
    done = {row['acquisition'] for row in latest_states(config.output_dir) if row['state'] == 'complete'}
    seconds, peak, count = 0.0, 0.0, 0
    for batch in batches(subjects, allowed.nprocs):
        usable = _print_batch(config, batch, bids_filter, planner, done)
        if usable:
            together = planner.estimate(usable)
            seconds, peak, count = seconds + together.seconds, max(peak, together.gigabytes), count + len(usable)
    print(f'in all {count} acquisitions, {_clock(seconds)}, {peak:.2f} GB at most, from an empty work directory and '
          'with kernels compiled; a second run takes from the work directory what is there')
    return 0 if count else 65


def _print_batch(config, subjects, bids_filter, planner, done):
    """Print a line for each acquisition of some participants; return the usable ones."""
    from qsmbids.bids import find_acquisitions, load_layout
    layout = load_layout(config.bids_dir, subjects, validate=not config.skip_bids_validation,
                         database_dir=config.bids_database_dir)
    found = find_acquisitions(layout, subjects, sessions=config.session_label, bids_filter=bids_filter)
    for subject in sorted(set(subjects) - {a.subject for a in found}):
        print(_line(f'sub-{subject}', note='unusable: no MEGRE or T2starw images that fit what was asked for'))
    usable = []
    for acquisition in found:
        if acquisition.problems:
            print(_line(acquisition.name, note=f'unusable: {" ".join(acquisition.problems)}'))
            continue
        try:
            alone = planner.estimate([acquisition])
        except Exception as error:  # whatever keeps its workflow from being made, as in a run
            print(_line(acquisition.name, note=f'would fail: {" ".join(str(error).split())}'))
            continue
        usable.append(acquisition)
        notes = ['was complete before'] if acquisition.name in done else []
        if too_large(alone.largest.gigabytes, planner.allowed):
            notes.append(f'more memory than the {planner.allowed.memory_gb:.1f} GB that there are')
        print(_line(acquisition.name, 'x'.join(map(str, acquisition.shape)), len(acquisition.echo_times),
                    _clock(alone.seconds), f'{alone.gigabytes:.2f}', '; '.join([
                        f'{alone.largest.name} {alone.largest.gigabytes:.2f} GB', *notes])))
    return usable


def too_large(step_gb, allowed):
    """Return whether a step does not fit into the memory, even alone."""
    from qsmbids.workflows.estimate import for_steps
    return step_gb > for_steps(allowed.memory_gb)


def batches(subjects, nprocs):
    """Return participants in groups that are run together.

    A batch bounds what is indexed, planned and lost at once, whatever the size of the cohort.
    """
    size = max(8, 2 * nprocs)
    return [subjects[start:start + size] for start in range(0, len(subjects), size)]


def _line(name, shape='', echoes='', clock='', gigabytes='', note=''):
    return f'{name:32s} {shape:>13s} {echoes!s:>6s} {clock:>8s} {gigabytes:>6s}  {note}'.rstrip()


def _clock(seconds):
    minutes = round(seconds / 60)
    return f'{seconds:.0f} s' if seconds < 100 else f'{minutes} min' if minutes < 100 else f'{seconds / 3600:.1f} h'
