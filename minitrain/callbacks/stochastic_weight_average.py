"""The mean of the parameters over the last epochs."""

from __future__ import annotations

from collections.abc import Mapping

from minitrain.callbacks._averaging import WeightAverage
from minitrain.training.step import Learner
from nbnorm.jit.checks import expect_integer

__all__ = ["StochasticWeightAverage"]


class StochasticWeightAverage(WeightAverage):
    """Averages the parameters at the ends of epochs, all with the same weight.

    Validation sees the average from its first epoch on, and so does the model when training is over; training itself
    does not. Batch norm's running statistics are averaged, too. The same numbers as PyTorch's `AveragedModel(model,
    use_buffers=True)`. Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018
    (arXiv:1803.05407); a learning rate that stays high belongs to it.

    Parameters
    ----------
    start : int
        The first epoch that is averaged, counted from 1.
    every : int
        Every so many epochs are averaged.
    swap_at_end : bool
        Whether the model has the average when training is over. Put other callbacks that restore weights, such as
        `EarlyStopping`, in front of this one, or leave their restoring away.

    Examples
    --------
    >>> from minitrain.callbacks import StochasticWeightAverage
    >>> StochasticWeightAverage(start=8, every=2)
    StochasticWeightAverage(start=8, every=2, swap_at_end=True)
    """

    def __init__(self, start: int = 1, every: int = 1, swap_at_end: bool = True) -> None:
        super().__init__(swap_at_end)
        self.start = expect_integer("start", start, 1)
        self.every = expect_integer("every", every, 1)

    def on_validation_begin(self, trainer: Learner, epoch: int) -> None:
        self._take(trainer, epoch)
        super().on_validation_begin(trainer, epoch)

    def on_epoch_end(self, trainer: Learner, epoch: int, values: Mapping[str, float]) -> None:
        self._take(trainer, epoch)

    def _take(self, trainer: Learner, epoch: int) -> None:
        taken = self.count and self._steps == trainer.steps  # before the validation of this epoch
        if epoch >= self.start and (epoch - self.start) % self.every == 0 and not taken:
            self._add(trainer, 1.0 / (self.count + 1))
