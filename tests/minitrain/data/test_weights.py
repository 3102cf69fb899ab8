"""Weights of samples and classes: what they do to losses, gradients, metrics and whole trainings."""

import numpy as np
import pytest
from small_trainer import everything

from minitrain import Input, Model, Trainer, layers, losses, metrics, models, optimizers
from minitrain.losses import Loss

CE = losses.SoftmaxCrossEntropy()
rng = np.random.default_rng(0)
X = rng.standard_normal((40, 4)).astype("float32")
Y = rng.integers(0, 3, 40)
W = rng.uniform(0.1, 3.0, 40)


def trainer_of(loss=CE, outputs=3, rate=0.1, norm=None, **options):
    dtype = "float64" if norm is None else "float32"
    model = models.mlp((4,), outputs, hidden=(8,), norm=norm, seed=0, dtype=dtype)
    return Trainer(model, loss, optimizers.SGD(rate), **options)


def targets_of(loss):
    if isinstance(loss, losses.SoftmaxCrossEntropy):
        return Y, 3
    if isinstance(loss, losses.BinaryCrossEntropy):
        return (Y == 1).astype(float)[:, None], 1
    return X[:, :2] * 2.0, 2


class Absolute(Loss):
    """A user's loss."""

    def targets(self, targets, output_shape):
        return np.asarray(targets, np.float64).reshape(output_shape)

    def __call__(self, outputs, targets, gradient=None):
        if gradient is not None:
            gradient[...] = np.sign(outputs - targets) / outputs.size
        return float(np.abs(outputs - targets).mean())


ALL = [CE, losses.SoftmaxCrossEntropy(0.1), losses.MeanSquaredError(), losses.BinaryCrossEntropy(from_logits=True),
       Absolute()]  # fmt: skip


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_the_loss_of_a_batch_is_the_mean_of_those_of_its_samples(loss):
    y, outputs = targets_of(loss)
    values = rng.standard_normal((40, outputs)).astype("float32")
    ready = loss.targets(y, values.shape)
    each = loss.per_sample(values, ready)
    assert each.shape == (40,)
    assert each.dtype == np.float64
    assert each.mean() == pytest.approx(loss(values, ready), rel=1e-5)


def test_probabilities_of_zero_and_one_have_bounded_losses_like_the_batch():
    loss, p = losses.BinaryCrossEntropy(), np.array([[0.0], [1.0], [0.0], [1.0], [0.3]])
    y = np.array([[0.0], [1.0], [1.0], [0.0], [1.0]])
    assert loss.per_sample(p, y).mean() == pytest.approx(loss(p, y), rel=1e-12)
    assert np.isnan(loss.per_sample(np.array([[1.5]]), np.array([[1.0]]))).all()


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_whole_weights_are_repetitions(loss):
    y, outputs = targets_of(loss)
    times = rng.integers(0, 4, 40)
    weighted, repeated = trainer_of(loss, outputs), trainer_of(loss, outputs)
    value, gradients = weighted.gradients(X, y, sample_weight=times * 0.7)
    wanted, expected = repeated.gradients(np.repeat(X, times, axis=0), np.repeat(y, times, axis=0))
    assert value == pytest.approx(wanted, rel=1e-12)
    for name, each in gradients.items():
        np.testing.assert_allclose(each, expected[name], rtol=1e-9, atol=1e-14)
    measured = weighted.evaluate(X, y, 7, sample_weight=times)
    assert measured == pytest.approx(repeated.evaluate(np.repeat(X, times, 0), np.repeat(y, times, 0)), rel=1e-9)
    weighted.fit(X, y, epochs=3, batch_size=400, sample_weight=times, verbose=False)
    repeated.fit(np.repeat(X, times, 0), np.repeat(y, times, 0), epochs=3, batch_size=400, verbose=False)
    np.testing.assert_allclose(weighted.model.flat_params, repeated.model.flat_params, rtol=1e-9, atol=1e-12)
    assert weighted.history.metrics["loss"] == pytest.approx(repeated.history.metrics["loss"], rel=1e-9)


