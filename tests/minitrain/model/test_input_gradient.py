"""Model.input_gradient: by running statistics and without dropout, against differences and PyTorch."""

import runpy
from dataclasses import dataclass

import numpy as np
import pytest
from paths import ROOT

from minitrain import Input, Model, Trainer, layers, losses, optimizers
from minitrain.layer import Declaration, Layer, Spec


def moved(model, seed=0):
    """Give parameters and statistics other values than those of the start."""
    rng = np.random.default_rng(seed)
    model.flat_params[...] += 0.1 * rng.standard_normal(model.flat_params.size)
    for name, value in model.state.items():
        if name.endswith(("running_mean", "running_var")):
            value[...] = rng.uniform(0.5, 2, value.shape)
    return model


def differences(value, x, eps=1e-6):
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        kept = x[index]
        x[index] = kept + eps
        above = value()
        x[index] = kept - eps
        below = value()
        x[index] = kept
        gradient[index] = (above - below) / (2 * eps)
    return gradient


def net(fuse=True, dtype="float64"):
    """Several layers read the input; dropout in the middle, at a sum and at the end; a residual batch norm."""
    x = Input((2, 5, 4))
    h = layers.ReLU()(layers.BatchNorm(name="bn1")(layers.Conv2d(3, 3, padding=1, name="conv1")(x)))
    skip = layers.Conv2d(3, 1, name="skip")(x)
    h = layers.BatchNorm(name="bn2")(layers.Conv2d(3, 3, padding=1, bias=False)(layers.Dropout(0.3)(h)))
    h = layers.ReLU(name="relu2")(layers.Add(name="sum")(h, layers.Dropout(0.9, name="thin")(skip)))
    h = layers.Concat()(h, x)
    h = layers.BatchNorm(momentum=None)(layers.Dense(6)(layers.Flatten()(h)))
    return moved(Model(x, layers.Dropout(0.5)(layers.Dense(3, name="head")(layers.Tanh()(h))), dtype=dtype, fuse=fuse))


