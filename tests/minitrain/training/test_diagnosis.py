"""What is said about losses and gradients that are not finite: the cause, and what helps against it."""

from dataclasses import dataclass

import numpy as np
import pytest

from minitrain import Input, Model, Trainer, layers, losses, optimizers
from minitrain.layer import Declaration, Layer, Spec
from minitrain.training.trainer import NonFiniteLossError

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((4, 1, 6, 6)).astype("f4")
ROWS = RNG.standard_normal((8, 3)).astype("f4")


def convolutional(dtype="float32", shape=(1, 6, 6)):
    x = Input(shape)
    h = layers.Conv2d(3, 3, padding=1, bias=False, name="conv1")(x)
    h = layers.ReLU(name="relu1")(layers.BatchNorm(name="bn1")(h))
    return Model(x, layers.Dense(4, name="head")(layers.GlobalAvgPool()(h)), dtype=dtype)


def dense(*tail, outputs=1, dtype="float32"):
    x = Input((3,))
    h = layers.Tanh(name="tanh")(layers.Dense(4, name="hidden")(x))
    h = layers.Dense(outputs, name="head")(h)
    for layer in tail:
        h = layer(h)
    return Model(x, h, dtype=dtype)


def said(model, x, y, loss=None, optimizer=None, steps=1):
    """Return what the error says; nothing may have changed, and a second attempt has to say the same."""
    trainer = Trainer(model, loss or losses.SoftmaxCrossEntropy(), optimizer or optimizers.SGD(0.1))
    for _ in range(steps - 1):
        trainer.step(x, y)
    before = [each.copy() for each in (model.flat_params.view("u1"), model.flat_state)]
    texts = set()
    for _ in range(2):
        with pytest.raises(NonFiniteLossError) as caught:
            trainer.step(x, y)
        texts.add(str(caught.value))
        for now, then in zip((model.flat_params.view("u1"), model.flat_state), before, strict=True):
            np.testing.assert_array_equal(now, then)
    (text,) = texts
    assert trainer.steps == steps - 1
    assert "nothing was updated" in text
    return text


LABELS = np.array([0, 1, 2, 3])


def test_a_parameter_that_was_broken_before():
    model = convolutional()
    model.params["bn1.gamma"][1] = np.nan
    text = said(model, IMAGES, LABELS)
    assert "the parameter bn1.gamma is not finite" in text
    assert "bn1 (BatchNorm)" in text
    assert "learning rate" not in text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_data_that_are_not_finite(value):
    x = IMAGES.copy()
    x[2, 0, 3, 3] = value
    text = said(convolutional(), x, LABELS)
    assert "the data of input are not finite: 1 of 4 samples of the batch (2)" in text
    assert "learning rate" not in text


def test_data_that_the_net_cannot_hold():
    x = IMAGES.astype("f8")
    x[1] = 1e39
    text = said(convolutional(), x, LABELS)
    assert "the data of input are too large for float32, up to 1e+39: 1 of 4 samples" in text
    assert "scale" in text


def test_data_too_large_for_a_layer():
    model = convolutional()
    model.params["conv1.weight"] = np.full((3, 1, 3, 3), 1e3)
    text = said(model, np.full_like(IMAGES, 3e37), LABELS)
    assert "conv1 is the first layer whose output is not finite (a Conv2d; inputs up to 3e+37" in text
    assert "the data reach 3e+37: scale them" in text


def test_parameters_that_have_grown():
    model = dense(outputs=4)
    model.params["head.weight"][0] = np.finfo("f4").max
    text = said(model, 10 * ROWS, np.arange(8) % 4)
    assert "head.weight of head (Dense) has grown to 3.4e+38: try a learning rate below 0.1" in text


def test_fusion_is_not_seen():
    x = Input((1, 6, 6))
    h = layers.Conv2d(3, 3, name="c")(x)
    h = layers.ReLU(name="r")(layers.BatchNorm(name="b")(h))
    h = layers.Conv2d(3, 3, name="d")(h)
    model = Model(x, layers.Flatten()(h))
    model.params["d.weight"][...] = 3e38
    text = said(model, IMAGES, RNG.standard_normal((4, 12)), losses.MeanSquaredError())
    assert "d is the first layer" in text
    assert "(a Conv2d;" in text


