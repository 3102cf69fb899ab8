"""Activations, PReLU and the copies of Concat against their NumPy twins, special values included."""

import numpy as np
import pytest
import reference_layers as reference
from scipy import special

from minitrain.kernels import elementwise

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, -1e-30, 3e38, -3e38]


def apply(kernel, x, *args):
    y = np.full_like(x, -7)
    kernel.serial(x, *args, y)
    return y


def inputs(dtype):
    """Sizes below, at and above the lengths of vectors and blocks, special values first."""
    rng = np.random.default_rng(0)
    for size in (0, 1, 9, 33, elementwise.BLOCK, elementwise.BLOCK + 3):
        yield np.concatenate([SPECIAL, 3 * rng.standard_normal(size)]).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("slope", [0.0, 0.25, -1.0])
def test_leaky_relu(dtype, slope):
    for x in inputs(dtype):
        np.testing.assert_array_equal(apply(elementwise.leaky_relu, x, slope), reference.leaky_relu(x, slope))
        dy = np.random.default_rng(1).standard_normal(x.size).astype(dtype)
        dx = np.full_like(x, -7)
        elementwise.leaky_relu_backward.serial(dy, x, slope, dx)
        np.testing.assert_array_equal(dx, reference.leaky_relu_backward(dy, x, slope).astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_capped_relu(dtype):
    for x in inputs(dtype):
        x[-1] = 2.0
        y = apply(elementwise.capped_relu, x, 2.0)
        np.testing.assert_array_equal(y, reference.capped_relu(x, 2.0))
        dy = np.random.default_rng(1).standard_normal(x.size).astype(dtype)
        for read in (x, y):
            dx = np.full_like(x, -7)
            elementwise.capped_relu_backward.serial(dy, read, 2.0, dx)
            np.testing.assert_array_equal(dx, reference.capped_relu_backward(dy, x, 2.0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("kernel", "exact", "backward", "derivative"),
    [
        (elementwise.sigmoid, special.expit, elementwise.sigmoid_backward, lambda y: y * (1 - y)),
        (elementwise.tanh, np.tanh, elementwise.tanh_backward, lambda y: 1 - y * y),
    ],
)
def test_smooth_activations(dtype, kernel, exact, backward, derivative):
    eps = np.finfo(dtype).eps
    for x in inputs(dtype):
        y = apply(kernel, x)
        np.testing.assert_allclose(y, exact(x.astype(np.float64)), rtol=3 * eps, atol=1e-300)
        dy = np.random.default_rng(1).standard_normal(x.size).astype(dtype)
        dx = np.full_like(x, -7)
        backward.serial(dy, y, dx)
        np.testing.assert_allclose(dx, dy * derivative(y), rtol=0, atol=4 * eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_silu(dtype):
    eps = np.finfo(dtype).eps
    for x in inputs(dtype):
        wide = x.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            expected = reference.silu(wide)
        np.testing.assert_allclose(apply(elementwise.silu, x), expected, rtol=4 * eps, atol=1e-38)
        ordinary = np.abs(wide) < 1e30
        dy = np.random.default_rng(1).standard_normal(x.size).astype(dtype)
        dx = np.full_like(x, -7)
        elementwise.silu_backward.serial(dy, x, dx)
        expected = reference.silu_backward(dy.astype(np.float64), np.where(ordinary, wide, 0))
        np.testing.assert_allclose(dx[ordinary], expected[ordinary], rtol=0, atol=8 * eps * np.abs(dy).max(initial=1))


@pytest.mark.parametrize(("dtype", "smallest", "largest"), [("float64", -300, 2.8), ("float32", -35, 1.9)])
def test_tanh_and_sigmoid_keep_their_relative_precision(dtype, smallest, largest):
    x = np.logspace(smallest, largest, 4000).astype(dtype)
    x = np.concatenate([x, -x])
    exact, rtol = x.astype(np.float64), 2.25 * np.finfo(dtype).eps
    np.testing.assert_allclose(apply(elementwise.tanh, x), np.tanh(exact), rtol=rtol)
    np.testing.assert_allclose(apply(elementwise.sigmoid, x), special.expit(exact), rtol=rtol)


def test_the_twin_of_sigmoid():
    x = np.linspace(-700, 700, 1001)
    np.testing.assert_allclose(reference.sigmoid(x), special.expit(x), rtol=1e-13)


@pytest.mark.parametrize("shape", [(3, 1, 7), (2, 5, 1), (4, 3, 20)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_prelu(shape, dtype):
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    weight = rng.standard_normal(shape[1]).astype(dtype)
    np.testing.assert_array_equal(apply(elementwise.prelu, x, weight), reference.prelu(x, weight))
    partial, dx, dweight = np.full(shape[:2], np.nan), np.full_like(x, np.nan), np.full_like(weight, np.nan)
    elementwise.prelu_backward.serial(dy, x, weight, partial, dx, dweight)
    expected = reference.prelu_backward(dy.astype(np.float64), x, weight)
    np.testing.assert_allclose(dx, expected[0], rtol=1e-6 if dtype == "float32" else 1e-15)
    np.testing.assert_allclose(dweight, expected[1], rtol=1e-6 if dtype == "float32" else 1e-13)


def test_columns_are_copied_and_the_others_left():
    source, target = np.arange(12.0).reshape(3, 4), np.full((3, 5), -1.0)
    elementwise.copy_columns.serial(source, 1, 2, target, 3)
    np.testing.assert_array_equal(target[:, 3:], source[:, 1:3])
    assert (target[:, :3] == -1).all()
