"""Conv2d and what follows it -> InferenceConv2d, in inference."""

import numpy as np
from fusion_nets import graph_of, kinds, residual_net

from minitrain import Input, layers
from minitrain.compile.fusions import fuse, fuse_for_inference


def test_convolutions_take_in_their_batch_norms_for_inference():
    graph = fuse_for_inference(residual_net(True, "float32").graph)  # unfused: only plain batch norms follow
    assert kinds(graph).count("InferenceConv2d") == 3
    graph = fuse_for_inference(fuse(residual_net(True, "float32").graph))
    assert kinds(graph) == ["InferenceConv2d"] * 3 + ["Flatten", "Dense"]
    assert graph.nodes[2].inputs == ("bn2", "bn1")
    assert graph.nodes[2].variable("weight") == "conv3.weight"
    assert graph.nodes[2].variable("running_var") == "bn3.running_var"


def test_a_convolution_that_others_read_keeps_its_batch_norm():
    x = Input((3, 4, 4))
    h = layers.Conv2d(3, 3, padding=1)(x)
    graph = fuse_for_inference(fuse(graph_of([x], layers.Add()(layers.BatchNorm()(h), h))))
    assert kinds(graph) == ["Conv2d", "BatchNorm", "Add"]


def test_folded_weights_follow_their_sources():
    folded, plain = residual_net(True, "float64"), residual_net(False, "float64")
    x = np.random.default_rng(0).standard_normal((3, 3, 6, 6))
    folded.predict(x)
    for model in (folded, plain):
        rng = np.random.default_rng(1)
        for name, value in {**model.params, **model.state}.items():
            value[...] = rng.uniform(0.5, 1.5, value.shape) if name.endswith("var") else rng.normal(size=value.shape)
    np.testing.assert_allclose(folded.predict(x), plain.predict(x), rtol=1e-11, atol=1e-11)
