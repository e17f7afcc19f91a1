"""R2*: bias and spread of every fit against SNR and decay, and the time each takes.

Run it with ``python benchmarks/relaxometry.py``.

The SNR is that of the first echo over the SD of the noise in the real part; the magnitude is Rician. Three echoes at
4, 12 and 20 ms, as in the test data, and six at 5 to 30 ms.
"""

import time

import numpy as np

from qsmbids.core.methods import RELAXOMETRY
from qsmbids.core.relaxometry import fit_r2star
from qsmbids.core.threads import use_threads

TRAINS = {'3 echoes, 4-20 ms': np.array([4, 12, 20]) * 1e-3, '6 echoes, 5-30 ms': np.arange(5, 31, 5) * 1e-3}
RATES = (5., 20., 50., 100., 200.)
SNRS = (5, 10, 20, 40, 100)


def magnitudes(rates, times, snr, rng):
    clean = np.exp(-np.multiply.outer(rates, times - times[0]))
    noise = rng.standard_normal((2, *clean.shape)) / snr
    return np.hypot(clean + noise[0], noise[1]).astype(np.float32)


def accuracy(voxels=6):
    """Print mean error and SD. Tissue as in a brain fills the volume, so that its noise is that of a scan."""
    rng = np.random.default_rng(0)
    for title, times in TRAINS.items():
        print(f'\n{title}: bias (SD) in 1/s; R2* across\n  SNR  {"fit":<10}' + ''.join(f'{r:>15g}' for r in RATES))
        for snr in SNRS:
            rates = np.full((64, 64, voxels), 18.)
            for plane, rate in enumerate(RATES):
                rates[plane * 8:(plane + 1) * 8] = rate
            images = magnitudes(rates, times, snr, rng)
            for method in RELAXOMETRY:
                found = fit_r2star(images, times, np.ones(rates.shape, bool), method).r2star
                cells = [found[plane * 8:(plane + 1) * 8] - rate for plane, rate in enumerate(RATES)]
                print(f'{snr:>5}  {method:<10}' + ''.join(f'{c.mean():>8.1f} ({c.std():.1f})'.rjust(15) for c in cells))


def seconds(side=160, echoes=4):
    """Print the seconds for a volume of which a third is brain, beside a pair of real FFTs of it."""
    from scipy.fft import irfftn, rfftn
    rng, times = np.random.default_rng(0), np.linspace(4, 20, echoes) * 1e-3
    rates = rng.uniform(5, 60, (side,) * 3)
    images, mask = magnitudes(rates, times, 40, rng), np.zeros((side,) * 3, bool)
    mask[:, :, :side // 3] = True
    with use_threads(2):
        for method in RELAXOMETRY:
            fit_r2star(images, times, mask, method)
            took, pair = [], []
            for _ in range(3):
                start = time.perf_counter()
                irfftn(rfftn(images[..., 0]), s=mask.shape)
                middle = time.perf_counter()
                fit_r2star(images, times, mask, method)
                pair.append(middle - start)
                took.append(time.perf_counter() - middle)
            print(f'{method:<10} {min(took):6.2f} s, {min(took) / min(pair):5.1f} FFT pairs')


if __name__ == '__main__':
    accuracy()
    print(f'\n160^3, 4 echoes, {160 // 3 / 160:.0%} of it brain, 2 threads')
    seconds()
