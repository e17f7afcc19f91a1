"""Threads of the numerics."""

import os
import subprocess
import sys

import numba
import pytest
import scipy.fft
import torch

from qsmbids.core.threads import allowed_threads, use_threads


def test_inside_the_block_all_libraries_have_as_many_threads_as_asked_for():
    before = torch.get_num_threads(), numba.get_num_threads(), scipy.fft.get_workers()
    for count in (1, 2):
        with use_threads(count):
            assert torch.get_num_threads() == scipy.fft.get_workers() == count
            assert numba.get_num_threads() == min(count, numba.config.NUMBA_NUM_THREADS)
    after = torch.get_num_threads(), numba.get_num_threads(), scipy.fft.get_workers()
    assert after == before


def test_a_network_that_loads_torch_inside_the_block_keeps_to_it():
    code = ('from qsmbids.core.threads import allowed_threads, use_threads\nwith use_threads(1):\n'
            ' from qsmbids.networks.shipped import shipped\n from qsmbids.networks.weights import load_weights\n'
            " load_weights(shipped('cmb'))\n import torch\n print(torch.get_num_threads())")
    found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True,
                           env=os.environ | {'OMP_NUM_THREADS': '2'})
    assert found.stdout.strip() == '1'


def test_the_innermost_block_says_what_is_allowed():
    before = allowed_threads()
    with use_threads(3):
        with use_threads(2):
            assert allowed_threads() == 2
        assert allowed_threads() == 3
    assert allowed_threads() == before


def test_no_threads_are_too_few():
    with pytest.raises(ValueError, match='count is 0'):
        with use_threads(0):
            pass
