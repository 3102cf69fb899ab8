"""An average of the parameters over the training, beside those that are trained."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain.model import Model
from minitrain.training.callback import Callback
from minitrain.training.step import Learner
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_boolean

__all__ = ["WeightAverage"]

Weights = tuple[Array, npt.NDArray[np.uint8]]  # parameters and state, as a model has them


class WeightAverage(Callback):
    """Base of the callbacks that average: keeps the average, and puts it into the model for validation and at the end.

    Parameters
    ----------
    swap_at_end : bool
        Whether the model has the average when training is over, for whatever reason it ends. A further `fit` with this
        callback goes on from what was trained, not from the average. False: the average is in `average()` alone.

    Attributes
    ----------
    count : int
        How many parameters are in the average.

    Notes
    -----
    The average is float64. State that is floating, such as running statistics, is averaged with the same weights
    (`use_buffers=True` of PyTorch's `AveragedModel`); all other state, such as counters, is that of the last step.
    """

    def __init__(self, swap_at_end: bool = True) -> None:
        self.swap_at_end = expect_boolean("swap_at_end", swap_at_end)
        self._trainer: Learner | None = None  # while it trains
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.count = 0
        self._steps = 0
        self._params: npt.NDArray[np.float64] | None = None
        self._state: dict[str, npt.NDArray[Any]] = {}
        self._trained: Weights | None = None  # what was trained, while the model has the average

    def average(self) -> dict[str, npt.NDArray[Any]]:
        """Return copies of the averaged state by name, and of all averaged parameters in one vector, "params"."""
        if self._params is None:
            raise ValueError("average: expected at least one step to average over, got none so far")
        return {"params": self._params.copy(), **{name: each.copy() for name, each in self._state.items()}}

    def on_train_begin(self, trainer: Learner) -> None:
        self._trainer = trainer
        self._go_on(trainer)

    def _go_on(self, trainer: Learner) -> None:
        """Begin with what was trained where the model has the average; begin anew for another trainer."""
        model = trainer.model
        fits = self._params is not None and self._params.shape == model.flat_params.shape
        if not fits or trainer.steps < self._steps:  # another trainer, or one that has not begun
            self._begin_anew()
        elif self._trained is not None and np.array_equal(model.flat_params, self._cast(model)):
            self._put_back(model)
        self._trained = None

    def on_validation_begin(self, trainer: Learner, epoch: int) -> None:
        self._put_in(trainer.model)

    def on_validation_end(self, trainer: Learner, epoch: int) -> None:
        self._put_back(trainer.model)

    def on_train_end(self, trainer: Learner) -> None:
        self._trainer = None
        if self.swap_at_end:
            self._put_in(trainer.model)

    def _add(self, trainer: Learner, weight: float) -> None:
        """Move the average by this share of the way to what the model has now; the first time all of it."""
        model = trainer.model
        self._steps = trainer.steps
        self.count += 1
        if self._params is None:
            self._params = model.flat_params.astype(np.float64)
            self._state = {name: _wide(each) for name, each in model.state.items()}
            return
        self._params += weight * (model.flat_params - self._params)
        for name, now in model.state.items():
            average = self._state[name]
            if now.dtype.kind == "f":
                average += weight * (now - average)
            else:
                average[...] = now

    def _put_in(self, model: Model) -> None:
        if self._params is None or self._trained is not None:
            return
        if not np.isfinite(self._params).all():
            warnings.warn("the average of the parameters is not finite; it is not used", stacklevel=2)
            return
        self._trained = (model.flat_params.copy(), model.flat_state.copy())
        model.flat_params[...] = self._params
        for name, average in self._state.items():
            model.state[name][...] = average

    def _put_back(self, model: Model) -> None:
        if self._trained is not None:
            model.flat_params[...], model.flat_state[...] = self._trained
            self._trained = None

    def _cast(self, model: Model) -> Array:
        assert self._params is not None
        return self._params.astype(model.dtype)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: the average, and what was trained where the model has the average now."""
        state: dict[str, Any] = {"count": self.count, "steps": self._steps}
        if self._params is not None:
            state |= {f"average.{name}": each for name, each in self.average().items()}
        if self._trained is not None:
            state |= {"trained.params": self._trained[0].copy(), "trained.state": self._trained[1].copy()}
        return state

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Take what `state` returned."""
        self._begin_anew()
        self.count, self._steps = int(state["count"]), int(state["steps"])
        averages = {
            name.removeprefix("average."): np.array(each) for name, each in state.items() if name.startswith("average.")
        }
        self._params = averages.pop("params", None)
        self._state = averages
        if "trained.params" in state:
            self._trained = (np.array(state["trained.params"]), np.array(state["trained.state"]))
        if self._trainer is not None:
            self._go_on(self._trainer)


def _wide(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.astype(np.float64 if values.dtype.kind == "f" else values.dtype)
