import json
import re
import shutil
import subprocess
import sys
import time
from importlib import import_module

import pytest

from qsmbids import __version__
from qsmbids.cli.about import SHELLS
from qsmbids.cli.parser import build_parser
from qsmbids.networks.shipped import SHIPPED

COMMANDS = {'qsmbids': 'qsmbids.__main__', **{f'qsmbids-{name}': f'qsmbids.cli.{name}' for name in
            ('slurm', 'tool', 'simulate', 'evaluate', 'train')}}


def ask(capsys, command, *flags):
    with pytest.raises(SystemExit) as end:
        import_module(COMMANDS[command]).main(list(flags))
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize('command', COMMANDS)
def test_the_version_names_every_file_of_weights(capsys, command):
    first, *others = ask(capsys, command, '--version').splitlines()
    hashes = json.loads((SHIPPED / 'hashes.json').read_text())
    assert first == f'qsmbids {__version__}'
    assert {line.split()[1]: line.split()[2] for line in others} == {name: found[:12] for name, found in hashes.items()}


def test_the_version_is_there_at_once():
    code = ('import sys; sys.argv = ["qsmbids", "--version"]\nfrom qsmbids.__main__ import main\ntry: main()\n'
            'finally: print(sorted({"torch", "numpy", "nipype", "shtab", "rich"} & set(sys.modules)))')
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
        times.append(time.perf_counter() - start)
    assert done.stdout.splitlines()[-1] == '[]' and min(times) < .5


@pytest.mark.parametrize('command', COMMANDS)
@pytest.mark.parametrize('shell', SHELLS)
def test_a_completion_can_be_had_for_every_command_and_shell(capsys, command, shell):
    text = ask(capsys, command, '--print-completion', shell)
    assert command in text and len(text) > 200
    program = shutil.which(shell)
    if program:
        subprocess.run([program, '-n'], input=text, text=True, check=True)


@pytest.mark.parametrize('words, expected', [
    ('--inversion-l', ['--inversion-lambda']), ('data out part', ['participant']), ('--background vs', ['vsharp']),
    ('da', ['data']), ('--config-file no', ['notes.toml'])])
def test_bash_completes_flags_choices_and_names_of_files(capsys, tmp_path, words, expected):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'notes.toml').touch()
    script = ask(capsys, 'qsmbids', '--print-completion', 'bash')
    parts = ['qsmbids', *words.split()]
    ending = f'\nCOMP_WORDS=({" ".join(parts)}); COMP_CWORD={len(parts) - 1}; _shtab_qsmbids; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(['bash', '-c', script + ending], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.split() == expected


def test_every_flag_is_completed(capsys):
    script = ask(capsys, 'qsmbids', '--print-completion', 'bash')
    flags = [flag for action in build_parser()._actions for flag in action.option_strings]
    assert flags and set(flags) <= set(re.findall(r'(?<![\w-])--?[\w-]+', script))


def test_an_unknown_shell_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        import_module('qsmbids.__main__').main(['--print-completion', 'cmd'])
    assert end.value.code == 2 and 'cmd' in capsys.readouterr().err
