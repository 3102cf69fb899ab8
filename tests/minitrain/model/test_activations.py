"""Model.activations: values inside a net by name."""

from dataclasses import dataclass

import numpy as np
import pytest
from fusion_nets import plain_net, residual_net, two_convolutions, wide_residual_net

from minitrain import Input, Model, Trainer, layers, losses, optimizers
from minitrain.layer import Declaration, Layer, Spec


def net(dtype="float64", fuse=True):
    x = Input((2, 6, 6))
    h = layers.ReLU(name="relu1")(layers.BatchNorm(name="bn1")(layers.Conv2d(3, 3, padding=1, name="conv1")(x)))
    h = layers.Conv2d(3, 3, padding=1, bias=False, name="conv2")(layers.Dropout(0.5)(h))
    return Model(x, layers.Dense(4, name="head")(layers.Flatten()(h)), dtype=dtype, fuse=fuse)


def trained(model):
    rng = np.random.default_rng(0)
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1))
    (spec,) = model.graph.inputs.values()
    trainer.step(rng.standard_normal((8, *spec.shape)), rng.integers(0, 4, 8))
    return model


@dataclass(frozen=True)
class Halves(Layer):
    """A layer with two outputs."""

    prefix = "halves"

    def declare(self, *inputs):
        samples, size = inputs[0].shape
        return Declaration({"y": Spec((samples, size // 2)), "rest": Spec((samples, size - size // 2))})

    def forward(self, t):
        t.y[...], t.rest[...] = np.split(t.x, [t.y.shape[1]], axis=1)

    def backward(self, t):
        t.dx[...] = np.concatenate([t.dy, t.drest], axis=1)


@pytest.mark.parametrize("fuse", [True, False])
def test_values_are_those_of_predict(fuse):
    model = trained(net(fuse=fuse))
    x = np.random.default_rng(1).standard_normal((7, 2, 6, 6))
    values = model.activations(x, batch_size=3)
    assert list(values) == ["input", "conv1", "bn1", "relu1", "dropout1", "conv2", "flatten1", "head"]
    np.testing.assert_array_equal(values["input"], x)
    np.testing.assert_allclose(values["head"], model.predict(x), rtol=1e-11, atol=1e-13)
    np.testing.assert_array_equal(values["relu1"], np.maximum(values["bn1"], 0))
    np.testing.assert_array_equal(values["dropout1"], values["relu1"])
    mean, var = (model.state[f"bn1.running_{name}"].reshape(3, 1, 1) for name in ("mean", "var"))
    expected = (values["conv1"] - mean) / np.sqrt(var + 1e-5) * model.params["bn1.gamma"].reshape(3, 1, 1)
    np.testing.assert_allclose(values["bn1"], expected + model.params["bn1.beta"].reshape(3, 1, 1), rtol=1e-9)


def test_a_part_of_the_net_is_a_model_of_its_own():
    model = trained(net())
    x = np.random.default_rng(1).standard_normal((5, 2, 6, 6))
    nodes = {name: node for node, name in model._names.items()}
    part = Model(nodes["input"], nodes["bn1"], like=model)
    np.testing.assert_allclose(model.activations(x, "bn1")["bn1"], part.predict(x), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    "model",
    [two_convolutions(), wide_residual_net(), plain_net("float32"), residual_net(True, "float64")],
    ids=["two convolutions", "wide residual", "plain", "residual"],
)
def test_no_fusion_hides_a_value(model):
    x = [np.random.default_rng(1).standard_normal((3, *shape)) for shape in model.input_shapes.values()]
    values = model.activations(x)
    assert set(values) == {*model.input_shapes, *(node.name for node in model.graph.nodes)}
    (output,) = model.graph.outputs.values()
    np.testing.assert_allclose(values[output], model.predict(x), rtol=1e-4, atol=1e-4)


def test_names_and_globs():
    model = net()
    x = np.zeros((2, 2, 6, 6))
    assert list(model.activations(x, "conv1")) == ["conv1"]
    assert list(model.activations(x, ["head", "conv*", "conv1"])) == ["head", "conv1", "conv2"]
    assert list(model.activations(x, ("input",))) == ["input"]
    for names, text in (
        (["conv3"], "names: there is no 'conv3' in this model; did you mean '.*conv1.*It has input, conv1, bn1"),
        (["pool*"], r"there is no 'pool\*' in this model"),
        ([], "names: expected one name or more"),
    ):
        with pytest.raises(ValueError, match=text):
            model.activations(x, names)
    with pytest.raises(TypeError, match="names: expected names of nodes, or globs, got 3"):
        model.activations(x, [3])
    with pytest.raises(ValueError, match="batch_size: expected an integer >= 1"):
        model.activations(x, batch_size=0)


def test_further_outputs():
    x = Input((5,))
    first, rest = Halves(name="halves")(x)
    model = Model(x, {"first": layers.Dense(2)(first), "rest": layers.ReLU()(rest)}, dtype="float64")
    values = np.random.default_rng(0).standard_normal((4, 5))
    found = model.activations(values, ["halves", "halves.rest"])
    np.testing.assert_array_equal(found["halves"], values[:, :2])
    np.testing.assert_array_equal(found["halves.rest"], values[:, 2:])
    assert list(model.activations(values, "halves*")) == ["halves", "halves.rest"]


def test_several_inputs_and_free_axes():
    a, b = Input((2, None, None), name="a"), Input((2, None, None), name="b")
    conv = layers.Conv2d(3, 3, padding=1, name="conv1")
    model = Model([a, b], layers.GlobalAvgPool()(layers.Add(name="both")(conv(a), conv(b))), dtype="float64")
    x = [np.random.default_rng(seed).standard_normal((4, 2, 6, 5)) for seed in range(2)]
    values = model.activations(x, ["a", "both", "conv*"], batch_size=3)
    assert {name: each.shape[1:] for name, each in values.items()} == {
        "a": (2, 6, 5), "both": (3, 6, 5), "conv1": (3, 6, 5), "conv12": (3, 6, 5)
    }  # fmt: skip
    np.testing.assert_allclose(values["conv1"] + values["conv12"], values["both"], rtol=1e-12)


def test_the_arrays_are_the_callers():
    model = net()
    x = np.random.default_rng(1).standard_normal((3, 2, 6, 6))
    values = model.activations(x)
    before = {name: each.copy() for name, each in values.items()}
    model.activations(2 * x)
    model.predict(3 * x)
    for name, each in values.items():
        np.testing.assert_array_equal(each, before[name])
        each[...] = 0
    assert x.any()
    assert model.activations(x[:0])["conv1"].shape == (0, 3, 6, 6)


def test_as_in_training():
    model = trained(net())
    x = np.random.default_rng(1).standard_normal((9, 2, 6, 6))
    state = model.flat_state.copy()
    values = model.activations(x, ["bn1", "relu1", "dropout1"], batch_size=9, training=True)
    np.testing.assert_allclose(values["bn1"].mean((0, 2, 3)), model.params["bn1.beta"], rtol=1e-9, atol=1e-12)
    dropped = (values["dropout1"] == 0) & (values["relu1"] != 0)
    assert 0.3 < dropped.sum() / (values["relu1"] != 0).sum() < 0.7
    np.testing.assert_array_equal(model.flat_state, state)
    again = model.activations(x, ["bn1"], batch_size=4, training=True)
    assert np.abs(again["bn1"] - values["bn1"]).max() > 1e-3


def test_frozen_statistics_are_those_of_training():
    model = trained(net())
    x = np.random.default_rng(1).standard_normal((9, 2, 6, 6))
    model.freeze("bn1")
    np.testing.assert_array_equal(model.activations(x, "bn1", training=True)["bn1"], model.activations(x, "bn1")["bn1"])


def test_within_a_training_step():
    model = net()
    x = np.random.default_rng(1).standard_normal((4, 2, 6, 6))
    expected = model.activations(x, "head")["head"]
    with model.held(((4, 2, 6, 6),), training=True):
        np.testing.assert_array_equal(model.activations(x, "head")["head"], expected)
        with pytest.raises(RuntimeError, match="in the middle of a step"):
            model.activations(x, training=True)
