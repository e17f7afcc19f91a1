"""Metrics on cases whose answer is known."""

import numpy as np
import pytest
from scipy import ndimage

from qsmbids.core import metrics
from qsmbids.core.metrics import Detections


@pytest.fixture(scope='module')
def case():
    """A truth with something outside of the mask, and the mask, which touches the edge of the volume."""
    rng = np.random.default_rng(0)
    truth = 0.1 * ndimage.gaussian_filter(rng.normal(size=(30, 26, 22)), 1.0).astype(np.float32)
    mask = np.zeros(truth.shape, bool)
    mask[4:-5, 6:-3, :-4] = True
    truth[~mask] += 9
    return truth, mask


def blob(shape, width, amplitude=1.0):
    grids = [(np.arange(n) - (n - 1) / 2) ** 2 for n in shape]
    return amplitude * np.exp(-(grids[0][:, None, None] + grids[1][:, None] + grids[2]) / (2 * width ** 2))


def test_a_perfect_map(case):
    truth, mask = case
    scores = metrics.score_map(np.where(mask, truth, 0), truth, mask)
    perfect = {'coverage': 1, 'nrmse': 0, 'detrended_nrmse': 0, 'hfen': 0, 'xsim': 1, 'ssim': 1, 'ssim_whole_volume': 1,
               'correlation': 1, 'slope': 1}
    assert scores == pytest.approx(perfect, abs=1e-4)


def test_a_scaled_map(case):
    truth, mask = case
    centred = np.where(mask, truth - truth[mask].mean(), 0)
    scaled = 0.8 * centred
    assert metrics.nrmse(scaled, truth, mask) == pytest.approx(20, abs=1e-3)
    assert metrics.detrended_nrmse(scaled, truth, mask) == pytest.approx(0, abs=1e-3)
    assert metrics.hfen(scaled, centred, mask) == pytest.approx(20, abs=1e-3)
    assert metrics.linear_fit(scaled, truth, mask) == pytest.approx((0.8, -0.8 * truth[mask].mean(), 1), abs=1e-5)


def test_a_shifted_map(case):
    truth, mask = case
    shifted = truth + np.float32(0.05)
    assert metrics.nrmse(shifted, truth, mask) == pytest.approx(0, abs=1e-3)
    assert metrics.detrended_nrmse(shifted, truth, mask) == pytest.approx(0, abs=1e-3)
    assert metrics.xsim(shifted, truth, mask) < 0.99
    assert metrics.score_map(shifted, truth, mask)['xsim'] == pytest.approx(1, abs=1e-5)


def test_a_map_one_voxel_off():
    # A wave of n voxels that is moved by one differs by 2 sin(pi / n).
    truth = np.broadcast_to(np.sin(2 * np.pi * np.arange(24) / 12)[:, None, None], (24, 5, 6))
    mask = np.ones(truth.shape, bool)
    moved = np.roll(truth, 1, axis=0)
    assert metrics.nrmse(moved, truth, mask) == pytest.approx(200 * np.sin(np.pi / 12), rel=1e-5)
    # All that is left of the correlation is cos(2 pi / n).
    assert metrics.linear_fit(moved, truth, mask) == pytest.approx((np.cos(np.pi / 6), 0, np.cos(np.pi / 6)), abs=1e-6)
    assert metrics.detrended_nrmse(moved, truth, mask) == pytest.approx(100 * np.tan(np.pi / 6), rel=1e-5)


def test_detrended_error_follows_from_the_correlation(case):
    truth, mask = case
    noisy = truth + 0.02 * np.random.default_rng(1).normal(size=truth.shape)
    r = metrics.linear_fit(noisy, truth, mask).correlation
    assert metrics.detrended_nrmse(noisy, truth, mask) == pytest.approx(100 * np.sqrt(1 / r ** 2 - 1), rel=1e-5)
    assert metrics.detrended_nrmse(np.full_like(truth, 0.1), truth, mask) == np.inf


def test_hfen_of_blobs_is_analytic():
    # The Laplacian of a Gaussian of a blob of width s is that of a blob of width S, S^2 = s^2 + 1.5^2: its norm goes
    # with amplitude * s^3 / S^3.5.
    shape, (a, b) = (61, 61, 61), (2.0, 3.5)
    first, second = blob(shape, a), blob(shape, b, 0.5)
    expected = 100 * 0.5 * (b / a) ** 3 * ((a * a + 2.25) / (b * b + 2.25)) ** 1.75
    everywhere = np.ones(shape, bool)
    assert metrics.hfen(first + second, first, everywhere) == pytest.approx(expected, rel=2e-3)


