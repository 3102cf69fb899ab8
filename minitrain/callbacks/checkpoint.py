"""Save a run after each epoch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping

import numpy as np

from minitrain.callbacks._monitor import Mode, Monitor
from minitrain.training.callback import Callback
from minitrain.training.checkpoint_file import save_checkpoint
from minitrain.training.step import Learner

__all__ = ["Checkpoint"]


class Checkpoint(Callback):
    """Saves after each epoch everything that a run needs to go on bit for bit; see `minitrain.checkpoint`.

    Parameters
    ----------
    path : str or path-like
        The file. "{epoch}" in it becomes the epoch's number.
    monitor : str
        Name of a value in the history; looked at with `best_only` alone.
    best_only : bool
        Whether only epochs better than all before are saved.
    mode : "auto", "min" or "max"
        Which values are better; "auto": larger ones for accuracies, smaller ones for everything else.
    best : float, optional
        What has to be beaten first, where a run goes on.

    Notes
    -----
    A checkpoint is never overwritten with parameters that are not finite: there is a warning instead.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        best_only: bool = False,
        mode: Mode = "auto",
        best: float | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self.best_only = best_only
        self._monitor = Monitor(monitor, mode, best=best)

    @property
    def best(self) -> float:
        """Return the best value so far."""
        return self._monitor.best

    def on_epoch_end(self, trainer: Learner, epoch: int, values: Mapping[str, float]) -> None:
        if self.best_only and not self._monitor.improves(values):
            return
        if not np.isfinite(trainer.model.flat_params).all():
            warnings.warn(f"epoch {epoch}: parameters are not finite; the last checkpoint is kept", stacklevel=2)
            return
        save_checkpoint(trainer, self.path.replace("{epoch}", str(epoch)))
