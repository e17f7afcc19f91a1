import numpy as np
import pytest

from qsmbids.core.swi import (combine_for_contrast, flatten, high_pass, minimum_projection, phase_mask,
                              weight_by_susceptibility)

TIMES = (.01, .02)


@pytest.fixture
def head():
    """A ball of tissue under a shading, with a vein across the slices and one echo that decays."""
    shape, rng = (36, 33, 30), np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing='ij')
    mask = x ** 2 + y ** 2 + z ** 2 < 14 ** 2
    vein = (abs(x) < 1) & (abs(y - 3) < 1) & mask
    shading = (1 + .005 * x).astype(np.float32)
    magnitude = shading[..., None] * np.array([100, 80]) + rng.standard_normal((*shape, 2))
    field = .05 * vein + .01 * z + .005 * x - .002 * y + .001 * rng.standard_normal(shape)
    return magnitude.astype(np.float32), field.astype(np.float32), mask, vein


def weighted(head, axis=2, **options):
    magnitude, field, mask, _ = head
    return weight_by_susceptibility(magnitude, field, mask, mask, (1, 1, 1), echo_times=TIMES,
                                    b0_dir=np.eye(3)[axis], **options)


def test_a_vein_is_dark_and_its_surroundings_are_even(head):
    _, _, mask, vein = head
    result = weighted(head)
    tissue = mask & ~vein
    assert np.median(result.swi[vein]) < .1
    assert np.median(result.swi[tissue]) == pytest.approx(.88, abs=.03)
    assert result.swi[tissue].std() < .12
    assert not result.swi[~mask].any() and not result.minip[~mask].any()
    assert result.swi.dtype == result.minip.dtype == np.float32


def test_a_diamagnetic_line_stays_bright(head):
    magnitude, field, mask, vein = head
    assert np.median(weighted((magnitude, field - .1 * vein, mask, vein)).swi[vein]) > .9


@pytest.mark.parametrize('axes', [(2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_stored_otherwise_it_is_the_same(head, axes):
    magnitude, field, mask, vein = head
    turned = [np.ascontiguousarray(volume.transpose(axes)) for volume in (field, mask, vein)]
    other = weighted((np.ascontiguousarray(magnitude.transpose(*axes, 3)), *turned), axis=axes.index(2))
    one = weighted(head)
    assert other.swi == pytest.approx(one.swi.transpose(axes), abs=1e-4)
    assert other.minip == pytest.approx(one.minip.transpose(axes), abs=1e-4)


def test_neither_units_nor_scale_matter(head):
    magnitude, field, mask, vein = head
    assert weighted((1e3 * magnitude, 1e-3 * field, mask, vein)).swi == pytest.approx(weighted(head).swi, abs=1e-4)


def test_a_plane_leaves_nothing_up_to_the_border(head):
    mask = head[2]
    x, y, z = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in mask.shape), indexing='ij')
    left = high_pass(x - 2 * y + z ** 2, mask, (1, 2, 3), 2, 4.)
    # Where but a handful of voxels of a slice are in the mask, the ridge holds on to part of the slope.
    assert np.abs(left)[mask].max() < .5 and np.median(np.abs(left)[mask]) < 5e-3


def test_high_pass_keeps_what_is_thin_and_ignores_what_is_outside(head):
    magnitude, field, mask, vein = head
    wild = np.where(mask, vein, np.float32(1e3)).astype(np.float32)
    found = high_pass(wild, mask, (1, 1, 1), 2, 4.)
    assert found[vein].min() > .8 and np.abs(found[mask & ~vein]).max() < .2 and not found[~mask].any()


def test_untrusted_voxels_keep_their_magnitude(head):
    magnitude, field, mask, vein = head
    field = np.where(vein, np.nan, field)
    result = weight_by_susceptibility(magnitude, field, mask, mask & ~vein, (1, 1, 1), echo_times=TIMES)
    assert np.median(result.swi[vein]) == pytest.approx(.88, abs=.03)


def test_echoes_weigh_by_time_and_signal():
    magnitude = np.zeros((2, 2, 2, 2), np.float32)
    magnitude[..., 0], magnitude[..., 1] = 100, 50
    combined = combine_for_contrast(magnitude, (.01, .03), np.ones((2, 2, 2), bool))
    assert combined == pytest.approx(np.full((2, 2, 2), (1 * 100 + 1.5 * 50) / 2.5))


def test_flat_is_one_whatever_the_shading(head):
    mask = head[2]
    x = np.arange(mask.shape[0])[:, None, None]
    even = flatten(np.broadcast_to(50 + 1. * x, mask.shape), mask, (1, 1, 1), 5.)
    assert even[mask] == pytest.approx(1, abs=.12) and not even[~mask].any()


def test_the_mask_follows_its_formula():
    field = np.array([[[-1., 0., 1., 3.]]], np.float32)
    found = phase_mask(field, np.ones(field.shape, bool), 5.)
    assert found.ravel() == pytest.approx((1 + np.tanh(1 - field.ravel() * 5 / 20)) / 2)
    assert phase_mask(-np.abs(field), np.ones(field.shape, bool), 4.).min() > .88


@pytest.mark.parametrize('slices', [1, 3, 7])
def test_the_projection_is_the_minimum_of_so_many_slices(slices):
    image, mask = np.ones((1, 1, 15), np.float32), np.ones((1, 1, 15), bool)
    image[..., 7], mask[..., :2] = .2, False
    found = minimum_projection(image, mask, 2, slices)
    assert (found == np.float32(.2)).sum() == slices and not found[..., :2].any() and found[..., 2] == 1


@pytest.mark.parametrize('change, named', [
    ({'magnitude': np.ones((4, 4, 4, 3))}, 'magnitude'), ({'field': np.full((4, 4, 4), np.nan)}, 'field'),
    ({'mask': np.zeros((4, 4, 4), bool)}, 'mask'), ({'strength': 0}, 'strength'), ({'sigma_mm': -1}, 'sigma_mm'),
    ({'trusted': np.ones((4, 4, 5), bool)}, 'trusted'), ({'magnitude': np.zeros((4, 4, 4, 2))}, 'magnitude')])
def test_what_does_not_fit_is_refused(change, named):
    ones = np.ones((4, 4, 4), bool)
    options = dict(magnitude=np.ones((4, 4, 4, 2)), field=np.zeros((4, 4, 4)), mask=ones, trusted=ones,
                   voxel_size=(1, 1, 1), echo_times=TIMES) | change
    with pytest.raises(ValueError, match=f'^{named}'):
        weight_by_susceptibility(**options)
