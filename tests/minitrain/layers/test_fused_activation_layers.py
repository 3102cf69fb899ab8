"""Layers that take in the activation behind them, against PyTorch."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.layers import Conv2d, Dense, LeakyReLU, PReLU, ReLU, Sigmoid, Tanh
from minitrain.layers.fused import Conv2dReLU, DenseActivation
from minitrain.layers.fused.dense_activation import fits

ACTIVATIONS = [ReLU(), LeakyReLU(0.2), Sigmoid(), Tanh()]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), st.booleans(), st.sampled_from(ACTIVATIONS))
def test_dense_agrees_with_torch(batch, features, out_features, bias, activation):
    torch = pytest.importorskip("torch")
    from torch_layer import agrees

    after = {
        ReLU: torch.relu,
        LeakyReLU: lambda z: torch.nn.functional.leaky_relu(z, 0.2),
        Sigmoid: torch.sigmoid,
        Tanh: torch.tanh,
    }[type(activation)]

    def expected(x, weight, bias=None):
        return after(torch.nn.functional.linear(x, weight, bias))

    agrees(DenseActivation(Dense(out_features, bias), activation), [(batch, features)], expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3]), st.booleans())
def test_conv2d_agrees_with_torch(batch, channels, out_channels, kernel_size, bias):
    torch = pytest.importorskip("torch")
    from torch_layer import agrees

    def expected(x, weight, bias=None):
        return torch.relu(torch.nn.functional.conv2d(x, weight, bias, padding=1))

    layer = Conv2dReLU(Conv2d(out_channels, kernel_size, padding=1, bias=bias))
    agrees(layer, [(batch, channels, 6, 5)], expected)


def test_what_fits():
    assert all(map(fits, ACTIVATIONS))
    assert not any(map(fits, (LeakyReLU(-0.5), PReLU(), Dense(3))))
