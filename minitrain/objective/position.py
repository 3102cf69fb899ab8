"""Where a `fit` is: what it takes to go on in the middle of an epoch as if there had been no break."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minitrain.objective.measures import Tally
from nbnorm.jit.arrays import Array

__all__ = ["CallbackState", "Position", "join_arrays", "split_arrays"]

CallbackState = tuple[str, Mapping[str, Any]]  # which callback it is of, see `Callback.identity`, and its state
ARRAY = "array"


@dataclass
class Position:
    """A place in the training of a data set.

    Attributes
    ----------
    seed : int
    shuffle : bool
    batch_size, samples, accumulate : int
        What the order and the batches of an epoch depend on, beside the epoch's number.
    epoch : int
        The epoch that runs, or ran last.
    batches, seen : int
        Steps of it that were made, and samples in them.
    steps : int
        Of the trainer after them: where that has another number, somebody else has trained since.
    seconds : float
        Of training in this epoch.
    tally : Tally or None
        The sums of the epoch so far.
    sums : mapping or None
        The same as `Tally.state` gives it, where no fit runs.
    callbacks : list of CallbackState
        What the callbacks remembered, where no fit runs.
    resumes : bool
        Whether the next fit is to go on from here: after a checkpoint was read, or an interruption.
    """

    seed: int
    shuffle: bool
    batch_size: int
    samples: int
    accumulate: int = 1
    epoch: int = 0
    batches: int = 0
    seen: int = 0
    steps: int = 0
    seconds: float = 0.0
    tally: Tally | None = None
    sums: Mapping[str, Any] | None = None
    callbacks: list[CallbackState] = field(default_factory=list)
    resumes: bool = False

    def is_inside(self, epoch: int, steps: int) -> bool:
        """Whether this is within the epoch after `epoch`, and nothing was trained since."""
        if self.epoch != epoch + 1 or not self.batches or self.steps != steps:
            return False
        state = self._state()
        return state is not None and state["samples"] == self.seen  # else a step was undone after its losses were added

    def fits(self, other: Position) -> bool:
        """Whether the other one has the same order of the same number of samples, in the same batches."""
        return self.order == other.order

    @property
    def order(self) -> tuple[int, bool, int, int, int]:
        """What decides which samples are in which batch, beside the epoch."""
        return self.seed, self.shuffle, self.batch_size, self.samples, self.accumulate

    def state(self, inside: bool) -> dict[str, Any]:
        """Return everything but the callbacks' states, as `from_state` takes it."""
        state = {
            name: getattr(self, name) for name in ("seed", "shuffle", "batch_size", "samples", "accumulate", "epoch")
        }
        if inside:
            state |= {"batches": self.batches, "seen": self.seen, "seconds": self.seconds, "sums": self._state()}
        return state

    def _state(self) -> Mapping[str, Any] | None:
        return self.sums if self.tally is None else self.tally.state()

    @classmethod
    def from_state(cls, state: Mapping[str, Any], steps: int, callbacks: list[CallbackState]) -> Position:
        """Return what `state` described, where a trainer has made so many steps."""
        batches, seconds, sums = int(state.get("batches", 0)), float(state.get("seconds", 0.0)), state.get("sums")
        return cls(
            int(state["seed"]),
            bool(state["shuffle"]),
            int(state["batch_size"]),
            int(state["samples"]),
            int(state.get("accumulate", 1)),
            epoch=int(state["epoch"]),
            batches=batches,
            seen=int(state.get("seen", 0)),
            steps=steps,
            seconds=seconds,
            sums=sums,
            callbacks=callbacks,
            resumes=True,
        )


def split_arrays(value: Any, arrays: dict[str, Array], name: str) -> Any:
    """Return nested dictionaries and lists with a name in the place of each array, which is put into `arrays`."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {ARRAY: name}
    if isinstance(value, Mapping):
        return {str(key): split_arrays(each, arrays, f"{name}.{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [split_arrays(each, arrays, f"{name}.{index}") for index, each in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    return value


def join_arrays(value: Any, arrays: Mapping[str, Array]) -> Any:
    """Undo `split_arrays`; ValueError where an array is missing."""
    if isinstance(value, Mapping):
        if value.keys() == {ARRAY}:
            if value[ARRAY] not in arrays:
                raise ValueError(f"no array {value[ARRAY]!r}")
            return arrays[value[ARRAY]]
        return {key: join_arrays(each, arrays) for key, each in value.items()}
    if isinstance(value, list):
        return [join_arrays(each, arrays) for each in value]
    return value
