"""Running a workflow: nipype's settings, the plugin, and what became of each acquisition."""

import gc
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import re
import threading
import tomllib
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
from nipype import config as nipype_config
from nipype.pipeline.plugins.linear import LinearPlugin
from nipype.pipeline.plugins.multiproc import MultiProcPlugin, run_node
from nipype.pipeline.plugins.slurm import SLURMPlugin

from qsmbids.files import cannot_write
from qsmbids.workflows.server import start_server

_LONGEST_WAIT = 1.  # for a worker, s
_RAISED = re.compile(r'^(?:[\w.]+\.)?(\w*(?:Error|Exception|Killed|Interrupt|Pool))(?:: (.*))?$')


class WorkerPool(MultiProcPlugin):
    """Nipype's process pool, but a worker that is killed fails its node, and waiting for a worker takes no time.

    Nipype's own would hang at a killed worker; it looks for results, and for garbage among all objects, many times a
    second.
    """

    def __init__(self, plugin_args=None):
        super().__init__(plugin_args=plugin_args)
        self._finished = threading.Event()
        self.pool.shutdown(wait=False)  # it has started no worker yet, and each run has its own

    def _new_pool(self):
        return ProcessPoolExecutor(self.processors, mp_context=start_server(), initializer=_start_worker,
                                   initargs=(self._cwd, logging.getLogger('nipype').level))

    def run(self, graph, config, updatehash=False):
        self.pool = self._new_pool()
        gc.collect()
        gc.freeze()  # what was imported is no garbage
        try:
            super().run(graph, config, updatehash=updatehash)
        finally:
            gc.unfreeze()
            self.pool.shutdown(wait=False, cancel_futures=True)

    def _send_procs_to_workers(self, updatehash=False, graph=None):
        done = np.count_nonzero(self.proc_done)
        super()._send_procs_to_workers(updatehash=updatehash, graph=graph)
        # What was done or begun just now may have made others ready.
        if self.pending_tasks and np.count_nonzero(self.proc_done) == done:
            self._finished.wait(_LONGEST_WAIT)
            self._finished.clear()

    def _submit_job(self, node, updatehash=False):
        try:
            return self._submit(node, updatehash)
        except BrokenProcessPool:
            # A worker died since the last job. What ran then has failed; a new pool goes on with the rest.
            self.pool.shutdown(wait=False, cancel_futures=True)
            self.pool = self._new_pool()
            return self._submit(node, updatehash)

    def _submit(self, node, updatehash):
        future = self.pool.submit(run_node, node, updatehash, self._taskid + 1)
        self._taskid += 1
        self._task_obj[self._taskid] = future
        future.add_done_callback(partial(self._record, self._taskid))
        return self._taskid

    def _record(self, taskid, future):
        error = future.exception()
        if error is None:
            self._taskresult[taskid] = future.result()
        else:
            reason = (f'{type(error).__name__}: the worker process was killed; most often the machine ran out of '
                      'memory: give --mem, --nprocs or --low-mem')
            self._taskresult[taskid] = {'result': None, 'traceback': [reason], 'taskid': taskid}
        self._finished.set()


class SlurmJobs(SLURMPlugin):
    """Nipype's plugin that makes a job of each node, except that a job that is killed fails its node, not the run."""

    def _get_result(self, taskid):
        found = super()._get_result(taskid)
        if found and isinstance(found['traceback'], str):
            found['traceback'] = [f'JobError: job {taskid} of SLURM ended without a result; most often it took more '
                                  'memory or time than sbatch_args gives. Its last words are in the folder batch of '
                                  'the work directory.']
        return found


def _start_worker(folder, log_level):
    # A worker waits for work for ever, also when whoever gives it was killed.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(folder)
    set_nipype_log_level(log_level)


def _end_with_parent():
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def set_nipype_log_level(level):
    """Make nipype, which speaks through handlers of its own, as quiet as asked."""
    for name in ('nipype', 'nipype.workflow', 'nipype.interface', 'nipype.utils', 'nipype.filemanip'):
        logging.getLogger(name).setLevel(level)
        logging.getLogger(name).propagate = False


