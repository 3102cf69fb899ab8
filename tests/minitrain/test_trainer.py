"""Trainer: steps, gradients, evaluation, fits that can be repeated, interrupted and stopped by NaN."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numba import get_num_threads, set_num_threads

from minitrain import Input, Model, Trainer, layers, losses, metrics, models, optimizers, schedules
from minitrain.batches import Tally, ranges
from minitrain.trainer import NonFiniteLossError

ROOT = Path(__file__).parents[2]
CLASSES = 3


def small_net(seed=0, dtype="float32", dropout=False):
    """Dense, norm, ReLU, (dropout,) dense: state, randomness, and few kernels."""
    x = Input((6,))
    h = layers.ReLU(name="relu")(layers.BatchNorm(name="bn")(layers.Dense(8, name="dense")(x)))
    if dropout:
        h = layers.Dropout(0.3, name="dropout")(h)
    return Model(x, layers.Dense(CLASSES, name="head")(h), seed=seed, dtype=dtype)


def make_trainer(model=None, optimizer=None, **options):
    optimizer = optimizer or optimizers.Adam(schedules.Cosine(0.01, 40))
    return Trainer(model or small_net(), losses.SoftmaxCrossEntropy(), optimizer, **options)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 6)).astype("float32")
    return x, x[:, :CLASSES].argmax(axis=1)


def everything(trainer):
    model = trainer.model
    return [model.flat_params.tobytes(), model.flat_state.tobytes(), *(s.tobytes() for s in trainer.slots.values())]


# --------------------------------------------------------------------------------------------------------- single steps


def test_step_updates_and_returns_the_loss_before(data):
    x, y = data
    trainer = make_trainer()
    expected, _ = trainer.gradients(x, y)
    before = everything(trainer)
    assert trainer.step(x, y) == expected
    assert trainer.steps == 1
    assert all(a != b for a, b in zip(before, everything(trainer), strict=True))


def test_gradients_change_nothing_and_are_copies(data):
    x, y = data
    trainer = make_trainer(small_net(dropout=True))
    before = everything(trainer)
    loss, gradients = trainer.gradients(x, y)
    again, same = trainer.gradients(x, y)
    assert everything(trainer) == before
    assert loss == again
    assert list(gradients) == list(trainer.model.params)
    for name, gradient in gradients.items():
        assert np.array_equal(gradient, same[name])
        assert not np.shares_memory(gradient, trainer.model.flat_gradients)


def test_gradients_match_central_differences(data):
    x, y = data
    model = small_net(dtype="float64")
    trainer = make_trainer(model)
    _, gradients = trainer.gradients(x, y)
    for name, index in (("dense.weight", (2, 3)), ("bn.gamma", (4,)), ("head.bias", (1,))):
        around = []
        value = model.params[name][index]
        for step in (1e-5, -1e-5):
            model.params[name][index] = value + step
            around.append(trainer.gradients(x, y)[0])
        model.params[name][index] = value
        assert gradients[name][index] == pytest.approx((around[0] - around[1]) / 2e-5, abs=1e-8)


def test_step_takes_lists_integers_and_other_dtypes():
    trainer = make_trainer()
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, (4, 6))
    expected = make_trainer().step(x.astype("float32"), [0, 1, 2, 0])
    assert trainer.step(x, np.array([0, 1, 2, 0], np.uint8)) == expected


def test_several_inputs(data):
    x, y = data
    a, b = Input((2,), name="a"), Input((4,), name="b")
    h = layers.Concat()(layers.Dense(4, name="one")(a), layers.Dense(4, name="two")(b))
    model = Model((a, b), layers.Dense(CLASSES, name="head")(layers.ReLU()(h)))
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1))
    parts = (x[:, :2], x[:, 2:])
    history = trainer.fit(parts, y, epochs=3, batch_size=16, validation_data=(parts, y), verbose=False)
    assert history.metrics["loss"][2] < history.metrics["loss"][0]
    assert trainer.evaluate(parts, y)["loss"] == history.metrics["val_loss"][2]


def test_steady_state_allocates_next_to_nothing():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4096, 32)).astype("float32"), rng.integers(0, 10, 4096)
    trainer = make_trainer(models.mlp((32,), hidden=(64, 64)))
    for _ in range(2):
        trainer.step(x, y)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(3):
            trainer.step(x, y)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < 64_000  # checks of the labels; a single activation has 1 MB


# ----------------------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("batch_size", [1, 7, 50, 256])
def test_evaluate_weights_batches_by_their_size(data, batch_size):
    x, y = data
    trainer = make_trainer()
    outputs = trainer.model.predict(x)
    measured = trainer.evaluate(x, y, batch_size)
    assert measured["loss"] == pytest.approx(trainer.loss(outputs, trainer.loss.targets(y, outputs.shape)), rel=1e-5)
    assert measured["accuracy"] == pytest.approx(np.mean(outputs.argmax(axis=1) == y))


def test_metrics_can_be_chosen(data):
    x, y = data
    assert list(make_trainer(metrics=()).evaluate(x, y)) == ["loss"]
    assert list(make_trainer(metrics=[metrics.TopK(2)]).evaluate(x, y)) == ["loss", "top_2"]
    assert list(make_trainer(metrics={"right": metrics.accuracy}).evaluate(x, y)) == ["loss", "right"]
    x1 = Input((6,))
    regression = Model(x1, layers.Dense(1, name="head")(x1))
    assert list(Trainer(regression, losses.MeanSquaredError(), optimizers.SGD()).metrics) == []
    with pytest.raises(TypeError, match="metrics: expected callables"):
        make_trainer(metrics={"loss": metrics.accuracy})


# ------------------------------------------------------------------------------------------------------------------ fit


def test_fit_learns_and_records(data):
    x, y = data
    trainer = make_trainer()
    history = trainer.fit(x, y, epochs=4, batch_size=16, validation_data=(x, y), verbose=False)
    assert history.epochs == [1, 2, 3, 4]
    assert not history.interrupted
    assert trainer.history is history
    names = ["loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds", "images_per_second"]
    assert list(history.metrics) == names
    assert all(len(series) == 4 and np.isfinite(series).all() for series in history.metrics.values())
    assert history.metrics["loss"][3] < history.metrics["loss"][0]
    assert trainer.steps == 16
    assert history.metrics["learning_rate"] == [trainer.optimizer.learning_rate_at(step) for step in (3, 7, 11, 15)]
    assert trainer.evaluate(x, y)["loss"] == history.metrics["val_loss"][-1]


def test_training_loss_is_the_mean_over_the_steps(data):
    x, y = data
    trainer, twin = make_trainer(), make_trainer()
    history = trainer.fit(x, y, batch_size=20, shuffle=False, verbose=False)
    steps = [twin.step(x[start : start + 20], y[start : start + 20]) for start in (0, 20, 40)]
    assert history.metrics["loss"][0] == pytest.approx(np.average(steps, weights=[20, 20, 10]), rel=1e-12)
    assert everything(trainer) == everything(twin)


def test_same_seed_same_bits(data):
    x, y = data
    results, most = [], get_num_threads()
    for threads in (1, most, most):
        set_num_threads(threads)
        trainer = make_trainer(small_net(dropout=True))
        trainer.fit(x, y, epochs=2, batch_size=16, verbose=False)
        results.append(everything(trainer))
    assert results[0] == results[1] == results[2]
    other = make_trainer(small_net(dropout=True))
    other.fit(x, y, epochs=2, batch_size=16, seed=1, verbose=False)
    assert everything(other) != results[0]


def test_convolutions_give_the_same_bits_on_any_number_of_threads():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((80, 1, 8, 8)).astype("float32"), rng.integers(0, 10, 80)
    results, most = [], get_num_threads()
    for threads in (1, most):
        set_num_threads(threads)
        trainer = make_trainer(models.lenet((1, 8, 8)))
        trainer.fit(x, y, epochs=2, batch_size=32, verbose=False)
        results.append(everything(trainer))
    assert results[0] == results[1]


def test_two_fits_are_one_long_fit(data):
    x, y = data
    long, short = make_trainer(), make_trainer()
    long.fit(x, y, epochs=3, batch_size=16, verbose=False)
    short.fit(x, y, epochs=1, batch_size=16, verbose=False)
    history = short.fit(x, y, epochs=2, batch_size=16, verbose=False)
    assert history.epochs == [2, 3]
    assert everything(long) == everything(short)


def test_every_epoch_sees_every_sample_once_in_its_own_order():
    seen = []

    class Spy(losses.MeanSquaredError):
        def __call__(self, outputs, targets, gradient=None):
            seen.extend(targets[:, 0].tolist())
            return super().__call__(outputs, targets, gradient)

    x1 = Input((1,))
    trainer = Trainer(Model(x1, layers.Dense(1, name="head")(x1)), Spy(), optimizers.SGD(0.0))
    x = np.arange(10, dtype="float32")[:, None]
    trainer.fit(x, x, epochs=2, batch_size=4, verbose=False)
    first, second = seen[:10], seen[10:]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


@pytest.mark.parametrize(
    ("samples", "batch_size", "join", "expected"),
    [
        (10, 4, False, [(0, 4), (4, 8), (8, 10)]),
        (8, 4, True, [(0, 4), (4, 8)]),
        (9, 4, False, [(0, 4), (4, 8), (8, 9)]),
        (9, 4, True, [(0, 4), (4, 9)]),
        (1, 4, True, [(0, 1)]),
        (3, 100, True, [(0, 3)]),
        (2, 1, True, [(0, 2)]),
    ],
)
def test_ranges(samples, batch_size, join, expected):
    assert ranges(samples, batch_size, join) == expected


def test_last_single_sample_joins_the_batch_before_where_the_norm_needs_two(data):
    x, y = data
    trainer = make_trainer()
    trainer.fit(x[:33], y[:33], batch_size=16, verbose=False)
    assert trainer.steps == 2  # 16 and 17
    x1 = Input((6,))
    without = make_trainer(Model(x1, layers.Dense(CLASSES, name="head")(x1)))
    without.fit(x[:33], y[:33], batch_size=16, verbose=False)
    assert without.steps == 3
    with pytest.raises(ValueError, match="two or more values per channel"):
        make_trainer().fit(x[:1], y[:1], verbose=False)


def test_tally_of_nothing_is_nan():
    assert np.isnan(Tally({}).means()["loss"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((50, 7), "float32")}, r"x: expected shape \(samples, 6\), got \(50, 7\)"),
        ({"y": np.zeros(49, int)}, "y: expected 50 targets, one for each sample of x, got 49"),
        ({"y": 1}, "y: expected 50 targets, one for each sample of x, got a single number"),
        ({"y": np.full(50, 3)}, "labels from 0 to 2, got 3"),
        ({"x": np.zeros((0, 6)), "y": np.zeros(0, int)}, "x: expected at least one sample"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"epochs": -1}, "epochs: expected an integer of at least 0, got -1"),
        ({"epochs": 1.5}, "epochs: expected an integer"),
        ({"validation_data": (np.zeros((5, 6)), np.zeros(4, int))}, "validation_data: y: expected 5 targets"),
        ({"validation_data": 3}, "validation_data: expected a pair"),
        ({"verbose": "yes"}, "verbose: expected 'auto', True or False, got 'yes'"),
    ],
)
def test_wrong_arguments_are_named(data, change, message):
    arguments = {"x": data[0], "y": data[1], "verbose": False, **change}
    trainer = make_trainer()
    before = everything(trainer)
    with pytest.raises(ValueError, match=message):
        trainer.fit(**arguments)
    assert everything(trainer) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.full((50, 6), "a")}, "x: expected numbers"),
        ({"y": np.zeros(50)}, "integer labels"),
        ({"batch_size": 2.5}, "batch_size: expected an integer, got 2.5"),
        ({"callbacks": [print]}, "callbacks: expected Callback objects"),
    ],
)
def test_wrong_types_are_named(data, change, message):
    with pytest.raises(TypeError, match=message):
        make_trainer().fit(**{"x": data[0], "y": data[1], "verbose": False, **change})


def test_trainer_wants_a_model_a_loss_and_an_optimizer():
    with pytest.raises(TypeError, match="loss: expected a Loss, got 'mse'"):
        Trainer(small_net(), "mse", optimizers.SGD())
    with pytest.raises(TypeError, match="optimizer: expected a Optimizer"):
        Trainer(small_net(), losses.SoftmaxCrossEntropy(), optimizers.SGD)


def test_a_line_for_each_epoch_off_the_terminal(data, capsys):
    make_trainer().fit(*data, epochs=2, validation_data=data)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/2  loss ")
    assert "val_accuracy" in lines[1]
    assert "images/s" in lines[1]


def test_live_bar_draws_and_leaves_a_line_for_each_epoch(data, capsys, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("minitrain.progress.REFRESH_SECONDS", 0.0)
    make_trainer().fit(*data, epochs=2, batch_size=16)
    text = capsys.readouterr().out
    assert text.count("epoch 1/2  loss") == 1
    assert text.count("epoch 2/2  loss") == 1


# ------------------------------------------------------------------------------------------------------- NaN and Ctrl-C


def test_nan_stops_before_anything_changes_and_names_the_layer(data):
    x, y = data
    trainer = make_trainer()
    trainer.step(x, y)
    trainer.model.params["dense.weight"][0, 0] = np.finfo("float32").max
    before = everything(trainer)
    with pytest.raises(NonFiniteLossError, match=r"step 1: .*\bdense is the first layer whose output is not finite"):
        trainer.step(10 * x, y)
    assert everything(trainer) == before
    assert trainer.steps == 1


def test_nan_parameter_and_nan_data_are_named(data):
    x, y = data
    trainer = make_trainer()
    trainer.model.params["head.bias"][1] = np.nan
    with pytest.raises(NonFiniteLossError, match=r"the parameter head\.bias is not finite"):
        trainer.step(x, y)
    x[3, 2] = np.nan
    trainer = make_trainer()
    with pytest.raises(ArithmeticError, match="the data of input are not finite"):
        trainer.fit(x, y, verbose=False)
    assert trainer.steps < 2


def test_gradient_that_is_not_finite_stops_too():
    class Overflow(losses.SoftmaxCrossEntropy):
        def __call__(self, outputs, targets, gradient=None):
            loss = super().__call__(outputs, targets, gradient)
            if gradient is not None:
                gradient[0, 0] = np.inf
            return loss

    trainer = Trainer(small_net(), Overflow(), optimizers.SGD(0.1))
    before = everything(trainer)
    with pytest.raises(NonFiniteLossError, match=r"the gradient of \S+ is not finite"):
        trainer.step(np.ones((4, 6)), [0, 1, 2, 0])
    assert everything(trainer) == before


def test_diverging_fit_stops_with_advice(data):
    x, y = data
    x1 = Input((6,))
    model = Model(x1, layers.Dense(1, name="head")(x1))
    trainer = Trainer(model, losses.MeanSquaredError(), optimizers.SGD(1e6))
    with pytest.raises(NonFiniteLossError, match="try a learning rate below 1e\\+06"):
        trainer.fit(x, y.astype("float32"), epochs=50, verbose=False)
    assert trainer.steps < 50


INTERRUPTED = """
import os, signal, sys
import numpy as np
from minitrain import Trainer, losses, models, optimizers
from minitrain.callbacks import Callback

class PressKeys(Callback):
    def on_batch_begin(self, trainer, batch):
        if trainer.steps == 5:
            os.kill(os.getpid(), signal.SIGINT)
    def on_train_end(self, trainer):
        print("ended after", trainer.steps)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with Ctrl-C ignored
rng = np.random.default_rng(0)
x, y = rng.standard_normal((64, 6)).astype("float32"), rng.integers(0, 3, 64)
model = models.mlp((6,), 3, hidden=(8,))
trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.Adam(0.01))
history = trainer.fit(x, y, epochs=100, batch_size=16, callbacks=[PressKeys()], verbose=False)
print(history.interrupted, history.partial_epoch, history.epochs, trainer.epoch)
signal.raise_signal(signal.SIGINT)
"""


def test_ctrl_c_finishes_the_step_and_keeps_the_rest():
    result = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert result.stdout.splitlines() == ["ended after 6", "True 2 [1, 2] 1"], result.stderr
    assert "KeyboardInterrupt" in result.stderr  # Python's own handler is back after fit
