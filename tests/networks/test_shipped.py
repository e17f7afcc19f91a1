"""The weights that come with qsmbids."""

import hashlib
import json
from pathlib import Path

import pytest

from qsmbids.files import FileError
from qsmbids.networks import shipped


def test_shipped_weights_are_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, 'SHIPPED', tmp_path)
    (tmp_path / 'hashes.json').write_text(json.dumps({'a': hashlib.sha256(b'weights').hexdigest(), 'b': '0'}))
    for name in 'ab':
        (tmp_path / f'{name}.safetensors').write_bytes(b'weights')
    assert shipped.shipped('a') == tmp_path / 'a.safetensors'
    assert shipped.shipped('own/a.safetensors') == Path('own/a.safetensors')
    with pytest.raises(FileError, match='b.safetensors: is not the file that was shipped'):
        shipped.shipped('b')
    (tmp_path / 'a.safetensors').unlink()
    with pytest.raises(FileError, match='a.safetensors: is missing'):
        shipped.shipped('a')
    with pytest.raises(FileError, match='there are a, b'):
        shipped.shipped('c')
