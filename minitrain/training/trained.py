"""What a trainer is made of, what of that can be replaced, and copies of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

from minitrain.exclusive import Exclusive
from minitrain.model import Model
from minitrain.model.copying import Copied
from minitrain.objective.objective import Objective
from minitrain.optimizers import Optimizer
from minitrain.sealed import Sealed
from minitrain.training.history import History
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import mismatch

__all__ = ["Trained"]

ANOTHER = "make another trainer: Trainer(model, loss, optimizer, metrics=...)"
RATE = "write trainer.optimizer = Adam(rate), of the class that it is now: what it has learned of the gradients is kept"
FIT = "give it to trainer.fit(...)"


class Trained(Copied, Sealed, sealed=True):
    """The attributes of a trainer; see `Trainer`."""

    assignable: ClassVar[frozenset[str]] = frozenset({"steps", "epoch", "stop_requested"})
    remedies: ClassVar[Mapping[str, str]] = {
        "model": ANOTHER,
        "loss": ANOTHER,
        "loss_weights": ANOTHER,
        "objective": ANOTHER,
        "metrics": ANOTHER,
        "history": "each fit begins one of its own",
        "slots": "write into its arrays: trainer.slots[name][...] = array",
        "lr": RATE,
        "learning_rate": RATE,
        "stop": "call trainer.stop()",
        "stop_training": "call trainer.stop()",
        "callbacks": FIT,
        "epochs": FIT,
        "batch_size": FIT,
        "validation_data": FIT,
        "seed": "give it to trainer.fit(..., seed=1), or to the model",
        "dtype": 'it is the model\'s: Model(..., dtype="float64")',
    }

    model: Model
    loss: Any
    loss_weights: Any
    objective: Objective
    metrics: Any
    slots: dict[str, Array]
    steps: int
    epoch: int
    stop_requested: bool
    _history: History | None
    _fit: Exclusive
    _optimizer: Optimizer

    @property
    def history(self) -> History | None:
        """Of the last `fit`; while one runs, a copy of what there is so far."""
        return self._history.copy() if self._fit and self._history is not None else self._history

    @property
    def optimizer(self) -> Optimizer:
        """What updates the parameters.

        One of the same class can take its place, with another learning rate for example. Its vectors and `steps` go on.
        Vectors of another optimizer would begin with zeros where its rule counts on `steps` of them: that is refused.
        """
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(mismatch("optimizer", "an Optimizer", repr(optimizer)))
        former = vars(self).get("_optimizer", optimizer)
        if type(optimizer) is not type(former) or optimizer.slot_names != former.slot_names:
            expected = f"another {type(former).__name__} with {', '.join(former.slot_names) or 'no vectors'}"
            raise ValueError(f"optimizer: expected {expected}, got {optimizer!r}; for one of another kind {ANOTHER}")
        self._optimizer = optimizer

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        with self.model.resting():  # what belongs to one step stays together, also where another thread trains
            copied.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return copied
