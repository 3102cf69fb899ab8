"""The loop of `Trainer.fit`: epochs and batches, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from minitrain.model.plans import Held
from minitrain.objective.measures import Tally
from minitrain.terminal.interrupts import deferred_interrupt
from minitrain.terminal.progress import make_progress
from minitrain.training.batches import Samples, ranges
from minitrain.training.callback import Callback
from minitrain.training.history import History
from minitrain.training.step import Learner, Targets
from nbnorm.jit.checks import expect_integer

__all__ = ["Fitting"]

EVALUATION_BATCH = 256


class Fitting:
    """One call of `Trainer.fit`; see there. Everything is checked before anything is trained.

    Attributes
    ----------
    history : History
        Grows while `run` runs. Users get it when that is over, and copies before: what a callback does to one changes
        nothing here.
    """

    def __init__(
        self,
        trainer: Learner,
        x: Any,
        y: Targets,
        batch_size: int,
        validation_data: tuple[Any, Targets] | None,
        callbacks: Sequence[Callback],
        shuffle: bool,
        seed: int | None,
        verbose: bool | Literal["auto"],
    ) -> None:
        self._trainer = trainer
        self._samples = Samples(trainer.model, trainer.objective, x, y, keep=True)
        self._validation = _check_validation(trainer, validation_data)
        self._ranges = self._divide(batch_size)
        self._callbacks = list(callbacks)
        for callback in self._callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks: expected Callback objects, got {callback!r}")
        self._shuffle = shuffle
        self._seed = trainer.model.seed if seed is None else expect_integer("seed", seed, 0)
        self._progress = make_progress(verbose)
        self._announce = verbose is not False
        self.history = History()
        self._tally: Tally | None = None
        self._seconds = 0.0

    def run(self, epochs: int) -> None:
        """Train for this many epochs and write the history; see `Trainer.fit`."""
        trainer = self._trainer
        self._reserve_memory()
        last = trainer.epoch + epochs
        quiet = np.errstate(over="ignore", invalid="ignore")  # a step looks at its numbers itself
        with deferred_interrupt(self._announce) as self._interrupt, self._progress, quiet:
            try:
                self._tell("on_train_begin")
                while trainer.epoch < last and not trainer.stop_requested:
                    self._run_epoch(trainer.epoch + 1, last)
                    self._interrupt.check()
            except KeyboardInterrupt:
                self.history.interrupted = True
                self._record_what_was_trained()
            finally:
                self._tell("on_train_end")

    def _run_epoch(self, epoch: int, last: int) -> None:
        trainer = self._trainer
        self._epoch, self._tally, self._seconds = epoch, trainer.tally(), 0.0
        self._tell("on_epoch_begin", epoch)
        self._progress.begin(epoch, last, len(self._samples))
        order = self._order(epoch)
        for batch, (start, stop) in enumerate(self._ranges):
            self._interrupt.check()
            self._tell("on_batch_begin", batch)
            loss = self._train_on(order[start:stop], self._tally)
            self._tell("on_batch_end", batch, loss)
            self._progress.advance(self._tally)
        trainer.epoch = epoch
        values = self._values(validate=True)
        self._record(values)
        for callback in self._callbacks:
            callback.on_epoch_end(trainer, epoch, dict(values))

    def _train_on(self, indices: npt.NDArray[np.intp], tally: Tally) -> float:
        start = time.perf_counter()
        with self._held(len(indices)) as plan:
            targets = self._samples.gather(indices, plan)
            loss = self._trainer.learn(plan, targets, lambda: self._samples.copy_of(indices), tally)
        self._seconds += time.perf_counter() - start
        return loss

    def _order(self, epoch: int) -> npt.NDArray[np.intp]:
        if not self._shuffle:
            return np.arange(len(self._samples))
        generator = np.random.default_rng(np.random.SeedSequence([self._seed, epoch]))
        return generator.permutation(len(self._samples))

    def _values(self, validate: bool) -> dict[str, float]:
        trainer, tally = self._trainer, self._tally
        assert tally is not None
        values = tally.means()
        if validate and self._validation is not None:
            values |= {f"val_{name}": value for name, value in self._validate(self._validation).items()}
        values["learning_rate"] = trainer.optimizer.learning_rate_at(max(trainer.steps - 1, 0))
        values["seconds"] = self._seconds
        values["images_per_second"] = tally.samples / self._seconds if self._seconds else 0.0
        return values

    def _validate(self, samples: Samples) -> dict[str, float]:
        try:
            self._tell("on_validation_begin", self._epoch)
            return self._trainer.evaluate_samples(samples, EVALUATION_BATCH)
        finally:
            self._tell("on_validation_end", self._epoch)

    def _record(self, values: dict[str, float]) -> None:
        self.history.append(self._epoch, values)
        self._progress.end(self._epoch, values)
        self._tally = None

    def _record_what_was_trained(self) -> None:
        """After Ctrl-C: the epoch that it cut short, unless that was recorded already or had no step yet."""
        if self._tally is not None and self._tally.samples:
            if self._trainer.epoch < self._epoch:
                self.history.partial_epoch = self._epoch
            self._record(self._values(validate=False))

    def _tell(self, event: str, *arguments: Any) -> None:
        for callback in self._callbacks:
            getattr(callback, event)(self._trainer, *arguments)

    def _divide(self, batch_size: int) -> list[tuple[int, int]]:
        """Cut an epoch into batches; a last single sample gets its own only where the net can train on it."""
        divided = ranges(len(self._samples), batch_size)
        if len(divided) > 1 and divided[-1][1] - divided[-1][0] == 1 and not self._trains_on_one():
            return ranges(len(self._samples), batch_size, join_single=True)
        return divided

    def _trains_on_one(self) -> bool:
        try:
            with self._held(1):
                return True
        except ValueError:
            return False

    def _held(self, size: int) -> Held:
        """The plan that trains on a batch of this size, for a `with` block."""
        return self._trainer.held(self._samples.shapes(size))

    def _reserve_memory(self) -> None:
        """Let the arena grow to what the largest plan needs now: growing makes the plans bound before useless."""
        if self._validation is not None:
            size = min(EVALUATION_BATCH, len(self._validation))
            with self._trainer.model.held(self._validation.shapes(size)):
                pass
        for size in sorted({stop - start for start, stop in self._ranges}, reverse=True):
            with self._held(size):
                pass


def _check_validation(trainer: Learner, validation_data: tuple[Any, Targets] | None) -> Samples | None:
    if validation_data is None:
        return None
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
        raise ValueError("validation_data: expected a pair (x, y)")
    try:
        return Samples(trainer.model, trainer.objective, *validation_data, keep=True)
    except (ValueError, TypeError) as error:
        raise type(error)(f"validation_data: {error}") from None