def configure_nipype(*, stop_on_first_crash, resource_monitor, crash_folder, log_level=logging.CRITICAL):
    """Set nipype's configuration; must come before any node is made, since each node copies it."""
    nipype_config.update_config({
        'execution': {'crashfile_format': 'txt', 'crashdump_dir': str(crash_folder), 'check_version': False,
                      'stop_on_first_crash': stop_on_first_crash, 'poll_sleep_duration': 0.02,
                      'remove_unnecessary_outputs': False, 'keep_inputs': True,
                      # Fewer files, and none that several runs with one work directory would write at once.
                      'create_report': False},
        'monitoring': {'enabled': resource_monitor, 'sample_frequency': 0.5, 'summary_append': True}})
    set_nipype_log_level(log_level)
    if resource_monitor:
        nipype_config.enable_resource_monitor()


def make_plugin(*, nprocs, memory_gb, one_at_a_time=False, plugin_file=None, on_step=None):
    """Return the plugin that runs the nodes, that of a settings file or ours, and its arguments.

    Parameters
    ----------
    nprocs : int
    memory_gb : float
    one_at_a_time : bool
    plugin_file : path, optional
    on_step : callable, optional
        Called with a node and ``'start'``, ``'end'`` or ``'exception'``; not by the plugins of others.

    Raises
    ------
    ValueError
        If the settings file cannot be read or names no plugin.
    """
    steps = {'status_callback': on_step} if on_step else {}
    if plugin_file is not None:
        settings = _read_settings(plugin_file)
        if not isinstance(settings, dict) or 'plugin' not in settings:
            raise ValueError(f'{plugin_file}: must name a plugin, such as plugin = "MultiProc"')
        if settings['plugin'] == 'SLURMGraph':
            raise ValueError(f'{plugin_file}: SLURMGraph reports success when nodes fail; use SLURM or MultiProc')
        os.environ.setdefault('LOGNAME', str(os.getuid()))  # the SLURM plugin names its jobs by it
        arguments = settings.get('plugin_args', {})
        return (SlurmJobs(plugin_args=arguments | steps) if settings['plugin'] == 'SLURM' else settings['plugin']
                ), arguments
    if nprocs == 1 or one_at_a_time:
        return LinearPlugin(plugin_args=steps), {}
    arguments = {'n_procs': nprocs, 'memory_gb': memory_gb, 'raise_insufficient': False}
    try:
        return WorkerPool(plugin_args=arguments | steps), arguments
    except OSError as error:  # no shared memory, as in some containers
        logging.getLogger('qsmbids').warning('worker processes cannot be had (%s); steps run one at a time', error)
        return LinearPlugin(plugin_args=steps), {}


def run_workflow(workflow, plugin, plugin_args):
    """Run all nodes that can be run; failures are left to :func:`find_failure`.

    Returns
    -------
    str or None
        What nipype says if something failed.
    """
    try:
        workflow.run(plugin=plugin, plugin_args=deepcopy(plugin_args))
    except OSError as error:  # from nipype's own files
        name = error.filename2 or error.filename or workflow.base_dir
        return str(cannot_write(name, error))
    except Exception as error:  # nipype raises RuntimeError, or what the plugin raised
        return f'{type(error).__name__}: {error}'
    return None


def find_failure(crash_folder, since):
    """Return reason and path of the first crash file written since a time, or None."""
    crashes = [p for p in Path(crash_folder).glob('crash-*') if p.stat().st_mtime >= since]
    if not crashes:
        return None
    first = min(crashes, key=lambda p: p.stat().st_mtime)
    return crash_reason(first.read_text(encoding='utf-8', errors='replace')), str(first)


def crash_reason(text):
    """Return the last exception of a crash report in one line: its message, or its type and message."""
    raised = [found for line in text.splitlines() if (found := _RAISED.match(line.strip()))]
    if not raised:
        return 'no exception was recorded; see the crash file'
    kind, message = raised[-1].groups()
    if kind in ('FileError', 'ValueError', 'BIDSInputError') and message:
        return message
    return f'{kind}: {message}' if message else kind


def _read_settings(path):
    text = Path(path).read_text(encoding='utf-8')
    try:
        if Path(path).suffix == '.toml':
            return tomllib.loads(text)
        if Path(path).suffix == '.json':
            return json.loads(text)
        import yaml
        return yaml.safe_load(text)
    except Exception as error:  # three parsers, three families of errors
        raise ValueError(f'{path}: cannot be read ({error})') from None
