"""Activations against PyTorch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.initializers import Constant
from minitrain.layer import Spec
from minitrain.layers import LeakyReLU, PReLU, ReLU, ReLU6, Sigmoid, SiLU, Tanh
from minitrain.testing import BoundLayer

SHAPES = st.lists(st.integers(1, 7), min_size=1, max_size=5).map(tuple)


@settings(max_examples=20, deadline=None)
@given(SHAPES, st.floats(-2, 2))
def test_agree_with_torch(shape, slope):
    torch = pytest.importorskip("torch")
    from torch_layer import agrees

    agrees(ReLU(), [shape], torch.relu)
    agrees(ReLU6(), [shape], torch.nn.functional.relu6)
    agrees(LeakyReLU(slope), [shape], lambda x: torch.nn.functional.leaky_relu(x, slope))
    agrees(Sigmoid(), [shape], torch.sigmoid)
    agrees(Tanh(), [shape], torch.tanh)
    agrees(SiLU(), [shape], torch.nn.functional.silu)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=2, max_size=5).map(tuple), st.booleans())
def test_prelu_agrees_with_torch(shape, per_channel):
    torch = pytest.importorskip("torch")
    from torch_layer import agrees

    agrees(PReLU("channel" if per_channel else 1), [shape], torch.nn.functional.prelu)


def test_prelu_starts_as_torch_does_and_is_not_penalized():
    weight = PReLU("channel").declare(Spec((2, 5, 3, 3))).params["weight"]
    np.testing.assert_array_equal(weight.fill(None, weight.shape, 1, 1), np.full(5, 0.25))
    assert not weight.penalized
    assert PReLU(weight_init=Constant(0.1)).declare(Spec((2, 5))).params["weight"].shape == (1,)


@pytest.mark.parametrize("layer", [ReLU(), ReLU6(), LeakyReLU(), LeakyReLU(-0.5), PReLU(), Sigmoid(), SiLU(), Tanh()])
def test_nan_and_infinity_come_through(layer):
    bound = BoundLayer(layer, [(2, 3)])
    bound.tensors.x[0] = [np.nan, np.inf, -np.inf]
    layer.forward(bound.tensors)
    torch = pytest.importorskip("torch")
    x, weight = torch.tensor(bound.tensors.x), torch.tensor(bound.groups["params"].get("weight", [0.0]))
    exact = {
        ReLU: torch.relu,
        ReLU6: torch.nn.functional.relu6,
        LeakyReLU: lambda x: torch.nn.functional.leaky_relu(x, layer.negative_slope),
        PReLU: lambda x: torch.nn.functional.prelu(x, weight),
        Sigmoid: torch.sigmoid,
        SiLU: torch.nn.functional.silu,
        Tanh: torch.tanh,
    }[type(layer)](x)
    np.testing.assert_allclose(bound.tensors.y, exact, rtol=1e-14, atol=1e-300)


def test_relu6_ends_at_6():
    torch = pytest.importorskip("torch")
    bound = BoundLayer(ReLU6(), [(2, 4)])
    bound.tensors.x[...] = [[-1.0, 0.0, 3.0, 6.0], [5.9, 6.1, 1e9, -1e9]]
    x = torch.tensor(bound.tensors.x, requires_grad=True)
    y = torch.nn.functional.relu6(x)
    np.testing.assert_array_equal(bound.forward()["y"], y.detach())
    y.backward(torch.tensor(bound.groups["output_gradients"]["dy"]))
    np.testing.assert_array_equal(bound.backward()["dx0"], x.grad)


def test_errors():
    with pytest.raises(ValueError, match="negative_slope: expected a finite number, got nan"):
        LeakyReLU(float("nan"))
    with pytest.raises(ValueError, match=r"num_parameters: expected 1 or the 5 channels of \(N, 5, 3\), got 4"):
        PReLU(4).declare(Spec((2, 5, 3)))
    with pytest.raises(TypeError, match="num_parameters: expected an integer, got 'all'"):
        PReLU("all")
    with pytest.raises(ValueError, match="ReLU: expected one input, got 2"):
        ReLU().declare(Spec((2, 3)), Spec((2, 3)))
