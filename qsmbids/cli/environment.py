"""Where HOME, temporary files and caches are: in the work directory, if the machine has no place for them.

Must be called before matplotlib, nipype or numba are imported.
"""

import os
import shutil
import sys
import tempfile
import uuid
from pathlib import Path

from qsmbids.files import FileError, cannot_write

CACHES = ('MPLCONFIGDIR', 'NUMBA_CACHE_DIR')
PACKAGE = Path(__file__).resolve().parents[1] / 'core'


def prepare_environment(work_dir, clean=False):
    """Make the work directory and put into it what has no place of its own.

    Raises
    ------
    OSError
        If it cannot be written to; the message names it and the remedy.
    """
    try:
        if clean and work_dir.exists():
            for entry in work_dir.iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        work_dir.mkdir(parents=True, exist_ok=True)
        provide_writable_places(work_dir)
    except OSError as error:
        raise OSError(f'{work_dir}: the work directory cannot be written to ({error.strerror}); set another with -w'
                      ) from None
    os.environ.setdefault('MPLCONFIGDIR', str(work_dir / '.matplotlib'))
    if not os.access(PACKAGE, os.W_OK):
        os.environ.setdefault('NUMBA_CACHE_DIR', str(work_dir / '.numba'))
    os.environ['NIPYPE_NO_ET'] = os.environ['NO_ET'] = '1'


def run_command(name, work, beside=None):
    """Call ``work()`` where caches have a place, and return its exit code: 1, and a message, if a file is wrong.

    Parameters
    ----------
    name : str
        What messages begin with.
    work : callable
        Returns an exit code, or None for 0.
    beside : path, optional
        Folder that can be written, where temporary files perhaps cannot.
    """
    try:
        with _temporary_folder(beside) as folder:
            provide_writable_places(folder)
            return work() or 0
    except (FileError, ValueError) as error:
        print(f'{name}: {error}', file=sys.stderr)
        return 1


def _temporary_folder(beside):
    try:
        return tempfile.TemporaryDirectory(prefix='.qsmbids-', dir=beside)
    except OSError as error:
        raise cannot_write(beside or 'the folder for temporary files (TMPDIR)', error) from None


def provide_writable_places(folder):
    """Put HOME, the temporary files and the caches into `folder`, each only if it cannot be written where it is."""
    folder = Path(folder)
    home = os.environ.get('HOME', '')
    if not (home and os.access(home, os.R_OK | os.W_OK)):
        os.environ['HOME'] = str(_made(folder / '.home'))
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        os.environ['TMPDIR'] = str(_made(folder / '.tmp'))
    for name in CACHES:
        source = Path(os.environ.get(name, ''))
        if name in os.environ and source.is_dir() and not os.access(source, os.W_OK):
            os.environ[name] = str(_take_over(source, folder))


def _take_over(source, folder):
    """Copy a read-only cache and return the copy.

    It appears whole or not at all, as participants that share a work directory may start at once. The date in its name
    keeps the copy of another image apart.
    """
    target = folder / f'.{source.name}-{int(source.stat().st_mtime)}'
    if not target.is_dir():
        partial = folder / f'{target.name}-{uuid.uuid4()}'
        shutil.copytree(source, partial)
        try:
            partial.rename(target)
        except OSError:  # Another process was faster.
            shutil.rmtree(partial)
    return target


def _made(path):
    path.mkdir(parents=True, exist_ok=True)
    return path
