"""The loop of `Trainer.fit`: epochs and batches, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np

from minitrain.data.batch import Batch
from minitrain.data.samples import Samples
from minitrain.data.scale import measured
from minitrain.data.stream import Stream
from minitrain.data.training_data import Pass, TrainingData
from minitrain.layer import Shape
from minitrain.objective.measures import Tally
from minitrain.objective.position import Position
from minitrain.terminal.interrupts import deferred_interrupt, number_of
from minitrain.terminal.progress import make_progress
from minitrain.training.callback import Callback
from minitrain.training.history import History
from minitrain.training.hooks import Hooks, with_notes
from minitrain.training.ranks.alike import expect_alike, identity_of
from minitrain.training.step import Learner
from nbnorm.jit.checks import expect_boolean, expect_integer

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
        data: TrainingData,
        epochs: int,
        callbacks: Sequence[Callback],
        shuffle: bool,
        seed: int | None,
        verbose: bool | Literal["auto"],
    ) -> None:
        self._trainer = trainer
        self._spread = trainer.spread
        self._epochs = epochs
        self._announce = verbose is not False and trainer.rank == 0
        self._progress = make_progress(verbose if trainer.rank == 0 else False)
        self.history = History()

        def check() -> None:
            self._check(data, callbacks, shuffle, seed)

        if self._spread is None:
            check()
            return
        self._spread.agreed(check)
        settings = {
            "loss": trainer.loss, "loss_weights": trainer.loss_weights, "optimizer": trainer.optimizer.config(),
            "steps": trainer.steps, "epochs": (trainer.epoch, epochs), "batch_size": data.batch_size,
            "accumulate": data.accumulate, "seed and shuffle": (self._position.seed, shuffle),
        }  # fmt: skip
        identity = identity_of(trainer.model, self._feed, settings, self._spread.deterministic)
        difference = expect_alike(self._spread.group, identity)
        if difference is not None:
            raise self._spread.common(ValueError(difference))

    def _check(self, data: TrainingData, callbacks: Sequence[Callback], shuffle: bool, given_seed: int | None) -> None:
        trainer = self._trainer
        seed = self._seed(None if given_seed is None else expect_integer("seed", given_seed, 0))
        first = Pass(trainer.epoch + 1, self._epochs, self._trains_on_one)
        self._feed, self._validation = data.checked(trainer.model, trainer.objective, seed, first)
        self._hooks = Hooks(trainer, callbacks)
        self._position = self._place(seed, expect_boolean("shuffle", shuffle), data)
        self._reserve_memory()
        self._hooks.check(self._expected())
        trainer.remember_scales(measured(self._feed.some_inputs()))

    def run(self) -> None:
        """Train and write the history; see `Trainer.fit`."""
        trainer, position = self._trainer, self._position
        states, position.callbacks = position.callbacks, []
        trainer.begin_at(position, self._hooks.states)
        last = trainer.epoch + self._epochs
        quiet = np.errstate(over="ignore", invalid="ignore")  # a step looks at its numbers itself
        validating = trainer.validating_on(self._validation)
        with deferred_interrupt(self._announce) as self._interrupt, self._progress, quiet, validating:
            if self._spread is not None:
                self._spread.begin(self._interrupt)
            failure: BaseException | None = None
            try:
                self._hooks.begin(states)
                while trainer.epoch < last and not trainer.stop_requested:
                    self._run_epoch(trainer.epoch + 1, last)
                    self._check_interrupt()
            except KeyboardInterrupt as stop:
                failure = self._conclude_interrupted(stop)
            except BaseException as error:
                failure = error
                if self._spread is not None:
                    self._spread.end_unless_common(error)
            trainer.end_at(position)
            try:
                self._hooks.end()
            except BaseException as error:
                failure = with_notes(failure, error)
            if failure is not None:
                raise failure

    def _run_epoch(self, epoch: int, last: int) -> None:
        trainer, position, hooks = self._trainer, self._position, self._hooks
        tally = self._begin_epoch(epoch)
        hooks.tell("on_epoch_begin", epoch)
        self._progress.begin(epoch, last, self._feed.samples)
        groups = self._feed.groups(epoch, position.seed, position.shuffle, position.batches)
        for batch, group in enumerate(groups, position.batches):
            self._check_interrupt()
            hooks.tell("on_batch_begin", batch)
            loss = self._train_on(group, tally)
            position.batches, position.seen, position.steps = batch + 1, tally.samples, trainer.steps
            hooks.end_batch(batch, loss)
            position.steps = trainer.steps  # a callback may have made steps, too
            self._progress.advance(tally)
        trainer.epoch = epoch
        if self._spread is not None:
            self._spread.make_alike((trainer.model.flat_params, *trainer.slots.values()))
        values = self._values(tally, validate=True)
        if self._spread is not None:
            values = self._spread.group.gathered(values)[0]  # seconds are not the same everywhere
        self._record(values)
        hooks.end_epoch(epoch, values)
        if self._spread is not None:  # one that stops stops all
            trainer.stop_requested = any(self._spread.group.gathered(trainer.stop_requested))

    def _check_interrupt(self) -> None:
        """Raise KeyboardInterrupt where an end was asked for, of any rank: between two steps that all have made."""
        if self._spread is None:
            self._interrupt.check()
        else:
            self._spread.check_interrupt()

    def _begin_epoch(self, epoch: int) -> Tally:
        """Return the sums of an epoch: nothing yet, or those of the one that goes on."""
        position, tally = self._position, self._new_tally()
        if position.is_inside(self._trainer.epoch, self._trainer.steps) and position.sums is not None:
            tally.restore_state(position.sums)
        else:
            position.batches, position.seconds = 0, 0.0
        position.epoch, position.tally, position.sums = epoch, tally, None
        self._recorded = False
        return tally

    def _train_on(self, group: Sequence[Batch], tally: Tally) -> float:
        start = time.perf_counter()
        loss = self._trainer.learn_from(group, tally)
        self._position.seconds += time.perf_counter() - start
        return loss

    def _values(self, tally: Tally, validate: bool) -> dict[str, float]:
        trainer, seconds = self._trainer, self._position.seconds
        values = tally.values()
        if validate and self._validation is not None:
            values |= {f"val_{name}": value for name, value in self._validate(self._validation).items()}
        values["learning_rate"] = trainer.optimizer.learning_rate_at(max(trainer.steps - 1, 0))
        values["seconds"] = seconds
        values["images_per_second"] = tally.samples / seconds if seconds else 0.0
        return values

    def _expected(self) -> dict[str, bool | None]:
        """Return the names of what `_values` gives, and whether larger is better."""
        measured = self._trainer.directions()
        if self._validation is not None:
            measured |= {f"val_{name}": larger for name, larger in measured.items()}
        return measured | {"learning_rate": None, "seconds": False, "images_per_second": True}

    def _validate(self, samples: Samples | Stream) -> dict[str, float]:
        try:
            self._hooks.tell("on_validation_begin", self._position.epoch)
            return self._trainer.evaluate_samples(samples, EVALUATION_BATCH)
        finally:
            self._hooks.tell("on_validation_end", self._position.epoch)

    def _record(self, values: dict[str, float]) -> None:
        self.history.append(self._position.epoch, values)
        self._progress.end(self._position.epoch, values)
        self._recorded = True

    def _conclude_interrupted(self, stop: KeyboardInterrupt) -> BaseException | None:
        """Record the epoch that was cut short, unless that was recorded already or had no step yet; let it be saved."""
        self.history.interrupted = True
        self.history.signal = number_of(stop)
        tally = self._position.tally
        if tally is not None and tally.samples and not self._recorded:
            if self._trainer.epoch < self._position.epoch:
                self.history.partial_epoch = self._position.epoch
            self._record(self._values(tally, validate=False))
        try:
            self._hooks.tell("after_interrupt")
        except BaseException as error:
            return error
        return None

    def _new_tally(self) -> Tally:
        return self._trainer.tally(weighted=self._feed.is_weighted)

    def _seed(self, given: int | None) -> int:
        """Return the seed: the one that was given, or that of the fit that goes on, or the model's."""
        if given is not None:
            return given
        former = self._trainer.position
        return self._trainer.model.seed if former is None or not former.resumes else former.seed

    def _place(self, seed: int, shuffle: bool, data: TrainingData) -> Position:
        """Return where this fit begins: in the middle of an epoch where one was interrupted."""
        trainer, former = self._trainer, self._trainer.position
        position = Position(seed, shuffle, int(data.batch_size), self._feed.samples or 0, int(data.accumulate))
        if former is None or not former.resumes:
            return position
        position.callbacks = former.callbacks
        if former.is_inside(trainer.epoch, trainer.steps):
            if not former.fits(position):
                warnings.warn(
                    f"epoch {former.epoch} begins anew: it was cut short with other data, batch_size, accumulate, "
                    f"shuffle or seed ({former.samples} samples, {former.batch_size}, {former.shuffle}, {former.seed})",
                    stacklevel=4,
                )
                return position
            position.epoch, position.batches, position.steps = former.epoch, former.batches, former.steps
            position.seen = former.seen
            position.seconds, position.sums = former.seconds, former.sums
            self._new_tally().restore_state(former.sums or {})
        return position

    def _trains_on_one(self, shapes: tuple[Shape, ...]) -> bool:
        try:
            with self._trainer.held(tuple([(1, *each[1:]) for each in shapes])):
                return True
        except ValueError:
            return False

    def _reserve_memory(self) -> None:
        """Let the arena grow to what the largest plan needs now: growing makes the plans bound before useless."""
        if self._validation is not None:
            validation = self._validation
            shapes = (
                validation.shapes
                if isinstance(validation, Stream)
                else validation.shapes(min(EVALUATION_BATCH, len(validation)))
            )
            with self._trainer.model.held(shapes):
                pass
        if self._spread is not None:  # the parts of a batch have memory of their own
            return
        for shapes in self._feed.shapes:
            with self._trainer.held(shapes):
                pass
