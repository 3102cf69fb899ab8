"""A moving average of the parameters over the steps."""

from __future__ import annotations

from minitrain.callbacks._averaging import WeightAverage
from minitrain.training.step import Learner
from nbnorm.jit.checks import expect_number

__all__ = ["ExponentialMovingAverage"]


class ExponentialMovingAverage(WeightAverage):
    """Averages the parameters over the steps: average = decay * average + (1 - decay) * parameters.

    It begins with the parameters after the first step. Validation sees the average, and so does the model when training
    is over; training itself does not. Batch norm's running statistics are averaged in the same way. The same numbers as
    PyTorch's `AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)`.
    Polyak & Juditsky, "Acceleration of stochastic approximation by averaging", 1992.

    Parameters
    ----------
    decay : float
        In [0, 1): how much of the average stays at each step; it looks back about 1 / (1 - decay) steps.
    swap_at_end : bool
        Whether the model has the average when training is over. Put other callbacks that restore weights, such as
        `EarlyStopping`, in front of this one, or leave their restoring away.

    Examples
    --------
    >>> from minitrain.callbacks import ExponentialMovingAverage
    >>> ExponentialMovingAverage(decay=0.99)
    ExponentialMovingAverage(decay=0.99, swap_at_end=True)
    """

    def __init__(self, decay: float = 0.999, swap_at_end: bool = True) -> None:
        super().__init__(swap_at_end)
        self.decay = expect_number("decay", decay, 0.0, 1.0, open_high=True)

    def on_batch_end(self, trainer: Learner, batch: int, loss: float) -> None:
        self._add(trainer, 1.0 - self.decay)