def test_hfen_by_the_whole_kernel(case):
    truth, mask = case
    noisy = truth + 0.02 * np.random.default_rng(1).normal(size=truth.shape)
    r = np.arange(-7, 8)
    square = (r ** 2)[:, None, None] + (r ** 2)[:, None] + r ** 2
    kernel = np.exp(-square / 4.5)
    kernel = kernel / kernel.sum() * (square - 6.75) / 1.5 ** 4
    kernel -= kernel.mean()
    x, t = (ndimage.convolve(np.where(mask, volume, 0).astype(float), kernel, mode='constant')[mask]
            for volume in (noisy, truth))
    assert metrics.hfen(noisy, truth, mask) == pytest.approx(100 * np.linalg.norm(x - t) / np.linalg.norm(t), rel=1e-5)


def test_xsim_window_by_window(case):
    truth, mask = case
    noisy = truth + 0.02 * np.random.default_rng(1).normal(size=truth.shape)
    x, t = (np.pad(np.where(mask, volume, 0).astype(float), 2) for volume in (noisy, truth))
    values = []
    for i, j, k in np.argwhere(mask):
        a, b = (volume[i:i + 5, j:j + 5, k:k + 5] for volume in (x, t))
        cross = ((a - a.mean()) * (b - b.mean())).mean()
        values.append((2 * a.mean() * b.mean() + 1e-4) * (2 * cross + 1e-6)
                      / ((a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (a.var() + b.var() + 1e-6)))
    assert metrics.xsim(noisy, truth, mask) == pytest.approx(np.mean(values), abs=1e-5)


def test_ssim_is_that_of_scikit_image(case):
    structural_similarity = pytest.importorskip('skimage.metrics').structural_similarity
    truth, mask = (np.pad(volume, 8) for volume in case)
    noisy = truth + np.float32(0.02) * np.random.default_rng(1).normal(size=truth.shape).astype(np.float32)
    x, t = (np.where(mask, volume, 0).astype(float) for volume in (noisy, truth))
    _, full = structural_similarity(x, t, data_range=np.ptp(t[mask]), gaussian_weights=True, sigma=1.5,
                                    use_sample_covariance=False, full=True)
    assert metrics.ssim(noisy, truth, mask) == pytest.approx((full[mask].mean(), full.mean()), abs=1e-5)
    assert full.mean() > full[mask].mean()


def test_eroding_is_not_free(case):
    truth, mask = case
    eroded = np.where(ndimage.binary_erosion(mask, iterations=2), truth, 0)
    scores = metrics.score_map(eroded, truth, mask)
    assert 0.4 < scores['coverage'] < 0.8 and scores['nrmse'] > 30 and scores['xsim'] < 0.9
    holes = np.where(eroded == 0, np.nan, eroded)
    assert metrics.score_map(holes, truth, mask) == scores


def test_aligning_the_reference(case):
    truth, mask = case
    part = mask & (np.arange(30) < 15)[:, None, None]
    x, t = metrics.align_reference(np.where(part, truth + 0.3, 0), truth, mask)
    assert t[mask].mean() == pytest.approx(0, abs=1e-6) and not t[~mask].any() and not x[~part].any()
    assert x[part] == pytest.approx(t[part], abs=1e-5)


def test_regions():
    truth, labels = np.zeros((6, 4, 4), np.float32), np.zeros((6, 4, 4), int)
    labels[:2], labels[2:4], labels[4:] = 3, 7, 9
    for label, value in ((3, -0.1), (7, 0.0), (9, 0.1)):
        truth[labels == label] = value
    mask = np.ones(truth.shape, bool)
    mask[5] = False
    estimate = np.where(labels == 3, -0.05, np.where(labels == 9, 0.15, 0.02)).astype(np.float32)
    estimate[2] = np.nan
    estimate -= 0.5  # whatever the zero
    rows = metrics.score_regions(estimate, truth, mask, labels)
    assert list(rows) == [3, 7, 9] and [row['voxels'] for row in rows.values()] == [32, 32, 16]
    assert [row['coverage'] for row in rows.values()] == [1, 0.5, 1]
    zero = -0.02  # mean of the truth in the mask: (32 * -0.1 + 16 * 0.1) / 80
    shift = (32 * -0.1 + 16 * 0.1) / 64 - (32 * -0.05 + 16 * 0.02 + 16 * 0.15) / 64
    assert [row['truth'] for row in rows.values()] == pytest.approx([-0.1 - zero, -zero, 0.1 - zero], abs=1e-6)
    assert rows[3]['bias'] == pytest.approx(0.05 + shift, abs=1e-6)
    assert rows[9]['bias_percent'] == pytest.approx(100 * (0.05 + shift) / 0.12, rel=1e-4)
    assert rows[3]['rmse'] == pytest.approx(abs(0.05 + shift), rel=1e-4) and rows[3]['sd'] == pytest.approx(0, abs=1e-6)
    assert rows[7]['rmse'] == pytest.approx(np.sqrt(((0.02 + shift) ** 2 + zero ** 2) / 2), rel=1e-4)
    estimate[labels == 3] = 0
    assert metrics.score_regions(estimate, truth, mask, labels)[3]['estimate'] is None


def test_slope_over_regions():
    truth = np.array([0.05, 0.1, 0.15, 0.2])
    assert metrics.region_slope_error(truth + 0.3, truth) == pytest.approx(0)
    assert metrics.region_slope_error(0.85 * truth + 0.01, truth) == pytest.approx(0.15)
    assert metrics.region_slope_error(1.2 * truth, truth) == pytest.approx(0.2)
    with pytest.raises(ValueError, match='at least two'):
        metrics.region_slope_error([1.0], [1.0])


def test_calcification():
    region = np.zeros((21, 21, 21), bool)
    region[9:12, 9:12, 9:12] = True
    truth = np.where(region, -2.0, 0.0)
    mask = np.ones(region.shape, bool)
    assert metrics.calcification(truth, truth, mask, region) == (0, 0)
    assert metrics.calcification(0.75 * truth, truth, mask, region) == pytest.approx((25, 0))
    checks = 0.1 * (-1.0) ** np.indices(region.shape).sum(axis=0)
    rim = (ndimage.distance_transform_edt(~region) <= 4) & ~region
    found = metrics.calcification(truth + np.where(rim, checks, 0), truth, mask, region)
    assert found == pytest.approx((0, 0.05), abs=1e-3)
    far = metrics.calcification(truth + np.where(rim | region, 0, checks), truth, mask, region)
    assert far == pytest.approx((0, 0))
    with pytest.raises(ValueError, match='empty'):
        metrics.calcification(truth, truth, ~region, region)


def test_bland_altman_by_hand():
    found = metrics.bland_altman([1.0, 2.0, 3.0, 6.0], [1.0, 1.0, 1.0, 1.0])  # differences 0, 1, 2, 5
    sd = np.sqrt((4 + 1 + 0 + 9) / 3)
    assert found == pytest.approx((4, 2, sd, 2 - 1.96 * sd, 2 + 1.96 * sd))
    with pytest.raises(ValueError, match='at least two'):
        metrics.bland_altman([1.0], [1.0])


def test_overlap_and_surface_of_cubes():
    a = np.zeros((14, 14, 14), bool)
    a[1:11, 1:11, 1:11] = True
    b = np.roll(a, 1, axis=0)
    assert metrics.dice(a, a) == 1 and metrics.dice(a, ~a) == 0 and np.isnan(metrics.dice(~a & a, ~a & a))
    assert metrics.dice(a, b) == pytest.approx(2 * 900 / 2000)
    assert metrics.surface_distance(a, a, (1, 1, 1)) == (0, 0)
    # Of 488 voxels of each surface, the face of 100 ahead and the inner 64 of that behind lie one voxel off; where a
    # voxel is 3 mm long, the sides are nearer to 28 and 20 of the 64: 1 and 2 mm.
    assert metrics.surface_distance(a, b, (3, 1, 1)) == pytest.approx((3, (3 * 116 + 28 + 2 * 20) / 488))
    assert metrics.surface_distance(a, b, (0.5, 1, 1)) == pytest.approx((0.5, 0.5 * 164 / 488))


def test_surface_of_points():
    a, b = np.zeros((2, 9, 9, 9), bool)
    a[1, 2, 3] = b[4, 6, 3] = True
    assert metrics.surface_distance(a, b, (1, 1, 1)) == pytest.approx((5, 5))
    assert metrics.surface_distance(a, b, (2, 0.5, 7)) == pytest.approx((np.hypot(6, 2),) * 2)
    with pytest.raises(ValueError, match='empty'):
        metrics.surface_distance(a, a & b, (1, 1, 1))


def test_which_detections_are_near():
    found = [(0, 0, 0), (0, 0, 3), (9, 0, 0)]
    assert metrics.near_by_distance(found, [(0, 0, 2), (13, 0, 0)], radii=[1, 5]).tolist() == [
        [True, False], [True, False], [False, True]]
    assert metrics.near_by_distance([], [(0, 0, 2)]).shape == (0, 1)
    lesions, labels = np.zeros((2, 10), int)
    lesions[0:4], lesions[6:8] = 1, 2
    labels[3:9], labels[0] = 1, 2
    # Overlaps over unions: 1/9 and 2/6, 1/4 and 0.
    assert metrics.near_by_overlap(labels, lesions).tolist() == [[True, True], [True, False]]
    assert metrics.near_by_overlap(labels, lesions, 0.3).tolist() == [[False, True], [False, False]]


def test_matching_is_one_to_one_and_the_largest():
    # The best detection is near both lesions, the second near the first only: both are hits, whatever the first took.
    found = metrics.match_lesions([[True, False], [True, True], [True, False], [False, False]], [0.7, 0.9, 0.5, 0.8])
    assert found.scores.tolist() == [0.9, 0.8, 0.7, 0.5] and found.lesions == 2
    assert found.hits.tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match='scores'):
        metrics.match_lesions([[True]], [0.1, 0.2])
    assert metrics.match_lesions(np.zeros((0, 3)), []).lesions == 3


