"""FrozenConv2dBatchNorm against PyTorch and against the convolution and the norm that it stands for."""

import numpy as np
import pytest
from bound_layer import BoundLayer
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.layer import Spec
from minitrain.layers import BatchNorm, Conv2d
from minitrain.layers.fused import (
    BatchNormAddReLU,
    BatchNormReLU,
    FrozenBatchNorm,
    FrozenConv2dBatchNorm,
    InferenceConv2d,
)

NORMS = (BatchNorm, BatchNormReLU, BatchNormAddReLU)
each_norm = pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.__name__)


def shapes_of(conv, norm, x):
    return [x, conv.declare(Spec(x)).outputs["y"].shape] if norm.adds_residual else [x]


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(NORMS), st.integers(1, 3), st.sampled_from([1, 2]), st.sampled_from([1, 3]),
    st.sampled_from([1, 2]), st.booleans(),
)  # fmt: skip
def test_agrees_with_torch(norm, batch, groups, kernel_size, stride, bias):
    torch = pytest.importorskip("torch")
    conv = Conv2d(4, kernel_size, stride, padding=1, groups=groups, bias=bias)
    shapes = shapes_of(conv, norm, (batch, 2 * groups, 6, 5))
    bound = BoundLayer(FrozenConv2dBatchNorm(conv, norm(eps=0.1)), shapes)
    xs = [torch.tensor(x, requires_grad=True) for x in bound.groups["inputs"].values()]
    p = {name: torch.tensor(array) for group in ("params", "state") for name, array in bound.groups[group].items()}
    z = torch.nn.functional.conv2d(xs[0], p["weight"], p.get("bias"), stride, 1, groups=groups)
    y = torch.nn.functional.batch_norm(z, p["running_mean"], p["running_var"], p["gamma"], p["beta"], eps=0.1)
    y = sum(xs[1:], y)
    y = torch.relu(y) if norm.relu else y
    np.testing.assert_allclose(bound.forward()["y"], y.detach(), rtol=1e-10, atol=1e-10)
    y.backward(torch.tensor(bound.groups["output_gradients"]["dy"]))
    gradients = bound.backward()
    assert set(gradients) == {f"dx{i}" for i in range(len(xs))}
    for i, x in enumerate(xs):
        np.testing.assert_allclose(gradients[f"dx{i}"], x.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_norm
def test_stands_for_the_two_layers_and_has_the_bits_of_inference(norm, dtype):
    conv, made = Conv2d(17, 3, padding=1), norm(eps=0.1)
    shapes = shapes_of(conv, norm, (5, 16, 8, 8))
    bound = BoundLayer(FrozenConv2dBatchNorm(conv, made), shapes, dtype)
    y = bound.forward()["y"].copy()
    twin = BoundLayer(InferenceConv2d(conv, made), shapes, dtype)
    for group in ("inputs", "params", "state"):
        for name, array in bound.groups[group].items():
            twin.groups[group][name][...] = array
    np.testing.assert_array_equal(y, twin.infer()["y"])
    first = BoundLayer(conv, shapes[:1], dtype)
    second = BoundLayer(FrozenBatchNorm(made), [y.shape] * len(shapes), dtype)
    for each in (first, second):
        for group in ("params", "state"):
            for name in each.groups[group]:
                each.groups[group][name][...] = bound.groups[group][name]
    first.tensors.x[...] = bound.tensors.xs[0]
    conv.forward(first.tensors)
    second.tensors.xs[0][...] = first.tensors.y
    if norm.adds_residual:
        second.tensors.xs[1][...] = bound.tensors.xs[1]
    second.tensors.dy[...] = bound.tensors.dy
    scale = float(np.abs(y).max())
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    second.layer.forward(second.tensors)
    np.testing.assert_allclose(y, second.tensors.y, atol=tolerance * scale)
    gradients, of_norm = bound.backward(), second.backward()
    first.tensors.dy[...] = of_norm["dx0"]
    expected = first.backward()["dx0"]
    np.testing.assert_allclose(gradients["dx0"], expected, atol=tolerance * float(np.abs(expected).max()))
    if norm.adds_residual:
        np.testing.assert_array_equal(gradients["dx1"], of_norm["dx1"])


def test_has_the_variables_of_both():
    conv, norm = Conv2d(4, 3), BatchNormReLU(momentum=None)
    x = Spec((2, 3, 6, 5))
    declared = FrozenConv2dBatchNorm(conv, norm).declare(x)
    of_norm = norm.declare(conv.declare(x).outputs["y"])
    assert declared.params == {**conv.declare(x).params, **of_norm.params}
    assert declared.state == of_norm.state
