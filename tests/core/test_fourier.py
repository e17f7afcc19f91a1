import numpy as np
import pytest

from qsmbids.core.fourier import fast_size, frequencies, irfftn, resample, rfftn


@pytest.mark.parametrize('shape, margin', [((61, 64, 5), (3, 0, 2)), ((7, 11, 13), 0), ((160, 160, 160), 20)])
def test_fast_size_leaves_the_margin_at_little_cost(shape, margin):
    size = fast_size(shape, margin)
    needed = np.add(shape, margin)
    assert np.all(size >= needed) and np.all(size <= 1.2 * needed + 2)


@pytest.mark.parametrize('shape', [(6, 7, 8), (5, 8, 9)])
def test_round_trip_pads_and_crops(shape):
    volume = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    size = fast_size(shape, 3)
    back = irfftn(rfftn(volume, size), size, shape)
    assert back.dtype == np.float32
    assert np.allclose(back, volume, atol=1e-5)


def test_frequencies_are_in_cycles_per_mm():
    kx, ky, kz = frequencies((8, 5, 6), (0.5, 1, 2))
    assert (kx.shape, ky.shape, kz.shape) == ((8, 1, 1), (1, 5, 1), (1, 1, 4))
    assert kx.ravel()[1] == pytest.approx(1 / (8 * 0.5))
    assert kz.ravel()[-1] == pytest.approx(1 / (2 * 2))


@pytest.mark.parametrize('size', [(12, 9, 10), (23, 30, 17), (15, 14, 13), (1, 8, 30)])
def test_resampling_keeps_what_both_grids_hold(size):
    shape = (15, 14, 13)
    x, y, z = (np.arange(n) / n for n in shape)

    def wave(x, y, z):
        low = 1 + np.sin(2 * np.pi * (y[:, None] + 2 * z) + .3)
        return low + (np.cos(2 * np.pi * (3 * x[:, None, None] - y[:, None])) if size[0] > 6 else 0 * x[:, None, None])
    found = resample(wave(x, y, z).astype(np.float32), size)
    assert found.dtype == np.float32 and found.shape == size
    assert np.allclose(found, wave(*(np.arange(n) / n for n in size)), atol=1e-5)
