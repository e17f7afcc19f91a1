"""Candidates to learn from: what they truly are, and their stream."""

from types import SimpleNamespace

import numpy as np
import pytest

from qsmbids.networks.lesionnet import CHANNELS, CLASSES, FEATURES, PATCH
from qsmbids.training import lesionstream
from qsmbids.training.lesionstream import SHARES, UNCLEAR, LesionStream, make_lesion_block, true_classes

CMB, STONE, NEITHER = range(3)


def row(kind, x, radius=1.):
    return {'class': kind, 'x_ras_mm': x, 'y_ras_mm': 0., 'z_ras_mm': 0., 'diameter_mm': 2 * radius}


def classes_at(places, truth, signs=None, source='chi'):
    blobs = [SimpleNamespace(source=source, sign=sign) for sign in signs or [1] * len(places)]
    return [values.tolist() for values in true_classes(blobs, np.array([[x, 0., 0.] for x in places]), truth)]


def test_the_nearest_candidate_is_the_lesion_and_others_beside_it_are_unclear():
    assert classes_at([0, 1.5, 9, 3], [row('cmb', .2)]) == [[CMB, UNCLEAR, NEITHER, NEITHER], [False] * 4]
    assert classes_at([4], [row('cmb', 0, radius=5)])[0] == [CMB]


def test_a_candidate_of_the_wrong_sign_is_neither():
    truth = [row('cmb', 0), row('calcification', 20)]
    assert classes_at([0, 0, 20, 20], truth, signs=[-1, 1, 1, -1])[0] == [NEITHER, CMB, NEITHER, STONE]
    assert classes_at([0, 20], truth, signs=[1, 1], source='void')[0] == [CMB, STONE]


def test_other_lesions_are_mimics_and_a_haemorrhage_is_unclear():
    classes, mimic = classes_at([0, 20, 40], [row('vessel', 0), row('haemorrhage', 20, 8)])
    assert classes == [NEITHER, UNCLEAR, NEITHER] and mimic[0] and not mimic[2]


@pytest.fixture
def pool(monkeypatch):
    """Scans whose candidates hold their own number."""
    asked = []

    def look(path, key, cache=''):
        asked.append((path, key))
        classes = np.repeat(np.array([CMB, STONE, NEITHER, NEITHER, UNCLEAR], np.int8), [2, 2, 2, 30, 4])
        return [{'patches': np.full((40, len(CHANNELS), PATCH, PATCH, PATCH), key[0], np.float16),
                 'features': np.zeros((40, len(FEATURES)), np.float32), 'classes': classes,
                 'mimic': np.arange(40) // 2 == 2}]
    monkeypatch.setattr(lesionstream, 'looks_at', look)
    return asked


def test_a_block_depends_on_seed_and_number_and_has_its_shares(pool):
    scans = [('head', (n, 0)) for n in range(20)]
    first, again, other = (make_lesion_block(scans, 3, 400, '', number) for number in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first['patches'], other['patches'])
    assert UNCLEAR not in first['classes']
    for kind, number in (('cmb', CMB), ('calcification', STONE)):
        assert (first['classes'] == number).mean() == pytest.approx(SHARES[kind], abs=.08)
    assert len(set(pool[:6])) == 6 and len(set(pool)) == 12


def test_heads_take_turns_and_parametric_ones_are_among_them():
    pool = LesionStream(['a', 'b'], 5, scans=7)._settings[0]
    assert pool == [(None, (5, 0)), ('a', (5, 1)), ('b', (5, 2)), (None, (6, 0)), ('a', (6, 1)), ('b', (6, 2)),
                    (None, (7, 0))]
    with pytest.raises(ValueError, match='batch is 3'):
        LesionStream(['a'], 1, batch=3)


def test_kept_candidates_are_those_that_were_made(tmp_path, monkeypatch):
    made = [{'patches': np.ones((2, 3), np.float16), 'classes': np.array([0, 2], np.int8)},
            {'patches': np.zeros((1, 3), np.float16), 'classes': np.array([1], np.int8)}]
    monkeypatch.setattr(lesionstream, 'lesion_scan', lambda sample, key: None)
    monkeypatch.setattr(lesionstream, 'candidates_of', lambda scan, rng: made)
    lesionstream.looks_at(None, (1, 2), str(tmp_path))
    lesionstream.looks_at.cache_clear()
    monkeypatch.setattr(lesionstream, 'lesion_scan', pytest.fail)
    kept = lesionstream.looks_at(None, (1, 2), str(tmp_path))
    lesionstream.looks_at.cache_clear()
    assert len(kept) == 2
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(made, kept) for name in a)


def test_turning_over_keeps_what_is_in_a_patch():
    rng = np.random.default_rng(0)
    patch = np.zeros((len(CHANNELS), 4, 4, 4), np.float16)
    patch[CHANNELS.index('known'), 0, 1, 2] = 1
    for _ in range(5):
        turned = lesionstream.turned(patch, rng)
        assert turned[CHANNELS.index('known')].sum() == 1 and turned.shape == patch.shape
        assert not turned[CHANNELS.index('dark')].any()
    assert CLASSES[CMB] == 'cmb' and CLASSES[STONE] == 'calcification'
