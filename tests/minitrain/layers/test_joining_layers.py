"""Add, Concat and Flatten against PyTorch, and their errors."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.layer import Spec
from minitrain.layers import Add, Concat, Flatten

SHAPES = st.lists(st.integers(1, 6), min_size=2, max_size=5).map(tuple)


@settings(max_examples=20, deadline=None)
@given(SHAPES, st.integers(2, 4))
def test_sums_agree_with_torch(shape, inputs):
    pytest.importorskip("torch")
    from torch_layer import agrees

    agrees(Add(), [shape] * inputs, lambda *xs: sum(xs[1:], start=xs[0]))


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_concatenation_agrees_with_torch(shape, sizes, data):
    torch = pytest.importorskip("torch")
    from torch_layer import agrees

    axis = data.draw(st.integers(1, len(shape) - 1))
    shapes = [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]
    given_axis = data.draw(st.sampled_from([axis, axis - len(shape)]))
    agrees(Concat(given_axis), shapes, lambda *xs: torch.cat(xs, dim=axis))


@settings(max_examples=10, deadline=None)
@given(SHAPES)
def test_flatten_agrees_with_torch(shape):
    pytest.importorskip("torch")
    from torch_layer import agrees

    agrees(Flatten(), [shape], lambda x: x.flatten(1))


@pytest.mark.parametrize(
    ("layer", "shapes", "message"),
    [
        (Add(), [(2, 3)], "Add: expected two or more inputs, got 1"),
        (Add(), [(2, 3), (2, 4)], "Add: expected inputs of one shape, got (N, 3), (N, 4)"),
        (Concat(), [(2, 3, 4), (2, 3, 5)], "Concat: expected inputs that differ in axis 1 alone"),
        (Concat(), [(2, 3), (2, 3, 5)], "Concat: expected inputs that differ in axis 1 alone"),
        (Concat(0), [(2, 3)], "axis: expected an axis of (N, 3) other than the batch, got 0"),
        (Concat(-2), [(2, 3)], "axis: expected an axis of (N, 3) other than the batch, got -2"),
        (Concat(2), [(2, 3)], "axis: expected an axis of (N, 3) other than the batch, got 2"),
        (Concat(), [], "Concat: expected one or more inputs, got none"),
    ],
)
def test_errors(layer, shapes, message):
    with pytest.raises(ValueError) as caught:
        layer.declare(*map(Spec, shapes))
    assert message in str(caught.value)
