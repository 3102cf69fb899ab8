"""Conv2dReLU against PyTorch."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.layers import Conv2d
from minitrain.layers.fused import Conv2dReLU


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3]), st.booleans())
def test_agrees_with_torch(batch, channels, out_channels, kernel_size, bias):
    torch = pytest.importorskip("torch")
    from torch_layer import agrees

    def expected(x, weight, bias=None):
        return torch.relu(torch.nn.functional.conv2d(x, weight, bias, padding=1))

    layer = Conv2dReLU(Conv2d(out_channels, kernel_size, padding=1, bias=bias))
    agrees(layer, [(batch, channels, 6, 5)], expected)
