"""Accuracy in float32, and what happens to extreme values: of every norm whose statistics are those of a channel."""

import numpy as np
import pytest
from norms import each_norm_and_shape, each_norm_of_channels


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("ratio", [0, 10, 1e3, 1e4])
@each_norm_and_shape("numerics")
def test_statistics_where_the_mean_is_large_against_the_deviation(norm, shape, ratio):
    x = (normal(shape) * 3 + 3 * ratio).astype(np.float32)
    _, stats = norm.forward(x, eps=0.0)
    mean, var = norm.reference.statistics(x)
    np.testing.assert_allclose(stats.mean, mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(stats.inv_std**-2, var, rtol=1e-6)


@each_norm_of_channels
def test_sorted_and_lopsided_channels(norm):
    x = np.sort(normal((1, 4, 50000)), -1).astype(np.float32)  # the first values are far from the mean
    x[0, 1, :100] = 1e6  # and here very far
    x[0, 2, 100:] = 0
    y, stats = norm.forward(x, eps=0.0)
    mean, var = norm.reference.statistics(x)
    np.testing.assert_array_equal(norm.forward(same := x.copy(), eps=0.0, out=same)[0], y)
    np.testing.assert_allclose(stats.mean, mean, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(stats.inv_std**-2, var, rtol=1e-6)


@pytest.mark.parametrize("ratio", [0, 100, 1e4])
@each_norm_and_shape("numerics")
def test_errors_are_never_larger_than_those_of_pytorch(norm, shape, ratio):
    torch = pytest.importorskip("torch")
    x, dy = (normal(shape) + ratio).astype(np.float32), normal(shape, 1).astype(np.float32)
    gamma, beta = (normal(norm.parameters(shape), seed).astype(np.float32) for seed in (2, 3))
    y, stats = norm.forward(x, gamma, beta)
    grads = norm.backward(dy, x, stats, gamma, beta)
    tensors = [torch.from_numpy(part).requires_grad_() for part in (x, gamma, beta)]
    ty = norm.torch(torch.nn.functional, *tensors)
    ty.backward(torch.from_numpy(dy))
    exact = (norm.reference.forward(x, gamma, beta)[0], *norm.reference.backward(dy, x, gamma, beta)[:3])
    ours = (y, *grads[:3])
    theirs = (ty.detach().numpy(), *(tensor.grad.numpy() for tensor in tensors))
    for name, mine, other, truth in zip(("y", "dx", "dgamma", "dbeta"), ours, theirs, exact, strict=True):
        error, error_of_pytorch = (np.sqrt(np.mean((part - truth) ** 2)) for part in (mine, other))
        rounding = 6e-8 * np.sqrt(np.mean(truth**2))  # of the result alone, which nobody can avoid
        assert error <= max(error_of_pytorch * 1.02, rounding), name


@each_norm_of_channels
def test_a_long_channel(norm):
    x = (normal((2, 1, 20_000_000)) + 100).astype(np.float32)
    _, stats = norm.forward(x, eps=0.0, out=x)
    x = (normal((2, 1, 20_000_000)) + 100).astype(np.float32)
    np.testing.assert_allclose(stats.mean, x.mean(dtype=np.float64), rtol=1e-7)
    np.testing.assert_allclose(stats.inv_std[0] ** -2, x.var(dtype=np.float64), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_norm_and_shape("numerics")
def test_a_constant_channel_gives_exactly_beta(norm, shape, dtype):
    x = np.empty(shape, dtype)
    x[:] = (np.arange(shape[1]) * 0.37 - 1).reshape(1, -1, *[1] * (len(shape) - 2))
    beta = np.arange(shape[1]).astype(dtype)
    y, stats = norm.forward(x, None, beta)
    assert (np.moveaxis(y, 1, -1) == beta).all()
    assert (np.moveaxis(x, 1, -1) == stats.mean).all()
    grads = norm.backward(normal(shape).astype(dtype), x, stats)
    assert np.isfinite(grads.dx).all()


@each_norm_and_shape("numerics")
def test_huge_and_subnormal_values(norm, shape):
    for scale, eps in ((1e30, 0.0), (1e30, 1e-5), (1e-40, 1e-5), (1e-18, 0.0)):
        x, dy = (normal(shape) * scale).astype(np.float32), normal(shape, 1).astype(np.float32)
        ones = np.ones(shape[1], np.float32)
        y, stats = norm.forward(x, eps=eps)
        expected, mean, inv_std = norm.reference.forward(x, ones, 0 * ones, eps)
        np.testing.assert_allclose(y, expected, atol=3e-6)
        np.testing.assert_allclose(stats.mean, mean, rtol=1e-5)
        np.testing.assert_allclose(stats.inv_std, inv_std, rtol=1e-6)
        if scale > 1:
            dx, dgamma, *_ = norm.reference.backward(dy, x, ones, 0 * ones, eps)
            grads = norm.backward(dy, x, stats, ones)
            np.testing.assert_allclose(grads.dx * scale, dx * scale, atol=1e-5)
            np.testing.assert_allclose(grads.dgamma, dgamma, atol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@each_norm_and_shape("numerics")
def test_nan_and_infinity_stay_in_their_channel(norm, shape, bad):
    x, dy = normal(shape).astype(np.float32), normal(shape, 1).astype(np.float32)
    clean, clean_stats = norm.forward(x, activation="relu")
    clean_grads = norm.backward(dy, x, clean_stats, activation="relu")
    channel = shape[1] // 2
    others = np.arange(shape[1]) != channel
    x[(shape[0] // 2, channel, *[-1] * (len(shape) - 2))] = bad
    y, stats = norm.forward(x, activation="relu")
    assert np.isnan(y[:, channel]).any()
    assert not np.isfinite(stats.mean[channel])
    np.testing.assert_array_equal(y[:, others], clean[:, others])
    grads = norm.backward(dy, x, stats, activation="relu")
    assert np.isnan(grads.dx[:, channel]).all()
    np.testing.assert_array_equal(grads.dx[:, others], clean_grads.dx[:, others])
