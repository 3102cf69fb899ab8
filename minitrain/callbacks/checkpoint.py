"""Save a run after each epoch, or every so many steps."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from minitrain.callbacks._monitor import Mode, Monitor
from minitrain.callbacks._paths import Pattern
from minitrain.optional import require
from minitrain.training.callback import Callback
from minitrain.training.checkpoint_file import save_checkpoint
from minitrain.training.step import Learner
from nbnorm.jit.checks import expect_boolean, expect_integer

__all__ = ["Checkpoint"]


class Checkpoint(Callback):
    """Saves everything that a run needs to go on bit for bit; see `minitrain.checkpoint`.

    Parameters
    ----------
    path : str or path-like
        The file. It is a pattern of `str.format`: "{epoch:03d}" becomes the epoch's number, "{val_loss:.3f}" a value of
        the history. A brace that means itself is written twice.
    monitor : str
        Name of a value in the history; looked at with `best_only` alone.
    best_only : bool
        Whether only epochs better than all before are saved.
    mode : "auto", "min" or "max"
        Which values are better. "auto": smaller losses; of a metric what its attribute `larger_is_better` says. It must
        be given for a metric that is a bare function.
    best : float, optional
        What has to be beaten first. A training that goes on from a checkpoint knows it already.
    every_steps : int, optional
        Save after each so many steps as well, and when Ctrl-C, SIGTERM or SIGHUP ends the training: `fit` goes on in
        the middle of the epoch. Fields in `path` are then "{epoch}", the whole epochs so far, and "{step}".

    Notes
    -----
    A checkpoint is never overwritten with parameters that are not finite: there is a warning instead.
    """

    writes: ClassVar[bool] = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        best_only: bool = False,
        mode: Mode = "auto",
        best: float | None = None,
        *,
        every_steps: int | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self.best_only = expect_boolean("best_only", best_only)
        self.every_steps = None if every_steps is None else expect_integer("every_steps", every_steps, 1)
        if self.best_only and self.every_steps is not None:
            raise ValueError(
                "every_steps: expected None with best_only=True, which compares epochs; use two Checkpoints"
            )
        self._pattern = Pattern(path, ("epoch", "step"), values=self.every_steps is None)
        self._monitor = Monitor(monitor, mode, best=best)
        self._is_due = True

    @property
    def best(self) -> float | None:
        """The best value so far; None before the first."""
        return self._monitor.best

    def check(self, trainer: Learner, expected: Mapping[str, bool | None]) -> None:
        require("safetensors", "saving checkpoints")
        if self.best_only:
            self._monitor.check(expected)
        self._pattern.check(expected)

    def on_train_begin(self, trainer: Learner) -> None:
        if self.best_only:
            self._monitor.begin(trainer)

    def on_epoch_end(self, trainer: Learner, epoch: int, values: Mapping[str, float]) -> None:
        self._is_due = not self.best_only or self._monitor.improves(values)

    def after_epoch(self, trainer: Learner, epoch: int, values: Mapping[str, float]) -> None:
        if self._is_due:
            self._save(trainer, f"epoch {epoch}", values)

    def after_batch(self, trainer: Learner) -> None:
        if self.every_steps is not None and trainer.steps % self.every_steps == 0:
            self._save(trainer, f"step {trainer.steps}", {})

    def after_interrupt(self, trainer: Learner) -> None:
        if self.every_steps is not None:
            self._save(trainer, f"step {trainer.steps}", {})

    def identity(self) -> str:
        if not self.best_only:
            return "Checkpoint"
        return f"Checkpoint of the best {self._monitor.name}: {os.path.basename(self.path)}"

    def state(self) -> dict[str, Any]:
        return self._monitor.state()

    def restore_state(self, state: Mapping[str, Any]) -> None:
        self._monitor.restore_state(state)

    def _save(self, trainer: Learner, when: str, values: Mapping[str, float]) -> None:
        if not np.isfinite(trainer.model.flat_params).all():
            warnings.warn(f"{when}: parameters are not finite; the last checkpoint is kept", stacklevel=2)
            return
        save_checkpoint(trainer, self._pattern.fill({"epoch": trainer.epoch, "step": trainer.steps}, values))
