import numpy as np
import pytest
from scipy import ndimage

from qsmbids.core.masks import (brain_mask, erode, fill_holes, find_brain, merge_two_pass, reliable_mask,
                                two_pass_masks, widen_mask)

ECHO_TIMES = 0.004, 0.014, 0.024


def head(voxel_size, extent=(176, 216, 196), seed=0):
    """Gradient-echo magnitudes of a head made of ellipsoids, and its brain with the fluid around it."""
    x, y, z = (((np.arange(round(e / v)) + 0.5) * v - e / 2).reshape(np.roll((-1, 1, 1), i))
               for i, (e, v) in enumerate(zip(extent, voxel_size)))

    def ball(cx, cy, cz, rx, ry, rz):
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz - 10) / rz) ** 2 < 1

    amplitude, r2star = np.zeros((2, x.size, y.size, z.size), np.float32)

    def paint(where, signal, rate):
        amplitude[where], r2star[where] = signal, rate

    paint(ball(0, 0, 0, 82, 100, 80) | ((x / 58) ** 2 + ((y + 20) / 62) ** 2 < 1) & (z < -20), 1.7, 25)    # scalp
    paint(((x / 52) ** 2 + ((y + 20) / 56) ** 2 < 1) & (z < -20), 0.8, 33)                                 # muscle
    paint(ball(0, 0, 0, 76, 94, 74), 0.06, 200)                                                            # skull
    for side in (-1, 1):
        paint(ball(side * 32, 84, -38, 13, 13, 13), 0.6, 5)                                                # eyes
    fluid = ball(0, 0, 0, 70, 88, 68)
    paint(fluid, 0.6, 2)
    paint(ball(0, 0, 0, 67, 85, 65), 0.9, 18)
    paint(ball(0, 0, 0, 60, 76, 58), 1.0, 21)
    paint(ball(-12, 5, 5, 7, 25, 9) | ball(12, 5, 5, 7, 25, 9), 0.6, 2)                                    # ventricles
    paint((x / 7) ** 2 + ((y + 20) / 7) ** 2 + 0 * z < (z < -50), 0.9, 20)                                 # cord
    shading = np.exp(0.5 * (x / 80 - y / 100 + ((x / 90) ** 2 + (y / 110) ** 2)))
    rng = np.random.default_rng(seed)
    noise = 0.03 * rng.standard_normal((2, *amplitude.shape, len(ECHO_TIMES)))
    signal = (amplitude * shading)[..., None] * np.exp(-r2star[..., None] * np.array(ECHO_TIMES))
    return np.hypot(signal + noise[0], noise[1]).astype(np.float32), fluid


def dice(a, b):
    return 2 * np.sum(a & b) / (a.sum() + b.sum())


def assert_whole(mask):
    assert mask.dtype == bool
    assert ndimage.label(mask)[1] == 1
    assert np.array_equal(mask, ndimage.binary_fill_holes(mask))


@pytest.fixture(scope='module')
def coarse_head():
    return head((2, 2, 2))


@pytest.mark.parametrize('voxel_size', [(1, 1, 3), (3.0, 1.3, 1.7), (4, 4, 4)])
def test_brain_of_a_whole_head(voxel_size):
    magnitude, brain = head(voxel_size)
    mask = brain_mask(magnitude, voxel_size)
    assert dice(mask, brain) > 0.95
    assert_whole(mask)


@pytest.mark.parametrize('order, signs', [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (-1, 1, 1)), ((1, 0, 2), (1, -1, -1))])
def test_no_axis_is_special(coarse_head, order, signs):
    magnitude, brain = (volume.transpose((*order, *range(3, volume.ndim)))[tuple(slice(None, None, s) for s in signs)]
                        for volume in coarse_head)
    assert dice(brain_mask(magnitude, (2, 2, 2)), brain) > 0.96


def test_one_echo_and_scale(coarse_head):
    magnitude, brain = coarse_head
    mask = brain_mask(magnitude[..., 1], (2, 2, 2))
    assert dice(mask, brain) > 0.95
    assert np.array_equal(mask, brain_mask(magnitude[..., 1] * np.float32(2 ** -20), (2, 2, 2)))


@pytest.mark.parametrize('dtype', [np.uint16, np.int32, np.float64])
def test_any_type_of_number(dtype):
    magnitude = np.full((9, 9, 9, 2), 40000, dtype)
    assert brain_mask(magnitude, (2, 2, 2)).all()


@pytest.mark.parametrize('slab', [np.s_[:, :, 40:64], np.s_[:, 40:75], np.s_[30:60]])
def test_a_slab_is_brain_up_to_its_faces(coarse_head, slab):
    magnitude, brain = coarse_head
    mask = brain_mask(magnitude[slab], (2, 2, 2))
    assert dice(mask, brain[slab]) > 0.94
    assert_whole(mask)