@pytest.fixture
def x():
    return np.random.default_rng(5).standard_normal((5, 2, 5, 4))


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("batch_size", [256, 2])
def test_against_differences(x, fuse, batch_size):
    model = net(fuse)
    dy = np.random.default_rng(1).standard_normal((5, 3))
    state, gradients = model.flat_state.copy(), model.flat_gradients.copy()
    dx = model.input_gradient(x, dy, batch_size=batch_size)
    np.testing.assert_allclose(dx, differences(lambda: (model.predict(x) * dy).sum(), x), rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(model.flat_state, state)
    np.testing.assert_array_equal(model.flat_gradients, gradients)


def test_ones_unless_given(x):
    model = net()
    np.testing.assert_array_equal(model.input_gradient(x), model.input_gradient(x, np.ones((5, 3))))
    np.testing.assert_allclose(model.input_gradient(x), differences(lambda: model.predict(x).sum(), x), 1e-6, 1e-8)


@pytest.mark.parametrize("value", ["conv1", "bn1", "relu2", "sum", "thin", "dropout1", "head", "input"])
def test_any_node(x, value):
    model = net()
    values = model.activations(x, value)[value]
    dy = np.random.default_rng(1).standard_normal(values.shape)
    expected = differences(lambda: (model.activations(x, value)[value] * dy).sum(), x)
    np.testing.assert_allclose(model.input_gradient(x, dy, output=value), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("seed", range(8))
def test_random_nets_against_pytorch(seed):
    torch = pytest.importorskip("torch")
    import torch_twin

    random_net = runpy.run_path(str(ROOT / "tests/minitrain/compile/test_random_graphs.py"))["random_net"]
    model = moved(random_net(seed, "float64"), seed)
    (shape,) = model.input_shapes.values()
    x = np.random.default_rng(seed).standard_normal((3, *shape))
    tensor = torch.from_numpy(x.copy()).requires_grad_()
    params, state = torch_twin.tensors(model.params), torch_twin.tensors(model.state)
    output = torch_twin.evaluate(model.graph, {"input": tensor}, params, state, training=False)
    dy = np.random.default_rng(seed + 1).standard_normal(output.shape)
    output.backward(torch.from_numpy(dy))
    expected = tensor.grad.numpy()
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(model.input_gradient(x, dy), expected, rtol=0, atol=1e-9 * scale)


def siamese():
    a, b, label = Input((3, None), name="a"), Input((3, None), name="b"), Input((), "int64", name="label")
    norm, encode = layers.BatchNorm(name="bn1"), layers.Tanh()
    near = layers.Add(name="near")(encode(norm(a)), norm(b), a)
    model = Model(
        [a, b, label], {"near": near, "far": layers.Concat(axis=2)(norm(b), b), "same": Same()(label)}, dtype="float64"
    )
    return moved(model)


@dataclass(frozen=True)
class Same(Layer):
    """Integers in, integers out."""

    def declare(self, *inputs):
        return Declaration({"y": Spec(inputs[0].shape, "int64")})

    def forward(self, t):
        t.y[...] = t.x


def test_several_inputs_and_outputs_with_shared_layers_and_free_axes():
    model = siamese()
    rng = np.random.default_rng(2)
    x = [rng.standard_normal((4, 3, 5)), rng.standard_normal((4, 3, 5)), np.arange(4)]
    dy = {"near": rng.standard_normal((4, 3, 5)), "far": rng.standard_normal((4, 3, 10))}

    def value(names):
        found = model.predict(x)
        return sum(float((found[name] * dy[name]).sum()) for name in names)

    for names in (["near"], ["far"], ["near", "far"]):
        dx = model.input_gradient(x, {name: dy[name] for name in names}, batch_size=3)
        assert list(dx) == ["a", "b", "label"]
        assert dx["label"] is None
        for name, array in zip("ab", x, strict=False):
            expected = differences(lambda names=names: value(names), array)
            np.testing.assert_allclose(dx[name], expected, rtol=1e-7, atol=1e-8)
    far = model.input_gradient(x, dy["far"], output="far")
    assert not far["a"].any()
    np.testing.assert_array_equal(far["b"], model.input_gradient(x, {"far": dy["far"]})["b"])
    np.testing.assert_array_equal(
        model.input_gradient(x, output="near")["b"], model.input_gradient(x, {"near": None})["b"]
    )


def test_what_does_not_fit(x):
    model, many = net(), siamese()
    rows = [np.zeros((2, 3, 4)), np.zeros((2, 3, 4)), np.arange(2)]
    for call, error, text in (
        (
            lambda: model.input_gradient(x, np.ones((5, 4))),
            ValueError,
            r"output_gradient: expected shape \(5, 3\) like",
        ),
        (
            lambda: model.input_gradient(x, np.full((5, 3), "a")),
            TypeError,
            "output_gradient: expected an array of numb",
        ),
        (lambda: model.input_gradient(x, output="heed"), ValueError, "output: there is no 'heed'.*did you mean 'head'"),
        (lambda: model.input_gradient(x[:, :1]), ValueError, r"x: expected shape \(samples, 2, 5, 4\)"),
        (lambda: model.input_gradient(x, batch_size=0), ValueError, "batch_size: expected an integer >= 1"),
        (lambda: many.input_gradient(rows), ValueError, "output: expected one of 'near', 'far', 'same', or a mapping"),
        (lambda: many.input_gradient(rows, {"fur": 1}), ValueError, "output: expected one of 'near'"),
        (
            lambda: many.input_gradient(rows, output="same"),
            ValueError,
            "output: expected one that has a gradient, got s",
        ),
    ):
        with pytest.raises(error, match=text):
            call()
    i = Input((2,), "int64")
    with pytest.raises(ValueError, match="expected an input of floats, got integers"):
        Model(i, Same()(i)).input_gradient(np.zeros((3, 2), int))


def test_the_arrays_are_the_callers(x):
    model = net(dtype="float32")
    dx = model.input_gradient(x)
    kept = dx.copy()
    model.input_gradient(2 * x)
    np.testing.assert_array_equal(dx, kept)
    dx[...] = 0
    assert model.input_gradient(x[:0]).shape == (0, 2, 5, 4)
    assert dx.dtype == model.dtype


def test_new_weights_count(x):
    model = net()
    before = model.input_gradient(x)
    Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1)).step(x, np.arange(5) % 3)
    after = model.input_gradient(x)
    assert np.abs(after - before).max() > 1e-6
    np.testing.assert_allclose(after, differences(lambda: model.predict(x).sum(), x), rtol=1e-6, atol=1e-8)
    model.freeze("bn1")
    np.testing.assert_array_equal(model.input_gradient(x), after)


def test_within_a_training_step(x):
    model = net()
    expected = model.input_gradient(x)
    with model.held(((5, 2, 5, 4),), training=True):
        np.testing.assert_array_equal(model.input_gradient(x), expected)


@dataclass(frozen=True)
class Noise(Layer):
    """A user's layer that does something else in inference."""

    factor: float = 1.0

    def declare(self, *inputs):
        return Declaration({"y": inputs[0]})

    def forward(self, t):
        t.y[...] = 2 * t.x

    def infer(self, t):
        t.y[...] = self.factor * t.x

    def backward(self, t):
        t.dx[...] = 2 * t.dy


def test_a_users_layer_that_infers_its_own_way():
    x = Input((3,))
    values = np.ones((2, 3))
    same = Model(x, Noise(2.0, name="noise")(layers.Dense(3)(x)))
    assert same.input_gradient(values).shape == (2, 3)
    other = Model(x, Noise(name="noise")(layers.Dense(3, name="dense1")(x)))
    with pytest.raises(ValueError, match="input_gradient: noise gives other values in inference than in training"):
        other.input_gradient(values)
    other.input_gradient(values, output="dense1")


@dataclass(frozen=True)
class Moving(layers.ReLU):
    statistics = ("mean",)

    def declare(self, *inputs):
        from minitrain.layer import zeros

        return Declaration({"y": inputs[0]}, state={"mean": zeros((1,))})


def test_a_layer_without_a_frozen_form():
    x = Input((3,))
    model = Model(x, Moving(name="moving")(x))
    with pytest.raises(
        ValueError, match="moving: expected a layer that can be differentiated by its running statistics"
    ):
        model.input_gradient(np.ones((2, 3)))