def test_frozen_statistics_that_are_broken():
    model = convolutional()
    model.state["bn1.running_var"][0] = np.nan
    model.freeze("bn1")
    text = said(model, IMAGES, LABELS)
    assert (
        "bn1 is the first layer whose output is not finite (a BatchNorm, whose bn1.running_var is not finite)" in text
    )


def test_frozen_parameters_are_not_blamed_for_old_gradients():
    model = dense(outputs=4)
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1))
    model.gradients["hidden.weight"][...] = np.nan
    model.freeze("hidden")
    assert np.isfinite(trainer.step(ROWS, np.arange(8) % 4))
    model.params["head.weight"][0] = np.finfo("f4").max
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.step(ROWS * 10, np.arange(8) % 4)
    assert "hidden.weight" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_targets_that_are_not_finite(value):
    y = ROWS[:, :1].copy()
    y[5] = value
    text = said(dense(), ROWS, y, losses.MeanSquaredError())
    assert "the targets of loss (MeanSquaredError) are not finite: 1 of 8 samples of the batch (5)" in text


@pytest.mark.parametrize(
    ("size", "what"), [(1e39, "the gradient of head.weight is not finite"), (1e200, "is inf for outp")]
)
def test_targets_that_are_too_large(size, what):
    text = said(dense(), ROWS, np.full(8, size), losses.MeanSquaredError())
    assert what in text
    assert "scale the targets" in text or "the targets reach 1e+39: scale them" in text


@dataclass(frozen=True)
class Log(losses.Loss):
    """A user's loss: minus the logarithm of the output."""

    @property
    def domain(self):
        return "probabilities"

    def targets(self, targets, output_shape):
        return np.asarray(targets, "f4").reshape(output_shape)

    def __call__(self, outputs, targets, gradient=None):
        if gradient is not None:
            gradient[...] = -1 / outputs / outputs.size
        return float(-np.log(outputs).mean())


def test_outputs_outside_of_the_domain():
    with np.errstate(invalid="ignore"):
        text = said(dense(), ROWS, np.ones(8), Log())
    assert "takes probabilities from 0 to 1, but head (Dense) gives" in text
    assert "Sigmoid" in text


def test_binary_cross_entropy_without_a_sigmoid():
    text = said(dense(), ROWS, np.arange(8) % 2, losses.BinaryCrossEntropy())
    assert "takes probabilities from 0 to 1, but head (Dense) gives" in text
    assert "from_logits=True" in text


def test_a_loss_that_breaks_on_its_own():
    class Broken(losses.MeanSquaredError):
        def __call__(self, outputs, targets, gradient=None):
            super().__call__(outputs, targets, gradient)
            return float("nan")

    text = said(dense(), ROWS, ROWS[:, :1], Broken())
    assert "loss (Broken) is nan for outputs of head (Dense)" in text
    assert "look at what the loss computes" in text


def test_a_gradient_that_a_loss_breaks():
    class Broken(losses.MeanSquaredError):
        def __call__(self, outputs, targets, gradient=None):
            loss = super().__call__(outputs, targets, gradient)
            if gradient is not None:
                gradient[0] = np.inf
            return loss

    text = said(dense(), ROWS, ROWS[:, :1], Broken())
    assert "the gradient of outputs is not finite as loss (Broken) gives it" in text
    assert "look at what the loss computes" in text


@dataclass(frozen=True)
class Root(Layer):
    """A user's layer: square roots, whose gradient at 0 is infinite."""

    def declare(self, x):
        return Declaration(outputs={"y": Spec(x.shape)}, backward_reads=("y",))

    def forward(self, t):
        np.sqrt(np.abs(t.x), out=t.y)

    def backward(self, t):
        with np.errstate(divide="ignore"):
            t.dx[...] = t.dy / (2 * t.y)


