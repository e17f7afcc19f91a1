import numpy as np
import pytest

from qsmbids.core import grid
from qsmbids.core.inversion.direct import invert_tikhonov


@pytest.mark.parametrize('regularization', ['identity', 'gradient'])
def test_the_normal_equations_hold(monkeypatch, regularization):
    # Without a margin the whole volume is the periodic one, where both sides can be computed another way.
    monkeypatch.setattr(grid, 'MARGIN', 0)
    size, voxel_size = (16, 18, 20), (1, 1.25, 2)
    field = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    chi = invert_tikhonov(field, np.ones(size, bool), voxel_size, regularization=regularization, lambda_=0.1)
    k = np.meshgrid(*(np.fft.fftfreq(n, step) for n, step in zip(size, voxel_size)), indexing='ij')
    squared = sum(x ** 2 for x in k)
    dipole = np.divide(k[2] ** 2, -squared, out=np.full(size, -1 / 3), where=squared > 0) + 1 / 3

    def convolve(volume):
        return np.fft.ifftn(np.fft.fftn(volume) * dipole).real

    smoothness = chi.astype(float)
    if regularization == 'gradient':
        smoothness = sum((2 * chi - np.roll(chi, 1, axis) - np.roll(chi, -1, axis)) / step ** 2
                         for axis, step in enumerate(voxel_size))
    assert np.allclose(convolve(convolve(chi)) + 0.1 * smoothness, convolve(field), atol=1e-5)


@pytest.mark.parametrize('wrong', [{'lambda_': 0}, {'regularization': 'curvature'}])
def test_bad_parameters(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        invert_tikhonov(np.ones((4, 4, 4)), np.ones((4, 4, 4), bool), (1, 1, 1), **wrong)
