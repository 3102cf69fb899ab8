"""exp and its kin, against NumPy in more digits, in units of the last place."""

import numpy as np
from intrinsics import checks, compiled, lanes_of

from nbnorm.simd.exponentials import exp, exponential, logistic, tangent
from nbnorm.simd.vectors import lanes_of as lanes_in
from nbnorm.simd.vectors import load, store


@compiled
def _functions(x, y):
    for i in range(0, x.size, lanes_in(x)):
        store(y, i, exponential(load(x, i)))
        store(y, x.size + i, logistic(load(x, i)))
        store(y, 2 * x.size + i, tangent(load(x, i)))


@compiled
def _numbers(x, y):
    for i in range(x.size):
        y[i] = exp(x[i])


def points(dtype, lanes):
    lowest, highest = (-87.2, 88.2) if dtype == np.float32 else (-707.9, 708.9)
    x = np.concatenate([np.linspace(lowest, highest, 3001), np.linspace(-2, 2, 1001), [0.0, 1e-9, -1e-9]])
    return np.resize(x, -(-x.size // lanes) * lanes).astype(dtype)


def assert_close(found, exact, units):
    spacing = np.spacing(np.abs(exact).astype(found.dtype)).astype(np.longdouble)
    assert (np.abs(found - exact) / spacing).max() <= units


@checks("exponential", "logistic", "tangent")
def check_functions(dtype):
    lanes = lanes_of(dtype)
    x = points(dtype, lanes)
    y = np.empty((3, x.size), dtype)
    _functions(x, y.ravel())
    wide = x.astype(np.longdouble)
    normal = wide > (-87 if dtype == np.float32 else -707)
    assert_close(y[0], np.exp(wide), 1.1)
    assert_close(y[1][normal], (1 / (1 + np.exp(-wide)))[normal], 2.5)
    assert_close(y[2], np.tanh(wide), 2.5)
    x = np.resize(np.array([np.nan, np.inf, -np.inf, 1e4, -1e4, 0], dtype), 16)
    y = np.empty((3, x.size), dtype)
    _functions(x, y.ravel())
    np.testing.assert_array_equal(y[0, :6], [np.nan, np.inf, 0, np.inf, 0, 1])
    np.testing.assert_array_equal(y[1, :6], [np.nan, 1, 0, 1, 0, 0.5])
    np.testing.assert_array_equal(y[2, :6], [np.nan, 1, -1, 1, -1, 0])


@checks("exp")
def check_numbers(dtype):
    x = np.concatenate([points(np.float64, 1), [np.nan, np.inf, -np.inf, 709.1, -708.1]])
    y = np.empty_like(x)
    _numbers(x, y)
    assert_close(y[:-5], np.exp(x[:-5].astype(np.longdouble)), 1.0)
    np.testing.assert_array_equal(y[-5:], [np.nan, np.inf, 0, np.inf, 0])
