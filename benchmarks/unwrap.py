"""ROMEO beside scikit-image's unwrap_phase on a masked brain-like field of 160^3 voxels: seconds and wrong voxels.

    python benchmarks/unwrap.py [--size 160] [--threads 2]

Each figure is the best of three runs after one that compiles. A voxel is wrong where the unwrapped phase differs from
the true phase by other whole turns than most voxels do; with noise the true phase is that of the noisy signal on the
branch closest to the noiseless one.
"""

import argparse
import time

import numpy as np

from qsmbids.core.threads import use_threads
from qsmbids.core.unwrap import unwrap_laplacian, unwrap_romeo


def brain_phase(size, snr, seed=0):
    """Return wrapped phase, magnitude, mask and true phase of a head with a source of 5 turns below its front."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32),) * 3, indexing='ij', sparse=True)
    radius = x ** 2 / 0.7 + y ** 2 / 0.9 + z ** 2 / 0.6
    fold = 0.04 * np.sin(14 * x) * np.sin(15 * y) * np.sin(13 * z)
    mask = (radius + fold < 1) & ((x / 0.1) ** 2 + ((y - 0.1) / 0.3) ** 2 + (z / 0.15) ** 2 > 1)
    phase = 25 * (x * y + 0.5 * z ** 2) + 12 * y
    phase = phase + 30 * np.exp(-(x ** 2 + (y - 0.7) ** 2 + (z + 0.5) ** 2) / 0.03)
    magnitude = 1 - 0.3 * radius
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((2, *mask.shape), dtype=np.float32) / np.float32(snr)
    signal = magnitude * np.exp(1j * phase) + noise[0] + 1j * noise[1]
    return np.angle(signal).astype(np.float32), np.abs(signal).astype(np.float32), mask, phase


def wrong_voxels(unwrapped, truth, mask):
    turns = np.rint((unwrapped - truth)[mask] / (2 * np.pi)).astype(int)
    return np.count_nonzero(turns - turns.min() != np.bincount(turns - turns.min()).argmax())


def best_of(repeats, function):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--size', type=int, default=160)
    parser.add_argument('--threads', type=int, default=2)
    options = parser.parse_args()
    from skimage.restoration import unwrap_phase

    print(f'{"method":<24}{"SNR":>6}{"seconds":>10}{"wrong":>8}{"of":>10}')
    for snr in (np.inf, 20, 5):
        phase, magnitude, mask, truth = brain_phase(options.size, snr)
        methods = {
            'ROMEO': lambda: unwrap_romeo(phase, mask, magnitude=magnitude),
            'ROMEO, no magnitude': lambda: unwrap_romeo(phase, mask),
            'scikit-image': lambda: np.asarray(unwrap_phase(np.ma.array(phase, mask=~mask))),
            'Laplacian (not exact)': lambda: unwrap_laplacian(phase, mask, (1, 1, 1)),
        }
        for name, method in methods.items():
            with use_threads(options.threads):
                method()
                seconds, unwrapped = best_of(3, method)
            wrong = '-' if 'Laplacian' in name else wrong_voxels(unwrapped, truth, mask)
            print(f'{name:<24}{snr:>6}{seconds:>10.2f}{wrong:>8}{np.count_nonzero(mask):>10}', flush=True)


if __name__ == '__main__':
    main()
