import gc
import os
import subprocess
import sys
import time

import psutil
import pytest
from nipype.interfaces.utility import Function
from nipype.pipeline import engine as pe
from nipype.pipeline.plugins.linear import LinearPlugin

from qsmbids.workflows import run
from qsmbids.workflows.run import configure_nipype, crash_reason, find_failure, make_plugin, run_workflow


def kill_yourself():
    import os
    import signal
    os.kill(os.getpid(), signal.SIGKILL)


def double(x):
    return 2 * x


def fail(x):
    raise ValueError(f'{x} is wrong, must be right')


@pytest.fixture
def workflow(tmp_path):
    configure_nipype(stop_on_first_crash=False, resource_monitor=False, crash_folder=tmp_path / 'crash')
    return pe.Workflow('wf', base_dir=str(tmp_path))


def node(function, name, **inputs):
    made = pe.Node(Function(input_names=list(inputs), output_names=['out'], function=function), name=name)
    for key, value in inputs.items():
        setattr(made.inputs, key, value)
    return made


@pytest.mark.parametrize('nprocs', [1, 2])
def test_a_failed_node_is_found_with_its_reason(workflow, tmp_path, nprocs):
    start = time.time()
    workflow.add_nodes([node(fail, 'bad', x=3), node(double, 'good', x=4)])
    assert run_workflow(workflow, *make_plugin(nprocs=nprocs, memory_gb=1))
    reason, path = find_failure(tmp_path / 'crash', start)
    assert reason == '3 is wrong, must be right' and os.path.isfile(path)
    assert (tmp_path / 'wf' / 'good' / 'result_good.pklz').is_file()
    assert find_failure(tmp_path / 'crash', time.time() + 10) is None


def test_a_killed_worker_fails_its_node_and_the_rest_goes_on(workflow, tmp_path):
    start = time.time()
    first = node(kill_yourself, 'killed')
    workflow.add_nodes([first])
    for index in range(4):
        workflow.add_nodes([node(double, f'good{index}', x=index)])
    after = node(double, 'after', x=1)
    workflow.connect(first, 'out', after, 'x')
    plugin, arguments = make_plugin(nprocs=2, memory_gb=1)
    assert run_workflow(workflow, plugin, arguments)
    reason, _ = find_failure(tmp_path / 'crash', start)
    assert 'killed' in reason and '--mem' in reason
    assert time.time() - start < 60
    finished = [i for i in range(4) if (tmp_path / 'wf' / f'good{i}' / f'result_good{i}.pklz').is_file()]
    # At most the one that ran beside the killed node is lost with the pool.
    assert len(finished) >= 3


@pytest.mark.parametrize('nprocs', [1, 2])
def test_one_batch_after_another(tmp_path, workflow, nprocs):
    """A cohort is taken in batches by one plugin; the first has a failure."""
    plugin, arguments = make_plugin(nprocs=nprocs, memory_gb=1)
    for number in range(3):
        batch = pe.Workflow(f'batch{number}', base_dir=str(tmp_path))
        batch.add_nodes([node(double, f'good{number}', x=number), node(fail, 'bad', x=1)][:2 if number == 0 else 1])
        assert bool(run_workflow(batch, plugin, arguments)) == (number == 0)
        assert (tmp_path / f'batch{number}' / f'good{number}' / f'result_good{number}.pklz').is_file()


def test_waiting_for_a_worker_takes_no_time(workflow):
    workflow.add_nodes([node(occupy, 'long', seconds=3)])
    plugin, arguments = make_plugin(nprocs=2, memory_gb=1)
    looks = []
    plugin._check_resources = lambda tasks: looks.append(tasks) or type(plugin)._check_resources(plugin, tasks)
    run_workflow(workflow, plugin, arguments)
    assert 2 <= len(looks) < 20  # nipype's own looks 50 times a second
    assert gc.get_freeze_count() == 0


SLEEPER = """
import sys
from nipype.pipeline import engine as pe
from nipype.interfaces.utility import Function
from qsmbids.workflows.run import configure_nipype, make_plugin

def sleep(path):
    import os, time
    open(path, 'w').write(str(os.getpid()))
    time.sleep(600)

if __name__ == '__main__':
    folder = sys.argv[1]
    configure_nipype(stop_on_first_crash=False, resource_monitor=False, crash_folder=folder)
    workflow = pe.Workflow('wf', base_dir=folder)
    node = pe.Node(Function(input_names=['path'], output_names=[], function=sleep), name='sleeper')
    node.inputs.path = folder + '/pid'
    workflow.add_nodes([node])
    plugin, arguments = make_plugin(nprocs=2, memory_gb=1)
    workflow.run(plugin=plugin, plugin_args=arguments)
"""


