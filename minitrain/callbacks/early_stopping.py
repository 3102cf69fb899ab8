"""Stop when training no longer helps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minitrain.callbacks._monitor import Mode, Monitor
from minitrain.training.callback import Callback
from minitrain.training.step import Learner
from nbnorm.jit.checks import expect_boolean, expect_integer

__all__ = ["EarlyStopping"]


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
        Which values are better. "auto": smaller losses; of a metric what its attribute `larger_is_better` says. It must
        be given for a metric that is a bare function.

    Attributes
    ----------
    best, best_epoch : float and int, or None
        Of the last training; None before the first value that is a number.
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
        self.restore_best = expect_boolean("restore_best", restore_best)
        self.best_epoch: int | None = None
        self._best_weights: tuple[Any, Any] | None = None
        self._waited = 0
        self._stop: Callable[[], None] | None = None  # of the training that is going on

    @property
    def best(self) -> float | None:
        """The best value so far; None before the first."""
        return self._monitor.best

    def check(self, trainer: Learner, expected: Mapping[str, bool | None]) -> None:
        self._monitor.check(expected)

    def on_train_begin(self, trainer: Learner) -> None:
        self._monitor = Monitor(*self._settings)
        self._monitor.begin(trainer)
        self.best_epoch, self._best_weights, self._waited = None, None, 0
        self._stop = trainer.stop

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
        self._stop = None
        if self._best_weights is not None:
            trainer.model.flat_params[...], trainer.model.flat_state[...] = self._best_weights
            self._best_weights = None

    def identity(self) -> str:
        return f"EarlyStopping by {self._monitor.name}"

    def state(self) -> dict[str, Any]:
        weights = None if self._best_weights is None else list(self._best_weights)
        return {
            **self._monitor.state(),
            "best_epoch": self.best_epoch,
            "waited": self._waited,
            "weights": weights,
        }

    def restore_state(self, state: Mapping[str, Any]) -> None:
        self._monitor.restore_state(state)
        self.best_epoch, self._waited, weights = state["best_epoch"], int(state["waited"]), state["weights"]
        self._best_weights = None if weights is None or not self.restore_best else (weights[0], weights[1])
        if self._stop is not None and self._waited >= self.patience:
            self._stop()  # the training that is resumed had ended here
