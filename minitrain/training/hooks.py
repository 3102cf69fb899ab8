"""The callbacks of one `fit`, called so that each of them hears of everything, whatever another one raises."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minitrain.objective.position import CallbackState
from minitrain.training.callback import Callback
from minitrain.training.step import Learner

__all__ = ["Hooks", "with_notes"]


class Hooks:
    """Callbacks, and which of them have begun.

    Parameters
    ----------
    trainer : Learner
    callbacks : sequence of Callback
    """

    def __init__(self, trainer: Learner, callbacks: Sequence[Callback]) -> None:
        if isinstance(callbacks, Callback):
            raise TypeError(f"callbacks: expected a sequence of Callback objects, got one alone: [{callbacks!r}]")
        self._trainer = trainer
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks: expected Callback objects, got {callback!r}")
        self._callbacks = [each for each in callbacks if trainer.rank == 0 or not each.writes]
        self._begun: list[Callback] = []
        self._after_batch = [each for each in self._callbacks if type(each).after_batch is not Callback.after_batch]

    def check(self, expected: Mapping[str, bool | None]) -> None:
        """Let all callbacks look whether they can work."""
        for callback in self._callbacks:
            callback.check(self._trainer, dict(expected))

    def begin(self, states: Iterable[CallbackState]) -> None:
        """Run `on_train_begin` of one after the other, up to the first that raises; then give states back."""
        for callback in self._callbacks:
            callback.on_train_begin(self._trainer)
            self._begun.append(callback)
        waiting = list(states)
        for callback in self._callbacks:
            identity = callback.identity()
            found = next((index for index, (of, _) in enumerate(waiting) if of == identity), None)
            if found is not None:
                callback.restore_state(waiting.pop(found)[1])

    def states(self) -> list[CallbackState]:
        """Return what the callbacks remember."""
        return [(each.identity(), each.state()) for each in self._callbacks]

    def tell(self, event: str, *arguments: Any) -> None:
        """Run a method of all callbacks; raise the first exception, with those of others as notes."""
        self._call(self._callbacks, event, *arguments)

    def end_batch(self, batch: int, loss: float) -> None:
        """Run what belongs to the end of a step."""
        self.tell("on_batch_end", batch, loss)
        if self._after_batch:
            self._call(self._after_batch, "after_batch")

    def end_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Run what belongs to the end of an epoch, with a copy of the values for each."""
        for event in ("on_epoch_end", "after_epoch"):
            self._call(self._callbacks, event, epoch, values)

    def end(self) -> None:
        """Run `on_train_end` of the callbacks that have begun."""
        begun, self._begun = self._begun, []
        self._call(begun, "on_train_end")

    def _call(self, callbacks: Sequence[Callback], event: str, *arguments: Any) -> None:
        first = None
        for callback in callbacks:
            try:
                copies = [dict(each) if isinstance(each, Mapping) else each for each in arguments]
                getattr(callback, event)(self._trainer, *copies)
            except BaseException as error:  # also Ctrl-C within a callback: the others hear of the event, too
                first = with_notes(first, error)
        if first is not None:
            raise first


def with_notes(first: BaseException | None, error: BaseException) -> BaseException:
    """Return the first of two exceptions, the other one a note of it."""
    if first is None:
        return error
    if error is not first:
        text = "".join(traceback.format_exception_only(error)).strip()
        first.add_note(f"after that, another callback raised {text}")
    return first