def test_an_extracted_brain_is_kept(coarse_head):
    magnitude, brain = coarse_head
    # A corner that no smooth surface follows.
    brain = brain.copy()
    brain[:44, :54, :50] = False
    mask = brain_mask(magnitude * brain[..., None], (2, 2, 2))
    assert dice(mask, brain) > 0.995
    assert not (mask & ~brain).any()


def test_a_crop_of_nothing_but_tissue_is_all_mask(coarse_head):
    assert brain_mask(coarse_head[0][30:55, 40:71, 40:61], (2, 2, 2)).all()


@pytest.mark.parametrize('spoil, message', [(lambda m: 0 * m, 'zero'), (lambda m: np.where(m > 1, np.nan, m), 'finite'),
                                            (lambda m: m[0, 0], 'shape')])
def test_a_magnitude_without_a_head_is_refused(coarse_head, spoil, message):
    with pytest.raises(ValueError, match=f'^magnitude .*{message}'):
        brain_mask(spoil(coarse_head[0]), (2, 2, 2))


@pytest.fixture
def ball_mask():
    return np.sum((np.mgrid[:31, :31, :31] - 15) ** 2, axis=0) <= 13 ** 2


def test_reliable_mask_keeps_bleeds_and_veins_and_cuts_the_border(ball_mask):
    residual = np.where(ball_mask, 0.1, np.nan).astype(np.float32)
    residual[14:17, 14:17, 14:17] = 0.9     # a bleed
    residual[10, 20, 8:] = 0.9              # a vein that reaches the surface
    residual[15, 15, :7] = 0.9              # narrow, but the border is beyond
    residual[:, :6] = 0.9                   # above a sinus
    reliable = reliable_mask(ball_mask, residual)
    assert not (reliable & ~ball_mask).any()
    assert reliable[15, 15, 15] and reliable[10, 20, 8:15].all()
    sinus = ball_mask & (np.arange(31)[:, None] < 6)
    assert not (reliable & sinus).any()
    sound = ball_mask & ~ndimage.binary_dilation(sinus)
    assert dice(reliable, sound) > 0.97
    assert_whole(reliable)


def test_reliable_mask_loses_its_border_only_beside_what_is_unreliable(ball_mask):
    residual = np.full(ball_mask.shape, 0.1, np.float32)
    assert np.array_equal(reliable_mask(ball_mask, residual), ball_mask)
    residual[~ball_mask] = np.nan           # what is outside says nothing
    assert np.array_equal(reliable_mask(ball_mask, residual), ball_mask)
    assert np.array_equal(reliable_mask(ball_mask, residual, erosion=True), ndimage.binary_erosion(ball_mask))
    residual[15, 15, 2] = residual[15, 15, 27] = residual[15, 15, 28] = 0.9     # air at both ends, one deep and two
    lost = np.zeros_like(ball_mask)
    lost[15, 15, 2] = lost[15, 15, 27] = lost[15, 15, 28] = True
    lost = ndimage.binary_dilation(lost) & ball_mask
    assert np.array_equal(reliable_mask(ball_mask, residual), ball_mask & ~lost)


def test_what_is_unreliable_beyond_the_brain_is_no_vein(ball_mask):
    residual = np.zeros(ball_mask.shape, np.float32)
    residual[15, 15, 25] = residual[15, 15, 15] = 0.9
    brain = ball_mask & (np.arange(31) < 22)
    reliable = reliable_mask(ball_mask, residual, within=brain)
    assert np.array_equal(reliable & brain, brain) and not reliable[15, 15, 24:27].any() and reliable[15, 15, 23]
    assert np.array_equal(reliable_mask(ball_mask, residual), ball_mask)


def test_reliable_mask_leaves_a_large_hole_open(ball_mask):
    residual = np.zeros(ball_mask.shape, np.float32)
    residual[11:20, 11:20, 11:20] = 1
    assert not reliable_mask(ball_mask, residual)[12:19, 12:19, 12:19].any()
    assert reliable_mask(ball_mask, residual, max_hole=1000)[11:20, 11:20, 11:20].all()


def test_reliable_mask_hears_the_unwrapping_too(ball_mask):
    residual, quality = np.zeros((2, *ball_mask.shape), np.float32)
    quality[:, :15] = 1
    assert not reliable_mask(ball_mask, residual, quality)[:, 15:].any()
    with pytest.raises(ValueError, match='no reliable voxel'):
        reliable_mask(ball_mask, residual + 1)
    with pytest.raises(ValueError, match='^quality has shape'):
        reliable_mask(ball_mask, residual, quality[1:])


