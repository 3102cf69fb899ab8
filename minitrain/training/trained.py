"""What a trainer is made of, what of that can be replaced, and copies of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from minitrain.losses import Loss
from minitrain.model import Model
from minitrain.model.copying import Copied
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

    assignable: ClassVar[frozenset[str]] = frozenset({"steps", "epoch", "history", "stop_requested"})
    remedies: ClassVar[Mapping[str, str]] = {
        "model": ANOTHER,
        "loss": ANOTHER,
        "metrics": ANOTHER,
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
    loss: Loss
    metrics: Any
    slots: dict[str, Array]
    steps: int
    epoch: int
    history: History | None
    stop_requested: bool
    _optimizer: Optimizer

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
