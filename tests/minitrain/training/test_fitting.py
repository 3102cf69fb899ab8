"""Trainer.fit: runs that can be repeated, interrupted and stopped by NaN."""

import subprocess
import sys

import numpy as np
import pytest
from numba import get_num_threads, set_num_threads
from paths import ROOT
from small_trainer import CLASSES, everything, make_trainer, small_net

from minitrain import Input, Model, Trainer, layers, losses, models, optimizers
from minitrain.data.samples import ranges
from minitrain.objective.measures import Tally
from minitrain.training.trainer import NonFiniteLossError


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 6)).astype("float32")
    return x, x[:, :CLASSES].argmax(axis=1)


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
    assert np.isnan(Tally(make_trainer().objective, {}).means()["loss"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((50, 7), "float32")}, r"x: expected shape \(samples, 6\), got \(50, 7\)"),
        ({"y": np.zeros(49, int)}, "y: expected 50 targets, one for each sample of x, got 49"),
        ({"y": 1}, "y: expected 50 targets, one for each sample of x, got a single number"),
        ({"y": np.full(50, 3)}, "labels from 0 to 2, got 3"),
        ({"x": np.zeros((0, 6)), "y": np.zeros(0, int)}, "x: expected at least one sample"),
        ({"batch_size": 0}, "batch_size: expected an integer >= 1, got 0"),
        ({"epochs": -1}, "epochs: expected an integer >= 0, got -1"),
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
        ({"epochs": 1.5}, "epochs: expected an integer, got 1.5"),
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
    monkeypatch.setattr("minitrain.terminal.progress.REFRESH_SECONDS", 0.0)
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
