import numpy as np
import pytest

from qsmbids.simulation.age import ADULT, IRON, age_iron, myelin_share, stature, tissues_at
from qsmbids.simulation.tissues import LIKE, NUCLEI, RELAXIVITY, TISSUES, WHITE

AGES = (0, .1, .5, 1, 2, 5, 10, 18, 40, 60, 85)


def t1_weighted(tissue, repetition=.02, degrees=25):
    angle, recovery = np.deg2rad(degrees), np.exp(-repetition / tissue.t1)
    return tissue.m0 * np.sin(angle) * (1 - recovery) / (1 - np.cos(angle) * recovery)


def test_the_table_is_that_of_an_adult():
    assert tissues_at() is TISSUES
    for name, tissue in tissues_at(ADULT).items():
        for quantity in ('chi', 'chi_positive', 'chi_negative', 'r2star', 'm0', 't1'):
            assert getattr(tissue, quantity) == pytest.approx(getattr(TISSUES[name], quantity), rel=1e-9, abs=1e-9)
    assert stature(ADULT) == stature()


@pytest.mark.parametrize('age', AGES)
def test_every_age_keeps_the_signs_and_the_relation_to_r2star(age):
    for name, tissue in tissues_at(age).items():
        assert tissue.chi_negative <= 0 <= tissue.chi_positive, name
        if LIKE.get(name, name) in NUCLEI + ('cortex', 'white_matter'):
            sources = RELAXIVITY * (tissue.chi_positive - tissue.chi_negative)
            assert 3 < tissue.r2star - sources < 16.5, name


def test_newborns_have_little_iron_and_myelin():
    newborn = tissues_at(0)
    for name in NUCLEI:
        assert 0 < newborn[name].chi_positive < .05 * TISSUES[name].chi_positive, name
    assert .1 < newborn['white_matter'].chi_negative / TISSUES['white_matter'].chi_negative < .3
    for name in WHITE:
        assert newborn[name].t1 > 1.5 * TISSUES[name].t1 and newborn[name].r2star < .5 * TISSUES[name].r2star


def test_grey_and_white_matter_change_sides_in_infancy():
    contrast = {age: t1_weighted(tissues_at(age)['white_matter']) - t1_weighted(tissues_at(age)['cortex'])
                for age in AGES}
    assert contrast[0] < 0 < contrast[2] < contrast[40]
    newborn = tissues_at(0)
    # Williams 2005: relative differences of R1 and R2 at 3 T, 0.3 (0.09) and 0.8 (0.2).
    assert newborn['white_matter'].t1 / newborn['cortex'].t1 - 1 == pytest.approx(.3, abs=.09)
    r2 = [newborn[name].r2star - newborn[name].r2_sources for name in ('cortex', 'white_matter')]
    assert r2[0] / r2[1] - 1 == pytest.approx(.8, abs=.2)


def test_iron_grows_with_age_and_leaves_the_thalamus():
    for name in IRON:
        added = [age_iron(age)[name] for age in AGES]
        assert np.all(np.diff(added) > 0) and age_iron(ADULT)[name] == pytest.approx(0)
    thalamus = [age_iron(age)['thalamus'] for age in (10, 40, 80)]
    assert thalamus[0] < thalamus[1] > thalamus[2]
    assert all(age_iron(30)[name] == age_iron(30)[other] for name, other in LIKE.items() if other in IRON)


def test_myelin_comes_fast_and_goes_slowly():
    share = np.array([myelin_share(age) for age in AGES])
    assert np.all(np.diff(share[:-2]) > 0) and share[4] > .8 and share[-1] < .95
    assert np.all((share > 0) & (share <= 1.01))


def test_heads_grow_and_age():
    figures = [stature(age) for age in AGES]
    assert .64 < figures[0].size < .7 and figures[-1].size == 1
    assert all(np.diff([f.size for f in figures]) >= 0) and all(np.diff([f.skull_loss for f in figures]) <= 0)
    # Sgouros 1999: 77 % of the volume at two years, 90 % at five.
    assert [stature(age).size ** 3 for age in (2, 5)] == pytest.approx([.77, .90], abs=.01)
    assert figures[-1].widening > figures[-2].widening > 0 == stature(30).widening and figures[-1].sulci > 0


@pytest.mark.parametrize('wrong', [-1, 200, float('nan')])
def test_ages_are_those_of_people(wrong):
    for work in (stature, tissues_at, age_iron):
        with pytest.raises(ValueError, match='age'):
            work(wrong)
