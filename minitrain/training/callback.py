"""Callback: what else happens at the beginning and end of training, epochs and batches."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from minitrain.training.step import Learner

__all__ = ["Callback"]


class Callback:
    """Base class: override what is needed.

    Everything is called by `Trainer.fit` with the trainer first. `trainer.history` is a copy of the history so far, and
    `trainer.stop()` ends training after the epoch. A callback may do with the model what it likes, also make a step or
    `evaluate`; only another `fit` of the same trainer is refused. `on_train_end` runs whatever ended the training, also
    Ctrl-C and errors; `on_epoch_end` runs for whole epochs only. Epochs count from 1, batches within an epoch from 0.
    """

    def __repr__(self) -> str:
        """Return the class with the arguments that the callback was made with, as far as it keeps them."""
        kept = vars(self)
        names = [name for name in inspect.signature(type(self)).parameters if {name, f"_{name}"} & kept.keys()]
        arguments = (f"{name}={kept.get(name, kept.get(f'_{name}'))!r}" for name in names)
        return f"{type(self).__name__}({', '.join(arguments)})"

    def on_train_begin(self, trainer: Learner) -> None:
        """Run before the first epoch."""

    def on_train_end(self, trainer: Learner) -> None:
        """Run after the last epoch, or what ended the training before it."""

    def on_epoch_begin(self, trainer: Learner, epoch: int) -> None:
        """Run before an epoch."""

    def on_epoch_end(self, trainer: Learner, epoch: int, values: Mapping[str, float]) -> None:
        """Run after an epoch and its validation; `values` are what the history got, as a copy."""

    def on_validation_begin(self, trainer: Learner, epoch: int) -> None:
        """Run before the validation of an epoch, after its last step."""

    def on_validation_end(self, trainer: Learner, epoch: int) -> None:
        """Run after the validation of an epoch, also where that failed."""

    def on_batch_begin(self, trainer: Learner, batch: int) -> None:
        """Run before a step."""

    def on_batch_end(self, trainer: Learner, batch: int, loss: float) -> None:
        """Run after a step with the mean loss of its batch."""
