"""Running statistics with the averaging period that validates best."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from minitrain.data.stream import is_stream
from minitrain.layers import BatchNorm
from minitrain.training.callback import Callback
from minitrain.training.statistics.calibration import calibrate_on
from minitrain.training.statistics.norms import norms_of
from minitrain.training.statistics.pooled import Pooled
from minitrain.training.step import Learner
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_integer, expect_number, mismatch

__all__ = ["TuneRunningStatistics"]

Candidate = float | Literal["precise"] | None
PERIODS = (10, 30, 100, 300, None)


class TuneRunningStatistics(Callback):
    """Keeps several moving averages of the same batch statistics, and takes those that validate best.

    How long running statistics should remember depends on the batch size, on how fast the weights move and on how long
    the training is, and no one value of `momentum` is right from the first epoch to the last. Here all periods follow
    the batches side by side, in float64 and without what they started from; the cost for a step is that of a few
    vectors. Before the validation of each epoch every candidate is tried on the validation data, and the one of the
    smallest loss becomes the model's. Training does not read running statistics, so that the weights are those of a
    training without this. Norms that do read them (`renorm`, `threshold`) keep their own.

    Where weights are averaged, put this callback behind the one that does it.

    Parameters
    ----------
    periods : sequence of float or None
        A batch has the weight ``2 / (period + 1)``; None is the mean over all batches so far.
    precise : as `Trainer.calibrate` takes it, optional
        Data whose exact statistics are one more candidate, "precise".
    batch_size : int
        Samples computed at a time for these.

    Attributes
    ----------
    losses : dict of candidate to float
        The validation losses of the last epoch.
    chosen : list
        The candidate that was taken at each epoch so far: a period, None or "precise".

    Examples
    --------
    >>> from minitrain.callbacks import TuneRunningStatistics
    >>> TuneRunningStatistics(periods=(5, 50)).periods
    (5.0, 50.0)
    """

    def __init__(self, periods: Sequence[float | None] = PERIODS, precise: Any = None, batch_size: int = 256) -> None:
        if isinstance(periods, str) or not isinstance(periods, Sequence) or not len(periods):
            raise ValueError(mismatch("periods", "a sequence of one or more periods", repr(periods)))
        self.periods = tuple(None if each is None else expect_number("periods", each, 1.0) for each in periods)
        if len(set(self.periods)) != len(self.periods):
            raise ValueError(mismatch("periods", "each of them once", repr(tuple(periods))))
        self._precise = precise
        self.batch_size = expect_integer("batch_size", batch_size, 1)
        self.losses: dict[Candidate, float] = {}
        self.chosen: list[Candidate] = []
        self._batches = 0
        self._averages: dict[str, tuple[Array, Array]] = {}  # of means and of variances, (periods, C), by running mean
        self._variances: dict[str, str] = {}  # the name of the running variance by that of the running mean
        self._found: dict[str, Pooled] = {}
        self._gathering = contextlib.ExitStack()

    def __repr__(self) -> str:
        precise = ", precise=..." if self._precise is not None else ""
        return f"TuneRunningStatistics(periods={self.periods}{precise}, batch_size={self.batch_size})"

    def check(self, trainer: Learner, expected: Mapping[str, bool | None]) -> None:
        if "val_loss" not in expected:
            raise ValueError(
                "TuneRunningStatistics: expected a fit with validation_data or validation_split, got one without"
            )
        if self._precise is not None and not is_stream(self._precise):
            trainer.model.check_inputs(self._precise)

    def on_train_begin(self, trainer: Learner) -> None:
        self._batches, self._averages, self.losses, self.chosen = 0, {}, {}, []
        for mean, norm in norms_of(trainer.model.graph).items():
            layer = norm.calls[0].layer
            if not (isinstance(layer, BatchNorm) and (layer.renorm is not None or layer.threshold is not None)):
                means, variances = np.zeros((2, len(self.periods), trainer.model.state[mean].size))
                self._averages[mean] = means, variances
                self._variances[mean] = norm.var
        self._found = {mean: Pooled() for mean in self._averages}
        self._gathering.enter_context(trainer.gathering(self._found))

    def on_train_end(self, trainer: Learner) -> None:
        self._gathering.close()

    def on_batch_begin(self, trainer: Learner, batch: int) -> None:
        self._found.update({mean: Pooled() for mean in self._found})

    def on_batch_end(self, trainer: Learner, batch: int, loss: float) -> None:
        self._batches += 1
        weights = np.array([self._weight(period) for period in self.periods])[:, None]
        for name, (means, variances) in self._averages.items():
            found = self._found[name]
            if found.count > 1:
                means += weights * (found.mean - means)
                variances += weights * (found.squares / (found.count - 1) - variances)

    def _weight(self, period: float | None) -> float:
        """Return the weight of the newest batch, of averages that hold nothing but batches."""
        if period is None:
            return 1.0 / self._batches
        momentum = 2.0 / (period + 1.0)
        return momentum / (1.0 - (1.0 - momentum) ** self._batches) if self._batches > 1 else 1.0

    def on_validation_begin(self, trainer: Learner, epoch: int) -> None:
        if not self._batches or not self._averages:
            return
        model = trainer.model
        before = model.flat_state.copy()
        self.losses, states = {}, dict[Candidate, Array]()
        try:
            if self._precise is not None:
                calibrate_on(model, trainer.objective, self._precise, self.batch_size, trainer.spread)
                states["precise"] = model.flat_state.copy()
                self.losses["precise"] = trainer.validate()["loss"]
                model.flat_state[...] = before
            for index, period in enumerate(self.periods):
                for name, (means, variances) in self._averages.items():
                    model.state[name][...] = means[index]
                    model.state[self._variances[name]][...] = variances[index]
                states[period] = model.flat_state.copy()
                self.losses[period] = trainer.validate()["loss"]
        except BaseException:
            model.flat_state[...] = before
            raise
        best = min(self.losses, key=lambda each: (not math.isfinite(self.losses[each]), self.losses[each]))
        model.flat_state[...] = states[best]
        self.chosen.append(best)

    def state(self) -> Mapping[str, Any]:
        averages = {name: [means, variances] for name, (means, variances) in self._averages.items()}
        return {"batches": self._batches, "averages": averages, "chosen": list(self.chosen)}

    def restore_state(self, state: Mapping[str, Any]) -> None:
        self._batches, self.chosen = int(state["batches"]), list(state["chosen"])
        for name, (means, variances) in self._averages.items():
            means[...], variances[...] = state["averages"][name]
