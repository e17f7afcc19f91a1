"""How many threads the numerics of this package may use."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numba
import scipy.fft


@contextmanager
def use_threads(count):
    """Let FFTs, compiled voxel loops and networks inside the ``with`` block use `count` threads.

    Parameters
    ----------
    count : int
        At least 1. Capped at what numba was started with (``NUMBA_NUM_THREADS``, by default the cores of the machine).

    Raises
    ------
    ValueError
        If `count` is less than 1.
    """
    if count < 1:
        raise ValueError(f'count is {count}, must be at least 1')
    before = numba.get_num_threads()
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    try:
        with scipy.fft.set_workers(count), _torch_threads(count):
            yield
    finally:
        numba.set_num_threads(before)


@contextmanager
def _torch_threads(count):
    """Do so for torch, which is slow to load: if nobody has loaded it yet, it will read the environment."""
    torch, said = sys.modules.get('torch'), os.environ.get('OMP_NUM_THREADS')
    before = torch.get_num_threads() if torch else None
    if torch:
        torch.set_num_threads(count)
    os.environ['OMP_NUM_THREADS'] = str(count)
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(before)
        if said is None:
            del os.environ['OMP_NUM_THREADS']
        else:
            os.environ['OMP_NUM_THREADS'] = said


def over_slabs(work, length, step):
    """Call ``work(slice)`` for slabs that cover a length, `step` long, in as many threads as `use_threads` allows."""
    slabs = [slice(start, min(start + step, length)) for start in range(0, length, step)]
    with ThreadPoolExecutor(scipy.fft.get_workers()) as pool:
        for _ in pool.map(work, slabs):
            pass
