"""What `norm` of the nets may be: kinds by name, layers, functions, each with a place."""

import numpy as np
import pytest

from minitrain import Model, Trainer, datasets, layers, losses, models, optimizers
from minitrain.cli import main

SHAPE = (1, 8, 8)
LAYER = {
    "batch": layers.BatchNorm,
    "layer": layers.GroupNorm,
    "group": layers.GroupNorm,
    "instance": layers.InstanceNorm,
    "rms": layers.RMSNorm,
    "filter_response": layers.FilterResponseNorm,
}


def norms(model):
    """The norms of a model by the names of their nodes."""
    return {node.name: node.layer for node in model.graph.nodes if isinstance(node.layer, tuple(LAYER.values()))}


def vector_norms(model):
    return {node.name: node.layer for node in model.graph.nodes if isinstance(node.layer, layers.LayerNorm)}


@pytest.mark.parametrize("kind", models.NORMS)
@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2", "densenet_bc", "wide_resnet", "article_a"])
def test_a_kind_stands_where_batch_norm_stands(name, kind):
    build = models.MODELS[name]
    batch, other = (build(input_shape=(1, 64, 64), norm=norm) for norm in ("batch", kind))
    prefix = LAYER[kind].prefix
    assert list(norms(other)) == [each.replace("bn", prefix) for each in norms(batch)]
    assert {type(layer) for layer in norms(other).values()} == {LAYER[kind]}
    weights = [key for key in batch.params if key.endswith("weight")]
    assert [key for key in other.params if key.endswith("weight")] == weights
    assert all(np.array_equal(batch.params[key], other.params[key]) for key in weights)


def test_the_place_is_the_nets_own_or_the_one_asked_for():
    def kinds(model):
        return [type(node.layer).__name__ for node in model.graph.nodes][:3]

    assert kinds(models.mlp((4,), 2, norm="layer")) == ["Dense", "LayerNorm", "ReLU"]
    assert kinds(models.mlp((4,), 2, norm=("layer", "after"))) == ["Dense", "ReLU", "LayerNorm"]
    assert kinds(models.article_c(norm="group")) == ["Conv2d", "ReLU", "GroupNorm"]
    assert kinds(models.article_c(norm=("group", "before"))) == ["Conv2d", "GroupNorm", "ReLU"]


def test_norms_of_vectors_and_planes():
    lenet = models.lenet(SHAPE, norm="layer")
    assert list(norms(lenet)) == ["gn1", "gn2"]
    assert list(vector_norms(lenet)) == ["ln3", "ln4"]
    assert list(norms(models.lenet(SHAPE, norm="instance"))) == ["in1", "in2"]


@pytest.mark.parametrize(
    ("channels", "groups"), [(3, 1), (8, 1), (16, 2), (32, 4), (84, 7), (100, 10), (256, 32), (512, 32), (13, 1)]
)
def test_groups(channels, groups):
    assert norms(models.mlp((4,), 2, (channels,), norm="group"))["gn1"].groups == groups


def test_layers_and_functions():
    net = models.lenet(SHAPE, norm=layers.BatchNorm(momentum=0.01, name="mine"))
    assert {name: layer.momentum for name, layer in norms(net).items()} == dict.fromkeys(
        ["bn1", "bn2", "bn3", "bn4"], 0.01
    )
    net = models.lenet(SHAPE, norm=lambda: layers.GroupNorm(4))
    assert {name: layer.groups for name, layer in norms(net).items()} == dict.fromkeys(["gn1", "gn2", "gn3", "gn4"], 4)
    assert list(norms(models.lenet(SHAPE, norm=(layers.BatchNorm, "after")))) == ["bn1", "bn2", "bn3", "bn4"]


def test_biases_that_a_norm_makes_superfluous_are_left_out():
    has_bias = {kind: "conv1.bias" in models.lenet(SHAPE, norm=kind).params for kind in models.NORMS}
    assert [kind for kind, has in has_bias.items() if has] == ["rms"]
    assert "dense1.bias" in models.lenet(SHAPE, norm="instance").params  # nothing normalizes it
    assert all("conv1.bias" in models.lenet(SHAPE, norm=(kind, "after")).params for kind in models.NORMS)


def test_the_learned_threshold_takes_the_place_of_a_relu():
    def activations(norm, activation):
        return [node.name for node in models.plain(3, norm=norm, activation=activation).graph.nodes]

    assert activations("filter_response", "relu") == ["conv1", "frn1", "conv2", "frn2", "pool", "head"]
    assert activations("filter_response", "tanh")[:3] == ["conv1", "frn1", "tanh1"]
    after = activations(("filter_response", "after"), "relu")
    assert after == ["conv1", "relu1", "frn1", "conv2", "relu2", "frn2", "pool", "head"]


@pytest.mark.parametrize("kind", models.NORMS)
def test_nets_learn_with_every_norm(kind):
    (x, y), _ = datasets.digits()
    trainer = Trainer(models.lenet(SHAPE, norm=kind), losses.SoftmaxCrossEntropy(), optimizers.Adam(1e-3))
    steps = [trainer.step(x[:64], y[:64]) for _ in range(40)]
    assert steps[-1] < 0.3 * steps[0]


@pytest.mark.parametrize(
    ("norm", "error", "message"),
    [
        (
            "both",
            ValueError,
            "norm: expected 'before', 'after' or None, got 'both'; or for another norm than batch norm one",
        ),
        (3, TypeError, "norm: expected 'before', 'after' or None, got 3"),
        (True, TypeError, "norm: expected 'before', 'after' or None, got True"),
        (("group", "behind"), ValueError, r'norm: expected \(kind, "before"\) or \(kind, "after"\)'),
        (("group",), ValueError, r'norm: expected \(kind, "before"\)'),
        (lambda: "bn", TypeError, "norm: expected a function that returns a layer, it returned 'bn'"),
    ],
)
def test_other_norms_are_refused(norm, error, message):
    with pytest.raises(error, match=message):
        models.lenet(SHAPE, norm=norm)


def test_a_net_of_vectors_has_no_norm_of_planes():
    with pytest.raises(ValueError, match="norm: expected one for vectors in a net without planes, got 'instance'"):
        models.mlp((4,), 2, norm="instance")


def test_the_command_line_trains_with_another_norm(tmp_path, capsys):
    run = [
        "train",
        "digits",
        "--model",
        "article_c",
        "--norm",
        "group",
        "--epochs",
        "1",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(run) == 0
    assert list(norms(Model.load(tmp_path / "run" / "weights.safetensors"))) == ["gn1"]
    capsys.readouterr()


@pytest.mark.parametrize("norm", ["before", "after", "layer", "filter_response"])
def test_a_net_without_activations_has_no_norms(norm):
    model = models.mlp((4,), 3, hidden=(), norm=norm)
    assert [node.layer.name for node in model.graph.nodes if node.layer is not None] == ["head"]
