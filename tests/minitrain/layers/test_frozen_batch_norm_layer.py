"""FrozenBatchNorm against PyTorch and against the inference of what it stands for; what backward reads."""

import numpy as np
import pytest
from bound_layer import BoundLayer
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.layer import Spec
from minitrain.layers import BatchNorm
from minitrain.layers.fused import BatchNormAddReLU, BatchNormReLU, FrozenBatchNorm

NORMS = (BatchNorm, BatchNormReLU, BatchNormAddReLU)
each_norm = pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.__name__)
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 6), st.lists(st.integers(1, 5), max_size=3)).map(
    lambda parts: (*parts[:2], *parts[2])
)


def shapes_of(norm, shape):
    return [shape] * (2 if norm.adds_residual else 1)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.sampled_from(NORMS), st.sampled_from([1e-5, 1e-3, 0.5]))
def test_agrees_with_torch(shape, norm, eps):
    torch = pytest.importorskip("torch")
    from torch_layer import agrees

    layer, shapes = FrozenBatchNorm(norm(eps=eps)), shapes_of(norm, shape)
    state = {name: torch.tensor(array) for name, array in BoundLayer(layer, shapes).groups["state"].items()}

    def function(x, *residual, gamma, beta):
        mean, var = state["running_mean"], state["running_var"]
        y = sum(residual, torch.nn.functional.batch_norm(x, mean, var, gamma, beta, training=False, eps=eps))
        return torch.relu(y) if norm.relu else y

    agrees(layer, shapes, function)


@pytest.mark.parametrize("momentum", [0.1, None])
@each_norm
def test_stands_for_the_inference_of_the_norm(norm, momentum):
    shapes = shapes_of(norm, (4, 3, 5, 5))
    frozen, plain = FrozenBatchNorm(norm(momentum=momentum)), norm(momentum=momentum)
    declared, expected = frozen.declare(*map(Spec, shapes)), plain.declare(*map(Spec, shapes))
    assert declared.params == expected.params
    assert declared.state == expected.state
    bound, twin = BoundLayer(frozen, shapes), BoundLayer(plain, shapes)
    y = bound.forward()["y"].copy()
    np.testing.assert_array_equal(y, twin.infer()["y"])
    np.testing.assert_array_equal(y, bound.infer()["y"])
    bound.backward()
    for name, array in bound.groups["state"].items():
        np.testing.assert_array_equal(array, bound.first_state[name])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (8, 40), (3, 40, 9, 17), (1, 3)])
@each_norm
def test_backward_reads_x_for_the_gradient_of_gamma_alone(norm, shape, dtype):
    shapes = shapes_of(norm, shape)
    whole = BoundLayer(FrozenBatchNorm(norm()), shapes, dtype)
    whole.forward()
    expected = whole.backward()
    for left_out in (["dgamma"], ["dgamma", "dbeta"]):
        bound = BoundLayer(FrozenBatchNorm(norm()), shapes, dtype, left_out=left_out)
        bound.forward()
        bound.groups["inputs"]["x0"].fill(np.nan)
        for name, array in bound.backward().items():
            np.testing.assert_array_equal(array, expected[name])


@each_norm
def test_batches_of_one_value_per_channel_train(norm):
    bound = BoundLayer(FrozenBatchNorm(norm()), shapes_of(norm, (1, 3)))
    bound.forward()
    t, scale = bound.tensors, bound.tensors.gamma / np.sqrt(bound.tensors.running_var + norm().eps)
    g = np.where(t.y > 0, t.dy, 0) if norm.relu else t.dy
    np.testing.assert_allclose(bound.backward()["dx0"], scale * g, rtol=1e-14)
