"""Threads of the numerics."""

import os
import subprocess
import sys

import numba
import pytest
import scipy.fft
import torch

from qsmbids.core.threads import use_threads


def test_inside_the_block_all_libraries_have_as_many_threads_as_asked_for():
    before = torch.get_num_threads(), numba.get_num_threads(), scipy.fft.get_workers(), os.environ.get('OMP_NUM_THREADS')
    for count in (1, 2):
        with use_threads(count):
            assert torch.get_num_threads() == scipy.fft.get_workers() == count
            assert numba.get_num_threads() == min(count, numba.config.NUMBA_NUM_THREADS)
    after = torch.get_num_threads(), numba.get_num_threads(), scipy.fft.get_workers(), os.environ.get('OMP_NUM_THREADS')
    assert after == before


def test_a_library_that_is_loaded_inside_the_block_is_told():
    code = ('from qsmbids.core.threads import use_threads\nwith use_threads(1):\n import torch\n'
            ' print(torch.get_num_threads())')
    environment = os.environ | {'OMP_NUM_THREADS': '2'}
    found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == '1'


def test_no_threads_are_too_few():
    with pytest.raises(ValueError, match='count is 0'):
        with use_threads(0):
            pass
