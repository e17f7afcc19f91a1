"""Weights on disk."""

import json

import pytest
import torch

from qsmbids.files import FileError
from qsmbids.networks.pocsnet import POCSnet2
from qsmbids.networks.weights import load_weights, save_weights


@pytest.fixture
def stored(tmp_path):
    network = POCSnet2(width=4, unrolls=1)
    path = tmp_path / 'w.safetensors'
    save_weights(network, path, 'pocsnet2', {'width': 4, 'unrolls': 1}, {'steps': 3})
    return network, path


def test_round_trip(stored):
    network, path = stored
    loaded, card = load_weights(path)
    assert card == {'steps': 3} and loaded.unrolls == 1
    for one, other in zip(network.parameters(), loaded.parameters()):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize('damage', ['missing', 'cut', 'text', 'other network'])
def test_damaged_files_are_named(stored, damage):
    _, path = stored
    if damage == 'missing':
        path.unlink()
    elif damage == 'cut':
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == 'text':
        path.write_text(json.dumps({}))
    else:
        save_weights(POCSnet2(width=8), path, 'pocsnet2', {'width': 4}, {})
    with pytest.raises(FileError, match='w.safetensors'):
        load_weights(path)
