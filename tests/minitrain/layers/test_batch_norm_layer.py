"""BatchNorm and its fused forms against PyTorch, with the running statistics over several batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.initializers import Constant
from minitrain.layer import Spec
from minitrain.layers import BatchNorm
from minitrain.layers.fused import BatchNormAddReLU, BatchNormReLU
from minitrain.testing import BoundLayer

SHAPES = st.tuples(st.integers(2, 5), st.integers(1, 6), st.lists(st.integers(1, 5), max_size=3)).map(
    lambda parts: (*parts[:2], *parts[2])
)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.sampled_from([1e-5, 1e-3, 0.5]))
def test_agree_with_torch(shape, eps):
    torch = pytest.importorskip("torch")
    from torch_layer import agrees

    def normalize(x, gamma, beta):
        return torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)

    agrees(BatchNorm(eps=eps), [shape], normalize)
    agrees(BatchNormReLU(eps=eps), [shape], lambda x, gamma, beta: torch.relu(normalize(x, gamma, beta)))
    agrees(
        BatchNormAddReLU(eps=eps),
        [shape, shape],
        lambda x, residual, gamma, beta: torch.relu(normalize(x, gamma, beta) + residual),
    )


@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0, None])
@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (8, 3)])
def test_running_statistics_and_inference_agree_with_torch(momentum, shape):
    torch = pytest.importorskip("torch")
    layer = BatchNorm(momentum=momentum)
    bound = BoundLayer(layer, [shape])
    t = bound.tensors
    twin = (torch.nn.BatchNorm2d if len(shape) == 4 else torch.nn.BatchNorm1d)(3, momentum=momentum).double()
    with torch.no_grad():
        for name, source in (("weight", t.gamma), ("bias", t.beta), ("running_mean", t.running_mean)):
            getattr(twin, name).copy_(torch.tensor(source))
        twin.running_var.copy_(torch.tensor(t.running_var))
    for seed in range(3):
        t.x[...] = np.random.default_rng(seed).standard_normal(shape) + 3
        layer.forward(t)
        np.testing.assert_allclose(t.y, twin(torch.tensor(t.x)).detach(), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(t.running_mean, twin.running_mean, rtol=1e-12)
        np.testing.assert_allclose(t.running_var, twin.running_var, rtol=1e-12)
    if momentum is None:
        assert t.num_batches.tolist() == [3]
    layer.infer(bound.inference_tensors)
    np.testing.assert_allclose(t.y, twin.eval()(torch.tensor(t.x)).detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("fused", [BatchNormReLU, BatchNormAddReLU])
def test_fused_layers_have_the_variables_of_batch_norm(fused):
    for momentum in (0.1, None):
        shape = (2, 3, 4)
        inputs = [Spec(shape)] * (2 if fused.adds_residual else 1)
        declared, plain = fused(momentum=momentum).declare(*inputs), BatchNorm(momentum=momentum).declare(inputs[0])
        assert declared.params == plain.params
        assert declared.state == plain.state


def test_start():
    declared = BatchNorm(gamma_init=Constant(0.5)).declare(Spec((2, 3)))
    start = {n: b.fill(None, b.shape, 1, 1).tolist() for n, b in {**declared.params, **declared.state}.items()}
    assert start == {"gamma": [0.5] * 3, "beta": [0] * 3, "running_mean": [0] * 3, "running_var": [1] * 3}
    assert not any(buffer.penalized for buffer in declared.params.values())


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_training_needs_two_values_per_channel(shape):
    BoundLayer(BatchNorm(), [shape], training=False)
    with pytest.raises(ValueError, match="BatchNorm: training needs two or more values per channel"):
        BoundLayer(BatchNorm(), [shape])


def test_errors():
    for arguments, error in (
        ({"momentum": 1.5}, ValueError),
        ({"momentum": "0.1"}, TypeError),
        ({"eps": -1.0}, ValueError),
        ({"eps": float("nan")}, ValueError),
        ({"gamma_init": 1.0}, TypeError),
    ):
        with pytest.raises(error, match=next(iter(arguments))):
            BatchNorm(**arguments)
    with pytest.raises(ValueError, match=r"AddReLU: expected a residual of shape \(N, 3, 4\), got \(N, 3, 5\)"):
        BatchNormAddReLU().declare(Spec((2, 3, 4)), Spec((2, 3, 5)))
    with pytest.raises(ValueError, match=r"BatchNorm: expected an input of shape \(N, C, ...\), got \(N,\)"):
        BatchNorm().declare(Spec((2,)))
