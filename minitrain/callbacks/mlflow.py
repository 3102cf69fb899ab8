"""The history in MLflow."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

from minitrain.optional import require
from minitrain.training.callback import Callback
from minitrain.training.step import Learner

__all__ = ["MLflow"]


class MLflow(Callback):
    """Logs the optimizer's settings, the number of parameters, and the history after each epoch to MLflow.

    Where a run is active, as within `with mlflow.start_run():`, it is that run, and it stays open. Otherwise each
    training is a run of its own, which ends as FINISHED, KILLED (Ctrl-C) or FAILED. Needs the package mlflow, or
    mlflow-skinny.

    Parameters
    ----------
    run_name : str, optional
        Of the run that is started.
    parameters : mapping, optional
        What to log besides, such as the batch size.

    Raises
    ------
    ImportError
        When training begins: mlflow is not installed.

    Notes
    -----
    A server that cannot be reached any more is a warning; training goes on, and nothing more is logged.
    """

    writes: ClassVar[bool] = True

    def __init__(self, run_name: str | None = None, parameters: Mapping[str, Any] | None = None) -> None:
        self.run_name = run_name
        self.parameters = dict(parameters or {})
        self._mlflow: Any = None
        self._run: Any = None  # where we have started one
        self._outside: BaseException | None = None

    def check(self, trainer: Learner, expected: Mapping[str, Any]) -> None:
        """Raise ImportError, before anything is trained, where the package is missing."""
        require("mlflow", "logging to MLflow")

    def on_train_begin(self, trainer: Learner) -> None:
        mlflow = require("mlflow", "logging to MLflow")
        self._outside = sys.exception()
        self._run = mlflow.start_run(run_name=self.run_name) if mlflow.active_run() is None else None
        self._mlflow = mlflow
        settings = trainer.optimizer.config()
        optimizer = {("optimizer" if name == "class" else name): value for name, value in settings.items()}
        self._log("log_params", {**optimizer, "model_parameters": trainer.model.count_parameters(), **self.parameters})

    def on_epoch_end(self, trainer: Learner, epoch: int, values: Mapping[str, float]) -> None:
        self._log("log_metrics", dict(values), step=epoch)

    def on_train_end(self, trainer: Learner) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        history = trainer.history
        status = "KILLED" if history is not None and history.interrupted else "FINISHED"
        if sys.exception() is not self._outside and status == "FINISHED":
            status = "FAILED"
        self._log("end_run", status)
        self._mlflow = self._outside = None

    def _log(self, name: str, *arguments: Any, **options: Any) -> None:
        if self._mlflow is None:
            return
        try:
            getattr(self._mlflow, name)(*arguments, **options)
        except Exception as error:  # of many packages: a log is no reason to lose a training
            self._mlflow = None
            warnings.warn(f"MLflow: {name} failed ({error}); nothing more is logged", stacklevel=2)
