"""How many threads the numerics of this package may use."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numba
import scipy.fft


@contextmanager
def use_threads(count):
    """Let FFTs and compiled voxel loops inside the ``with`` block use `count` threads.

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
        with scipy.fft.set_workers(count):
            yield
    finally:
        numba.set_num_threads(before)


def over_slabs(work, length, step):
    """Call ``work(slice)`` for slabs that cover a length, `step` long, in as many threads as `use_threads` allows."""
    slabs = [slice(start, min(start + step, length)) for start in range(0, length, step)]
    with ThreadPoolExecutor(scipy.fft.get_workers()) as pool:
        for _ in pool.map(work, slabs):
            pass
