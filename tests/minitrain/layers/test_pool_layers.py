"""MaxPool2d, AvgPool2d and GlobalAvgPool against PyTorch, and their errors."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.layer import Spec
from minitrain.layers import AvgPool2d, GlobalAvgPool, MaxPool2d


@st.composite
def cases(draw):
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = tuple(draw(st.integers(0, size // 2)) for size in kernel)
    stride = draw(st.none() | st.integers(1, 3) | st.tuples(st.integers(1, 3), st.integers(1, 3)))
    sizes = [draw(st.integers(max(1, k - 2 * p), 9)) for k, p in zip(kernel, padding, strict=True)]
    return (kernel, stride, padding), (draw(st.integers(1, 3)), draw(st.integers(1, 3)), *sizes)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_maximum_agrees_with_torch(case):
    torch = pytest.importorskip("torch")
    from torch_layer import agrees

    arguments, shape = case
    agrees(MaxPool2d(*arguments), [shape], lambda x: torch.nn.functional.max_pool2d(x, *arguments))


@settings(max_examples=60, deadline=None)
@given(cases(), st.booleans())
def test_average_agrees_with_torch(case, count_include_pad):
    torch = pytest.importorskip("torch")
    from torch_layer import agrees

    arguments, shape = case

    def average(x):
        return torch.nn.functional.avg_pool2d(x, *arguments, count_include_pad=count_include_pad)

    agrees(AvgPool2d(*arguments, count_include_pad=count_include_pad), [shape], average)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.lists(st.integers(1, 6), min_size=1, max_size=3))
def test_global_average_agrees_with_torch(batch, channels, sizes):
    pytest.importorskip("torch")
    from torch_layer import agrees

    agrees(GlobalAvgPool(), [(batch, channels, *sizes)], lambda x: x.flatten(2).mean(dim=2))


@pytest.mark.parametrize("layer", [MaxPool2d, AvgPool2d])
def test_errors(layer):
    with pytest.raises(ValueError, match=r"padding: expected at most half of kernel_size \(2, 2\), got \(2, 2\)"):
        layer(2, padding=2)
    with pytest.raises(ValueError, match=r"kernel_size \(3, 3\) is larger than the padded input, 2 x 8"):
        layer(3).declare(Spec((1, 1, 2, 8)))
    with pytest.raises(ValueError, match=r"expected an input of shape \(N, C, H, W\), got \(N, 8\)"):
        layer(3).declare(Spec((1, 8)))
    with pytest.raises(TypeError, match="kernel_size: expected an integer"):
        layer(2.5)


def test_global_average_needs_positions():
    with pytest.raises(ValueError, match="GlobalAvgPool: expected an input"):
        GlobalAvgPool().declare(Spec((2, 3)))


def test_arguments_are_pairs():
    assert MaxPool2d(2) == MaxPool2d((2, 2), (2, 2), (0, 0))
    assert AvgPool2d([3, 2], padding=1).stride == (3, 2)
