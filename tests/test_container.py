"""What the image promises, as far as its recipe shows it; docker/smoke.sh checks the rest on a built image."""

import configparser
import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / 'docker').glob('*.sh'))


def read_stages():
    """Return the stages of the Dockerfile as {name: (base, [(instruction, text)])}; the last one is named ''."""
    text = re.sub(r'^\s*#.*\n', '', (ROOT / 'Dockerfile').read_text(), flags=re.MULTILINE)
    stages = {}
    for line in text.replace('\\\n', ' ').splitlines():
        if not line.strip():
            continue
        instruction, arguments = line.split(maxsplit=1)
        if instruction == 'FROM':
            base, _, name = arguments.partition(' AS ')
            stages[name] = (base, steps := [])
        else:
            steps.append((instruction, arguments))
    return stages


def steps_of_image():
    """Return the instructions that the final image is made of, those of its base stages first."""
    stages, name, steps = read_stages(), '', []
    while name in stages:
        name, own = stages[name]
        steps = own + steps
    return steps


def environment():
    return dict(pair.split('=', 1) for instruction, text in steps_of_image() if instruction == 'ENV'
                for pair in text.split())


def normalise(name):
    return re.sub(r'[-_.]+', '-', name).lower()


def test_runs_the_command_without_root():
    steps = dict(steps_of_image())
    assert steps['ENTRYPOINT'] == '["qsmbids"]'
    user, group = steps['USER'].split(':')
    assert int(user) > 0 and int(group) > 0, 'a number, as Kubernetes and read-only roots know no names'


def test_entry_point_is_installed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    command, = json.loads(dict(steps_of_image())['ENTRYPOINT'])
    assert f'{command} =' in setup['options.entry_points']['console_scripts']


def test_environment_needs_neither_network_nor_home():
    values = environment()
    assert values['NO_ET'] == values['NIPYPE_NO_ET'] == '1', 'nipype asks a server for its newest version'
    assert values['TEMPLATEFLOW_AUTOUPDATE'] == 'off'
    assert values['LOGNAME'], 'getpass.getuser() fails for a user id that the image does not know'
    assert values['PYTHONNOUSERSITE'] == '1', "Apptainer mounts the user's own packages"
    assert values['OMP_NUM_THREADS'] == '1'
    assert 'HOME' not in values, 'it is found at run time'


def test_caches_are_filled_at_build_and_copied():
    values, (_, build) = environment(), read_stages()['builder']
    caches = [values['MPLCONFIGDIR'], values['NUMBA_CACHE_DIR']]
    copied = dict(steps_of_image())['COPY'].split()[-1]
    assert all(Path(cache).is_relative_to(copied) for cache in caches)
    assert any(text.startswith('qsmbids') and 'participant' in text for instruction, text in build
               if instruction == 'RUN')
    # Kernels for the processor of the build machine would never be found on another.
    assert values['NUMBA_CPU_NAME'] and values['NUMBA_CPU_FEATURES'] == ''


def test_versions_are_pinned():
    install, = [text for _, (_, steps) in read_stages().items() for instruction, text in steps
                if instruction == 'RUN' and 'pip install' in text]
    assert '-c /src/constraints.txt' in install and '--no-cache-dir' in install
    pinned = {normalise(line.split('==')[0]) for line in (ROOT / 'constraints.txt').read_text().splitlines()
              if '==' in line}
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    wanted = {normalise(re.match(r'[\w.-]+', line)[0])
              for line in setup['options']['install_requires'].split('\n') if line}
    assert wanted <= pinned


def test_only_what_is_needed_enters_the_build():
    lines = [line for line in (ROOT / '.dockerignore').read_text().splitlines() if line and line[0] != '#']
    assert lines[0] == '*'
    allowed = {line[1:] for line in lines if line[0] == '!'}
    assert {'qsmbids', 'data/testbids', 'setup.cfg', 'pyproject.toml', 'constraints.txt', 'LICENSE'} <= allowed
    assert not {'.git', 'tests', 'build', '.venv'} & {Path(name).parts[0] for name in allowed}
    assert '**/__pycache__' in lines, "kernels of the developer's machine lie there"


def test_base_made_here_has_the_name_that_is_asked_for():
    base = read_stages()['base'][0]
    assert base.startswith('docker.io/') and f'name={base}\n' in (ROOT / 'docker/base.sh').read_text()


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda p: p.name)
def test_scripts_stop_at_the_first_error(script):
    assert script.stat().st_mode & 0o111
    assert 'set -euo pipefail\n' in script.read_text()
    subprocess.run(['bash', '-n', script], check=True)
