"""Running statistics that are exactly those of the data, at the ends of epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minitrain.data.stream import is_stream
from minitrain.training.callback import Callback
from minitrain.training.statistics.calibration import calibrate_on
from minitrain.training.step import Learner
from nbnorm.jit.checks import expect_integer

__all__ = ["PreciseBatchNorm"]


class PreciseBatchNorm(Callback):
    """Calibrates all batch norms at the ends of epochs, before the validation: see `Trainer.calibrate`.

    Training goes on from these statistics; it does not read them. Where weights are averaged, put this callback behind
    the one that does it: validation sees averaged weights with statistics of their own. Wu and Johnson, "Rethinking
    'Batch' in BatchNorm", 2021 (arXiv:2105.07576).

    Parameters
    ----------
    x : as `Trainer.calibrate` takes it
        What is trained on; some thousand samples of it do as well.
    batch_size : int
        Samples computed at a time.
    every : int
        Every so many epochs.

    Examples
    --------
    >>> import numpy as np
    >>> from minitrain.callbacks import PreciseBatchNorm
    >>> PreciseBatchNorm(np.zeros((100, 2)), every=5).every
    5
    """

    def __init__(self, x: Any, batch_size: int = 256, every: int = 1) -> None:
        self._x = x
        self.batch_size = expect_integer("batch_size", batch_size, 1)
        self.every = expect_integer("every", every, 1)
        self._steps = -1  # those of the training when the norms were calibrated last

    def __repr__(self) -> str:
        return f"PreciseBatchNorm(batch_size={self.batch_size}, every={self.every})"

    def check(self, trainer: Learner, expected: Mapping[str, bool | None]) -> None:
        if not is_stream(self._x):
            trainer.model.check_inputs(self._x)

    def on_validation_begin(self, trainer: Learner, epoch: int) -> None:
        self._calibrate(trainer, epoch)

    def on_epoch_end(self, trainer: Learner, epoch: int, values: Mapping[str, float]) -> None:
        if self._steps != trainer.steps:  # there is no validation
            self._calibrate(trainer, epoch)

    def _calibrate(self, trainer: Learner, epoch: int) -> None:
        if epoch % self.every == 0:
            calibrate_on(trainer.model, trainer.objective, self._x, self.batch_size, trainer.spread)
            self._steps = trainer.steps
