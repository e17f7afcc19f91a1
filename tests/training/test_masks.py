"""Magnitudes that brain masks are learned from: what varies, and what must not."""

import numpy as np
import pytest

from qsmbids.core.metrics import dice
from qsmbids.simulation.tissues import LABELS, TISSUES
from qsmbids.training import masks
from qsmbids.training.mask_stream import MaskStream, make_mask_block
from qsmbids.training.mask_validation import MaskValidationSet
from qsmbids.training.masks import BRAIN, FINE, MaskHead, brain_of, mask_sample, mask_window

SMALL = (40, 48, 40)
SHAPE = (72, 80, 72)


def ball(shape, radius, step=FINE):
    places = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * step for n in shape], indexing='ij', sparse=True)
    return sum(p ** 2 for p in places) < radius ** 2


@pytest.fixture
def head():
    tissues = np.full(SHAPE, LABELS['air'], np.uint8)
    for name, radius in (('fat', 42), ('bone', 38), ('csf', 34), ('cortex', 32), ('white_matter', 28), ('ventricle', 6)):
        tissues[ball(SHAPE, radius)] = LABELS[name]
    middle = (np.array(SHAPE) - 1) / 2
    slope = np.full([n // 2 for n in SHAPE], .01, np.float32)
    return MaskHead(tissues + np.uint8(BRAIN) * ball(SHAPE, 32), slope, middle, middle, 30.)


def sample(head, seed, size=SMALL):
    return mask_sample(head, np.random.default_rng(seed), size)


def test_a_sample_depends_on_its_seed_alone(head):
    first, again, other = sample(head, 1), sample(head, 1), sample(head, 2)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first['magnitude'], other['magnitude'])


def test_samples_are_whole_volumes_with_shares_and_nothing_beyond_the_field_of_view(head):
    for seed in range(12):
        found = sample(head, seed)
        assert all(values.shape == SMALL for values in found.values())
        assert np.isfinite(found['magnitude']).all() and (found['magnitude'] >= 0).all()
        assert not found['magnitude'][~found['seen']].any() and found['seen'].any()
        assert 0 <= found['share'].min() and found['share'].max() <= 1


def test_a_window_has_a_first_mask_near_the_brain_and_lies_around_it(head):
    windows = [mask_window(sample(head, seed, (48, 48, 48)), np.random.default_rng(seed), (40, 40, 40))
               for seed in range(5)]
    windows = [window for window in windows if window]
    assert len(windows) > 2
    for found in windows:
        assert {name: values.shape for name, values in found.items()} == dict.fromkeys(
            ('magnitude', 'share', 'seen', 'surface'), (40, 40, 40))
        middle = np.argwhere(found['surface'])
        assert (abs((middle.min(axis=0) + middle.max(axis=0)) / 2 - 19.5) <= masks.SHIFT + 1).all()
    brains = [(window['share'] > .5) & window['seen'] for window in windows]
    assert np.median([dice(window['surface'], brain) for window, brain in zip(windows, brains)]) > .8


def test_where_no_brain_is_found_there_is_no_window(head):
    nothing = sample(head, 0)
    nothing['magnitude'] = np.zeros_like(nothing['magnitude'])
    assert mask_window(nothing, np.random.default_rng(0)) is None


def test_the_brain_keeps_its_size_within_what_zoom_and_swelling_allow(head):
    volumes = [sample(head, seed)['share'].astype(float).sum() * (2 * FINE) ** 3 for seed in range(15)]
    ratio = np.array(volumes) / (4 / 3 * np.pi * 32 ** 3)
    assert .5 < ratio.min() < .9 and 1.05 < ratio.max() < 1.8


def test_contrasts_turn_round():
    values = np.array([masks._contrast(30, np.random.default_rng(seed))[0] for seed in range(60)])
    white = values[:, LABELS['white_matter']]
    assert (values[:, LABELS['air']] == 0).all() and (white > 0).all()
    for name in ('cortex', 'fat', 'csf'):
        assert 9 < np.sum(values[:, LABELS[name]] > white) < 51


def test_lines_keep_the_lowest_frequencies():
    fine, native = 96, 40
    x = np.random.default_rng(0).standard_normal(fine)
    kept = masks._lines(fine, native) @ x
    assert np.allclose(masks._lines(fine, native).sum(axis=1), 1, atol=1e-5)
    assert np.allclose(np.abs(np.fft.fft(kept) / native)[:18], np.abs(np.fft.fft(x) / fine)[:18], atol=1e-5)


def test_the_brain_has_the_fluid_between_its_parts_and_no_cord():
    shape = (60, 60, 60)
    tissues = np.full(shape, LABELS['csf'], np.uint8)
    tissue = ball(shape, 22)
    tissue[29:31, :, 40:] = False
    cord = np.zeros(shape, bool)
    cord[28:32, 28:32, :20] = True
    tissues[tissue] = LABELS['white_matter']
    tissues[20:40, 20:30, 15:20] = LABELS['cerebellar_cortex']
    found = brain_of(tissues, tissue | cord)
    slit = ball(shape, 18) & ~tissue
    assert slit.any() and found[slit].mean() > .9
    assert not found[:, :, :15].any() and found[28:32, 28:32, 15:20].all()
    assert np.array_equal(brain_of(tissues, ball(shape, 22)), ball(shape, 22) & (np.arange(60) >= 15))


def test_heads_are_kept_and_found_again(tmp_path, monkeypatch, head):
    made = []

    def make(path, age, rng):
        made.append(age)
        return head
    monkeypatch.setattr(masks, 'head_at', make)
    masks.mask_head.cache_clear()
    first = masks.mask_head('x/head_1.nii.gz', (1, 2), str(tmp_path))
    masks.mask_head.cache_clear()
    again = masks.mask_head('x/head_1.nii.gz', (1, 2), str(tmp_path))
    masks.mask_head.cache_clear()
    assert len(made) == 1 and 0 <= made[0] <= 95
    assert np.array_equal(first.voxels, again.voxels) and again.age == first.age
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def heads(monkeypatch, head):
    asked = []

    def remember(path, seed, cache=None, age=None):
        asked.append((path, seed))
        return head
    monkeypatch.setattr('qsmbids.training.mask_stream.mask_head', remember)
    monkeypatch.setattr('qsmbids.training.mask_validation.mask_head', remember)
    monkeypatch.setattr(masks, 'brain_mask', lambda image, *_, **__: image > .5 * image.max())
    return asked


def test_a_block_depends_on_seed_and_number_alone_and_heads_come_bit_by_bit(heads):
    pool = [(name, (1, n)) for n, name in enumerate('abcdefghijklmnop')]
    first, again, other = (make_mask_block(pool, 1, SMALL, 6, 1, None, number) for number in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first['share'], other['share']) and len(first['share']) == 6
    assert {name for name, _ in heads[:12]} <= set('abcdef')


def test_each_sample_is_seen_as_often_as_asked_and_later_turned_over_now_and_then(heads):
    block = make_mask_block([('a', (1,))], 1, SMALL, 3, 4, None, 0)
    once = {image.tobytes() for image in block['magnitude'][:3]}
    again = [image.tobytes() in once for image in block['magnitude'][3:]]
    over = [image[::-1].tobytes() in once for image in block['magnitude'][3:]]
    assert len(once) == 3 and any(again) and any(over) and all(a != b for a, b in zip(again, over))


def test_batches_divide_a_block():
    with pytest.raises(ValueError, match='batch is 5'):
        MaskStream([], 1, batch=5)


def test_a_network_that_knows_the_truth_has_the_score_zero(heads):
    class Knowing:
        gain = 1

        def find(self, magnitude, seen, surface):
            at = next(n for n, (_, sample) in enumerate(validation.samples)
                      if np.array_equal(sample['magnitude'], magnitude))
            return .5 + self.gain * (validation.samples[at][1]['share'].astype(float) - .5)
    validation = MaskValidationSet([])
    assert len({age for age, _ in validation.samples}) == 4
    scores = validation.score(Knowing())
    assert scores['score'] == 0 and scores['young'] == scores['grown'] == scores['worst'] == 1
    validation.samples = validation.samples[::3]
    network = Knowing()
    network.gain = -1
    assert validation.score(network)['score'] > .5


def test_every_tissue_of_flesh_lies_outside_the_brain():
    assert not any(list(TISSUES.values())[number].brain for number in masks.SOFT)
