import numpy as np
import pytest

from qsmbids.core.regions import REFERENCES, csf_mask, find_csf, fluid_limit, reference, reference_chi


@pytest.fixture(scope='module')
def brain():
    """An ellipsoid of tissue with two ventricles in it and fluid around it, at 1.5 x 1.5 x 2 mm."""
    voxel_size = (1.5, 1.5, 2.0)
    shape = (96, 120, 64)
    x, y, z = ((np.arange(n) - n / 2).reshape(np.roll((-1, 1, 1), i)) * step
               for i, (n, step) in enumerate(zip(shape, voxel_size)))
    shell = (x / 66) ** 2 + (y / 84) ** 2 + (z / 58) ** 2
    mask = shell < 1
    ventricles = np.zeros(shape, bool)
    for side in (-1, 1):
        ventricles |= ((x - side * 11) / 6) ** 2 + ((y - 4) / 22) ** 2 + ((z - 5) / 9) ** 2 < 1
    fluid = ventricles | (mask & (shell > 0.85))
    rng = np.random.default_rng(0)
    r2star = np.where(fluid, 1.0, 20.0) + 3 * rng.standard_normal(shape)
    return np.where(mask, r2star, 0).clip(0).astype(np.float32), mask, voxel_size, ventricles


def test_csf_is_the_ventricles_and_not_what_surrounds_the_brain(brain):
    r2star, mask, voxel_size, ventricles = brain
    csf = csf_mask(r2star, mask, voxel_size)
    assert csf.dtype == bool
    assert (csf & ~ventricles).sum() < 0.02 * csf.sum()
    assert csf.sum() > 0.5 * ventricles.sum()


def test_tissue_without_myelin_is_no_fluid_in_the_first_year(brain):
    r2star, mask, voxel_size, ventricles = brain
    slow = np.where(mask & (r2star > 5), r2star - 16, r2star).clip(0).astype(np.float32)
    infant, adult = (find_csf(slow, mask, voxel_size, age)[0] for age in (.1, 30))
    assert ventricles[infant].mean() > .75 and ventricles[adult].mean() < .5
    assert fluid_limit(None) == fluid_limit(1) == 5 and fluid_limit(.99) == 3


@pytest.mark.parametrize('order', [(2, 0, 1), (1, 2, 0)])
def test_csf_knows_no_orientation(brain, order):
    r2star, mask, voxel_size, _ = brain
    turned = csf_mask(r2star.transpose(order)[::-1], mask.transpose(order)[::-1], [voxel_size[i] for i in order])
    assert np.array_equal(turned[::-1].transpose(np.argsort(order)), csf_mask(r2star, mask, voxel_size))


def test_no_fluid_is_an_error_that_names_the_way_out(brain):
    _, mask, voxel_size, _ = brain
    with pytest.raises(ValueError, match='whole brain'):
        csf_mask(np.where(mask, 20, 0).astype(np.float32), mask, voxel_size)
    with pytest.raises(ValueError, match='^mask is empty'):
        csf_mask(np.zeros(mask.shape, np.float32), np.zeros(mask.shape, bool), voxel_size)


def test_reference_makes_its_region_the_zero():
    rng = np.random.default_rng(1)
    mask = np.zeros((8, 9, 10), bool)
    mask[1:-1, 1:-1, 1:-1] = True
    region = np.zeros(mask.shape, bool)
    region[:4, :4, :4] = True
    chi = np.where(mask, 0.05 * rng.standard_normal(mask.shape), 7).astype(np.float32)
    chi[region] += 0.2
    before = chi.copy()
    for where, name in ((mask, 'wholebrain'), (region, 'csf')):
        referenced, found = reference(chi, mask, where)
        assert found.name == name in REFERENCES
        assert found.voxels == (where & mask).sum()
        assert referenced[where & mask].mean() == pytest.approx(0, abs=1e-6)
        assert not referenced[~mask].any()
        assert referenced.dtype == np.float32
        assert found.mean == pytest.approx(chi[where & mask].mean() - chi[mask].mean(), abs=1e-6)
        assert found.sd == pytest.approx(chi[where & mask].std(), rel=1e-4)
        # Differences between tissues are what the map is about; they stay.
        assert np.ptp(referenced[mask]) == pytest.approx(np.ptp(chi[mask]), rel=1e-5)
    assert np.array_equal(chi, before)


def test_no_reference_leaves_the_map_alone():
    chi = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    mask = chi > 5
    referenced, found = reference(chi, mask, None)
    assert np.array_equal(referenced, chi * mask)
    assert (found.name, found.mean, found.voxels) == ('none', 0, mask.sum())


def test_a_region_outside_the_mask_is_refused():
    mask = np.zeros((3, 3, 3), bool)
    mask[0] = True
    with pytest.raises(ValueError, match='^region'):
        reference(np.ones(mask.shape, np.float32), mask, ~mask)


def test_all_references_at_once():
    mask = np.ones((6, 6, 6), bool)
    csf = np.zeros_like(mask)
    csf[:2] = True
    chi = np.where(csf, 0.3, 0.0).astype(np.float32)
    found = reference_chi(chi, mask, csf, 'csf')
    assert found.used == 'csf' and np.allclose(found.chi[csf], 0) and np.allclose(found.chi[~csf], -0.3)
    assert {r.name: round(r.mean, 6) for r in found.references} == {'wholebrain': 0, 'csf': 0.2}
    assert np.array_equal(reference_chi(chi, mask, csf, 'none').chi, chi)


def test_without_fluid_the_whole_brain_takes_its_place_and_says_so():
    mask = np.ones((4, 4, 4), bool)
    chi = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    for csf in (None, ~mask):
        found = reference_chi(chi, mask, csf, 'csf')
        assert found.used == 'wholebrain' and found.warnings and abs(found.chi.mean()) < 1e-5
    with pytest.raises(ValueError, match='wanted'):
        reference_chi(chi, mask, None, 'liver')