def test_workers_end_with_a_run_that_is_killed(tmp_path):
    (tmp_path / 'run.py').write_text(SLEEPER)
    process = subprocess.Popen([sys.executable, tmp_path / 'run.py', tmp_path])
    pid = tmp_path / 'pid'
    while process.poll() is None and not (pid.is_file() and pid.read_text()):
        time.sleep(0.1)
    worker = psutil.Process(int(pid.read_text()))
    process.kill()
    process.wait()
    worker.wait(timeout=60)


@pytest.mark.parametrize('text, reason', [
    ('Traceback:\n  File "x"\nqsmbids.files.FileError: a.nii: is truncated. Copy it again.\n',
     'a.nii: is truncated. Copy it again.'),
    ('Traceback:\nMemoryError: no room\n', 'MemoryError: no room'),
    ('nonsense', 'no exception was recorded; see the crash file')])
def test_the_reason_of_a_crash_is_one_line(text, reason):
    assert crash_reason(text) == reason


@pytest.mark.parametrize('name, text, message', [
    ('p.toml', 'plugin = "SLURMGraph"', 'SLURMGraph'), ('p.json', '{}', 'must name a plugin'),
    ('p.json', '{', 'cannot be read')])
def test_wrong_plugin_files(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        make_plugin(nprocs=2, memory_gb=1, plugin_file=path)


def test_plugin_file(tmp_path):
    path = tmp_path / 'p.toml'
    path.write_text('plugin = "SGE"\n[plugin_args]\nqsub_args = "-q long"\n')
    assert make_plugin(nprocs=2, memory_gb=1, plugin_file=path) == ('SGE', {'qsub_args': '-q long'})


def test_without_shared_memory_steps_run_one_at_a_time(monkeypatch):
    def refuse(self, plugin_args=None):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(run.WorkerPool, '__init__', refuse)
    plugin, _ = make_plugin(nprocs=2, memory_gb=1)
    assert isinstance(plugin, LinearPlugin)


def test_nodes_as_jobs_of_slurm(slurm, workflow, tmp_path, monkeypatch):
    """What the plugin makes of a good node, one that fails, one that is killed, and one that needs that."""
    monkeypatch.delenv('LOGNAME', raising=False)
    settings = tmp_path / 'slurm.toml'
    settings.write_text('plugin = "SLURM"\n[plugin_args]\nsbatch_args = "--time=5 --mem=300M"\n')
    start = time.time()
    killed = node(kill_yourself, 'killed')
    after = node(double, 'after', x=1)
    workflow.add_nodes([killed, node(fail, 'bad', x=3), node(double, 'good', x=4)])
    workflow.connect(killed, 'out', after, 'x')
    for each in workflow._get_all_nodes():
        each.plugin_args = {'sbatch_args': '--cpus-per-task=1'}
    assert run_workflow(workflow, *make_plugin(nprocs=2, memory_gb=1, plugin_file=settings))
    crashes = {p.name.split('-')[4]: crash_reason(p.read_text()) for p in (tmp_path / 'crash').iterdir()
               if p.stat().st_mtime >= start}
    assert crashes['bad'] == '3 is wrong, must be right'
    assert 'ended without a result' in crashes['killed'] and 'memory' in crashes['killed']
    assert (tmp_path / 'wf' / 'good' / 'result_good.pklz').is_file() and set(crashes) == {'bad', 'killed'}


def occupy(seconds):
    import time
    start = time.time()
    time.sleep(seconds)
    return start, time.time()


@pytest.mark.parametrize('needs', [{'mem_gb': 0.6}, {'n_procs': 2}])
def test_memory_and_cores_bound_what_runs_at_once(workflow, tmp_path, needs):
    for index in range(3):
        each = node(occupy, f'node{index}', seconds=0.3)
        for name, value in needs.items():
            setattr(each, f'_{name}', value)
        workflow.add_nodes([each])
    plugin, _ = make_plugin(nprocs=2, memory_gb=1)
    spans = sorted(done.result.outputs.out for done in workflow.run(plugin=plugin).nodes())
    assert all(before[1] <= after[0] for before, after in zip(spans, spans[1:]))
