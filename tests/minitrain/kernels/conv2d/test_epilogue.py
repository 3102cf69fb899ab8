"""The way back through a ReLU behind a convolution; and the kernels of small steps on narrower vectors."""

import numpy as np
import pytest

from minitrain.kernels import elementwise
from minitrain.kernels.conv2d import epilogue


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (5, 9, 13, 11)])
def test_planes_of_a_relu(shape, dtype):
    rng = np.random.default_rng(0)
    y, dy = np.maximum(rng.standard_normal(shape), 0).astype(dtype), rng.standard_normal(shape).astype(dtype)
    y.flat[0] = np.nan
    expected = np.empty_like(dy)
    elementwise.leaky_relu_backward.serial(dy.ravel(), y.ravel(), 0.0, expected.reshape(-1))
    for form in ("serial", "parallel"):
        dz, dbias = np.full_like(dy, np.nan), np.full(shape[1], np.nan, dtype)
        getattr(epilogue.backward_of_relu, form)(dy, y, np.full(shape[:2], np.nan), dz, dbias)
        np.testing.assert_array_equal(dz, expected)
        exact = expected.astype(np.float64)
        bound = 4 * np.finfo(dtype).eps * (1 + np.abs(exact).sum(axis=(0, 2, 3)))
        assert (np.abs(dbias - exact.sum(axis=(0, 2, 3))) <= bound).all()
        epilogue.backward_of_relu.serial(dy, y, np.empty(shape[:2]), dz, dbias[:0])
