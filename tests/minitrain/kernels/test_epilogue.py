"""Bias and activation behind a product, and back: float64 twins, the unfused kernels, any threads, narrower vectors."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from minitrain.kernels import elementwise, epilogue

ACTIVATIONS = {
    epilogue.IDENTITY: (lambda z, _: z, lambda y, _: np.ones_like(y)),
    epilogue.RELU: (lambda z, _: np.maximum(z, 0), lambda y, _: (y > 0) * 1.0),
    epilogue.LEAKY_RELU: (lambda z, a: np.where(z > 0, z, a * z), lambda y, a: np.where(y > 0, 1, a)),
    epilogue.SIGMOID: (lambda z, _: special.expit(z), lambda y, _: y * (1 - y)),
    epilogue.TANH: (lambda z, _: np.tanh(z), lambda y, _: 1 - y * y),
}


def run(rows, columns, activation, slope, bias, dtype, form="serial"):
    rng = np.random.default_rng(rows + columns)
    z, dy = (rng.standard_normal((rows, columns)).astype(dtype) for _ in range(2))
    b = rng.standard_normal(columns if bias else 0).astype(dtype)
    y, dz, dbias = z.copy(), np.full_like(dy, np.nan), np.full_like(b, np.nan)
    getattr(epilogue.finish, form)(b, activation, slope, y)
    getattr(epilogue.backward, form)(dy, y, activation, slope, dz, dbias)
    return (z, b, dy), (y, dy if activation == epilogue.IDENTITY else dz, dbias)


def check(rows, columns, activation, slope, bias, dtype):
    (z, b, dy), (y, dz, dbias) = run(rows, columns, activation, slope, bias, dtype)
    value, derivative = ACTIVATIONS[activation]
    eps = np.finfo(dtype).eps
    z, b, dy = (a.astype(np.float64) for a in (z, b, dy))
    shifted = z + b if bias else z
    np.testing.assert_allclose(y, value(shifted, slope), rtol=4 * eps, atol=4 * eps)
    exact = dy * derivative(y.astype(np.float64), slope)
    np.testing.assert_allclose(dz, exact, rtol=4 * eps, atol=4 * eps)
    if bias:
        assert (np.abs(dbias - exact.sum(axis=0)) <= 8 * eps * (1 + np.abs(exact).sum(axis=0))).all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 70), st.sampled_from(list(ACTIVATIONS)), st.floats(0, 2), st.booleans(),
    st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_agrees_with_float64(rows, columns, activation, slope, bias, dtype):
    check(rows, columns, activation, slope, bias, dtype)


SIZES = [(3, epilogue.COLUMNS + 5), (epilogue.ROWS + 3, 2 * epilogue.COLUMNS), (epilogue.ELEMENTS, 3)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_more_than_one_task(activation, dtype):
    for rows, columns in SIZES:
        check(rows, columns, activation, 0.25, True, dtype)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_same_bits_for_any_number_of_threads(activation):
    before = numba.get_num_threads()
    for size in SIZES:
        expected = run(*size, activation, 0.25, True, "float32")[1]
        try:
            for threads in {1, before}:
                numba.set_num_threads(threads)
                for a, b in zip(run(*size, activation, 0.25, True, "float32", "parallel")[1], expected, strict=True):
                    assert a.tobytes() == b.tobytes()
        finally:
            numba.set_num_threads(before)


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, -1e-30, 3.0, -3.0], np.float32)


@pytest.mark.parametrize(
    ("activation", "slope", "kernel", "kernel_backward"),
    [
        (epilogue.RELU, 0.0, elementwise.leaky_relu, elementwise.leaky_relu_backward),
        (epilogue.LEAKY_RELU, 0.25, elementwise.leaky_relu, elementwise.leaky_relu_backward),
        (epilogue.SIGMOID, None, elementwise.sigmoid, elementwise.sigmoid_backward),
        (epilogue.TANH, None, elementwise.tanh, elementwise.tanh_backward),
    ],
)
def test_special_values_are_those_of_the_activation_alone(activation, slope, kernel, kernel_backward):
    z, dy = (a.ravel() for a in np.meshgrid(SPECIAL, SPECIAL))
    y, expected = z.copy(), np.empty_like(z)
    epilogue.finish.serial(z[:0], activation, slope or 0.0, y.reshape(1, -1))
    extra = () if slope is None else (slope,)
    kernel.serial(z, *extra, expected)
    assert y.tobytes() == expected.tobytes()
    dz, expected = np.empty_like(z), np.empty_like(z)
    epilogue.backward.serial(
        dy.reshape(1, -1), y.reshape(1, -1), activation, slope or 0.0, dz.reshape(1, -1), dz[:0]
    )  # fmt: skip
    kernel_backward.serial(dy, y, *extra, expected)
    np.testing.assert_array_equal(dz, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (5, 9, 13, 11)])
def test_planes_of_a_relu(shape, dtype):
    rng = np.random.default_rng(0)
    y, dy = np.maximum(rng.standard_normal(shape), 0).astype(dtype), rng.standard_normal(shape).astype(dtype)
    y.flat[0] = np.nan
    expected = np.where(y <= 0, 0, dy)
    for form in ("serial", "parallel"):
        dz, dbias = np.full_like(dy, np.nan), np.full(shape[1], np.nan, dtype)
        getattr(epilogue.backward_of_relu, form)(dy, y, dz, dbias)
        np.testing.assert_array_equal(dz, expected)
        exact = expected.astype(np.float64)
        bound = 4 * np.finfo(dtype).eps * (1 + np.abs(exact).sum(axis=(0, 2, 3)))
        assert (np.abs(dbias - exact.sum(axis=(0, 2, 3))) <= bound).all()
        epilogue.backward_of_relu.serial(dy, y, dz, dbias[:0])


WIDTHS = """
import numpy as np, test_epilogue as t, test_elementwise as e
from minitrain.kernels.losses import softmax_cross_entropy
for dtype in ("float32", "float64"):
    for activation in t.ACTIVATIONS:
        t.check(19, 37, activation, 0.25, True, dtype)
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
