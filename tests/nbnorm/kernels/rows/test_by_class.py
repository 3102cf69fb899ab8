"""Conditional batch norm against its formula in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbnorm.kernels.rows import by_class

TOLERANCE = {"float32": 2e-6, "float64": 1e-12}
EPS = 1e-5


def case(images, channels, length, classes, dtype, mean=0.0):
    random = np.random.default_rng(images * 100 + channels)
    x, dy = random.standard_normal((2, images, channels, length)) + mean
    gamma, beta = random.standard_normal((2, classes, channels))
    label = random.integers(0, classes, images)
    return *(each.astype(dtype) for each in (x, dy, gamma, beta)), label


def twin(x, dy, gamma, beta, label):
    x, dy, gamma, beta = (each.astype(float) for each in (x, dy, gamma, beta))
    mean, var = x.mean((0, 2)), x.var((0, 2))
    inv_std = 1 / np.sqrt(var + EPS)
    x_hat = (x - mean[:, None]) * inv_std[:, None]
    own = gamma[label][:, :, None]
    h = own * dy
    centered = h - h.mean((0, 2), keepdims=True) - x_hat * (h * x_hat).mean((0, 2), keepdims=True)
    dgamma, dbeta = np.zeros_like(gamma), np.zeros_like(gamma)
    np.add.at(dgamma, label, (dy * x_hat).sum(2))
    np.add.at(dbeta, label, dy.sum(2))
    return mean, var, inv_std, own * x_hat + beta[label][:, :, None], inv_std[:, None] * centered, dgamma, dbeta


def run(form, x, dy, gamma, beta, label, mean, var, inv_std, dx=None):
    images, channels, _ = x.shape
    y, sums, lines = np.empty_like(x), np.empty(by_class.SUMS * images * channels), np.empty(by_class.SUMS * channels)
    dx, dgamma, dbeta = np.empty_like(x) if dx is None else dx, *np.full((2, *gamma.shape), np.nan)
    getattr(by_class.forward, form)(x, label, gamma, beta, mean, var, EPS, y)
    getattr(by_class.backward, form)(dy, x, label, gamma, (mean, inv_std), sums, lines, dx, (dgamma, dbeta))
    return y, dx, dgamma, dbeta


@pytest.mark.parametrize("dtype", TOLERANCE)
@settings(deadline=None, max_examples=25)
@given(images=st.integers(1, 9), channels=st.integers(1, 5), length=st.integers(1, 40), classes=st.integers(1, 6))
def test_the_formula(images, channels, length, classes, dtype):
    if images * length < 3:
        return
    arrays = case(images, channels, length, classes, dtype)
    mean, var, inv_std, *expected = twin(*arrays)
    found = run("serial", *arrays, mean, var, inv_std)
    for name, a, b in zip(("y", "dx", "dgamma", "dbeta"), found, expected, strict=True):
        scale = max(np.abs(b).max(), 1.0)
        np.testing.assert_allclose(a, b, atol=TOLERANCE[dtype] * scale * images, rtol=0, err_msg=name)


@pytest.mark.parametrize("length", [1, 7, 900])
def test_many_threads_give_the_bits_of_one(length):
    arrays = case(23, 7, length, 4, "float32")
    stats = twin(*arrays)[:3]
    for a, b in zip(run("serial", *arrays, *stats), run("parallel", *arrays, *stats), strict=True):
        np.testing.assert_array_equal(a, b)


def test_large_means_leave_the_digits_of_the_deviations():
    arrays = case(16, 3, 50, 2, "float32", mean=1e4)
    mean, var, inv_std, y, *_ = twin(*arrays)
    np.testing.assert_allclose(run("serial", *arrays, mean, var, inv_std)[0], y, atol=1e-5)


def test_dx_may_be_dy_and_may_be_unwanted():
    arrays = case(5, 3, 11, 2, "float64")
    stats = twin(*arrays)[:3]
    _, dx, dgamma, dbeta = run("serial", *arrays, *stats)
    x, dy, *rest = arrays
    own = dy.copy()
    np.testing.assert_array_equal(run("serial", x, own, *rest, *stats, dx=own)[1], dx)
    _, _, *found = run("serial", *arrays, *stats, dx=np.empty((0, 0, 0)))
    np.testing.assert_array_equal(found, (dgamma, dbeta))


def test_what_float32_cannot_sum_is_summed_in_float64():
    x, dy, gamma, beta, label = case(6, 2, 40, 2, "float32")
    x *= np.float32(1e30)
    mean, var, inv_std, _, dx, dgamma, _ = twin(x, dy, gamma, beta, label)
    _, found, found_dgamma, _ = run("serial", x, dy, gamma, beta, label, mean, var, inv_std)
    np.testing.assert_allclose(found_dgamma, dgamma, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found, dx, rtol=1e-3, atol=1e-5 * np.abs(dx).max())
