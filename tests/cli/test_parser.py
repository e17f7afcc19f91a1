import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from qsmbids.cli.parser import build_parser, parse
from qsmbids.core import methods
from qsmbids.core.methods import PRESETS, departures


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
    (['--mask-margin', '-1'], '[0, 100)'),
    (['--output-spaces', 'a/b'], 'no name of a template'),
    (['--subcortical', 'atlas'], 'needs an --atlas'), (['--subcortical', 'x'], 'invalid choice'),
    (['--bids-filter-file', '/nowhere'], 'no file'), (['--colour'], '--colour'),
    (['--preset', 'best'], 'best'),
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


def test_a_preset_sets_what_nothing_else_does(arguments, tmp_path):
    assert parse(arguments).preset == 'none'
    consensus = parse([*arguments, '--preset', 'consensus'])
    assert {name: getattr(consensus, name) for name in PRESETS['consensus']} == PRESETS['consensus']
    assert departures(asdict(consensus)) == {}
    chosen = parse([*arguments, '--preset', 'consensus', '--background', 'pdf', '--reference', 'csf'])
    assert (chosen.background, chosen.reference, chosen.inversion) == ('pdf', 'csf', ('whqsm',))
    assert departures(asdict(chosen)) == {'background': 'pdf', 'reference': 'csf'}
    # The strength belongs to the method of the preset, and is not handed on to another.
    for inversion in (['tv'], ['whqsm', 'rts']):
        assert parse([*arguments, '--preset', 'consensus', '--inversion', *inversion]).inversion_lambda is None
    assert parse([*arguments, '--preset', 'consensus', '--inversion-lambda', '1e-4']).inversion_lambda == 1e-4


def test_a_preset_in_a_file_yields_to_the_file_and_the_command_line(arguments, tmp_path):
    path = tmp_path / 'config.toml'
    path.write_text('preset = "consensus"\nreference = "csf"\n')
    config = parse([*arguments, '--config-file', str(path), '--echo-fit', 'nonlinear'])
    assert (config.reference, config.echo_fit, config.inversion) == ('csf', 'nonlinear', ('whqsm',))
    path.write_text(config.to_toml())
    assert parse([*arguments, '--config-file', str(path)]) == config


def test_the_consensus_preset_is_the_example_of_the_recommendation():
    preset = PRESETS['consensus']
    background, (inversion,) = methods.BACKGROUND[preset['background']], preset['inversion']
    radii = background.parameters()
    assert (radii['max_radius'], radii['min_radius'], radii['radius_step']) == (12, 1, 1)
    solver = methods.INVERSION[inversion].parameters({'lambda': preset['inversion_lambda']})
    assert solver['lambda'] * solver['phase_scale'] == pytest.approx(5e-4)
    assert preset['mending'] is False and preset['erosion'] is True and preset['mask_margin'] == 0
    assert (solver['beta'], solver['max_iterations'], solver['tol']) == (150, 400, 1e-3)
    assert methods.INVERSION[inversion].consensus and background.consensus


def test_the_deep_preset_is_networks_beside_a_method_of_the_consensus(arguments):
    chosen = parse([*arguments, '--preset', 'deep'])
    network, beside = (methods.INVERSION[name] for name in chosen.inversion)
    assert methods.BACKGROUND[chosen.background].weights and network.weights
    assert beside.consensus and not beside.weights and chosen.inversion_lambda is None


def test_the_pediatric_preset_leaves_out_what_is_known_of_adults_alone(arguments):
    chosen = parse([*arguments, '--preset', 'pediatric'])
    assert (chosen.mask_method, chosen.reference, chosen.microbleeds) == ('network', 'csf', False)
    chosen = parse([*arguments, '--preset', 'pediatric', '--microbleeds'])
    assert chosen.microbleeds and departures(asdict(chosen)) == {'microbleeds': True}


def test_memory_units(arguments):
    assert parse([*arguments, '--mem', '8000MB']).mem == pytest.approx(8)
    assert parse([*arguments, '--mem', '8']).mem == pytest.approx(8)
