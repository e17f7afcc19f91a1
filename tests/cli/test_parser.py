import subprocess
import sys
import time

import pytest

from qsmbids.cli.parser import build_parser, parse
from qsmbids.core import methods


@pytest.fixture
def arguments(tmp_path):
    (tmp_path / 'in').mkdir()
    return [str(tmp_path / 'in'), str(tmp_path / 'out'), 'participant', '-w', str(tmp_path / 'work')]


def refused(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        parse(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_help_answers_at_once():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, '-m', 'qsmbids', '--help'], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5


@pytest.mark.parametrize('flags, text', [
    (['--inversion', 'magic'], 'magic'), (['--inversion', 'tv', 'rts', '--inversion-lambda', '1'], 'one --inversion'),
    (['--inversion-lambda', '-1'], 'positive'), (['--nprocs', '0'], 'at least 1'), (['--mem', 'much'], 'memory'),
    (['--nprocs', '1', '--omp-nthreads', '2'], 'more than'), (['-d', 'x'], 'NAME=PATH'),
    (['-d', 'x=/nowhere/at/all'], 'no folder'), (['--residual-threshold', '3'], '(0, 2]'),
    (['--output-spaces', 'MNI'], 'native'), (['--bids-filter-file', '/nowhere'], 'no file'), (['--colour'], '--colour'),
    (['--boilerplate-only', '--reports-only'], 'exclude')])
def test_wrong_flags_get_a_clear_error(capsys, arguments, flags, text):
    assert text in refused(capsys, [*arguments, *flags])


def test_guards_of_the_folders(capsys, arguments, tmp_path):
    bids, out, level = arguments[:3]
    assert 'output_dir is bids_dir' in refused(capsys, [bids, bids, level])
    assert 'inside the input' in refused(capsys, [bids, out, level, '-w', f'{bids}/work'])
    assert 'would delete' in refused(capsys, [bids, out, level, '-w', str(tmp_path), '--clean-workdir'])
    assert 'no folder' in refused(capsys, [f'{bids}x', out, level])


def test_choices_are_the_tables():
    choices = {action.dest: action.choices for action in build_parser()._actions if action.choices}
    assert choices['inversion'] == tuple(methods.INVERSION)
    assert choices['background'] == tuple(methods.BACKGROUND)
    assert choices['unwrapping'] == tuple(methods.UNWRAPPING)


def test_memory_units(arguments):
    assert parse([*arguments, '--mem', '8000MB']).mem == pytest.approx(8)
    assert parse([*arguments, '--mem', '8']).mem == pytest.approx(8)
