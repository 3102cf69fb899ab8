"""Conv2d against PyTorch, and the errors of its arguments and shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.layer import Spec
from minitrain.layers import Conv2d


@st.composite
def cases(draw):
    def pair(low, high):
        return draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    groups = draw(st.integers(1, 3))
    kernel, stride, padding, dilation = pair(1, 4), pair(1, 3), pair(0, 3), pair(1, 2)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    sizes = [draw(st.integers(max(1, r - 2 * p), 9)) for r, p in zip(reach, padding, strict=True)]
    layer = Conv2d(
        groups * draw(st.integers(1, 5)), kernel, stride, padding, dilation, groups, bias=draw(st.booleans())
    )
    return layer, (draw(st.integers(1, 3)), groups * draw(st.integers(1, 4)), *sizes)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_agrees_with_torch(case):
    torch = pytest.importorskip("torch")
    from torch_layer import agrees

    layer, shape = case

    def convolve(x, weight, bias=None):
        return torch.nn.functional.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)

    agrees(layer, [shape], convolve)


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), ((3, 5), 1), (3, 2), (2, 2)])
def test_same_padding_keeps_height_and_width(kernel, dilation):
    torch = pytest.importorskip("torch")
    from torch_layer import agrees

    layer = Conv2d(3, kernel, padding="same", dilation=dilation)
    bound = agrees(
        layer,
        [(2, 2, 7, 8)],
        lambda x, weight, bias: torch.nn.functional.conv2d(x, weight, bias, padding="same", dilation=layer.dilation),
    )
    assert bound.declaration.outputs["y"].shape == (2, 3, 7, 8)


def test_integers_and_lists_become_pairs():
    assert Conv2d(4, 3, padding=[1, 0]) == Conv2d(4, (3, 3), (1, 1), (1, 0), (1, 1))
    assert Conv2d(np.int64(4), 3).out_channels == 4


def test_fans():
    declared = Conv2d(8, (3, 5), groups=2).declare(Spec((2, 4, 9, 9)))
    weight = declared.params["weight"]
    assert weight.shape == (8, 2, 3, 5)
    assert (weight.fan_in, weight.fan_out) == (2 * 15, 4 * 15)
    assert weight.penalized
    assert not declared.params["bias"].penalized


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"out_channels": 0}, ValueError, "out_channels: expected an integer >= 1, got 0"),
        ({"out_channels": 2.0}, TypeError, "out_channels: expected an integer, got 2.0"),
        ({"kernel_size": (3, 3, 3)}, ValueError, "kernel_size: expected an integer or a pair"),
        ({"stride": 0}, ValueError, "stride: expected an integer >= 1"),
        ({"padding": -1}, ValueError, "padding: expected an integer >= 0"),
        ({"padding": "valid"}, ValueError, "padding: expected integers or 'same'"),
        ({"padding": "same", "stride": 2}, ValueError, "padding: 'same' needs a stride of 1"),
        ({"padding": "same", "kernel_size": 2}, ValueError, "padding: 'same' needs an odd kernel_size"),
        ({"groups": 3}, ValueError, "groups: expected a divisor of out_channels = 4, got 3"),
        ({"bias": 1}, TypeError, "bias: expected True or False"),
        ({"weight_init": "he"}, TypeError, "weight_init: expected an initializer"),
    ],
)
def test_arguments(arguments, error, message):
    with pytest.raises(error) as caught:
        Conv2d(**{"out_channels": 4, "kernel_size": 3, **arguments})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 3)], "Conv2d: expected an input of shape (N, C, H, W), got (N, 3)"),
        ([(2, 4, 2, 9)], "does not fit into the input, 2 x 9"),
        ([(2, 3, 9, 9)], "groups: expected a divisor of the 3 input channels, got 2"),
        ([(2, 4, 9, 9), (2, 4, 9, 9)], "Conv2d: expected one input, got 2"),
    ],
)
def test_shapes(shapes, message):
    with pytest.raises(ValueError) as caught:
        Conv2d(4, 3, groups=2).declare(*map(Spec, shapes))
    assert message in str(caught.value)
