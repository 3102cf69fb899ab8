"""A norm and ReLU -> RowNormReLU: what is replaced, and that nothing else changes."""

import numpy as np
import pytest
from fusion_nets import graph_of, kinds

from minitrain import Input, Model, layers
from minitrain.compile.fusions import fuse

NORMS = [
    layers.LayerNorm(axes=(1, 2, 3)),
    layers.LayerNorm(axes=(1,), bias=False),
    layers.RMSNorm(axes=(1, 2, 3)),
    layers.GroupNorm(2),
    layers.GroupNorm(4, affine=False),
    layers.InstanceNorm(affine=True),
]
each_norm = pytest.mark.parametrize("norm", NORMS, ids=repr)


@each_norm
def test_a_norm_and_relu_become_one(norm):
    x = Input((3, 6, 6))
    graph = fuse(graph_of([x], layers.Flatten()(layers.ReLU()(norm(layers.Conv2d(4, 3)(x))))))
    assert kinds(graph) == ["Conv2d", "RowNormReLU", "Flatten"]
    node = graph.nodes[1]
    assert [node.variable(name) for name in norm.first_values()] == [
        f"{node.name}.{name}" for name in norm.first_values()
    ]


@each_norm
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_fused_net_computes_what_the_net_does(norm, dtype):
    def net(fuse):
        x = Input((3, 6, 6))
        h = layers.ReLU()(norm(layers.Conv2d(4, 3)(x)))
        return Model(x, layers.Dense(5)(layers.Flatten()(h)), seed=3, dtype=dtype, fuse=fuse)

    fused, plain = net(True), net(False)
    assert list(fused.params) == list(plain.params)
    random = np.random.default_rng(0)
    for params in (fused.params, plain.params):
        random = np.random.default_rng(0)
        for name, value in params.items():
            value[...] = random.standard_normal(value.shape) * 0.5 + (0.5 if "gamma" in name else 0)
    x, dy = random.standard_normal((6, 3, 6, 6)).astype(dtype), random.standard_normal((6, 5)).astype(dtype)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    np.testing.assert_allclose(fused.predict(x), plain.predict(x), atol=tolerance, rtol=tolerance)
    gradients = []
    for model in (fused, plain):
        run = model.bind(x.shape[0], training=True, input_gradients=True)
        run.forward(x)
        gradients.append([np.array(run.backward(dy)), *(np.array(each) for each in model.gradients.values())])
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * max(np.abs(b).max(), 1), rtol=tolerance)


def test_what_others_read_stays():
    x = Input((4, 4, 4))
    normed = layers.GroupNorm(2)(x)
    assert kinds(fuse(graph_of([x], layers.Add()(layers.ReLU()(normed), normed)))) == ["GroupNorm", "ReLU", "Add"]


def test_a_norm_with_a_floor_of_its_own_stays():
    x = Input((4, 4, 4))
    assert kinds(fuse(graph_of([x], layers.ReLU()(layers.FilterResponseNorm()(x))))) == ["FilterResponseNorm", "ReLU"]
