"""A machine where nothing can be written but one folder."""

import os
import tempfile

import pytest

from qsmbids.cli.environment import prepare_environment, provide_writable_places, run_command


@pytest.fixture
def sealed(tmp_path, monkeypatch):
    """A read-only cache with one file, no HOME, no temporary folder; and the one folder that can be written."""
    cache, folder = tmp_path / 'image' / 'numba', tmp_path / 'work'
    (cache / 'core_1').mkdir(parents=True)
    (cache / 'core_1' / 'kernel.nbi').write_bytes(b'compiled')
    folder.mkdir()
    access = os.access
    monkeypatch.setattr(os, 'access', lambda path, mode: not (mode & os.W_OK and str(path).startswith(
        str(tmp_path / 'image'))) and access(path, mode))

    def fail():
        raise FileNotFoundError('no usable temporary directory')

    monkeypatch.setattr(tempfile, 'gettempdir', fail)
    monkeypatch.setenv('NUMBA_CACHE_DIR', str(cache))
    for name in ('HOME', 'MPLCONFIGDIR', 'TMPDIR'):
        # Set before it is deleted: only so does monkeypatch undo what the function sets.
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    return folder


def test_everything_finds_a_place(sealed):
    provide_writable_places(sealed)
    places = [os.environ[name] for name in ('HOME', 'TMPDIR', 'NUMBA_CACHE_DIR')]
    assert all(os.path.isdir(place) and place.startswith(str(sealed)) for place in places)
    with open(os.path.join(os.environ['NUMBA_CACHE_DIR'], 'core_1', 'kernel.nbi'), 'rb') as file:
        assert file.read() == b'compiled'


def test_copy_is_used_again_until_the_image_changes(sealed):
    image = os.environ['NUMBA_CACHE_DIR']
    provide_writable_places(sealed)
    first = os.environ['NUMBA_CACHE_DIR']
    os.environ['NUMBA_CACHE_DIR'] = image
    provide_writable_places(sealed)
    assert os.environ['NUMBA_CACHE_DIR'] == first
    os.environ['NUMBA_CACHE_DIR'] = image
    os.utime(image, (1e9, 1e9))
    provide_writable_places(sealed)
    assert os.environ['NUMBA_CACHE_DIR'] != first
    assert len(list(sealed.glob('.numba*'))) == 2, 'nothing partial is left'


def test_what_can_be_written_stays(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('NUMBA_CACHE_DIR', str(tmp_path))
    monkeypatch.setenv('MPLCONFIGDIR', str(tmp_path / 'not_made_yet'))
    before = dict(os.environ)
    provide_writable_places(tmp_path / 'unused')
    assert dict(os.environ) == before and not (tmp_path / 'unused').exists()


def test_a_work_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match='file/work: the work directory.*set another with -w'):
        prepare_environment(tmp_path / 'file' / 'work')


def test_clean_empties_the_work_directory_and_follows_no_link(tmp_path, monkeypatch):
    for name in ('MPLCONFIGDIR', 'NUMBA_CACHE_DIR', 'NIPYPE_NO_ET', 'NO_ET'):
        monkeypatch.setenv(name, str(tmp_path))
    work, elsewhere = tmp_path / 'work', tmp_path / 'elsewhere'
    (work / 'a' / 'b').mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / 'kept').touch()
    (work / 'link').symlink_to(elsewhere)
    prepare_environment(work, clean=True)
    assert list(work.iterdir()) == [] and (elsewhere / 'kept').exists()


def test_a_command_has_its_places_in_a_folder_that_can_be_written(sealed):
    places = []
    assert run_command('command', lambda: places.append(os.environ['NUMBA_CACHE_DIR']), beside=sealed) == 0
    assert places[0].startswith(str(sealed)) and not any(sealed.iterdir())


def test_a_command_without_any_place_says_so(sealed, capsys):
    assert run_command('command', lambda: None) == 1
    assert 'command: the folder for temporary files (TMPDIR): cannot be written' in capsys.readouterr().err
