"""How many threads the numerics of this package may use."""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

import numba
import scipy.fft

_ALLOWED = ContextVar('allowed', default=None)


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
    """Do so for torch if it is loaded, and for `allowed_threads`, by which it is told when it is loaded later."""
    torch, token = sys.modules.get('torch'), _ALLOWED.set(count)
    before = torch.get_num_threads() if torch else None
    if torch:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        _ALLOWED.reset(token)
        if torch:
            torch.set_num_threads(before)


def allowed_threads():
    """Return how many threads the innermost block of `use_threads` allows, or None outside of any."""
    return _ALLOWED.get()


def over_slabs(work, length, step):
    """Call ``work(slice)`` for slabs that cover a length, `step` long, in as many threads as `use_threads` allows."""
    slabs = [slice(start, min(start + step, length)) for start in range(0, length, step)]
    with ThreadPoolExecutor(scipy.fft.get_workers()) as pool:
        for _ in pool.map(work, slabs):
            pass
