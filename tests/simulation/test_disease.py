from collections import Counter

import numpy as np
import pytest

from qsmbids.simulation import disease as module
from qsmbids.simulation.disease import draw_lesions
from qsmbids.simulation.head import Head, digital_head
from qsmbids.simulation.lesions import CLASSES, REGIONS, cover, lesion_table
from qsmbids.simulation.signal import centred_affine
from qsmbids.simulation.tissues import LABELS, TISSUES

COUNTS = {'cmb': 30, 'calcification': 3, 'vessel': 8, 'deep_iron': 2, 'haemorrhage': 1, 'pvs': 6}
STEP = 1.5
AFFINE = np.diag([STEP, STEP, STEP, 1])
AFFINE[:3, 3] = -75, -112, -68
SHAPE = (100, 130, 104)


def white_matter(size):
    shape = (size, size, size)
    return (Head(np.full(shape, LABELS['white_matter'], np.uint8), np.zeros(shape, np.float32),
                 tuple(TISSUES.values())), centred_affine(np.eye(3), (1, 1, 1), shape, (0, 0, 0)))


@pytest.fixture(scope='module')
def head():
    return digital_head(SHAPE, AFFINE, 2, fine=True)


@pytest.fixture(scope='module')
def drawn(head):
    return draw_lesions(head, AFFINE, COUNTS, 1)


def test_there_are_as_many_as_asked_for_and_they_are_what_they_should_be(drawn):
    assert Counter(lesion.kind for lesion in drawn) == COUNTS
    by_kind = {kind: [lesion for lesion in drawn if lesion.kind == kind] for kind in CLASSES}
    for lesion in by_kind['cmb']:
        (body,) = lesion.bodies
        assert 1.4 <= lesion.diameter <= 10 and .15 <= lesion.chi <= 3 and max(body.axes) <= 1.5 * min(body.axes)
    assert all(-2 <= lesion.chi <= -.3 for lesion in by_kind['calcification'])
    assert all(.2 <= lesion.chi <= .45 for lesion in by_kind['vessel'])
    assert any(len(lesion.bodies) == 3 for lesion in by_kind['vessel'])
    assert all(10 <= lesion.diameter <= 20 for lesion in by_kind['haemorrhage'])
    assert all(lesion.region == 'deep' for lesion in by_kind['deep_iron'])


def test_sizes_and_susceptibilities_are_log_uniform():
    rng = np.random.default_rng(0)
    made = [module._microbleed(rng) for _ in range(2000)]
    for values, low, high in (([lesion.diameter / 2 for lesion in made], .7, 5),
                              ([lesion.chi for lesion in made], .15, 3)):
        assert np.mean(np.array(values) < np.sqrt(low * high)) == pytest.approx(.5, abs=.04)
        assert min(values) >= low * .9999 and max(values) <= high * 1.0001


def test_no_two_touch_and_none_leaves_the_tissue(head, drawn):
    for i, a in enumerate(drawn):
        for b in drawn[:i]:
            assert np.linalg.norm(a.centre - b.centre) > a.reach + b.reach
    for lesion in drawn:
        at, share = cover(lesion, AFFINE, SHAPE)
        there = head.labels[tuple(at)]
        solid = np.isin(there, [LABELS[name] for tissues in REGIONS.values() for name in tissues])
        wet = np.isin(there, [LABELS['sulcus'], LABELS['vein']])
        assert share[~solid & ~wet].sum() < .02 * share.sum()
        assert share[wet].sum() < .2 * share.sum()


def test_regions_are_those_of_the_tissue(head, drawn):
    for lesion in drawn:
        name = list(LABELS)[head.labels[tuple(np.rint((lesion.centre - AFFINE[:3, 3]) / STEP).astype(int))]]
        assert name in REGIONS[lesion.region] or (lesion.region == 'deep' and name == 'white_matter') \
            or name in ('vein', 'sulcus')
        assert (lesion.centre[0] > 0) == (lesion.hemisphere == 'R')
        if lesion.region == 'infratentorial':
            assert lesion.centre[2] < 0
        if lesion.kind == 'deep_iron':
            assert name.startswith('pallidum')


@pytest.mark.parametrize('pattern, regions', [('lobar', {'lobar'}), ('deep', {'deep', 'infratentorial'}),
                                              ('mixed', set(REGIONS))])
def test_patterns(head, pattern, regions):
    found = Counter(lesion.region for lesion in draw_lesions(head, AFFINE, {'cmb': 40}, 5, pattern))
    assert set(found) == regions


def test_deep_ones_lie_in_nuclei_for_the_most_part(head):
    ground = module._Ground(head, AFFINE, None)
    found = head.labels.flat[ground.candidates('cmb', 'deep')]
    assert np.mean(found == LABELS['white_matter']) == pytest.approx(module.CAPSULE_SHARE, abs=.05)
    assert np.isin(found, [LABELS[name] for name in (*REGIONS['deep'], 'white_matter')]).all()


def test_some_lie_in_clusters(head, monkeypatch):
    def nearest(seed):
        centres = np.array([lesion.centre for lesion in draw_lesions(head, AFFINE, {'cmb': 15}, seed, 'lobar')])
        distance = np.linalg.norm(centres[:, None] - centres[None], axis=2) + 1e3 * np.eye(15)
        return np.median(distance.min(axis=1))
    apart = nearest(0)
    monkeypatch.setattr(module, 'CLUSTERED', .9)
    assert nearest(0) < .7 * apart


def test_a_seed_is_a_set_of_lesions(head, drawn):
    assert lesion_table(draw_lesions(head, AFFINE, COUNTS, 1)) == lesion_table(drawn)
    assert lesion_table(draw_lesions(head, AFFINE, COUNTS, 2)) != lesion_table(drawn)


def test_what_cannot_be_is_refused(head):
    with pytest.raises(ValueError, match='counts'):
        draw_lesions(head, AFFINE, {'tumour': 1})
    with pytest.raises(ValueError, match='counts'):
        draw_lesions(head, AFFINE, {'cmb': -1})
    with pytest.raises(ValueError, match='pattern'):
        draw_lesions(head, AFFINE, {'cmb': 1}, pattern='somewhere')
    with pytest.raises(ValueError, match='deep_iron'):
        draw_lesions(*white_matter(20), {'deep_iron': 1})
    with pytest.raises(ValueError, match='room'):
        draw_lesions(*white_matter(9), {'haemorrhage': 1})


def test_a_part_of_a_head_holds_them_all():
    assert {lesion.region for lesion in draw_lesions(*white_matter(24), {'cmb': 3})} == {'lobar'}
