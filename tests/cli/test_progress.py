"""The display: what it counts is right, it ends where it should, and without a terminal there is none."""

import io
import logging
import sys
from types import SimpleNamespace

import pytest
from nipype.interfaces.utility import Function, IdentityInterface
from nipype.pipeline import engine as pe
from rich.console import Console

from qsmbids.cli import progress
from qsmbids.cli.progress import Display, Silence, Tally, clock_text, show_progress
from qsmbids.workflows.run import configure_nipype, make_plugin, run_workflow


@pytest.fixture
def clock():
    """A clock that is set by hand."""
    now = SimpleNamespace(time=100.0)
    now.read = lambda: now.time
    return now


def test_work_is_counted_by_its_seconds(clock):
    tally = Tally(2, 1, clock.read)
    assert tally.fraction() == 0 and tally.remaining() is None
    tally.known = 2
    tally.plan('a', 3, 30.0)
    tally.plan('b', 1, 10.0)
    tally.step('a', 'long', 20.0, 'start')
    clock.time += 5
    assert tally.fraction() == pytest.approx(5 / 40)
    clock.time += 995   # a step that is late is not done before it ends
    assert tally.fraction() == pytest.approx(19 / 40)
    assert tally.active() == [('a', pytest.approx(19 / 30), 'long', 1000)]
    tally.step('a', 'long', 20.0, 'end')
    assert tally.fraction() == pytest.approx(.5) and tally.ended() == (0, 2)
    tally.settle('a')
    tally.settle('b')
    assert tally.fraction() == 1 and tally.remaining() == 0 and tally.ended() == (2, 2) and not tally.active()


def test_the_rest_takes_as_long_as_what_was_done(clock):
    tally = Tally(1, 1, clock.read)
    tally.known = 1
    tally.plan('a', 10, 1000.0)
    assert tally.remaining() == pytest.approx(1000)    # as estimated
    for step in range(5):
        tally.step('a', str(step), 100.0, 'start')
        clock.time += 300                               # three times as long
        tally.step('a', str(step), 100.0, 'end')
    assert 1400 < tally.remaining() <= 1500


def test_participants_that_are_not_known_yet_count_like_the_others(clock):
    tally = Tally(10, 1, clock.read)
    tally.known = 2
    tally.plan('a', 1, 10.0)
    tally.plan('b', 1, 30.0)
    tally.settle('a')
    tally.settle('b')
    clock.time += 40
    assert tally.fraction() == pytest.approx(.2) and tally.remaining() == pytest.approx(160)


def test_more_cores_promise_less_time(clock):
    left = []
    for cores in (1, 4):
        tally = Tally(1, cores, clock.read)
        tally.known = 1
        tally.plan('a', 1, 100.0)
        left.append(tally.remaining())
    assert left[1] < left[0] / 3


def test_steps_of_others_and_ends_without_a_beginning_do_no_harm(clock):
    tally = Tally(1, 1, clock.read)
    tally.plan('a', 1, 10.0)
    tally.step('nobody', 'x', 1.0, 'start')
    tally.step('a', 'skipped', 50.0, 'exception')
    assert tally.fraction() == 1


def succeed(x):
    return x


def fail(x):
    raise ValueError('wrong')


@pytest.mark.parametrize('nprocs', [1, 2])
def test_a_run_is_shown_from_its_first_to_its_last_step(tmp_path, nprocs, monkeypatch):
    configure_nipype(stop_on_first_crash=False, resource_monitor=False, crash_folder=tmp_path / 'crash')
    own = pe.Workflow('sub_1_wf')
    for name, function in (('good', succeed), ('bad', fail)):
        node = pe.Node(Function(input_names=['x'], output_names=['out'], function=function), name=name)
        node.inputs.x = 1
        own.add_nodes([node])
    own.add_nodes([pe.Node(IdentityInterface(['x']), name='inputnode')])
    workflow = pe.Workflow('wf', base_dir=str(tmp_path))
    workflow.add_nodes([own])
    screen = io.StringIO()
    acquisition = SimpleNamespace(name='sub-1', shape=(8, 8, 8), echo_times=(.01, .02))
    handler = logging.StreamHandler(sys.__stderr__)
    logging.getLogger().addHandler(handler)
    try:
        with Display(1, nprocs, 1.0, Console(file=screen, force_terminal=True, width=100)) as display:
            display.know(1)
            display.plan([acquisition], workflow)
            run_workflow(workflow, *make_plugin(nprocs=nprocs, memory_gb=1, on_step=display.callback))
            part = display.tally.parts['sub-1']
            assert (part.steps, part.ended, part.running) == (2, 2, {})
            assert display.tally.fraction() == pytest.approx(1)
            display.settle(acquisition)
            logging.getLogger('qsmbids').error('above the display')
        assert handler.stream is sys.__stderr__
    finally:
        logging.getLogger().removeHandler(handler)
    assert '1 of 1' in screen.getvalue() and 'left' not in screen.getvalue().splitlines()[-1]
    assert 'above the display' in screen.getvalue()


def test_nothing_is_shown_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr(progress.sys, 'stdout', io.StringIO())
    found = show_progress(3, 1)
    assert isinstance(found, Silence) and found.callback is None
    with found:
        found.know(1)
        found.plan([], None)
        found.settle(None)


@pytest.mark.parametrize('seconds, text', [(0, '0:00'), (65.4, '1:05'), (3599.7, '1:00:00'), (36061, '10:01:01')])
def test_durations(seconds, text):
    assert clock_text(seconds) == text
