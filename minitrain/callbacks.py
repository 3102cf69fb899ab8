"""Callbacks: what else happens at the beginning and end of training, epochs and batches."""

from __future__ import annotations

import csv
import math
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np

from minitrain.training.callback import Callback
from minitrain.training.checkpoint_file import save_checkpoint
from minitrain.training.step import Learner
from nbnorm.jit.checks import expect_integer, expect_number, expect_one_of

__all__ = ["CSVLog", "Callback", "Checkpoint", "EarlyStopping", "LambdaCallback"]

Mode = Literal["auto", "min", "max"]
EVENTS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class LambdaCallback(Callback):
    """Functions in place of methods: `LambdaCallback(on_epoch_end=lambda trainer, epoch, values: print(values))`."""

    def __init__(self, **functions: Callable[..., object]) -> None:
        for name, function in functions.items():
            if name not in EVENTS:
                raise TypeError(f"{name}: expected one of {', '.join(EVENTS)}")
            if not callable(function):
                raise TypeError(f"{name}: expected a callable, got {function!r}")
            setattr(self, name, function)


class Monitor:
    """Follows one value over the epochs and knows which is better.

    `mode` "auto": larger is better for names with "accuracy" in them, smaller for all others.
    """

    def __init__(self, name: str, mode: Mode, min_delta: float = 0.0, best: float | None = None) -> None:
        expect_one_of("mode", mode, ("auto", "min", "max"))
        self.name = name
        self._min_delta = expect_number("min_delta", min_delta, 0.0)
        self._sign = 1.0 if mode == "max" or (mode == "auto" and "accuracy" in name) else -1.0
        self.best = -self._sign * math.inf if best is None else best

    def improves(self, values: Mapping[str, float]) -> bool:
        """Take a new value; tell whether it is better than the best by more than `min_delta`. NaN never is."""
        if self.name not in values:
            hint = "; pass validation_data to fit" if self.name.startswith("val_") else ""
            raise ValueError(f"monitor: expected one of {', '.join(values)}, got {self.name!r}{hint}")
        value = values[self.name]
        better = self._sign * (value - self.best) > self._min_delta if math.isfinite(self.best) else value == value
        if better:
            self.best = value
        return better


class EarlyStopping(Callback):
    """Stops when a value has not improved for some epochs, and goes back to the best weights.

    Parameters
    ----------
    monitor : str
        Name of a value in the history.
    patience : int
        Epochs in a row without improvement before training stops.
    min_delta : float
        Changes up to this size do not count as improvement.
    restore_best : bool
        Whether the model gets the parameters and state of its best epoch back when training ends, for whatever
        reason it ends.
    mode : "auto", "min" or "max"
        Which values are better; "auto": larger ones for accuracies, smaller ones for everything else.

    Attributes
    ----------
    best, best_epoch : float, int or None
        Of the last training.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        restore_best: bool = True,
        mode: Mode = "auto",
    ) -> None:
        self._settings = (monitor, mode, min_delta)
        self._monitor = Monitor(*self._settings)
        self.patience = expect_integer("patience", patience, 1)
        self.restore_best = restore_best
        self.best_epoch: int | None = None
        self._best_weights: tuple[Any, Any] | None = None
        self._waited = 0

    @property
    def best(self) -> float:
        """Return the best value so far."""
        return self._monitor.best

    def on_train_begin(self, trainer: Learner) -> None:
        self._monitor = Monitor(*self._settings)
        self.best_epoch, self._best_weights, self._waited = None, None, 0

    def on_epoch_end(self, trainer: Learner, epoch: int, values: Mapping[str, float]) -> None:
        if self._monitor.improves(values):
            self.best_epoch, self._waited = epoch, 0
            if self.restore_best:
                self._best_weights = (trainer.model.flat_params.copy(), trainer.model.flat_state.copy())
            return
        self._waited += 1
        if self._waited >= self.patience:
            trainer.stop()

    def on_train_end(self, trainer: Learner) -> None:
        if self._best_weights is not None:
            trainer.model.flat_params[...], trainer.model.flat_state[...] = self._best_weights
            self._best_weights = None


class Checkpoint(Callback):
    """Saves after each epoch everything that a run needs to go on bit for bit; see `minitrain.checkpoint`.

    Parameters
    ----------
    path : str or path-like
        The file. "{epoch}" in it becomes the epoch's number.
    monitor : str
        Name of a value in the history; looked at with `best_only` alone.
    best_only : bool
        Whether only epochs better than all before are saved.
    mode : "auto", "min" or "max"
        Which values are better; "auto": larger ones for accuracies, smaller ones for everything else.
    best : float, optional
        What has to be beaten first, where a run goes on.

    Notes
    -----
    A checkpoint is never overwritten with parameters that are not finite: there is a warning instead.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        best_only: bool = False,
        mode: Mode = "auto",
        best: float | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self.best_only = best_only
        self._monitor = Monitor(monitor, mode, best=best)

    @property
    def best(self) -> float:
        """Return the best value so far."""
        return self._monitor.best

    def on_epoch_end(self, trainer: Learner, epoch: int, values: Mapping[str, float]) -> None:
        if self.best_only and not self._monitor.improves(values):
            return
        if not np.isfinite(trainer.model.flat_params).all():
            warnings.warn(f"epoch {epoch}: parameters are not finite; the last checkpoint is kept", stacklevel=2)
            return
        save_checkpoint(trainer, self.path.replace("{epoch}", str(epoch)))


class CSVLog(Callback):
    """Writes a row to a CSV file after each epoch, at once: the file can be followed, and survives a crash.

    Parameters
    ----------
    path : str or path-like
    append : bool
        Whether rows are added to what is there; otherwise the file begins anew with each training.
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        self.path = Path(path)
        self.append = append
        self._file: TextIO | None = None

    def on_train_begin(self, trainer: Learner) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._columns: list[str] = []
        if self.append and self.path.exists():
            with open(self.path, newline="", encoding="utf-8") as file:
                self._columns = next(csv.reader(file), [])
        self._file = open(self.path, "a" if self.append else "w", newline="", encoding="utf-8")  # noqa: SIM115

    def on_epoch_end(self, trainer: Learner, epoch: int, values: Mapping[str, float]) -> None:
        assert self._file is not None
        table = csv.writer(self._file, lineterminator="\n")
        if not self._columns:
            self._columns = ["epoch", *values]
            table.writerow(self._columns)
        row = {"epoch": epoch, **values}
        table.writerow([row.get(name, "") for name in self._columns])
        self._file.flush()

    def on_train_end(self, trainer: Learner) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