def test_the_backward_pass_of_a_layer():
    model = dense(Root(name="root"))
    model.params["head.weight"][...] = 0
    text = said(model, ROWS, np.ones((8, 1)), losses.MeanSquaredError())
    assert "the gradient of the input of root is not finite, the first from the end, by root (Root)" in text
    assert "look at its backward" in text


def test_a_layer_that_breaks_on_its_own():
    @dataclass(frozen=True)
    class Undefined(Root):
        def forward(self, t):
            np.divide(t.x - t.x, t.x - t.x, out=t.y)

    text = said(dense(Undefined(name="undefined")), ROWS, np.ones((8, 1)), losses.MeanSquaredError())
    assert "undefined is the first layer whose output is not finite (a Undefined" in text
    assert "look at what the layer computes" in text


def two_outputs():
    x = Input((3,))
    h = layers.Dense(4, name="hidden")(x)
    return Model(x, {"a": layers.Dense(2, name="left")(h), "b": layers.Dense(1, name="right")(h)})


def test_several_losses():
    trainer = Trainer(
        two_outputs(), {"a": losses.SoftmaxCrossEntropy(), "b": losses.MeanSquaredError()}, optimizers.SGD(0.1)
    )
    y = {"a": np.arange(8) % 2, "b": np.ones((8, 1))}
    assert np.isfinite(trainer.step(ROWS, y))
    y["b"][3] = np.nan
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.step(ROWS, y)
    assert "(b_loss is nan)" in str(caught.value)
    assert "the targets of loss['b'] (MeanSquaredError) are not finite" in str(caught.value)


def test_weights_of_losses():
    trainer = Trainer(
        two_outputs(),
        {"a": losses.MeanSquaredError(), "b": losses.MeanSquaredError()},
        optimizers.SGD(0.1),
        loss_weights={"a": 1e300, "b": 1.0},
    )
    with pytest.raises(NonFiniteLossError, match=r"the gradient of outputs is not finite .*weight of the loss"):
        trainer.step(ROWS, {"a": ROWS[:, :2], "b": ROWS[:, :1]})


def test_free_axes():
    x = RNG.standard_normal((4, 1, 9, 7)).astype("f4")
    x[3, 0, 8] = np.nan
    text = said(convolutional(shape=(1, None, None)), x, LABELS)
    assert "the data of input are not finite" in text
    model = convolutional(shape=(1, None, None))
    model.params["head.weight"][...] = 3e38
    assert "head is the first layer" in said(model, np.abs(x[:3]) + 10, LABELS[:3])


def test_in_fit():
    x = np.repeat(ROWS, 8, axis=0).astype("f8")
    x[40] = 1e300
    trainer = Trainer(dense(outputs=4), losses.SoftmaxCrossEntropy(), optimizers.Adam(0.01))
    with pytest.raises(NonFiniteLossError, match=r"larger values than 3\.4e\+38 are infinite in float32"):
        trainer.fit(x, np.arange(64) % 4, batch_size=16, verbose=False)


def test_what_comes_and_goes():
    class Moody(losses.MeanSquaredError):
        calls = []  # noqa: RUF012

        def __call__(self, outputs, targets, gradient=None):
            self.calls.append(None)
            loss = super().__call__(outputs, targets, gradient)
            return loss if len(self.calls) % 2 == 0 else float("nan")

    assert "everything is finite when it is computed again" in said(dense(), ROWS, ROWS[:, :1], Moody())


def test_a_search_that_fails_hides_nothing():
    class Fragile(losses.MeanSquaredError):
        calls = []  # noqa: RUF012

        def __call__(self, outputs, targets, gradient=None):
            self.calls.append(None)
            super().__call__(outputs, targets, gradient)
            if len(self.calls) % 2 == 0:
                raise KeyError("not again")
            return float("inf")

    text = said(dense(), ROWS, ROWS[:, :1], Fragile())
    assert "step 0: the loss is inf: the search for the cause failed (KeyError" in text


def test_running_statistics_that_overflow():
    model = convolutional()
    text = said(model, IMAGES * np.float32(1e20), LABELS)
    assert "the state bn1.running_var is not finite after this step (bn1 (BatchNorm))" in text
    assert "scale the data" in text
