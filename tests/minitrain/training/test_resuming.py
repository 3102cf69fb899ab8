"""A training that was interrupted, killed or saved and goes on is the one that never was, bit for bit."""

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from children import hear_hangups
from paths import ROOT
from small_trainer import everything, make_trainer, small_net

from minitrain import losses, metrics, optimizers, schedules
from minitrain.callbacks import Callback, Checkpoint, CSVLog, EarlyStopping, LambdaCallback
from minitrain.checkpoint import load_checkpoint, save_checkpoint
from minitrain.terminal.liveness import is_alive, this_process

pytest.importorskip("safetensors")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((50, 6)).astype("float32")
Y = X[:, :3].argmax(axis=1)
RATE = schedules.OneCycle(0.02, 40)
FIT = {"batch_size": 8, "verbose": False}


def loaded(path, measured=None):
    return load_checkpoint(path, losses.SoftmaxCrossEntropy(), optimizers.Adam(RATE), measured)


def whole_run(epochs=4, measured=None, **options):
    trainer = make_trainer(small_net(dropout=True), optimizers.Adam(RATE), metrics=measured)
    return trainer, trainer.fit(X, Y, epochs, **FIT, **options)


def stop_at(step):
    def interrupt(trainer, batch, loss):
        if trainer.steps == step:
            raise KeyboardInterrupt

    return LambdaCallback(on_batch_end=interrupt)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("step", [1, 6, 7, 8, 12, 20])
def test_a_checkpoint_within_an_epoch_goes_on_within_it(tmp_path, step, shuffle):
    path = tmp_path / "run.safetensors"
    measured = {"accuracy": metrics.accuracy, "auc": metrics.RocAuc()}
    whole, history = whole_run(measured=measured, seed=5, shuffle=shuffle, validation_data=(X, Y))
    first = make_trainer(small_net(dropout=True), optimizers.Adam(RATE), metrics=measured)
    callbacks = [Checkpoint(path, every_steps=1), stop_at(step)]
    first.fit(X, Y, 4, **FIT, seed=5, shuffle=shuffle, callbacks=callbacks)
    again = loaded(path, measured)
    assert again.steps == step
    order = {} if shuffle else {"shuffle": False}
    rest = again.fit(X, Y, 4 - again.epoch, **FIT, validation_data=(X, Y), **order)  # the seed is in the checkpoint
    assert everything(again) == everything(whole)
    for name in ("loss", "accuracy", "auc", "val_loss", "val_auc", "learning_rate"):
        assert rest.metrics[name] == history.metrics[name][-len(rest) :], name


def test_a_fit_after_ctrl_c_goes_on_in_the_same_epoch():
    whole, _ = whole_run(3)
    trainer = make_trainer(small_net(dropout=True), optimizers.Adam(RATE))
    assert trainer.fit(X, Y, 3, **FIT, callbacks=[stop_at(10)]).interrupted
    assert (trainer.epoch, trainer.steps) == (1, 10)
    trainer.fit(X, Y, 2, **FIT)
    assert everything(trainer) == everything(whole)


def test_a_training_that_early_stopping_ended_has_ended(tmp_path):
    def callbacks(path):
        return [EarlyStopping("loss", patience=1, min_delta=9.0), Checkpoint(path)]

    whole = make_trainer(small_net(dropout=True), optimizers.Adam(RATE))
    assert len(whole.fit(X, Y, 9, **FIT, callbacks=callbacks(tmp_path / "whole.safetensors"))) == 2
    again = loaded(tmp_path / "whole.safetensors")
    assert again.epoch == 2
    rest = again.fit(X, Y, 7, **FIT, callbacks=callbacks(tmp_path / "again.safetensors"))
    assert len(rest) == 0
    assert everything(again) == everything(whole)


@pytest.mark.parametrize("other", [{"batch_size": 16}, {"shuffle": False}, {"seed": 3}])
def test_an_epoch_with_other_batches_begins_anew_and_says_so(other):
    trainer = make_trainer()
    trainer.fit(X, Y, 3, **FIT, callbacks=[stop_at(10)])
    with pytest.warns(UserWarning, match="epoch 2 begins anew"):
        history = trainer.fit(X, Y, **FIT | other)
    assert history.epochs == [2]
    assert trainer.steps == 10 + (4 if "batch_size" in other else 7)