def test_pairs_are_as_many_as_can_be_and_close():
    found, lesions = [(0, 0, 0), (2, 0, 0), (50, 0, 0)], [(1.9, 0, 0), (4.2, 0, 0), (90, 0, 0)]
    # The nearest lesion of the second is the first's only one.
    assert metrics.pair_by_distance(found, lesions).tolist() == [[0, 0], [1, 1]]
    assert metrics.pair_by_distance(found, lesions[:1]).tolist() == [[1, 0]]
    assert metrics.pair_by_distance(found, lesions, radii=[0, 0, 45])[:, 0].tolist() == [0, 1, 2]
    assert metrics.pair_by_distance([], lesions).shape == metrics.pair_by_distance(found, []).shape == (0, 2)


def test_froc_by_hand():
    heads = [Detections(np.array([0.9, 0.8, 0.4]), np.array([True, False, True]), 3),
             Detections(np.array([0.8, 0.6]), np.array([True, False]), 1)]
    curve = metrics.froc(heads, at=(0, 0.5, 1, 9))
    assert curve.thresholds.tolist() == [0.9, 0.8, 0.6, 0.4]
    assert curve.sensitivity.tolist() == [0.25, 0.5, 0.5, 0.75]
    assert curve.false_positives.tolist() == [0, 0.5, 1, 1]
    assert [(p.sensitivity, p.threshold) for p in curve.points] == [(0.25, 0.9), (0.5, 0.8), (0.75, 0.4), (0.75, 0.4)]
    # Twice the first head: 2 of 3; twice the second: 1 of 1.
    assert (curve.points[3].lower, curve.points[3].upper) == pytest.approx((2 / 3, 1))


