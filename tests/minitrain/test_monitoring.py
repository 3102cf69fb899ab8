"""What callbacks check before anything is touched, which values are better, and that all hear of everything."""

import math

import numpy as np
import pytest
from small_trainer import make_trainer

from minitrain import Input, Model, Trainer, layers, losses, metrics, optimizers
from minitrain.callbacks import Callback, Checkpoint, CSVLog, EarlyStopping, LambdaCallback, Monitor
from minitrain.training.trainer import NonFiniteLossError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((50, 6)).astype("float32")
Y = X[:, :3].argmax(axis=1)


def bare(outputs, targets):
    return 0.5


class Error:
    larger_is_better = False

    def __call__(self, outputs, targets):
        return 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: EarlyStopping(), r"pass validation_data"),
        (lambda d: EarlyStopping("val_accuracy"), r"pass validation_data"),
        (lambda d: EarlyStopping("los"), "monitor: expected one of loss"),
        (lambda d: EarlyStopping("bare"), "mode: expected 'min' or 'max' with monitor='bare'"),
        (lambda d: EarlyStopping("learning_rate"), "mode: expected 'min' or 'max'"),
        (lambda d: Checkpoint(d / "a/c", "bare", best_only=True), "mode: expected"),
        (lambda d: Checkpoint(d / "a/{val_loss}"), r"path: expected fields of epoch, .*, got {val_loss}"),
        (lambda d: Checkpoint(d), "expected a file to write, got the folder"),
        (lambda d: Checkpoint(d / "file" / "c"), "is not a folder"),
        (lambda d: CSVLog(d), "expected a file to write, got the folder"),
        (lambda d: CSVLog(d / "file" / "log.csv"), "is not a folder"),
        (lambda d: CSVLog(d / "file", append=True), "whose first column|its first column 'epoch'"),
    ],
)
def test_everything_is_checked_before_anything_is_touched(tmp_path, make, message):
    (tmp_path / "file").write_text("a,b\n1,2\n")
    (tmp_path / "log.csv").write_text("former")
    begun = []
    first = [CSVLog(tmp_path / "log.csv"), LambdaCallback(on_train_begin=begun.append, on_train_end=begun.append)]
    trainer = make_trainer(metrics=[metrics.accuracy, bare])
    with pytest.raises((ValueError, OSError), match=message):
        trainer.fit(X, Y, callbacks=[*first, make(tmp_path)], verbose=False)
    assert (trainer.steps, begun, sorted(path.name for path in tmp_path.iterdir())) == (0, [], ["file", "log.csv"])
    assert (tmp_path / "log.csv").read_text() == "former"


@pytest.mark.parametrize(
    "pattern", ["{}", "{0}", "{epoch.real}", "{epoch[0]}", "{epoch:s}", "{loss:d}", "{epoch", "a}b"]
)
def test_patterns_that_cannot_be_filled_in(pattern):
    with pytest.raises(ValueError, match="path: "):
        Checkpoint(pattern)


def test_patterns(tmp_path):
    callback = Checkpoint(tmp_path / "{{a}}-{epoch:03d}-{loss:.1e}")
    make_trainer().fit(X, Y, epochs=2, callbacks=[callback], verbose=False)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name[:8] for name in names] == ["{a}-001-", "{a}-002-"]
    with pytest.raises(ValueError, match=r"got \{val_loss\}"):
        Checkpoint("{val_loss}", every_steps=3)
    with pytest.raises(ValueError, match="every_steps"):
        Checkpoint("c", best_only=True, every_steps=3)


KNOWN = [metrics.accuracy, metrics.TopK(2), metrics.RocAuc(), metrics.F1()]


@pytest.mark.parametrize(("metric", "larger"), [*((each, True) for each in KNOWN), (Error(), False), (bare, None)])
def test_metrics_know_their_direction(metric, larger):
    trainer = make_trainer(metrics={"any": metric})
    assert trainer.directions() == {"loss": False, "any": larger}
    monitor = Monitor("val_any")
    if larger is None:
        with pytest.raises(ValueError, match="mode: expected"):
            monitor.begin(trainer)
        monitor = Monitor("val_any", "max")
    monitor.begin(trainer)
    assert monitor.improves({"val_any": 0.5})
    assert monitor.improves({"val_any": 0.75}) == (larger is not False)
    assert monitor.improves({"val_any": 0.25}) == (larger is False)


def test_directions_of_outputs_with_names():
    x = Input((6,))
    model = Model(x, {"a": layers.Dense(3)(x), "b": layers.Dense(1)(x)})
    trainer = Trainer(
        model, {"a": losses.SoftmaxCrossEntropy(), "b": losses.MeanSquaredError()}, optimizers.SGD(0.01),
        {"a": [metrics.RocAuc()], "b": [Error()]},
    )  # fmt: skip
    assert trainer.directions() == {
        "loss": False, "a_loss": False, "b_loss": False, "a_roc_auc": True, "b_Error": False,
    }  # fmt: skip
    y = {"a": Y, "b": X[:, :1]}
    stopping = EarlyStopping("val_a_roc_auc")
    history = trainer.fit(X, y, 3, validation_data=(X, y), callbacks=[stopping], verbose=False)
    assert stopping.best == max(history.metrics["val_a_roc_auc"])


