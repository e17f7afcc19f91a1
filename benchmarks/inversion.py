"""Time, memory and accuracy of background removal and of every inversion.

Prints per method: seconds, multiples of one forward and inverse real FFT of the volume measured in the same run, peak
memory beyond the inputs in float32 volumes, and against the simulated truth NRMSE (%), correlation and slope.

    python benchmarks/inversion.py [--size 160] [--threads 2] [--repeats 3]
"""

import argparse
import time
import tracemalloc

import numpy as np
from scipy import ndimage

from qsmbids.core.dipole import forward_field
from qsmbids.core.fourier import irfftn, rfftn
from qsmbids.core.methods import BACKGROUND, INVERSION
from qsmbids.core.threads import use_threads

VOXEL_SIZE = (1., 1., 1.)
# Phase noise 1 / 40 rad at 25 ms and 3 T.
NOISE_PPM = 1 / 40 / (2 * np.pi * 127.7 * 0.025)


def simulate(size, seed=0):
    """Return chi, mask, the local and the background field of an ellipsoidal brain with random ellipsoids in it."""
    rng = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, size, dtype=np.float32).reshape([-1 if i == a else 1 for i in range(3)])
            for a in range(3)]

    def ellipsoid(center, radii):
        return sum(np.square((x - c) / r) for x, c, r in zip(axes, center, radii)) <= 1

    mask = ellipsoid((0, 0, 0), (0.72, 0.88, 0.68))
    texture = ndimage.gaussian_filter(rng.standard_normal(mask.shape, dtype=np.float32), 1.5)
    chi = 0.01 / texture.std() * texture
    for _ in range(40):
        center, radii = rng.uniform(-0.45, 0.45, 3), rng.uniform(0.02, 0.14, 3)
        chi[ellipsoid(center, radii)] += rng.choice((-1, 1), p=(0.3, 0.7)) * rng.uniform(0.05, 0.3)
    chi *= mask
    air = sum(9 * ellipsoid(center, (0.1,) * 3).astype(np.float32)
              for center in ((0, 0.55, -0.75), (0.7, 0, -0.6), (-0.7, 0, -0.6)))
    return chi, mask, forward_field(chi, VOXEL_SIZE), forward_field(np.where(mask, 0, air), VOXEL_SIZE)


def measure(function, repeats):
    """Return the result of `function`, its shortest time in s and its peak memory in bytes, compiled beforehand."""
    result, times = function(), []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, min(times), peak


def accuracy(found, truth, mask):
    x, t = (v[mask] - v[mask].mean() for v in (found, truth))
    slope = np.vdot(x, t) / np.vdot(t, t)
    return f'{100 * np.linalg.norm(x - t) / np.linalg.norm(t):7.1f} {np.corrcoef(x, t)[0, 1]:8.3f} {slope:7.2f}'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=int, default=160)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--repeats', type=int, default=3)
    arguments = parser.parse_args()
    chi, mask, local, background = simulate(arguments.size)
    local += NOISE_PPM * np.random.default_rng(1).standard_normal(local.shape, dtype=np.float32)
    with use_threads(arguments.threads):
        _, pair, _ = measure(lambda: irfftn(rfftn(chi, chi.shape), chi.shape), 5 * arguments.repeats)
        print(f'{arguments.size}^3, {arguments.threads} threads, one FFT pair {1000 * pair:.1f} ms\n'
              f'{"method":12} {"seconds":>8} {"pairs":>7} {"volumes":>8} {"NRMSE":>7} {"corr":>8} {"slope":>7}')
        for name, method in ((key, entry.load()) for key, entry in (BACKGROUND | INVERSION).items()):
            removal = name in BACKGROUND
            field, truth = (local + background, local) if removal else (local, chi)
            found, seconds, peak = measure(lambda: method(field, mask, VOXEL_SIZE), arguments.repeats)
            found, scored = found if removal else (found, mask)
            print(f'{name:12} {seconds:8.2f} {seconds / pair:7.1f} {peak / chi.nbytes:8.1f} '
                  f'{accuracy(found, truth, scored)}', flush=True)


if __name__ == '__main__':
    main()