def test_the_first_pass_lacks_large_doubtful_parts_and_the_second_nothing(ball_mask):
    i, j, k = (n // 2 for n in ball_mask.shape)
    residual, quality = np.zeros(ball_mask.shape, np.float32), np.full(ball_mask.shape, .9)
    bleed, vein = np.zeros_like(ball_mask), np.zeros_like(ball_mask)
    bleed[i:i + 3, j:j + 3, k:k + 3] = vein[i - 4, j, k - 4:k + 4] = True
    residual[bleed], quality[i - 1, j:j + 3, k:k + 3], residual[vein] = .5, .1, .5
    bleed[i - 1, j:j + 3, k:k + 3] = True
    brain = ball_mask & ~bleed
    strict, filled = two_pass_masks(brain, ball_mask, residual, quality, (1, 1, 1), least_mm3=36)
    assert np.array_equal(strict, ball_mask & ~bleed) and np.array_equal(filled, ball_mask)
    assert two_pass_masks(brain, ball_mask, residual, quality, (1, 1, 1), least_mm3=37)[0][bleed].all()
    assert not two_pass_masks(brain, ball_mask, residual, None, (2, 1, 1), least_mm3=54)[0][residual > 0].all()
    with pytest.raises(ValueError, match='^residual'):
        two_pass_masks(brain, ball_mask, residual + 1, quality, (1, 1, 1))


def test_the_second_map_shows_where_the_first_has_no_value():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((6, 7, 8)).astype(np.float32)
    filled = rng.random(truth.shape) < .8
    reliable = filled & (rng.random(truth.shape) < .7)
    reliable[0, 0, 0], filled[0, 0, 0] = True, False
    merged, mask = merge_two_pass(truth * reliable, reliable, (truth + 5) * filled, filled)
    assert np.array_equal(mask, reliable | filled) and not merged[~mask].any() and merged.dtype == np.float32
    assert merged[mask] == pytest.approx(truth[mask], abs=1e-5), 'two zeros became one'
    assert np.array_equal(merged[reliable], truth[reliable])
    apart, _ = merge_two_pass(truth * reliable, reliable, (truth + 5) * filled, filled, align=False)
    assert apart[filled & ~reliable] == pytest.approx(truth[filled & ~reliable] + 5, abs=1e-5)


@pytest.mark.parametrize('change, named', [({'filled': np.zeros((3, 3, 3), bool)}, 'filled'),
                                           ({'chi': np.zeros((3, 3, 4))}, 'chi'), ({'reliable': np.ones(3)}, 'mask')])
def test_maps_that_do_not_go_together_are_not_merged(change, named):
    ones = np.ones((3, 3, 3), bool)
    with pytest.raises(ValueError, match=f'^{named}'):
        merge_two_pass(**dict(chi=ones * 1., reliable=ones, filled_chi=ones * 1., filled=ones) | change)


def test_a_margin_is_in_mm():
    mask = np.zeros((11, 11, 11), bool)
    mask[5, 5, 5] = True
    away = np.sqrt(sum(((i - 5) * v) ** 2 for i, v in zip(np.ogrid[:11, :11, :11], (1, 2, 3))))
    assert np.array_equal(widen_mask(mask, (1, 2, 3), 3), away <= 3)
    assert np.array_equal(widen_mask(mask, (1, 2, 3), 0), mask)
    for wrong in (-1, np.nan):
        with pytest.raises(ValueError, match='^margin is'):
            widen_mask(mask, (1, 2, 3), wrong)


def test_erode_is_in_mm():
    mask = np.ones((21, 21, 21), bool)
    mask[10, 10, 10] = False
    kept = erode(mask, (1, 2, 3), 3.5)
    away = np.sqrt(sum(((i - 10) * v) ** 2 for i, v in zip(np.ogrid[:21, :21, :21], (1, 2, 3))))
    assert np.array_equal(kept[5:16, 5:16, 5:16], (away > 3.5)[5:16, 5:16, 5:16])
    # Nothing is known beyond the faces.
    assert not kept[:3].any() and not kept[:, :1].any() and not kept[..., :1].any() and kept[3, 5, 5]


def test_holes_are_filled_but_not_bays():
    mask = np.zeros((9, 9, 9), bool)
    mask[1:8, 1:8, 1:8] = True
    solid = mask.copy()
    mask[4, 4, 2:6] = False
    assert np.array_equal(fill_holes(mask), solid)
    assert np.array_equal(fill_holes(mask, 4), solid)
    assert np.array_equal(fill_holes(mask, 3), mask)
    mask[4, 4] = False
    assert np.array_equal(fill_holes(mask), mask)


def test_methods_are_found_by_name_and_told_of_the_axes_where_they_ask(monkeypatch):
    asked = []

    def remember(magnitude, voxel_size, *, affine=None, weights='x'):
        asked.append((voxel_size, affine, weights))
    monkeypatch.setattr('qsmbids.networks.masking.brain_mask_network', remember)
    find_brain('network', np.ones((4, 4, 4)), (1, 2, 3), 'axes', weights='mine')
    assert asked == [((1, 2, 3), 'axes', 'mine')]
    magnitude, _ = head((4, 4, 4))
    assert np.array_equal(find_brain('surface', magnitude, (4, 4, 4), np.eye(4), fraction=.6),
                          brain_mask(magnitude, (4, 4, 4), fraction=.6))
    with pytest.raises(ValueError, match="mask method is 'bet', must be one of surface, network"):
        find_brain('bet', magnitude, (4, 4, 4))
