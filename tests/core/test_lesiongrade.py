from types import SimpleNamespace

import numpy as np
import pytest

from qsmbids.core.lesiongrade import (DEFINITE, LISTED, MOST_UNSIGNED, POSSIBLE, grade, judge, ramp, shadow_marks,
                                      without_doubles)

STEPS = np.ones(3)


def blob(**changed):
    """A plain microbleed."""
    features = dict(source='chi', sign=1, seed=np.array([20, 20, 20]), centre=np.array([20., 20., 20.]), contrast=.6,
                    spread=.02, diameter=4., voxels=33, sphericity=.9, elongation=1.1, tail=1.2, open=False, blobness=.8,
                    parenchyma=1., known=1., edge=12., decay=40., nucleus=None, above_nucleus=None,
                    moment=None)
    return SimpleNamespace(**features | changed)


def test_ramps_go_both_ways():
    assert [ramp(value, 1, 3) for value in (0, 1, 2, 3, 4)] == [0, 0, .5, 1, 1]
    assert [ramp(value, 3, 1) for value in (0, 1, 2, 3, 4)] == [1, 1, .5, 0, 0]


def test_a_plain_microbleed_is_definite_and_a_plain_calcification_is_one():
    assert judge(blob()) == ('cmb', 1.)
    assert judge(blob(sign=-1)) == ('calcification', 1.)


@pytest.mark.parametrize('bent', [
    dict(contrast=.05), dict(spread=.4), dict(blobness=.05), dict(elongation=4.), dict(tail=5.), dict(edge=.2),
    dict(parenchyma=.2), dict(diameter=15.), dict(contrast=.1, diameter=6.), dict(contrast=.12, voxels=1, diameter=1.2)])
def test_whatever_bends_a_rule_is_no_definite_microbleed(bent):
    kind, score = judge(blob(**bent))
    assert kind != 'cmb' or score < POSSIBLE


def test_a_tube_is_a_vessel():
    kind, score = judge(blob(blobness=.05, elongation=4., tail=5.))
    assert kind == 'vessel' and score > POSSIBLE


def test_no_decay_makes_a_lesion_doubtful_and_unknown_decay_does_not():
    assert judge(blob(decay=-10.))[1] < DEFINITE
    assert judge(blob(decay=None)) == ('cmb', 1.)


def test_deep_lesions_are_kept():
    weak = dict(contrast=.25, above_nucleus=.2)
    assert judge(blob(nucleus='Thalamus', **weak)) == ('cmb', MOST_UNSIGNED)
    assert judge(blob(nucleus='Putamen', contrast=.6, above_nucleus=.55)) == ('cmb', 1.)
    kind, score = judge(blob(nucleus='PallidumExternal', **weak))
    assert kind == 'deep_iron' and score >= LISTED
    assert judge(blob(nucleus='PallidumExternal', contrast=.6, above_nucleus=.5)) == ('cmb', 1.)


def test_what_only_decay_shows_is_possible_at_most():
    assert judge(blob(source='void')) == judge(blob(source='darkness')) == ('cmb', MOST_UNSIGNED)
    assert judge(blob(source='void', moment=(50., 2.))) == ('cmb', 1.)
    assert judge(blob(source='void', sign=-1, moment=(-50., 2.))) == ('calcification', 1.)


def test_thresholds_go_with_the_amplitude_of_the_map():
    half = judge(blob(contrast=.06, spread=.01, decay=None), amplitude=.5)
    assert half == judge(blob(contrast=.12, spread=.02, decay=None), amplitude=1.)


def test_doubles_go_and_the_stronger_stays():
    strong, weak = blob(contrast=.8), blob(contrast=.5, seed=np.array([21, 20, 20]), centre=np.array([21., 20., 20.]))
    far, other = blob(centre=np.array([30., 20., 20.]), seed=np.array([30, 20, 20])), blob(sign=-1, contrast=.3)
    void = blob(source='void', contrast=2., centre=np.array([22.5, 20., 20.]), seed=np.array([22, 20, 20]))
    kept = without_doubles([weak, void, other, far, strong], STEPS)
    assert [any(one is each for each in kept) for one in (strong, weak, far, other, void)] == [True, False, True, True,
                                                                                              False]


def test_shadows_and_streaks_of_stronger_lesions_lose():
    strong = blob(contrast=1.5)
    beside = blob(sign=-1, contrast=.3, centre=np.array([24., 20., 20.]))
    streak = blob(contrast=.1, centre=np.array([28., 28., 20.]))
    twin = blob(contrast=.5, centre=np.array([26., 20., 20.]))
    far = blob(sign=-1, contrast=.3, centre=np.array([50., 20., 20.]))
    marks = shadow_marks([beside, streak, twin, far, strong], STEPS)
    assert marks[0] < .3 and marks[1] < .6 and marks[2:].tolist() == [1, 1, 1]
    assert shadow_marks([strong], STEPS).tolist() == [1] and not len(shadow_marks([], STEPS))


def graded(share, **changed):
    return grade([blob(**changed)], 1., STEPS, np.array([share]))[0]


def test_without_a_network_the_rules_and_the_marks_of_neighbours_grade():
    strong = blob(contrast=1.5, decay=90.)
    beside = blob(sign=-1, contrast=.3, centre=np.array([24., 20., 20.]))
    marks = shadow_marks([strong, beside], STEPS)
    assert grade([strong, beside], 1., STEPS) == [(kind, score * mark) for (kind, score), mark
                                                  in zip(map(judge, (strong, beside)), marks)]


def test_a_strong_speck_without_decay_is_doubtful():
    for contrast, decay, whole in ((.2, 10., True), (.8, 10., False), (.8, 60., True), (2.5, 60., True)):
        score = grade([blob(contrast=contrast, decay=decay)], 1., STEPS)[0][1]
        assert (score == 1) == whole and (whole or score < POSSIBLE)
    assert grade([blob(contrast=.8, decay=None)], 1., STEPS)[0][1] == 1


def test_a_network_grades_whatever_the_rules_say():
    assert graded((.9, .05, .05), elongation=4., blobness=.05) == ('cmb', .9)
    assert graded((.1, .7, .2), sign=-1) == ('calcification', .7)
    assert graded((.01, .01, .98))[1] < LISTED


def test_no_network_overrules_the_sign():
    assert graded((.9, .05, .05), sign=-1)[0] == 'calcification' and graded((.9, .05, .05), sign=-1)[1] < LISTED
    assert graded((.3, .6, .1)) == ('cmb', .3)
    assert graded((.95, .03, .02), source='void') == ('cmb', MOST_UNSIGNED)


def test_what_a_network_takes_for_neither_stays_the_vein_or_the_iron_that_the_rules_see():
    kind, score = graded((.01, .01, .98), blobness=.05, elongation=4., tail=5.)
    assert kind == 'vessel' and score > POSSIBLE
    weak = dict(nucleus='PallidumExternal', contrast=.25, above_nucleus=.2)
    assert graded((.9, .05, .05), **weak) == ('deep_iron', .9)
