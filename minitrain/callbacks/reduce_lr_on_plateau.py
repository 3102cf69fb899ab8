"""Take smaller steps when training no longer helps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from minitrain.callbacks._monitor import Mode, Monitor
from minitrain.schedules import Scaled, Schedule
from minitrain.training.callback import Callback
from minitrain.training.step import Learner
from nbnorm.jit.checks import expect_integer, expect_number

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(Callback):
    """Multiplies the learning rate by a factor when a value has not improved for some epochs.

    The optimizer's own rate, a number or a schedule, goes on to say the rate of each step; what it says is multiplied
    by the reductions so far (`schedules.Scaled` takes its place in the optimizer). So a schedule keeps its form.

    Parameters
    ----------
    monitor : str
        Name of a value in the history.
    factor : float
        In (0, 1): of each reduction.
    patience : int
        Epochs in a row without improvement before the rate is reduced, as Keras counts; PyTorch's number is one less.
    min_lr : float
        The reductions do not bring the rate below this. A schedule may go there by itself.
    cooldown : int
        Epochs after a reduction that count neither for nor against the next one.
    mode : "auto", "min" or "max"
        Which values are better. "auto": smaller losses; of a metric what its attribute `larger_is_better` says. It must
        be given for a metric that is a bare function.
    min_delta : float
        Changes up to this size do not count as improvement.

    Attributes
    ----------
    best : float or None
        The best value so far; None before the first.
    scale : float
        The product of all reductions so far.

    Notes
    -----
    A second `fit` of the same trainer goes on with what was counted; another trainer begins anew.

    Examples
    --------
    >>> from minitrain.callbacks import ReduceLROnPlateau
    >>> ReduceLROnPlateau("val_loss", factor=0.5, patience=3).scale
    1.0
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        min_lr: float = 0.0,
        cooldown: int = 0,
        mode: Mode = "auto",
        min_delta: float = 0.0,
    ) -> None:
        self._settings = (monitor, mode, min_delta)
        self.monitor, self.mode, self.min_delta = self._settings
        self.factor = expect_number("factor", factor, 0.0, 1.0, open_low=True, open_high=True)
        self.patience = expect_integer("patience", patience, 1)
        self.min_lr = expect_number("min_lr", min_lr, 0.0)
        self.cooldown = expect_integer("cooldown", cooldown, 0)
        self._trainer: Learner | None = None  # while it trains
        self._restored = False
        self._begin_anew()

    @property
    def best(self) -> float | None:
        """The best value so far; None before the first."""
        return self._monitor.best

    def _begin_anew(self) -> None:
        self._monitor = Monitor(*self._settings)
        self._waited = self._cooling = self._epoch = 0
        self.scale = 1.0

    def check(self, trainer: Learner, expected: Mapping[str, bool | None]) -> None:
        self._monitor.check(expected)

    def identity(self) -> str:
        return f"ReduceLROnPlateau by {self.monitor}"

    def on_train_begin(self, trainer: Learner) -> None:
        self._trainer = trainer
        if self._restored:
            self._apply_restored(trainer)
        elif not self._epoch or trainer.epoch < self._epoch:
            self._begin_anew()
        self._monitor.begin(trainer)

    def on_train_end(self, trainer: Learner) -> None:
        self._trainer = None

    def _apply_restored(self, trainer: Learner) -> None:
        self._restored = False
        if self.scale < 1.0 and _scale_of(trainer) != self.scale:
            self._multiply(trainer, self.scale)

    def on_epoch_end(self, trainer: Learner, epoch: int, values: Mapping[str, float]) -> None:
        self._epoch = epoch
        self._waited = 0 if self._monitor.improves(values) else self._waited + 1
        if self._cooling:
            self._cooling -= 1
            self._waited = 0
        if self._waited < self.patience:
            return
        self._waited = 0
        if trainer.optimizer.learning_rate_at(max(trainer.steps - 1, 0)) > self.min_lr:
            self._cooling = self.cooldown
            self.scale *= self.factor
            self._multiply(trainer, self.factor)

    def _multiply(self, trainer: Learner, factor: float) -> None:
        """Multiply the optimizer's rate; reductions of ours are one factor of the rate that was there first."""
        rate: float | Schedule = trainer.optimizer.learning_rate
        if isinstance(rate, Scaled) and rate.least == self.min_lr:
            rate = Scaled(rate.then, rate.factor * factor, self.min_lr)
        else:
            rate = Scaled(rate, factor, self.min_lr)
        trainer.optimizer = replace(trainer.optimizer, learning_rate=rate)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: what was counted, the best value, and the reductions."""
        return {
            **self._monitor.state(),
            "waited": self._waited,
            "cooling": self._cooling,
            "epoch": self._epoch,
            "scale": self.scale,
        }

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Take what `state` returned; the optimizer gets its reductions now, or when training begins."""
        self._monitor.restore_state(state)
        self._waited, self._cooling = int(state["waited"]), int(state["cooling"])
        self._epoch, self.scale = int(state["epoch"]), float(state["scale"])
        self._restored = True
        if self._trainer is not None:
            self._apply_restored(self._trainer)


def _scale_of(trainer: Learner) -> float:
    rate: float | Schedule = trainer.optimizer.learning_rate
    return float(rate.factor) if isinstance(rate, Scaled) else 1.0
