"""The way back through a ReLU behind a convolution; and the kernels of small steps on narrower vectors."""

import os
import subprocess
import sys
from pathlib import Path

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


WIDTHS = """
import numpy as np, test_dense as d, test_elementwise as e, test_epilogue as t
from minitrain.kernels.losses import softmax_cross_entropy
for dtype in ("float32", "float64"):
    t.test_planes_of_a_relu((5, 9, 13, 11), dtype)
    for shape in ((7, 33, 70), (33, 70, 10), (3, 1100, 9), (5, 1025, 5)):
        for actual, wanted in zip(*d.run(*shape, dtype), strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-4)
    for name, case in (("float64", (-300, 2.8)), ("float32", (-35, 1.9))):
        e.test_tanh_and_sigmoid_keep_their_relative_precision(name, *case)
z, labels, none = np.linspace(-3, 3, 35).reshape(5, 7) ** 3, np.arange(5), np.empty((0, 0))
exact = np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(5), labels])
np.testing.assert_allclose(softmax_cross_entropy.serial(z, labels, none, 0.0, none), exact, rtol=1e-14)
"""


@pytest.mark.parametrize("vector_bytes", ["16", "32"])
def test_agrees_with_narrower_vectors(vector_bytes):
    paths = [str(Path(__file__).parent), *sys.path]
    environment = {**os.environ, "NBNORM_VECTOR_BYTES": vector_bytes, "PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", WIDTHS], env=environment, check=True, timeout=300)
