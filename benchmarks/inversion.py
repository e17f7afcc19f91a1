"""Time, memory and accuracy of background removal and of every inversion.

Prints per method: seconds, multiples of one forward and inverse real FFT of the volume measured before and after each
run (the median over the runs), peak memory beyond the inputs in float32 volumes, and against the simulated truth NRMSE
and HFEN (%), XSIM and slope. With one thread the seconds are those of the processor, which other load hardly changes;
set NUMBA_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1, too.
`--strength` prints instead how far the automatic strength is from the best one, for several levels of noise.

    python benchmarks/inversion.py [--size 160] [--threads 2] [--repeats 3] [--methods tv rts] [--strength]
"""

import argparse
import time
import tracemalloc

import numpy as np
from scipy import ndimage

from qsmbids.core.dipole import forward_field
from qsmbids.core.fourier import irfftn, rfftn
from qsmbids.core.inversion.direct import REGULARIZATIONS, invert_tikhonov
from qsmbids.core.inversion.strength import automatic_strength
from qsmbids.core.inversion.variational import invert_tv
from qsmbids.core.methods import BACKGROUND, INVERSION
from qsmbids.core.metrics import align_reference, hfen, linear_fit, nrmse, xsim
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


def measure(function, volume, repeats, clock):
    """Return the result of `function`, its shortest time in s, its time in FFT pairs and its peak memory in bytes."""
    result, times, pairs = function(), [], []
    for _ in range(repeats):
        before = time_pair(volume, clock)
        start = clock()
        function()
        times.append(clock() - start)
        pairs.append(2 * times[-1] / (before + time_pair(volume, clock)))
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, min(times), np.median(pairs), peak


def time_pair(volume, clock, repeats=6):
    """Return the median time in s of one forward and inverse real FFT."""
    times = []
    for _ in range(repeats):
        start = clock()
        irfftn(rfftn(volume, volume.shape), volume.shape)
        times.append(clock() - start)
    return np.median(times)


def accuracy(found, truth, mask):
    x, t = align_reference(found, truth, mask)
    slope = linear_fit(x, t, mask).slope
    return f'{nrmse(x, t, mask):7.1f} {hfen(x, t, mask):6.1f} {xsim(x, t, mask):6.3f} {slope:6.2f}'


def print_methods(names, head, repeats, clock):
    chi, mask, local, background = head
    print(f'{"method":12} {"seconds":>8} {"pairs":>7} {"volumes":>8} {"NRMSE":>7} {"HFEN":>6} {"XSIM":>6} {"slope":>6}')
    for name in names:
        method, removal = (BACKGROUND | INVERSION)[name].load(), name in BACKGROUND
        total = removal or INVERSION[name].takes_total
        field, truth = local + background if total else local, local if removal else chi
        found, seconds, pairs, peak = measure(lambda: method(field, mask, VOXEL_SIZE), chi, repeats, clock)
        found, scored = found if removal else (found, mask)
        print(f'{name:12} {seconds:8.2f} {pairs:7.1f} {peak / chi.nbytes:8.1f} '
              f'{accuracy(found, truth, scored)}', flush=True)


def print_strengths(chi, mask, local, noise):
    """Compare the automatic strength with the best among some around it."""
    print(f'{"noise, ppb":>10} {"penalty":10} {"chosen":>9} {"NRMSE":>7} {"best":>9} {"NRMSE":>7}')
    for level in (0.2, 0.5, 1, 2, 4):
        field = local + level * noise
        for penalty in ('tv', *REGULARIZATIONS):
            chosen = automatic_strength(field, mask, VOXEL_SIZE, penalty=penalty)
            errors = {}
            for factor in (1, 0.35, 0.6, 1.7, 2.9):
                lambda_ = factor * chosen
                found = (invert_tv(field, mask, VOXEL_SIZE, lambda_=lambda_) if penalty == 'tv' else
                         invert_tikhonov(field, mask, VOXEL_SIZE, lambda_=lambda_, regularization=penalty))
                errors[lambda_] = nrmse(found, chi, mask)
            best = min(errors, key=errors.get)
            print(f'{1000 * level * NOISE_PPM:10.2f} {penalty:10} {chosen:9.2e} {errors[chosen]:7.1f} {best:9.2e} '
                  f'{errors[best]:7.1f}', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=int, default=160)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--methods', nargs='+', choices=tuple(BACKGROUND | INVERSION),
                        default=[*BACKGROUND, *INVERSION])
    parser.add_argument('--strength', action='store_true')
    arguments = parser.parse_args()
    chi, mask, local, background = simulate(arguments.size)
    noise = NOISE_PPM * np.random.default_rng(1).standard_normal(local.shape, dtype=np.float32)
    with use_threads(arguments.threads):
        clock = time.process_time if arguments.threads == 1 else time.perf_counter
        pair = 1000 * time_pair(chi, clock, 15)
        print(f'{arguments.size}^3, {arguments.threads} threads, one FFT pair {pair:.1f} ms')
        if arguments.strength:
            print_strengths(chi, mask, local, noise)
        else:
            print_methods(arguments.methods, (chi, mask, local + noise, background), arguments.repeats, clock)


if __name__ == '__main__':
    main()