def test_froc_of_a_perfect_and_of_a_blind_detector():
    perfect = metrics.froc([Detections(np.array([0.9]), np.array([True]), 1)] * 5)
    assert all(point[1:4] == (1, 1, 1) for point in perfect.points)
    blind = metrics.froc([Detections(np.array([0.9]), np.array([False]), 1)] * 4
                         + [Detections(np.array([]), np.array([], bool), 0)])
    assert blind.false_positives.tolist() == [0.8] and [p.sensitivity for p in blind.points] == [0] * 6
    assert blind.points[0].threshold is None
    none = metrics.froc([Detections(np.array([]), np.array([], bool), 2)])
    assert none.thresholds.size == 0 and none.points[-1] == (8, 0, None, None, None)
    with pytest.raises(ValueError, match='at least one lesion'):
        metrics.froc([])


def test_the_interval_covers_the_truth():
    rng = np.random.default_rng(0)
    heads = [Detections(np.ones(10), rng.random(10) < 0.7, 10) for _ in range(40)]
    point = metrics.froc(heads, at=(20,)).points[0]
    width = 1.96 * np.sqrt(0.7 * 0.3 / 400)
    assert point.upper - point.lower == pytest.approx(2 * width, rel=0.25)
    assert metrics.froc(heads, at=(20,)).points == (point,)


def test_wrong_arguments(case):
    truth, mask = case
    with pytest.raises(ValueError, match='estimate has shape'):
        metrics.nrmse(truth[1:], truth, mask)
    with pytest.raises(ValueError, match='non-finite'):
        metrics.hfen(truth, np.where(mask, np.nan, truth), mask)
    with pytest.raises(ValueError, match='constant'):
        metrics.nrmse(truth, np.ones_like(truth), mask)
    with pytest.raises(ValueError, match='mask is empty'):
        metrics.xsim(truth, truth, ~mask & mask)
    with pytest.raises(ValueError, match='zero or not finite everywhere'):
        metrics.score_map(np.zeros_like(truth), truth, mask)
    with pytest.raises(ValueError, match='labels'):
        metrics.score_regions(truth, truth, mask, -mask.astype(int))


def test_inputs_stay_as_they_are(case):
    truth, mask = case
    copies = truth.copy(), mask.copy()
    metrics.score_map(truth, truth, mask)
    metrics.score_regions(truth, truth, mask, mask.astype(np.uint8))
    assert np.array_equal(truth, copies[0]) and np.array_equal(mask, copies[1])
