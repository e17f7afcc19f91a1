import tomllib

import pytest

from qsmbids.cli.parser import parse
from qsmbids.config import read_toml


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
