"""Callbacks: when they are called, and those that come with minitrain (checkpoints have tests of their own)."""

import csv

import numpy as np
import pytest
from small_fits import everything, make_trainer, scripted, small_data

from minitrain.callbacks import Callback, CSVLog, EarlyStopping, LambdaCallback
from minitrain.training.trainer import NonFiniteLossError


@pytest.fixture
def data():
    return small_data()


class Recorder(Callback):
    def __init__(self):
        self.events = []

    def __getattribute__(self, name):
        if name.startswith("on_"):
            return lambda trainer, *rest: self.events.append((name.removeprefix("on_"), *rest[:1]))
        return super().__getattribute__(name)


def test_order_of_events(data):
    recorder = Recorder()
    make_trainer().fit(*data, epochs=2, batch_size=30, callbacks=[recorder], verbose=False)

    def epoch(number):
        batches = [(f"batch_{when}", batch) for batch in (0, 1) for when in ("begin", "end")]
        return [("epoch_begin", number), *batches, ("epoch_end", number)]

    assert recorder.events == [("train_begin",), *epoch(1), *epoch(2), ("train_end",)]


def test_lambda_callback(data):
    seen = []
    callback = LambdaCallback(on_batch_end=lambda trainer, batch, loss: seen.append((batch, loss)))
    make_trainer().fit(*data, batch_size=25, callbacks=[callback], verbose=False)
    assert [batch for batch, _ in seen] == [0, 1]
    with pytest.raises(TypeError, match="on_step: expected one of on_train_begin"):
        LambdaCallback(on_step=print)


def test_early_stopping_restores_the_best_epoch(data):
    trainer, kept = make_trainer(), {}
    scripted(trainer, [1.0, 0.5, 0.7, float("nan"), 0.6, 0.1])
    keep = LambdaCallback(on_epoch_end=lambda trainer, epoch, values: kept.update({epoch: everything(trainer)[:2]}))
    stopping = EarlyStopping(patience=3)
    history = trainer.fit(*data, epochs=9, validation_data=data, callbacks=[keep, stopping], verbose=False)
    assert history.epochs == [1, 2, 3, 4, 5]
    assert (stopping.best, stopping.best_epoch) == (0.5, 2)
    assert everything(trainer)[:2] == kept[2] != kept[5]


def test_early_stopping_options(data):
    trainer = make_trainer()
    scripted(trainer, [1.0, 0.95, 0.93, 0.8])
    stopping = EarlyStopping(patience=2, min_delta=0.1, restore_best=False)
    assert trainer.fit(*data, epochs=9, validation_data=data, callbacks=[stopping], verbose=False).epochs == [1, 2, 3]
    rising = EarlyStopping("accuracy", patience=1)
    history = make_trainer().fit(*data, epochs=3, callbacks=[rising], verbose=False)
    assert rising.best == max(history.metrics["accuracy"])
    with pytest.raises(ValueError, match=r"monitor: expected one of loss, .* got 'val_loss'; pass validation_data"):
        make_trainer().fit(*data, callbacks=[EarlyStopping()], verbose=False)
    with pytest.raises(ValueError, match="patience"):
        EarlyStopping(patience=0)
    with pytest.raises(ValueError, match="mode: expected"):
        EarlyStopping(mode="best")


def test_early_stopping_restores_after_nan_too(data):
    trainer = make_trainer()
    stopping = EarlyStopping("loss")
    kept = []

    def spoil(trainer, epoch, values):
        kept.append(trainer.model.flat_params.copy())
        if epoch == 2:
            trainer.model.params["head.weight"][...] = np.nan

    with pytest.raises(NonFiniteLossError):
        trainer.fit(*data, epochs=5, callbacks=[stopping, LambdaCallback(on_epoch_end=spoil)], verbose=False)
    assert stopping.best_epoch == 2
    assert np.array_equal(trainer.model.flat_params, kept[1])


def test_keyboard_interrupt_from_a_callback_ends_the_fit(data):
    def interrupt(trainer, batch, loss):
        if trainer.steps == 3:
            raise KeyboardInterrupt

    trainer, recorder = make_trainer(), Recorder()
    callbacks = [recorder, LambdaCallback(on_batch_end=interrupt)]
    history = trainer.fit(*data, epochs=9, batch_size=25, validation_data=data, callbacks=callbacks, verbose=False)
    assert (history.interrupted, history.partial_epoch, history.epochs) == (True, 2, [1, 2])
    assert recorder.events[-1] == ("train_end",)
    assert np.isnan(history.metrics["val_loss"][1])
    assert np.isfinite(history.metrics["loss"][1])
    twin = make_trainer()
    twin.fit(*data, epochs=1, batch_size=25, verbose=False)
    assert trainer.steps == twin.steps + 1
    assert trainer.epoch == twin.epoch == 1


def test_csv_log_has_a_row_as_soon_as_an_epoch_ends(data, tmp_path):
    path = tmp_path / "logs" / "run.csv"
    rows = []

    def read(trainer, epoch, values):
        rows.append(list(csv.DictReader(path.open())))

    trainer = make_trainer()
    trainer.fit(*data, epochs=2, callbacks=[CSVLog(path), LambdaCallback(on_epoch_end=read)], verbose=False)
    assert [len(each) for each in rows] == [1, 2]
    assert float(rows[1][1]["loss"]) == trainer.history.metrics["loss"][1]
    trainer.fit(*data, epochs=1, callbacks=[CSVLog(path, append=True)], verbose=False)
    assert [row["epoch"] for row in csv.DictReader(path.open())] == ["1", "2", "3"]
    trainer.fit(*data, epochs=1, callbacks=[CSVLog(path)], verbose=False)
    assert [row["epoch"] for row in csv.DictReader(path.open())] == ["4"]
