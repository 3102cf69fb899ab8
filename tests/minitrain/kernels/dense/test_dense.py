"""The dense kernels against NumPy in float64, into buffers that hold NaN."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.kernels import dense
from minitrain.kernels.dense.tiles import SCRATCH


def run(rows, inputs, outputs, dtype, bias=True):
    rng = np.random.default_rng(0)
    x, weight, dy, b = (
        rng.standard_normal(shape).astype(dtype)
        for shape in ((rows, inputs), (outputs, inputs), (rows, outputs), (outputs,) if bias else (0,))
    )
    y, dx, dweight, dbias = (np.full_like(a, np.nan) for a in (dy, x, weight, b))
    dense.forward(x, weight, b if bias else None, np.full(SCRATCH, np.nan, dtype), y)()
    dense.backward(dy, x, weight, dweight, dbias if bias else None, dx)()
    x, weight, dy, b = (a.astype(np.float64) for a in (x, weight, dy, b))
    wanted = (x @ weight.T + (b if bias else 0), dy @ weight, dy.T @ x, dy.sum(axis=0) if bias else b)
    return (y, dx, dweight, dbias), wanted


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 130), st.integers(1, 130), st.sampled_from(["float32", "float64"]))
def test_agrees_with_float64(rows, inputs, outputs, dtype):
    for bias in (True, False):
        tolerance = 1e-12 if dtype == "float64" else 1e-5
        for actual, wanted in zip(*run(rows, inputs, outputs, dtype, bias), strict=True):
            atol = tolerance * max(1, np.abs(wanted).max(initial=0))
            np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=atol)


@pytest.mark.parametrize(
    "shape", [(33, 2500, 70), (5, 1025, 4), (1, 3136, 128), (3, 1500, 601), (128, 3136, 128), (300, 2000, 1000)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_sums_and_large_products_agree_with_float64(shape, dtype):
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    for actual, wanted in zip(*run(*shape, dtype), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize(
    "shape", [(60, 784, 100), (60, 100, 10), (66, 2500, 129), (1, 64, 10), (1, 3136, 128), (3, 1500, 601)]
)
def test_same_bits_for_any_number_of_threads(shape):
    wanted, _ = run(*shape, "float32")
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        actual, _ = run(*shape, "float32")
    finally:
        numba.set_num_threads(before)
    for a, b in zip(actual, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
