"""The nets: shapes, names, where the norms are, first weights that do not depend on them."""

import numpy as np
import pytest
from paths import MNIST

from minitrain import Trainer, datasets, layers, losses, models, optimizers, schedules
from minitrain.initializers import He
from minitrain.models import MODELS

SECONDS = {"resnet34"}  # take seconds to draw their weights, and are made of the parts of another net
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]


def kinds(model):
    """Names of the layers' classes in order, with Conv2d and Dense marked where they have a bias."""
    return [
        type(node.layer).__name__
        + ("+" if isinstance(node.layer, (layers.Conv2d, layers.Dense)) and node.layer.bias else "")
        for node in model.graph.nodes
    ]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_net_takes_images_of_any_size_and_number_of_classes(name, shape):
    model = MODELS[name](input_shape=shape, classes=7)
    declared = model.graph.declarations(5)
    assert next(iter(declared[next(iter(model.graph.outputs.values()))].outputs.values())).shape == (5, 7)


@pytest.mark.parametrize("name", sorted(MODELS.keys() - SECONDS))
def test_first_weights_do_not_depend_on_the_norm(name):
    nets = {norm: MODELS[name](input_shape=(1, 8, 8), norm=norm, seed=3) for norm in ("before", "after", None)}
    plain = {name: value for name, value in nets[None].params.items() if name.endswith("weight")}
    for norm, net in nets.items():
        weights = {name: value for name, value in net.params.items() if name.endswith("weight")}
        assert list(weights) == list(plain)
        assert all(np.array_equal(weights[name], plain[name]) for name in plain)
        assert any("gamma" in name for name in net.params) == (norm is not None)
    assert MODELS[name](input_shape=(1, 8, 8), seed=3).seed == 3


@pytest.mark.parametrize("name", sorted(MODELS.keys() - SECONDS))
def test_weight_scale_multiplies_the_first_weights(name):
    one, three = (MODELS[name](input_shape=(1, 8, 8), weight_scale=scale) for scale in (1.0, 3.0))
    for key, value in one.params.items():
        if key.endswith("weight"):
            np.testing.assert_allclose(three.params[key], 3 * value, rtol=1e-6)


def test_layers_right_before_a_norm_have_no_bias():
    block = {
        "before": ["Dense", "BatchNorm", "ReLU"],
        "after": ["Dense+", "ReLU", "BatchNorm"],
        None: ["Dense+", "ReLU"],
    }
    for norm, expected in block.items():
        assert kinds(models.mlp((4,), 2, hidden=(3,), norm=norm)) == [*expected, "Dense+"]


def test_articles():
    block = ["Conv2d+", "ReLU", "BatchNorm"]
    assert kinds(models.article_a()) == [*block * 3, "Conv2d+", "GlobalAvgPool"]
    conv_and_pool = [*block, "MaxPool2d"]
    dense = ["Flatten", "Dense+", "ReLU", "BatchNorm", "Dense+"]
    assert kinds(models.article_b()) == [*conv_and_pool * 2, *dense]
    assert kinds(models.article_c()) == [*conv_and_pool, "Flatten", "Dense+"]
    assert models.article_b().params["dense1.weight"].shape == (128, 64 * 7 * 7)
    assert [models.article_a().params[f"conv{n}.weight"].shape[0] for n in (1, 2, 3)] == [32, 64, 128]


def test_resnet20_is_the_paper_s():
    model = models.resnet20()
    convolutions = [key for key, value in model.params.items() if value.ndim == 4]
    assert len([key for key in convolutions if "shortcut" not in key]) == 19  # and the head: 20
    # Table 6 of the paper: 0.27 M, with shortcuts that have no parameters; ours have 2,560 and their norms 192.
    assert model.count_parameters() == 269_722 + 2_560 + 192
    assert model.params["stage3_block1_conv1.weight"].shape == (64, 32, 3, 3)
    assert "stage1_block1_shortcut.weight" not in model.params
    after = kinds(models.resnet20(norm="after"))
    assert after[-4:] == ["ReLU", "BatchNorm", "GlobalAvgPool", "Dense+"]


@pytest.mark.parametrize("kind", ["conv", "dense"])
@pytest.mark.parametrize("depth", [2, 5, 40])
def test_plain_has_the_depth_it_says(kind, depth):
    model = models.plain(depth, kind)
    assert sum(name.endswith("weight") for name in model.params) == depth
    assert sum(name.endswith("gamma") for name in model.params) == depth - 1


def test_plain_halves_large_images():
    assert models.plain(3, input_shape=(1, 8, 8)).graph.nodes[0].layer.stride == (1, 1)
    assert models.plain(3, input_shape=(1, 28, 28)).graph.nodes[0].layer.stride == (2, 2)


def test_plain_stages_double_the_filters_and_halve_the_plane():
    convolutions = [node.layer for node in models.plain(8, width=4, stages=3).graph.nodes if node.name[:4] == "conv"]
    assert [layer.out_channels for layer in convolutions] == [4, 4, 4, 8, 8, 16, 16]
    assert [layer.stride[0] for layer in convolutions] == [1, 1, 1, 2, 1, 2, 1]


def test_activations_by_name_and_by_layer():
    by_name = models.mlp((4,), 2, hidden=(3, 3), activation="sigmoid")
    assert kinds(by_name).count("Sigmoid") == 2
    leaky = models.mlp((4,), 2, hidden=(3, 3), activation=layers.LeakyReLU(0.2))
    found = [node.layer for node in leaky.graph.nodes if isinstance(node.layer, layers.LeakyReLU)]
    assert [layer.negative_slope for layer in found] == [0.2, 0.2]
    assert isinstance(leaky.graph.nodes[0].layer.weight_init, He)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.mlp(norm="both"), "norm: expected 'before', 'after' or None, got 'both'"),
        (lambda: models.mlp(activation="swish"), "activation: expected one of relu"),
        (lambda: models.plain(1), "depth: expected an integer >= 2, got 1"),
        (lambda: models.plain(5, "linear"), "kind: expected 'conv' or 'dense'"),
        (lambda: models.plain(5, stages=0), "stages: expected an integer >= 1, got 0"),
        (lambda: models.plain(5, "dense", stages=2), "stages: expected 1 for dense layers, got 2"),
    ],
)
def test_wrong_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("norm", ["before", "after", None])
def test_residual_net_trains(norm):
    (x, y), _ = datasets.load("synthetic", shape=(1, 8, 8), train=32, test=10)
    trainer = Trainer(models.resnet20((1, 8, 8), norm=norm), losses.SoftmaxCrossEntropy(), optimizers.Adam(1e-3))
    steps = [trainer.step(x, y) for _ in range(4)]
    assert steps[-1] < steps[0]


@pytest.mark.skipif(not MNIST.is_dir(), reason="the MNIST files are not here")
def test_article_b_reaches_98_percent_on_mnist():
    (x, y), (x_test, y_test) = datasets.load("mnist", folder=MNIST)
    if len(x) != 8_000:
        pytest.skip("needs the folder with the t10k files alone")
    rate = schedules.OneCycle(3e-3, total_steps=3 * 125)
    trainer = Trainer(models.article_b(), losses.SoftmaxCrossEntropy(), optimizers.Adam(rate))
    trainer.fit(x, y, epochs=3, batch_size=64, verbose=False)
    assert trainer.evaluate(x_test, y_test)["accuracy"] >= 0.98
