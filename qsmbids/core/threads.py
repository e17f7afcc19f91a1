"""How many threads the numerics of this package may use."""

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
