import argparse
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from qsmbids.cli.parser import build_parser, parse
from qsmbids.config import Config, read_toml


@pytest.fixture
def arguments(tmp_path):
    (tmp_path / 'in').mkdir()
    return [str(tmp_path / 'in'), str(tmp_path / 'out'), 'participant', '-w', str(tmp_path / 'work')]


def test_round_trip(tmp_path, arguments):
    first = parse([*arguments, '--inversion', 'tv', 'rts', '--participant-label', '01', '--mem', '8000MB',
                   '-d', f'masks={tmp_path}', '--low-mem'])
    path = tmp_path / 'config.toml'
    path.write_text(first.to_toml())
    assert parse([*arguments[:3], '--config-file', str(path)]) == first


def other_than_default(action, tmp_path):
    """Return flags that set an option to something else than its default."""
    flag = action.option_strings[-1]
    if isinstance(action, argparse.BooleanOptionalAction):
        return [action.option_strings[int(bool(action.default))]]
    if action.nargs == 0:
        return [flag]
    if action.choices:
        usual = action.default if isinstance(action.default, tuple) else (action.default,)
        return [flag, next(choice for choice in action.choices if choice not in usual)]
    if action.type is Path:
        path = tmp_path / action.dest
        path.mkdir() if action.metavar == 'DIR' else path.touch()
        return [flag, str(path)]
    if action.dest == 'derivatives':
        return [flag, f'masks={tmp_path}']
    return [flag, {float: '0.5', None: 'X1'}.get(action.type, '2')]


def test_round_trip_of_every_setting(tmp_path, arguments):
    # These exclude another.
    left_out = {'reports_only'}
    flags = [flag for action in build_parser()._actions
             if action.option_strings and action.dest in {f.name for f in fields(Config)} - left_out
             for flag in other_than_default(action, tmp_path)]
    first = parse([*arguments[:3], *flags])
    unchanged = {f.name for f in fields(Config) if f.default is not MISSING and getattr(first, f.name) == f.default}
    assert unchanged <= left_out | {'analysis_level'}
    path = tmp_path / 'config.toml'
    path.write_text(first.to_toml())
    assert parse([*arguments[:3], '--config-file', str(path)]) == first


def test_the_command_line_wins(tmp_path, arguments):
    path = tmp_path / 'config.toml'
    path.write_text('inversion = ["rts"]\nresidual-threshold = 0.5\n')
    config = parse([*arguments, '--config-file', str(path), '--inversion', 'tikhonov'])
    assert config.inversion == ('tikhonov',) and config.residual_threshold == 0.5


@pytest.mark.parametrize('text, message', [
    ('colour = 1', 'colour'), ('inversion = "tv"', 'must be list'), ('= 1', 'TOML'), ('nprocs = true', 'nprocs')])
def test_wrong_files_name_the_setting(tmp_path, text, message):
    path = tmp_path / 'config.toml'
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_toml(path)
    assert str(path) in str(error.value)


def test_toml_is_toml(arguments):
    assert tomllib.loads(parse(arguments).to_toml())['inversion'] == ['tv']


@pytest.mark.parametrize(('flags', 'networks'), [
    ((), True), (('--no-microbleeds',), True), (('--subcortical', 'none'), True),
    (('--subcortical', 'none', '--microbleed-grading', 'rules'), False),
    (('--subcortical', 'none', '--no-microbleeds'), False),
    (('--subcortical', 'none', '--no-microbleeds', '--inversion', 'tv', 'pocsnet2'), True)])
def test_whether_a_network_may_run(arguments, flags, networks):
    assert parse([*arguments, *flags]).uses_networks is networks
