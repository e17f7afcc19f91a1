from types import SimpleNamespace

import pytest

from qsmbids.bids import Acquisition
from qsmbids.cli.parser import parse
from qsmbids.cli.plan import Planner
from qsmbids.cli.resources import Limits
from qsmbids.core.methods import BACKGROUND, INVERSION
from qsmbids.workflows import estimate as module
from qsmbids.workflows.base import init_acquisition_wf, method_settings
from qsmbids.workflows.estimate import Step, estimate, for_steps, join, list_steps, node_seconds


@pytest.fixture
def acquisition(tmp_path):
    def build(size=40, echoes=3, subject='1'):
        paths = {part: [tmp_path / f'{part}{echo}.nii' for echo in range(echoes)] for part in ('mag', 'phase')}
        for path in sum(paths.values(), []):
            path.touch()
        files = {part: tuple(map(str, found)) for part, found in paths.items()}
        return Acquisition({'subject': subject}, 'MEGRE', files, tuple(0.01 * (e + 1) for e in range(echoes)), 3.0,
                           123e6, shape=(size, size, size))
    return build


@pytest.fixture
def settings(tmp_path):
    return lambda *flags: parse([str(tmp_path), str(tmp_path / 'out'), 'participant', '-w', str(tmp_path.parent / 'w'),
                                 *flags])


def steps_of(config, found, threads=1):
    workflow = init_acquisition_wf(found, method_settings(config), output_dir='/out', threads=threads)
    return list_steps(workflow, found.shape[0] ** 3, len(found.echo_times))


CHAIN = [Step('a', 1, 1, 1, ()), Step('b', 2, 2, 1, (0,)), Step('c', 4, 3, 1, (0,)), Step('d', 1, 1, 1, (1, 2))]


def test_a_schedule_by_hand():
    start = estimate([Step('none', 0, 0, 1, ())], 1, 9).seconds
    assert estimate(CHAIN, 1, 99).seconds - start == 8
    # Two cores: b runs beside c.
    both = estimate(CHAIN, 2, 99)
    assert both.seconds - start == 6 and both.largest.name == 'c'
    # b and c do not fit side by side.
    assert estimate(CHAIN, 2, 4.5).seconds - start == 8
    assert both.gigabytes - estimate(CHAIN, 2, 4.5).gigabytes == pytest.approx(2 - 0.25)
    assert estimate(CHAIN, 2, 99, one_at_a_time=True) == estimate(CHAIN, 1, 99)


def test_a_step_larger_than_everything_runs_alone_and_the_plan_ends():
    huge = [Step('huge', 1, 50, 16, ()), Step('small', 1, 1, 1, ())]
    assert estimate(huge, 4, 2).seconds == estimate(huge, 1, 2).seconds
    assert for_steps(0.01) > 0


def test_several_acquisitions_share_the_cores():
    many = join([CHAIN, CHAIN, CHAIN])
    assert len(many) == 12 and many[-1].after == (9, 10)
    serial = estimate(many, 1, 99).seconds
    assert serial / 3 < estimate(many, 3, 99).seconds < serial


def test_more_voxels_and_more_echoes_take_more(settings, acquisition):
    small, more, large = (steps_of(settings(), acquisition(*size)) for size in ((32, 3), (32, 8), (64, 3)))
    for one, other in ((small, more), (small, large)):
        assert sum(s.seconds for s in one) < sum(s.seconds for s in other)
        assert max(s.gigabytes for s in one) <= max(s.gigabytes for s in other)
    names = [step.name for step in small]
    assert all(index > before for index, step in enumerate(small) for before in step.after)
    assert {'prepare', 'invert_tv', 'remove_background'} <= set(names)


def test_more_methods_and_fewer_threads_take_longer(settings, acquisition):
    plain, both = settings(), settings('--inversion', 'tv', 'tgv')
    allowed = Limits(1, 1, 8.0, 'test')
    assert Planner(both, allowed).estimate([acquisition()]).seconds > Planner(plain, allowed).estimate(
        [acquisition()]).seconds
    assert sum(s.seconds for s in steps_of(plain, acquisition(), threads=4)) < sum(
        s.seconds for s in steps_of(plain, acquisition(), threads=1))
    assert Planner(plain, allowed, speed=2.0).estimate([acquisition()]).seconds < Planner(plain, allowed).estimate(
        [acquisition()]).seconds


def test_estimates_of_one_kind_are_made_once(settings, acquisition, monkeypatch):
    planner, calls = Planner(settings(), Limits(2, 2, 8.0, 'test')), []
    monkeypatch.setattr('qsmbids.workflows.base.init_acquisition_wf',
                        lambda *a, **k: calls.append(a) or init_acquisition_wf(*a, **k))
    for subject in '123':
        planner.estimate([acquisition(subject=subject)])
    planner.estimate([acquisition(subject=s) for s in '45'])
    assert len(calls) == 1


def test_what_nobody_has_measured_counts_as_twice_the_slowest_of_its_kind(monkeypatch):
    class Invert:
        inputs = SimpleNamespace(method='new')

    class Unheard:
        inputs = SimpleNamespace()

    table = {'Invert:a': [0, 1, 0], 'Invert:b': [0, 5, 0], 'Other': [0, 9, 0]}
    monkeypatch.setattr(module, '_costs', lambda: table)
    for interface, expected in ((Invert(), 10), (Unheard(), 18)):
        node = SimpleNamespace(interface=interface, n_procs=1)
        assert node_seconds(node, 1e6, 1) == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize('kind, methods', [('Invert', INVERSION), ('RemoveBackground', BACKGROUND)])
def test_the_table_has_measured_methods(kind, methods):
    import json

    from qsmbids.workflows.estimate import COSTS
    known = {name.split(':')[1] for name in json.loads(COSTS.read_text())['seconds'] if name.startswith(f'{kind}:')}
    assert len(known & set(methods)) >= 6
