"""Text, JSON and tables on disk, whole or not at all."""

import json
import os
import tempfile
from pathlib import Path


class FileError(Exception):
    """A file cannot be read or written; the message names it and the remedy."""


def write_atomically(path, write):
    """Call ``write(temporary path)`` and give the result its final name, or leave nothing behind.

    Raises
    ------
    FileError
        If the folder is read-only, the disk is full, or the like.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Writers choose the format by the ending.
        ending = '.nii.gz' if path.name.endswith('.nii.gz') else path.suffix
        handle, temporary = tempfile.mkstemp(prefix='.', suffix=ending, dir=path.parent)
        os.close(handle)
        write(temporary)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def cannot_write(path, error):
    """Return the FileError for an OSError that kept a file from being written."""
    return FileError(f'{path}: cannot be written ({error.strerror or error}). Make room or choose another folder; '
                     'a second run goes on from what is done.')


def write_bytes(path, content):
    """Write a file, unless it holds just that already; return its path."""
    path = Path(path)
    if not (path.is_file() and path.read_bytes() == content):
        write_atomically(path, lambda temporary: Path(temporary).write_bytes(content))
    return str(path)


def write_text(path, text):
    """Write a text file, unless it holds just that already; return its path."""
    return write_bytes(path, text.encode())


def write_json(path, content):
    """Write a JSON file, unless it holds just that already; return its path."""
    return write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + '\n')


def read_json(path):
    """Read a JSON file.

    Raises
    ------
    FileError
        If it is missing or no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise FileError(f'{path}: cannot be read as JSON ({error})') from None


def write_tsv(path, rows, columns):
    """Write rows (dicts; any iterable) as a table of the given columns; what is missing or empty becomes ``n/a``."""
    def write(temporary):
        with open(temporary, 'w', encoding='utf-8', newline='\n') as stream:
            stream.write('\t'.join(columns) + '\n')
            stream.writelines('\t'.join([_cell(row.get(column)) for column in columns]) + '\n' for row in rows)
    write_atomically(path, write)
    return str(path)


def write_table(folder, name, rows, described):
    """Write ``NAME.tsv`` with the columns of a dictionary, and that as ``NAME.json`` beside it."""
    write_tsv(Path(folder) / f'{name}.tsv', rows, list(described))
    write_json(Path(folder) / f'{name}.json', described)


def describe(texts):
    """Return the JSON dictionary of columns of which there is no more to say than a text."""
    return {name: {'Description': text} for name, text in texts.items()}


def read_tsv(path):
    """Read a table as a list of dicts of text; ``n/a`` stays as it is.

    Raises
    ------
    FileError
        If it is missing, empty or no text.
    """
    try:
        header, *lines = Path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, ValueError) as error:
        raise FileError(f'{path}: cannot be read as a table ({error})') from None
    return [dict(zip(header.split('\t'), line.split('\t'))) for line in lines]


def _cell(value):
    if value is None or value == '':
        return 'n/a'
    if isinstance(value, float):
        return f'{value:.6g}'
    return ' '.join(str(value).split())


def _umask():
    current = os.umask(0)
    os.umask(current)
    return current