def test_callbacks_remember_whatever_their_order(tmp_path):
    path, best = tmp_path / "last.safetensors", tmp_path / "best.safetensors"
    script = [1.0, 0.5, 0.7, 0.6, 0.8, 0.9, 0.95, 0.99]

    def run(trainer, values, epochs):
        each = iter(values)
        trainer.evaluate_samples = lambda samples, size: {"loss": next(each), "accuracy": 0.5}
        stopping = EarlyStopping(patience=4)
        trainer.fit(X, Y, epochs, **FIT, validation_data=(X, Y), callbacks=[
            Checkpoint(path), Checkpoint(best, best_only=True), stopping, CSVLog(tmp_path / "log.csv", append=True),
        ])  # fmt: skip
        return stopping

    whole = make_trainer()
    run(whole, script, 8)
    (tmp_path / "log.csv").unlink()
    first = make_trainer()
    run(first, script[:4], 4)
    kept = best.read_bytes()
    again = load_checkpoint(path, first.loss, first.optimizer)
    stopping = run(again, script[4:], 4)
    assert (stopping.best, stopping.best_epoch, again.epoch) == (0.5, 2, whole.epoch == 6 and 6)
    assert everything(again)[:2] == everything(whole)[:2]  # the best weights, of before the break
    assert best.read_bytes() == kept
    assert [row["epoch"] for row in csv.DictReader((tmp_path / "log.csv").open())] == list("123456")


def test_best_only_goes_on_from_what_it_had(tmp_path):
    path = tmp_path / "best.safetensors"
    trainer = make_trainer()
    options = {**FIT, "validation_data": (X, Y), "callbacks": [Checkpoint(path, best_only=True)]}
    trainer.fit(X, Y, 3, **options)
    before = path.read_bytes()
    again = load_checkpoint(path, trainer.loss, optimizers.Adam(9.0))
    again.fit(X, Y, 2, **options | {"callbacks": [Checkpoint(path, best_only=True)]})
    assert path.read_bytes() == before


def test_a_users_callback_keeps_arrays_and_values(tmp_path):
    class Remembering(Callback):
        def __init__(self):
            self.kept = {}

        def state(self):
            return {"a": np.arange(3.0), "b": [np.float32(2), {"c": np.zeros((2, 2), "int64")}], "nan": float("nan")}

        def restore_state(self, state):
            self.kept = state

    trainer = make_trainer()
    trainer.fit(X, Y, **FIT, callbacks=[Remembering()])
    save_checkpoint(trainer, tmp_path / "c")
    again, callback = load_checkpoint(tmp_path / "c", trainer.loss, trainer.optimizer), Remembering()
    again.fit(X, Y, **FIT, callbacks=[callback])
    assert callback.kept["a"].tolist() == [0, 1, 2]
    assert callback.kept["b"][0] == 2.0
    assert callback.kept["b"][1]["c"].dtype == np.int64
    assert np.isnan(callback.kept["nan"])


SCRIPT = """
import sys, time
sys.path.insert(0, "tests")
import numpy as np
from pathlib import Path
from small_trainer import make_trainer, small_net
from minitrain import losses, optimizers, schedules
from minitrain.callbacks import Checkpoint, CSVLog, LambdaCallback
from minitrain.checkpoint import load_checkpoint

folder, delay = Path(sys.argv[1]), float(sys.argv[2])
rng = np.random.default_rng(0)
x = rng.standard_normal((50, 6)).astype("float32")
y, rate = x[:, :3].argmax(axis=1), schedules.OneCycle(0.02, 40)
if (folder / "run").exists():
    trainer = load_checkpoint(folder / "run", losses.SoftmaxCrossEntropy(), optimizers.Adam(rate))
else:
    trainer = make_trainer(small_net(dropout=True), optimizers.Adam(rate))
wait = LambdaCallback(on_batch_end=lambda trainer, batch, loss: print(trainer.steps, flush=True) or time.sleep(delay))
history = trainer.fit(x, y, 4 - trainer.epoch, 8, seed=5, verbose=False, callbacks=[
    CSVLog(folder / "log.csv", append=True), Checkpoint(folder / "run", every_steps=1), wait,
])
print("signal", history.signal, trainer.steps)
trainer.model.save(folder / f"end-{history.signal}")
"""


def start(folder, delay):
    command = [sys.executable, "-c", SCRIPT, str(folder), str(delay)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=hear_hangups
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_was_ended_goes_on(tmp_path, number):
    whole, _ = whole_run(4, seed=5)
    process = start(tmp_path, 0.05)
    for line in process.stdout:
        if line.strip() == "11":
            process.send_signal(number)
            break
    out, err = process.communicate(timeout=100)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert (process.returncode, f"signal {int(number)}" in out) == (0, True), err
    process = start(tmp_path, 0)
    out, err = process.communicate(timeout=100)
    assert "signal None 28" in out, err
    end = loaded(tmp_path / "run")
    assert everything(end) == everything(whole)
    assert [row["epoch"] for row in csv.DictReader((tmp_path / "log.csv").open())] == list("1234")


def test_a_process_is_known_by_more_than_its_number():
    assert is_alive(this_process())
    assert not is_alive(this_process() | {"started": "yesterday"})
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    described = this_process() | {"pid": child.pid}
    child.wait()
    time.sleep(0.01)
    assert not is_alive(described)
    assert not is_alive(None)
    assert not is_alive({"pid": 0})
    assert is_alive({"pid": os.getpid(), "host": "another machine"})