def test_gradients_against_torch():
    torch = pytest.importorskip("torch")
    trainer = trainer_of()
    p = {name: torch.tensor(np.array(each), requires_grad=True) for name, each in trainer.model.params.items()}
    value, gradients = trainer.gradients(X, Y, sample_weight=W)
    (first, second) = sorted({name.partition(".")[0] for name in p})
    x = torch.tensor(X, dtype=torch.float64)
    h = torch.relu(x @ p[f"{first}.weight"].T + p[f"{first}.bias"])
    z = h @ p[f"{second}.weight"].T + p[f"{second}.bias"]
    each = torch.nn.functional.cross_entropy(z, torch.tensor(Y), reduction="none")
    loss = (torch.tensor(W) * each).sum() / W.sum()
    loss.backward()
    assert value == pytest.approx(loss.item(), rel=1e-12)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, p[name].grad.numpy(), rtol=1e-8, atol=1e-14)
    # Weights of classes over the whole set are those of torch's loss.
    weights = torch.tensor([1.0, 5.0, 0.5], dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(z, torch.tensor(Y), weight=weights).item()
    trainer.fit(X, Y, batch_size=40, class_weight={1: 5, 2: np.float32(0.5)}, verbose=False)
    assert trainer.history.metrics["loss"][0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("norm", [None, "before"])
def test_weights_that_are_all_the_same_change_nothing(norm):
    plain, weighted = trainer_of(norm=norm), trainer_of(norm=norm)
    plain.fit(X, Y, epochs=3, batch_size=16, verbose=False, validation_data=(X, Y))
    weighted.fit(X, Y, epochs=3, batch_size=16, verbose=False, validation_data=(X, Y, W * 0 + 1e-3),
                 sample_weight=np.full(40, 7e200))  # fmt: skip
    close = 1e-9 if norm is None else 1e-4
    np.testing.assert_allclose(weighted.model.flat_params, plain.model.flat_params, rtol=close, atol=close / 10)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert weighted.history.metrics[name] == pytest.approx(plain.history.metrics[name], rel=close)


@pytest.mark.parametrize("norm", [None, "before"])
def test_weight_zero_leaves_a_sample_out_of_a_fit_to_the_bit(norm):
    """Also from the statistics of batch norm; its target may be anything."""
    present = W > 1.0
    y = np.where(present, Y, -1)
    without, with_zeros = trainer_of(norm=norm), trainer_of(norm=norm)
    without.fit(X[present], Y[present], epochs=2, batch_size=8, verbose=False, sample_weight=W[present])
    with_zeros.fit(X, y, epochs=2, batch_size=8, verbose=False, sample_weight=W * present)
    assert everything(without) == everything(with_zeros)


def test_weight_zero_in_a_step_has_no_loss_and_no_gradient():
    x, y = X.copy(), X[:, :1].copy()
    x[0], y[0] = 1e9, np.nan
    weights = np.ones(40)
    weights[0] = 0.0
    a, b = trainer_of(losses.MeanSquaredError(), 1), trainer_of(losses.MeanSquaredError(), 1)
    assert a.step(x, y, sample_weight=weights) == pytest.approx(b.step(x[1:], y[1:]), rel=1e-12)
    np.testing.assert_allclose(a.model.flat_params, b.model.flat_params, rtol=1e-9)


def test_the_expected_gradient_of_a_batch_is_that_of_the_set():
    """Batches of one: the mean of their losses' gradients is the gradient of the set's weighted mean."""
    trainer, rate = trainer_of(rate=1e-6), 1e-6
    _, expected = trainer.gradients(X, Y, sample_weight=W)
    before = trainer.model.flat_params.copy()
    trainer.fit(X, Y, batch_size=1, sample_weight=W, verbose=False)
    moved = (before - trainer.model.flat_params) / (40 * rate)
    trainer.model.flat_params = moved
    for name, each in trainer.model.params.items():
        np.testing.assert_allclose(each, expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("metric", [metrics.accuracy, metrics.TopK(2), lambda o, t: float((o.argmax(1) == t).mean())])
def test_metrics_are_weighted(metric):
    trainer = trainer_of(metrics={"m": metric})
    weights = rng.integers(0, 3, 40).astype(float)
    weights[3] = 0.5
    got = trainer.evaluate(X, Y, 11, sample_weight=weights)["m"]
    outputs = trainer.model.predict(X)
    each = [metric(outputs[n : n + 1], Y[n : n + 1]) for n in range(40)]
    assert got == pytest.approx(np.average(each, weights=weights), rel=1e-12)


def test_metrics_of_whole_sets_leave_out_what_is_absent():
    trainer = trainer_of(losses.BinaryCrossEntropy(from_logits=True), 1, metrics=[metrics.RocAuc()])
    y, present = Y == 1, W > 1.0
    got = trainer.evaluate(X, y, 9, sample_weight=present)
    assert got == pytest.approx(trainer.evaluate(X[present], y[present]), rel=1e-12)


def test_balanced_classes_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.utils.class_weight")
    factors = sklearn.compute_sample_weight("balanced", Y)
    a, b = trainer_of(), trainer_of()
    a.fit(X, Y, epochs=2, class_weight="balanced", verbose=False)
    b.fit(X, Y, epochs=2, sample_weight=factors, verbose=False)
    np.testing.assert_allclose(a.model.flat_params, b.model.flat_params, rtol=1e-12)
    one_hot = trainer_of()
    one_hot.fit(X, np.eye(3)[Y], epochs=2, class_weight="balanced", verbose=False)
    np.testing.assert_allclose(one_hot.model.flat_params, a.model.flat_params, rtol=1e-9)


def test_balanced_counts_weights_as_repetitions():
    times = rng.integers(0, 3, 40)
    a, b = trainer_of(), trainer_of()
    a.fit(X, Y, batch_size=100, class_weight="balanced", sample_weight=times, verbose=False)
    b.fit(np.repeat(X, times, 0), np.repeat(Y, times), batch_size=100, class_weight="balanced", verbose=False)
    np.testing.assert_allclose(a.model.flat_params, b.model.flat_params, rtol=1e-9, atol=1e-12)


def test_classes_of_a_single_output():
    a, b = (trainer_of(losses.BinaryCrossEntropy(from_logits=True), 1) for _ in range(2))
    a.fit(X, Y == 1, class_weight={False: 1, True: 4.0}, verbose=False)
    b.fit(X, Y == 1, sample_weight=np.where(Y == 1, 4.0, 1.0), verbose=False)
    np.testing.assert_allclose(a.model.flat_params, b.model.flat_params, rtol=1e-12)


# ------------------------------------------------------------------------------------------------------ several losses


def two_outputs(**options):
    x = Input((4,))
    h = layers.ReLU()(layers.Dense(8)(x))
    model = Model(x, {"kind": layers.Dense(3)(h), "size": layers.Dense(1)(h)}, seed=0, dtype="float64")
    return Trainer(model, {"kind": CE, "size": losses.MeanSquaredError()}, optimizers.SGD(0.1), **options)


def test_each_loss_has_weights_of_its_own():
    trainer = two_outputs(loss_weights={"size": 0.5})
    size = X.sum(axis=1)
    labelled = W > 1.0
    y = {"kind": np.where(labelled, Y, -7), "size": size}
    got = trainer.evaluate(X, y, 9, sample_weight={"kind": labelled * W})
    kind = two_outputs().evaluate(X[labelled], {"kind": Y[labelled], "size": size[labelled]},
                                  sample_weight=W[labelled])  # fmt: skip
    whole = two_outputs().evaluate(X, {"kind": Y, "size": size})
    assert got["kind_loss"] == pytest.approx(kind["kind_loss"], rel=1e-12)
    assert got["kind_accuracy"] == pytest.approx(kind["kind_accuracy"], rel=1e-12)
    assert got["size_loss"] == pytest.approx(whole["size_loss"], rel=1e-12)
    assert got["loss"] == pytest.approx(got["kind_loss"] + 0.5 * got["size_loss"], rel=1e-12)
    trainer.fit(X, y, batch_size=40, sample_weight={"kind": labelled * W}, verbose=False)
    assert trainer.history.metrics["loss"][0] == pytest.approx(got["loss"], rel=1e-12)


def test_one_array_is_for_all_losses_and_classes_are_by_output():
    trainer, twin = two_outputs(), two_outputs()
    y = {"kind": Y, "size": X[:, 0]}
    trainer.fit(X, y, sample_weight=W, class_weight={"kind": "balanced"}, verbose=False)
    counts = np.bincount(Y, W, 3)
    factors = W.sum() / (3 * counts)
    twin.fit(X, y, sample_weight={"kind": W * factors[Y], "size": W}, verbose=False)
    np.testing.assert_allclose(trainer.model.flat_params, twin.model.flat_params, rtol=1e-12)


# ------------------------------------------------------------------------------------------------------------- errors


WRONG = [
    (np.ones(39), "40 weights"), (np.ones((40, 2)), "40 weights"), (-W, "at least 0"), (W * np.nan, "nan for sample 0"),
    (np.full(40, np.inf), "finite"), (np.zeros(40), "0 for all"), (["a"] * 40, "strings"), (2.0, "40 weights"),
    ({"kind": W}, "one array"), (W + 1j, "complex"),
]  # fmt: skip


@pytest.mark.parametrize(("weights", "words"), WRONG)
def test_what_is_no_weight_is_refused_before_anything_is_trained(weights, words):
    trainer = trainer_of()
    for call in (lambda: trainer.fit(X, Y, sample_weight=weights, verbose=False),
                 lambda: trainer.evaluate(X, Y, sample_weight=weights),
                 lambda: trainer.step(X, Y, sample_weight=weights)):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match="sample_weight") as error:
            call()
        assert words in str(error.value)
    assert trainer.steps == 0
    with pytest.raises((ValueError, TypeError), match="validation_data: sample_weight"):
        trainer.fit(X, Y, validation_data=(X, Y, weights), verbose=False)


@pytest.mark.parametrize(
    ("given", "words"),
    [("balance", "'balanced'"), ({3: 1.0}, "0 to 2"), ({-1: 1.0}, "0 to 2"), ({0: -1.0}, ">= 0"), ({"a": 1.0}, "'a'"),
     ([1.0, 2.0, 3.0], "a list"), ({0: "1"}, "a number"), ({0: 0, 1: 0, 2: 0}, "above 0")],
)  # fmt: skip
def test_what_is_no_weight_of_classes_is_refused(given, words):
    with pytest.raises((ValueError, TypeError), match="class_weight") as error:
        trainer_of().fit(X, Y, class_weight=given, verbose=False)
    assert words in str(error.value)


def test_numbers_have_no_classes():
    with pytest.raises(ValueError, match="MeanSquaredError is no loss of classes"):
        trainer_of(losses.MeanSquaredError(), 1).fit(X, X[:, 0], class_weight="balanced", verbose=False)
    with pytest.raises(TypeError, match="by output"):
        two_outputs().fit(X, {"kind": Y, "size": X[:, 0]}, class_weight="balanced", verbose=False)
    with pytest.raises(ValueError, match="kind, size"):
        two_outputs().fit(X, {"kind": Y, "size": X[:, 0]}, sample_weight={"other": W}, verbose=False)


def test_a_loss_that_is_no_mean_over_samples_is_refused():
    class Largest(Absolute):
        def __call__(self, outputs, targets, gradient=None):
            if gradient is not None:
                gradient[...] = 0.0
            return float(np.abs(outputs - targets).max())

    with pytest.raises(ValueError, match="mean of the samples' losses"):
        trainer_of(Largest(), 2).step(X, X[:, :2], sample_weight=W)
