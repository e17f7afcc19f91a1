import numpy as np
import pytest

from qsmbids.core import grid
from qsmbids.core.dipole import dipole_kernel
from qsmbids.core.fourier import irfftn, rfftn
from qsmbids.core.inversion.direct import invert_tikhonov, invert_tkd, invert_tsvd


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


def in_k_space(monkeypatch, method, **parameters):
    """Return the dipole kernel and what a method multiplies a field's spectrum by, without a margin."""
    monkeypatch.setattr(grid, 'MARGIN', 0)
    size = (16, 18, 20)
    point = np.zeros(size, np.float32)
    point[0, 0, 0] = 1
    found = method(point, np.ones(size, bool), (1, 1.25, 2), b0_dir=(0, 0.6, 0.8), **parameters)
    return dipole_kernel(size, (1, 1.25, 2), (0, 0.6, 0.8)), rfftn(found, size)


def test_division_where_the_kernel_is_large(monkeypatch):
    for method in (invert_tkd, invert_tsvd):
        kernel, factor = in_k_space(monkeypatch, method, threshold=0.12, rescale=False)
        large = np.abs(kernel) > 0.12
        assert np.allclose((factor * kernel)[large], 1, atol=1e-4)
        small = ~large & (kernel != 0)
        expected = np.sign(kernel[small]) / 0.12 if method is invert_tkd else 0
        assert np.allclose(factor[small], expected, atol=1e-3)


@pytest.mark.parametrize('method', [invert_tkd, invert_tsvd])
def test_rescaled_a_point_keeps_its_height(monkeypatch, method):
    kernel, factor = in_k_space(monkeypatch, method, threshold=0.2, rescale=True)
    assert irfftn(factor * kernel, (16, 18, 20))[0, 0, 0] == pytest.approx(1, rel=1e-4)
    assert irfftn(in_k_space(monkeypatch, method, threshold=0.2, rescale=False)[1] * kernel,
                  (16, 18, 20))[0, 0, 0] < 0.95


@pytest.mark.parametrize('method', [invert_tkd, invert_tsvd])
@pytest.mark.parametrize('threshold', [0, 0.7])
def test_bad_threshold(method, threshold):
    with pytest.raises(ValueError, match='threshold'):
        method(np.ones((4, 4, 4)), np.ones((4, 4, 4), bool), (1, 1, 1), threshold=threshold)
