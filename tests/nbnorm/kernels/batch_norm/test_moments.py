"""Moments that are found in parts, where plain sums lose everything: large means, constants, huge values, NaN."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.kernels import conv2d
from minitrain.kernels.conv2d import Geometry, Product
from nbnorm.kernels.batch_norm.moments import combine_moments, take_moments

IDENTITY = np.zeros((16, 16, 3, 3), np.float32)
IDENTITY[range(16), range(16), 1, 1] = 1


def moments_of(x, weight=IDENTITY, bias=None):
    """Moments of a convolution of x (N, 16, H, W), by its kernel; and its output."""
    g = Geometry(x.shape, 16, (3, 3), padding=(1, 1))
    y, sums = np.empty(g.output_shape, np.float32), np.full(conv2d.sums_shape(g), np.nan)
    bias = np.zeros(16, np.float32) if bias is None else bias
    scratch = np.empty(conv2d.scratch_size(g, Product.FORWARD), np.float32)
    conv2d.forward(g, x, weight, bias, scratch, y, sums=sums)()
    moments = np.full((2, 16), np.nan)
    combine_moments.serial(sums, y.reshape(len(y), 16, -1), moments)
    return moments, y


def exact(y):
    values = np.moveaxis(y, 1, 0).reshape(16, -1).astype(np.float64)
    return values.mean(axis=1), values.var(axis=1)


def random(seed=0, shape=(6, 16, 20, 19)):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("mean", [0.0, -1.0, 1e2, 1e4])
def test_large_means_cost_no_digits(mean):
    moments, y = moments_of(random(), bias=np.full(16, mean, np.float32))
    expected = exact(y)
    np.testing.assert_allclose(moments[0], expected[0], rtol=0, atol=1e-6 * np.sqrt(expected[1]).min())
    np.testing.assert_allclose(moments[1], expected[1], rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e4, 1e30])
def test_a_constant_channel_has_no_variance(value):
    moments, _ = moments_of(random(), np.zeros_like(IDENTITY), np.full(16, value, np.float32))
    np.testing.assert_array_equal(moments[0], np.float32(value))
    np.testing.assert_array_equal(moments[1], 0)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_values_whose_squares_float32_does_not_have(scale):
    moments, y = moments_of(random() * np.float32(scale))
    expected = exact(y)
    np.testing.assert_allclose(moments[1], expected[1], rtol=1e-6)
    np.testing.assert_allclose(moments[0], expected[0], rtol=0, atol=1e-6 * np.sqrt(expected[1]).min())


@pytest.mark.parametrize("outlier", [1e3, 1e6])
@pytest.mark.parametrize("place", [0, 5, 200])
def test_outliers_where_the_shift_is_taken(outlier, place):
    x = random()
    x[:, :, place // 19, place % 19] = outlier
    moments, y = moments_of(x)
    np.testing.assert_allclose(moments[1], exact(y)[1], rtol=1e-5)


def test_a_nan_reaches_its_channel_alone():
    weight = IDENTITY.copy()
    bias = np.zeros(16, np.float32)
    bias[3] = np.nan
    moments, _ = moments_of(random(), weight, bias)
    assert np.isnan(moments[:, 3]).all()
    assert np.isfinite(np.delete(moments, 3, axis=1)).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(4, 40), st.integers(4, 40), st.integers(0, 2**31))
def test_any_shape(images, height, width, seed):
    x = random(seed, (images * (1 + 1024 // (height * width)), 16, height, width))
    moments, y = moments_of(x)
    expected = exact(y)
    np.testing.assert_allclose(moments[1], expected[1], rtol=1e-6)
    np.testing.assert_allclose(moments[0], expected[0], rtol=0, atol=1e-6 * np.sqrt(expected[1]).min())


def test_take_moments_moves_the_running_statistics_as_batch_norm_does():
    rng = np.random.default_rng(0)
    mean, var = rng.standard_normal(5), rng.uniform(0.5, 2, 5)
    running_mean, running_var = np.full(5, 2.0), np.full(5, 3.0)
    got_mean, inv_std = np.empty(5), np.empty(5)
    take_moments.serial(np.stack([mean, var]), 10, running_mean, running_var, 0.25, 1e-3, got_mean, inv_std)
    np.testing.assert_array_equal(got_mean, mean)
    np.testing.assert_allclose(inv_std, 1 / np.sqrt(var + 1e-3), rtol=1e-15)
    np.testing.assert_allclose(running_mean, 0.75 * 2 + 0.25 * mean, rtol=1e-15)
    np.testing.assert_allclose(running_var, 0.75 * 3 + 0.25 * var * 10 / 9, rtol=1e-15)
