"""Callbacks, checkpoints, history."""

import csv

import numpy as np
import pytest

from minitrain import Model, Trainer, losses, models, optimizers, schedules
from minitrain.callbacks import Callback, Checkpoint, CSVLog, EarlyStopping, LambdaCallback
from minitrain.checkpoint import load_checkpoint, restore, save_checkpoint
from minitrain.files import replacing, write_text
from minitrain.training.history import History
from minitrain.training.trainer import NonFiniteLossError


def make_trainer(seed=0, optimizer=None):
    model = models.mlp((6,), 3, hidden=(8,), seed=seed)
    return Trainer(model, losses.SoftmaxCrossEntropy(), optimizer or optimizers.Adam(schedules.Cosine(0.01, 40)))


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 6)).astype("float32")
    return x, x[:, :3].argmax(axis=1)


def everything(trainer):
    model = trainer.model
    return [model.flat_params.tobytes(), model.flat_state.tobytes(), *(s.tobytes() for s in trainer.slots.values())]


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


def scripted(trainer, values):
    """Make validation return these losses one after the other."""
    script = iter(values)
    trainer.evaluate_samples = lambda samples, batch_size: {"loss": next(script), "accuracy": 0.5}


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


# ---------------------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture(autouse=True)
def safetensors(request):
    if any(word in request.node.name for word in ("checkpoint", "resumed")):
        pytest.importorskip("safetensors")


@pytest.mark.parametrize("optimizer", [optimizers.Adam(0.01), optimizers.SGD(0.1), optimizers.RMSprop(momentum=0.5)])
def test_resumed_run_gives_the_same_bits(data, tmp_path, optimizer):
    path = tmp_path / "run.safetensors"
    whole, first = make_trainer(optimizer=optimizer), make_trainer(optimizer=optimizer)
    whole.fit(*data, epochs=4, batch_size=16, verbose=False)
    first.fit(*data, epochs=2, batch_size=16, callbacks=[Checkpoint(path)], verbose=False)
    resumed = load_checkpoint(path, losses.SoftmaxCrossEntropy(), optimizer)
    assert (resumed.epoch, resumed.steps) == (2, 8)
    history = resumed.fit(*data, epochs=2, batch_size=16, verbose=False)
    assert history.epochs == [3, 4]
    assert everything(resumed) == everything(whole)


def test_checkpoint_is_a_model_file(data, tmp_path):
    trainer = make_trainer()
    trainer.step(*data)
    save_checkpoint(trainer, tmp_path / "c.safetensors")
    assert np.array_equal(Model.load(tmp_path / "c.safetensors").flat_params, trainer.model.flat_params)


def test_a_refused_checkpoint_changes_nothing(data, tmp_path):
    path, sgd = tmp_path / "c.safetensors", optimizers.SGD(0.1)
    save_checkpoint(make_trainer(1, sgd), path)
    other = Trainer(models.mlp((6,), 4, hidden=(8,), seed=2), losses.SoftmaxCrossEntropy(), sgd)
    before = everything(other)
    with pytest.raises(ValueError, match=r"head.*: expected float32 \("):
        restore(other, path)
    assert everything(other) == before


def test_checkpoint_path_may_carry_the_epoch(data, tmp_path):
    make_trainer().fit(*data, epochs=2, callbacks=[Checkpoint(tmp_path / "{epoch}.safetensors")], verbose=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.safetensors", "2.safetensors"]


def test_best_checkpoint_is_kept(data, tmp_path):
    path = tmp_path / "best.safetensors"
    trainer = make_trainer()
    scripted(trainer, [1.0, 0.5, 0.7, float("nan")])
    callback = Checkpoint(path, best_only=True)
    trainer.fit(*data, epochs=4, validation_data=data, callbacks=[callback], verbose=False)
    assert callback.best == 0.5
    assert load_checkpoint(path, trainer.loss, trainer.optimizer).epoch == 2
    before = path.read_bytes()
    scripted(trainer, [0.6])
    trainer.fit(*data, validation_data=data, callbacks=[Checkpoint(path, best_only=True, best=0.5)], verbose=False)
    assert path.read_bytes() == before


def test_last_good_checkpoint_survives_nan(data, tmp_path):
    path = tmp_path / "run.safetensors"
    trainer = make_trainer()

    def spoil(trainer, epoch, values):
        if epoch == 2:
            trainer.model.params["head.weight"][...] = np.nan

    callbacks = [LambdaCallback(on_epoch_end=spoil), Checkpoint(path)]
    with pytest.raises(NonFiniteLossError, match=r"head\.weight"), pytest.warns(UserWarning, match="not finite"):
        trainer.fit(*data, epochs=5, callbacks=callbacks, verbose=False)
    kept = load_checkpoint(path, trainer.loss, trainer.optimizer)
    assert kept.epoch == 1
    assert np.isfinite(kept.model.flat_params).all()


def test_checkpoint_of_something_else_is_refused_and_changes_nothing(data, tmp_path):
    path = tmp_path / "run.safetensors"
    trainer = make_trainer()
    trainer.fit(*data, verbose=False)
    save_checkpoint(trainer, path)
    other = make_trainer(seed=1, optimizer=optimizers.SGD(0.1, momentum=0.9))
    before = everything(other)
    with pytest.raises(ValueError, match=r"saved by Adam with \['mean', 'square'\], got SGD with \['velocity'\]"):
        restore(other, path)
    assert everything(other) == before
    trainer.model.save(path)
    with pytest.raises(ValueError, match="not a checkpoint"):
        restore(trainer, path)
    path.write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        restore(trainer, path)
    wide = models.mlp((6,), 3, hidden=(9,))
    save_checkpoint(Trainer(wide, trainer.loss, trainer.optimizer), path)
    with pytest.raises(ValueError, match="expected float32"):
        restore(trainer, path)


# -------------------------------------------------------------------------------------------------- history and files


def test_history_fills_gaps_with_nan(tmp_path):
    history = History()
    history.append(1, {"loss": 2.0})
    history.append(2, {"loss": 1.0, "val_loss": 1.5})
    history.append(3, {"val_loss": 1.0})
    assert len(history) == 3
    np.testing.assert_equal(history.metrics, {"loss": [2.0, 1.0, np.nan], "val_loss": [np.nan, 1.5, 1.0]})
    history.to_csv(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_text() == "epoch,loss,val_loss\n1,2.0,nan\n2,1.0,1.5\n3,nan,1.0\n"


def test_history_plot(tmp_path):
    pytest.importorskip("matplotlib")
    history = History()
    for epoch in (1, 2):
        history.append(epoch, {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "learning_rate": 0.1, "seconds": 1.0})
    figure = history.plot(tmp_path / "curves.png")
    loss, accuracy = figure.axes
    assert [axis.get_xlabel() for axis in figure.axes] == ["epoch", "epoch"]
    assert loss.get_ylabel().startswith("loss")
    assert accuracy.get_ylabel() == "accuracy"
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "validation"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_files_are_whole_or_not_there(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_text(path, "first")
    path.chmod(0o640)
    with pytest.raises(OSError), replacing(path) as temporary:  # noqa: PT012 (the block is what is tested)
        temporary.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "first"
    write_text(path, "second")
    assert path.read_text() == "second"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]
    link = tmp_path / "link.txt"
    link.symlink_to(path)
    write_text(link, "third")
    assert link.is_symlink()
    assert path.read_text() == "third"
    with pytest.raises(IsADirectoryError, match="path: expected a file"):
        write_text(tmp_path, "x")
