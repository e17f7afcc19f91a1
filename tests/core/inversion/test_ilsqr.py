import numpy as np
import pytest

from qsmbids.core.dipole import dipole_kernel, forward_field
from qsmbids.core.fourier import rfftn
from qsmbids.core.grid import add_weighted_laplacian
from qsmbids.core.inversion import ilsqr as module
from qsmbids.core.inversion.ilsqr import invert_ilsqr

SIZE, VOXEL_SIZE = (24, 20, 22), (1, 1.25, 1.5)


def test_weighted_laplacian_is_symmetric_and_of_the_gradient():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, *SIZE)).astype(np.float32)
    weight = rng.random((3, *SIZE)).astype(np.float32)
    per_square_mm = np.divide(1, np.square(VOXEL_SIZE)).astype(np.float32)[:, None, None, None]
    images = []
    for volume in (x, y):
        images.append(np.zeros_like(volume))
        add_weighted_laplacian(volume, weight * per_square_mm, images[-1])
    assert np.vdot(images[0], y) == pytest.approx(np.vdot(x, images[1]), rel=1e-4)
    energy = sum(np.sum(w * np.square((np.roll(x, -1, axis) - x) / step))
                 for axis, (w, step) in enumerate(zip(weight, VOXEL_SIZE)))
    assert np.vdot(x, images[0]) == pytest.approx(energy, rel=1e-4)


def test_streaks_are_told_from_the_map():
    chi = np.zeros(SIZE, np.float32)
    chi[8:14, 6:13, 8:15] = 1
    cone = np.abs(dipole_kernel(SIZE, VOXEL_SIZE)) < 0.1
    noise = np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
    streaks = module.convolve(noise, cone)
    # Weighted by where the map is flat, its own gradients do not count.
    flat = np.stack([(np.roll(chi, -1, axis) == chi).astype(np.float32) for axis in range(3)])
    found = module._streaks(chi + streaks, flat, cone, VOXEL_SIZE, 1e-3, 60)
    assert np.linalg.norm(found - streaks) < 0.2 * np.linalg.norm(streaks)
    assert np.abs(rfftn(found, SIZE)[~cone]).max() < 1e-3 * np.abs(rfftn(found, SIZE)).max()


def test_weights_fall_between_percentiles():
    values = np.arange(1001.)
    weight = module._falling(values, (50, 70), np.ones(1001, bool))
    assert np.all(weight[:501] == 1) and np.all(weight[700:] == 0) and weight[600] == pytest.approx(0.5)


def test_fewer_streaks_than_least_squares(monkeypatch):
    chi = np.zeros((40, 40, 40), np.float32)
    chi[17:22, 18:23, 16:24] = 0.3
    mask = np.ones(chi.shape, bool)
    field = forward_field(chi, (1, 1, 1)) + 0.002 * np.random.default_rng(0).standard_normal(chi.shape)
    found = invert_ilsqr(field, mask, (1, 1, 1))
    monkeypatch.setattr(module, '_streaks', lambda volume, *_: 0 * volume)
    plain = invert_ilsqr(field, mask, (1, 1, 1))
    empty = chi == 0
    assert found[empty].std() < 0.8 * plain[empty].std()
    assert found[~empty].mean() - found[empty].mean() == pytest.approx(0.3, rel=0.2)


@pytest.mark.parametrize('wrong', [{'cone': 0}, {'tol': 0}, {'max_iterations': 0}, {'streak_iterations': 0},
                                   {'weight': np.full((4, 4, 4), 2)}])
def test_bad_parameters(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        invert_ilsqr(np.ones((4, 4, 4)), np.ones((4, 4, 4), bool), (1, 1, 1), **wrong)
