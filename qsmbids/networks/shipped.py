"""The weights that come with qsmbids: where they are, and whether they are whole. Needs no torch."""

import hashlib
import json
from importlib import resources
from pathlib import Path

from qsmbids.files import FileError

SHIPPED = resources.files('qsmbids') / 'data' / 'weights'


def shipped(name):
    """Return the file of weights that come with qsmbids, once it is whole; a path is returned as it is.

    Raises
    ------
    FileError
        If there are none of that name, or the file is not the one that was shipped.
    """
    if Path(name).suffix:
        return Path(name)
    hashes = json.loads((SHIPPED / 'hashes.json').read_text())
    if name not in hashes:
        raise FileError(f'{name}: no weights of that name come with qsmbids; there are {", ".join(sorted(hashes))}. '
                        'Name a file of your own by its path, which ends in .safetensors')
    path = Path(str(SHIPPED / f'{name}.safetensors'))
    if not path.exists() or sha256(path) != hashes[name]:
        raise FileError(f'{path}: {"is not the file that was shipped" if path.exists() else "is missing"}; '
                        'install qsmbids anew')
    return path


def short_hashes(digits=12):
    """Return the first digits of the SHA-256 of each file of weights, as it was shipped, by name."""
    return {name: found[:digits] for name, found in json.loads((SHIPPED / 'hashes.json').read_text()).items()}


def sha256(path):
    """Return the SHA-256 of a file in hexadecimal."""
    with open(path, 'rb') as stream:
        return hashlib.file_digest(stream, 'sha256').hexdigest()
