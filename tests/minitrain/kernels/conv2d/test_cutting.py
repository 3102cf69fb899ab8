"""How work is cut: shares cover it, are alike, and are whole vectors where they must be."""

import doctest

import numba
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitrain.kernels.conv2d import cutting
from minitrain.kernels.conv2d.cutting import ceil_div, even, rounded, workers
from nbnorm.simd.vectors import LANES_FLOAT32

sizes = st.integers(1, 10**6)


@given(sizes, sizes)
def test_even_shares_cover_the_size_with_as_few_as_possible(size, most):
    share = even(size, most)
    assert share <= most
    assert ceil_div(size, share) == ceil_div(size, most)
    assert share - 1 < size / ceil_div(size, most) <= share


@given(sizes)
def test_rounded_is_the_next_multiple_of_a_vector(size):
    assert rounded(size) % LANES_FLOAT32 == 0
    assert 0 <= rounded(size) - size < LANES_FLOAT32


@pytest.mark.parametrize("threads", [1, 3, 64])
def test_no_more_workers_than_threads_or_tasks(threads, monkeypatch):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
    assert workers(1) == 1
    assert workers(2) == min(threads, 2)
    assert workers(1000) == threads


def test_examples():
    assert doctest.testmod(cutting).failed == 0