@pytest.mark.parametrize("worst", [math.inf, math.nan, -math.inf])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_infinity_is_a_value_as_any_other(worst, mode):
    stopping, trainer = EarlyStopping("v", patience=2, mode=mode), make_trainer()
    stopping.on_train_begin(trainer)
    assert stopping.best is None
    for epoch in range(1, 4):
        stopping.on_epoch_end(trainer, epoch, {"v": worst})
    assert trainer.stop_requested
    monitor = Monitor("v", mode)
    assert monitor.improves({"v": worst}) == (worst == worst)
    is_worst = math.isnan(worst) or (worst > 0) == (mode == "min")
    assert monitor.improves({"v": 1.0}) == is_worst


def test_functions_say_it_too():
    assert metrics.accuracy.larger_is_better
    assert metrics.top_k_accuracy.larger_is_better
    assert metrics.BinaryAccuracy.larger_is_better


def test_a_monitor_alone_guesses_nothing():
    monitor = Monitor("val_spearman")
    assert monitor.improves({"val_spearman": 0.2})
    with pytest.raises(ValueError, match="mode: expected"):
        monitor.improves({"val_spearman": 0.9})
    for name, better in [("val_top_3", 1.0), ("val_class_accuracy", 1.0), ("val_f1", 1.0), ("b_loss", 0.0)]:
        monitor = Monitor(name)
        assert monitor.improves({name: 0.5})
        assert monitor.improves({name: better})


@pytest.mark.parametrize("event", ["on_train_end", "on_epoch_begin", "on_epoch_end", "on_batch_begin", "on_batch_end"])
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_all_hear_of_an_event_whatever_one_raises(event, error):
    heard = []

    def fail(*arguments):
        raise error("first")

    def fail_again(*arguments):
        raise ValueError("second")

    callbacks = [LambdaCallback(**{event: each}) for each in (fail, lambda *rest: heard.append(event), fail_again)]
    ended = LambdaCallback(on_train_end=lambda trainer: heard.append("end"))
    if error is KeyboardInterrupt and event != "on_train_end":
        assert make_trainer().fit(X, Y, callbacks=[ended, *callbacks, ended], verbose=False).interrupted
    else:
        with pytest.raises(error, match="first") as caught:
            make_trainer().fit(X, Y, callbacks=[ended, *callbacks, ended], verbose=False)
        assert any("second" in note for note in caught.value.__notes__)
    assert event in heard
    assert heard.count("end") == 2


def test_who_did_not_begin_is_not_ended():
    ended = []

    class Named(Callback):
        def __init__(self, name, fails=False):
            self.name, self.fails = name, fails

        def on_train_begin(self, trainer):
            if self.fails:
                raise RuntimeError("no")

        def on_train_end(self, trainer):
            ended.append(self.name)

    with pytest.raises(RuntimeError, match="no"):
        make_trainer().fit(X, Y, callbacks=[Named("a"), Named("b", True), Named("c")], verbose=False)
    assert ended == ["a"]


@pytest.mark.parametrize("batch_size", [7, 50])
def test_metrics_over_a_whole_set(batch_size):
    sklearn = pytest.importorskip("sklearn.metrics")
    trainer = make_trainer(metrics=[metrics.RocAuc(), metrics.F1(), metrics.accuracy])
    measured = trainer.evaluate(X, Y, batch_size)
    outputs = trainer.model.predict(X).astype("float64")
    share = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    assert list(measured) == ["loss", "roc_auc", "f1", "accuracy"]
    assert measured["roc_auc"] == pytest.approx(sklearn.roc_auc_score(Y, share, multi_class="ovr"), abs=1e-12)
    assert measured["f1"] == pytest.approx(sklearn.f1_score(Y, outputs.argmax(axis=1), average="macro"), abs=1e-12)
    history = trainer.fit(X, Y, 2, validation_data=(X, Y), verbose=False)
    assert history.metrics["val_roc_auc"][-1] == trainer.evaluate(X, Y)["roc_auc"]


@pytest.mark.parametrize("scale", [1e20, -1e21])
def test_state_that_is_not_finite_is_named(scale):
    x = Input((6,))
    model = Model(x, layers.Dense(3)(layers.BatchNorm(name="bn")(x)))
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.01))
    before = model.flat_state.tobytes(), model.flat_params.tobytes()
    with pytest.raises(NonFiniteLossError, match=r"bn\.running_var is not finite"):
        trainer.fit((scale * X).astype("float32"), Y, verbose=False)
    assert (model.flat_state.tobytes(), model.flat_params.tobytes(), trainer.steps) == (*before, 0)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_log_is_mended(tmp_path, cut):
    path, trainer = tmp_path / "log.csv", make_trainer()
    trainer.fit(X, Y, 2, verbose=False, callbacks=[CSVLog(path, append=True)])
    path.write_text(path.read_text()[:-cut])
    trainer.fit(X, Y, verbose=False, callbacks=[CSVLog(path, append=True)])
    rows = [line.split(",") for line in path.read_text().splitlines()]
    assert {len(row) for row in rows} == {len(rows[0])}
    assert [row[0] for row in rows] in (["epoch", "1", "2", "3"], ["epoch", "1", "3"])
