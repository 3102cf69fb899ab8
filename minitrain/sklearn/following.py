"""What scikit-learn's callbacks are told while an estimator trains: `fit` is a task, and each epoch one within it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from minitrain.training.callback import Callback
from minitrain.training.step import Learner

__all__ = ["Following"]


class Following(Callback):
    """Tells the callbacks of an estimator of its fit and of each epoch, and stops where one of them asks for it.

    Parameters
    ----------
    estimator : estimator
        Which is being fitted.
    context : CallbackContext
        Of the fit.
    data : mapping of str to object
        X, y and metadata, as the callbacks get them.
    """

    def __init__(self, estimator: Any, context: Any, data: Mapping[str, Any]) -> None:
        self._told = {"estimator": estimator, **data}
        self._fit = context
        self._epoch: Any = None

    def on_train_begin(self, trainer: Learner) -> None:
        self._fit.call_on_fit_task_begin(**self._told)

    def on_epoch_begin(self, trainer: Learner, epoch: int) -> None:
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._told, reconstruction_attributes=_copied(trainer))

    def on_epoch_end(self, trainer: Learner, epoch: int, values: Mapping[str, float]) -> None:
        if self._epoch.call_on_fit_task_end(**self._told, reconstruction_attributes=_copied(trainer)):
            trainer.stop()

    def on_train_end(self, trainer: Learner) -> None:
        self._fit.call_on_fit_task_end(**self._told, reconstruction_attributes=_copied(trainer))


def _copied(trainer: Learner) -> Callable[[], dict[str, Any]]:
    """Return what copies the model for an estimator that predicts: called only where a callback asks for it."""
    return lambda: {"model_": copy.deepcopy(trainer.model)}
