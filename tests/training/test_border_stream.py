"""Voxels that the network of the border learns from: which, and that they depend on nothing but seed and number."""

import numpy as np
import pytest

from qsmbids.networks.border import FEATURES
from qsmbids.training import border_stream
from qsmbids.training.border_stream import DRAWN, KEPT, BorderStream, border_voxels, make_border_block

HEADS = [('a', (1, 0, 0)), ('b', (1, 0, 1))]


@pytest.fixture(autouse=True)
def windows(monkeypatch):
    """Give windows of a ball and a first mask that is a little smaller; remember how many were made."""
    made = []
    places = np.meshgrid(*[np.arange(24) - 11.5] * 3, indexing='ij', sparse=True)
    away = np.sqrt(sum(p ** 2 for p in places))

    def window(_, rng):
        made.append(rng.random())
        if made[-1] < .3:
            return None
        return {'magnitude': (np.where(away < 8, 1, .2) + .1 * rng.random(away.shape)).astype(np.float16),
                'seen': away < 14, 'share': np.clip(8.5 - away, 0, 1).astype(np.float16), 'surface': away < 7}
    monkeypatch.setattr(border_stream, 'mask_head', lambda *_: None)
    monkeypatch.setattr(border_stream, 'mask_sample', lambda *_: None)
    monkeypatch.setattr(border_stream, 'mask_window', window)
    border_voxels.cache_clear()
    yield made
    border_voxels.cache_clear()


def test_a_block_depends_on_seed_and_number_alone():
    first = make_border_block(HEADS, 1, 10, 4, None, 0)
    border_voxels.cache_clear()
    again, other = (make_border_block(HEADS, 1, 10, 4, None, number) for number in (0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first['features'], other['features'])
    assert {name: values.shape for name, values in first.items()} == {
        'features': (4 * DRAWN, FEATURES), 'first': (4 * DRAWN,), 'share': (4 * DRAWN,)}
    assert 0 <= first['share'].min() and first['share'].max() == 1


def test_more_magnitudes_come_with_each_block_and_lost_ones_are_made_anew(windows):
    make_border_block(HEADS, 1, 1000, 60, None, 0)
    early = len(windows)
    make_border_block(HEADS, 1, 1000, 60, None, 20)
    assert border_stream.FIRST / 2 < early < 3 * border_stream.FIRST and len(windows) > early + 30


def test_voxels_are_kept_and_found_again(tmp_path, windows):
    first = border_voxels(HEADS[0], 1, 3, str(tmp_path))
    border_voxels.cache_clear()
    count = len(windows)
    again = border_voxels(HEADS[0], 1, 3, str(tmp_path))
    assert len(windows) == count and all(np.array_equal(first[name], again[name]) for name in first)
    assert len(first['share']) == KEPT and len(list(tmp_path.iterdir())) == 1


def test_batches_divide_a_block():
    with pytest.raises(ValueError, match='batch is 4097'):
        BorderStream([], 1, batch=4097)
