"""Matrix products leave BLAS's number of threads as they found it."""

import threading

import numpy as np
import pytest

from minitrain.kernels.dense import blas


def test_product():
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    out = np.full((2, 4), np.nan)
    blas.matmul(a, b, out)
    np.testing.assert_array_equal(out, a @ b)


def test_threads_are_put_back_also_by_several_users_at_a_time():
    set_threads = blas._openblas_set_threads()
    if set_threads is None:
        pytest.skip("NumPy has another BLAS than OpenBLAS here")
    before = set_threads(2)
    try:
        a = np.random.default_rng(0).standard_normal((200, 200))
        expected, wrong = a @ a, []

        def work():
            out = np.empty_like(a)
            for _ in range(50):
                blas.matmul(a, a, out)
                if not np.allclose(out, expected):
                    wrong.append(1)

        workers = [threading.Thread(target=work) for _ in range(4)]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        assert not wrong
        assert set_threads(2) == 2
    finally:
        set_threads(before)


def test_an_error_puts_them_back():
    set_threads = blas._openblas_set_threads()
    if set_threads is None:
        pytest.skip("NumPy has another BLAS than OpenBLAS here")
    before = set_threads(2)
    try:
        with pytest.raises(ValueError, match="mismatch"):
            blas.matmul(np.ones((2, 3)), np.ones((4, 5)), np.ones((2, 5)))
        assert set_threads(2) == 2
    finally:
        set_threads(before)
