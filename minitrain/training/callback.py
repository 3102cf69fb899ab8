"""Callback: what else happens at the beginning and end of training, epochs and batches."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from minitrain.training.step import Learner

__all__ = ["Callback"]


class Callback:
    """Base class: override what is needed.

    Everything is called by `Trainer.fit` with the trainer first. `trainer.history` is a copy of the history so far, and
    `trainer.stop()` ends training after the epoch. A callback may do with the model what it likes, also make a step or
    `evaluate`; only another `fit` of the same trainer is refused. `on_epoch_end` runs for whole epochs only. Epochs
    count from 1, batches within an epoch from 0.

    `check` runs for all callbacks before anything is touched. `on_train_end` runs for every callback whose
    `on_train_begin` ran, whatever ended the training, also Ctrl-C and errors. An event reaches all callbacks, whatever
    one of them raises: the first exception ends the training, and later ones are notes of it.

    What a callback remembers from epoch to epoch belongs into `state` and `restore_state`: a checkpoint keeps it, so
    that a resumed training is the one that was never interrupted.

    On several ranks all of them have all callbacks, which see the same numbers, but for those that write.

    Attributes
    ----------
    writes : bool
        Whether it writes files or talks to a server: of several ranks only the first one has it.
    """

    writes: ClassVar[bool] = False

    def __repr__(self) -> str:
        """Return the class with the arguments that the callback was made with, as far as it keeps them."""
        kept = vars(self)
        names = [name for name in inspect.signature(type(self)).parameters if {name, f"_{name}"} & kept.keys()]
        arguments = (f"{name}={kept.get(name, kept.get(f'_{name}'))!r}" for name in names)
        return f"{type(self).__name__}({', '.join(arguments)})"

    def check(self, trainer: Learner, expected: Mapping[str, bool | None]) -> None:
        """Raise an error if this cannot work; nothing may be changed here, no file and no folder made.

        `expected` are the names of what the history will have, and whether larger values are better; None where
        nothing says it.
        """

    def on_train_begin(self, trainer: Learner) -> None:
        """Run before the first epoch."""

    def on_train_end(self, trainer: Learner) -> None:
        """Run after the last epoch, or what ended the training before it."""

    def on_epoch_begin(self, trainer: Learner, epoch: int) -> None:
        """Run before an epoch, or the rest of one that goes on."""

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

    def after_batch(self, trainer: Learner) -> None:
        """Run after `on_batch_end` of all callbacks: the place to save what all of them remember."""

    def after_epoch(self, trainer: Learner, epoch: int, values: Mapping[str, float]) -> None:
        """Run after `on_epoch_end` of all callbacks: the place to save what all of them remember."""

    def after_interrupt(self, trainer: Learner) -> None:
        """Run when Ctrl-C, SIGTERM or SIGHUP ended the training, before `on_train_end` of all callbacks."""

    def identity(self) -> str:
        """Return what tells this callback from others of its training, for the states in a checkpoint.

        Callbacks that say the same are told apart by their order.
        """
        return type(self).__name__

    def state(self) -> Mapping[str, Any]:
        """Return what a resumed training needs to know: plain values and arrays, also within lists and mappings."""
        return {}

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Take what `state` returned; called after `on_train_begin` of all callbacks."""
