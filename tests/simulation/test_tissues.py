import numpy as np
import pytest

from qsmbids.simulation.tissues import RELAXIVITY, TISSUES, Tissue, at_field_strength, vary_tissues

# chi of both signs (ppm) and T2 at 3 T (ms), subcortical_microbleeds.md section 4.
SOURCES = {'caudate': (.053, -.009, 88.4), 'putamen': (.047, -.009, 77.6), 'pallidum': (.144, -.013, 63.8),
           'thalamus': (.051, -.031, 87.1), 'red_nucleus': (.111, -.011, 67.8), 'substantia_nigra': (.122, -.011, 72.7),
           'dentate': (.168, -.016, 110), 'cortex': (.039, -.019, 130), 'white_matter': (.006, -.036, 70)}
# Wright 2008, mean and SD in ms.
T1 = {1.5: {'white_matter': 646, 'cortex': 1197, 'putamen': 1084, 'caudate': 1109},
      3.: {'white_matter': 838, 'cortex': 1607, 'putamen': 1332, 'caudate': 1395},
      7.: {'white_matter': 1126, 'cortex': 1939, 'putamen': 1644, 'caudate': 1684}}
# Cox and Gowland 2010, ms: white matter, frontal and occipital grey matter.
T2 = {1.5: (80, 87, 80), 3.: (71, 76, 68), 7.: (47, 47, 46)}


def person(seed=0, iron=None):
    return vary_tissues(np.random.Generator(np.random.PCG64(seed)), iron)


@pytest.mark.parametrize('name', SOURCES)
def test_both_signs_and_r2_are_those_of_the_separation_phantom(name):
    positive, negative, t2 = SOURCES[name]
    tissue = TISSUES[name]
    assert (tissue.chi_positive, tissue.chi_negative) == pytest.approx((positive, negative), abs=.0011)
    # R2* of the table is rounded to 1/s.
    assert tissue.r2star == pytest.approx(1e3 / t2 + RELAXIVITY * (positive - negative), abs=.6)


@pytest.mark.parametrize('tissues', [TISSUES, person(), person(1, {'pallidum': -.03, 'white_matter': .004}),
                                     at_field_strength(person(2), 7.)])
def test_the_signs_make_chi_and_keep_their_sides(tissues):
    for name, tissue in tissues.items():
        assert tissue.chi_positive + tissue.chi_negative == pytest.approx(tissue.chi, abs=1e-12), name
        assert tissue.chi_negative <= 0 <= tissue.chi_positive + 1e-12, name


def test_r2star_follows_the_sources():
    for tissues in (person(3), person(4, {'dentate': .05})):
        for name in SOURCES:
            table, tissue = TISSUES[name], tissues[name]
            more = (tissue.chi_positive - tissue.chi_negative) - (table.chi_positive - table.chi_negative)
            assert tissue.r2star - table.r2star == pytest.approx(RELAXIVITY * more, abs=1e-9), name


def test_iron_is_paramagnetic():
    plain, iron = person(5), person(5, {'white_matter': .01, 'pallidum': .05})
    for name, added in (('white_matter', .01), ('pallidum', .05), ('putamen', 0)):
        assert iron[name].chi_positive - plain[name].chi_positive == pytest.approx(added)
        assert iron[name].chi_negative == plain[name].chi_negative


def test_at_3_tesla_nothing_changes():
    tissues = person(6)
    assert at_field_strength(tissues, 3) is tissues


@pytest.mark.parametrize('b0_tesla', [1.5, 7.])
def test_t1_and_r2_grow_as_measured(b0_tesla):
    scaled = at_field_strength(TISSUES, b0_tesla)
    for name, measured in T1[b0_tesla].items():
        assert scaled[name].t1 == pytest.approx(measured / 1e3, rel=.12), name
    rise = np.mean([a / b for a, b in zip(T2[3.], T2[b0_tesla])])
    bare = Tissue(0., 12., 1., 1.)
    assert at_field_strength({'x': bare}, b0_tesla)['x'].r2star / 12 == pytest.approx(rise, rel=.05)


def test_the_part_of_the_sources_is_proportional_to_the_field():
    sources = Tissue(.1, RELAXIVITY * .14, 1., 1., diamagnetic=-.02)
    scaled = [at_field_strength({'x': sources}, b0)['x'].r2star for b0 in (1.5, 3, 7)]
    assert scaled == pytest.approx([RELAXIVITY * .14 * b0 / 3 for b0 in (1.5, 3, 7)])


def test_water_keeps_its_t1_and_r2star_of_brain_is_nearly_linear():
    scaled = {b0: at_field_strength(TISSUES, b0) for b0 in (1.5, 3., 7.)}
    assert scaled[7.]['csf'].t1 == scaled[1.5]['ventricle'].t1 == TISSUES['csf'].t1
    for name in SOURCES:
        low, middle, high = (scaled[b0][name].r2star for b0 in scaled)
        assert low < middle < high < middle * 7 / 3, name
    # As Peters et al. 2007 found: 1/T2* of white matter and cortex at 7 T.
    assert scaled[7.]['white_matter'].r2star == pytest.approx(37, rel=.1)
    assert scaled[7.]['cortex'].r2star == pytest.approx(30, rel=.1)


@pytest.mark.parametrize('wrong', [0, -3, float('nan')])
def test_a_field_must_be_positive(wrong):
    with pytest.raises(ValueError, match='b0_tesla'):
        at_field_strength(TISSUES, wrong)
