"""Data sets cut into batches: checked once, gathered into a plan's own inputs, measured as they pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from minitrain.compile.plan import Plan
from minitrain.losses import Loss
from minitrain.metrics import accuracy_of
from minitrain.model import Model
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_integer

__all__ = ["Metric", "Samples", "Tally", "named_metrics", "ranges"]

Metric = Callable[[Array, Array], float]


class Samples:
    """Inputs and targets of one data set, checked against a model and a loss.

    Attributes
    ----------
    inputs : list of arrays
        C-contiguous, of the model's dtype: a row can be gathered with one copy.
    targets : array
        As the loss wants them.

    Raises
    ------
    ValueError, TypeError
        Inputs that do not fit the model, targets that do not fit the loss, no samples, different lengths.
    """

    def __init__(self, model: Model, loss: Loss, x: Array | Sequence[Array], y: npt.ArrayLike) -> None:
        arrays = model.check_inputs(x)
        count = len(arrays[0])
        if not count:
            raise ValueError("x: expected at least one sample, got none")
        if np.ndim(y) == 0 or len(np.asarray(y)) != count:
            received = "a single number" if np.ndim(y) == 0 else len(np.asarray(y))
            raise ValueError(f"y: expected {count} targets, one for each sample of x, got {received}")
        self.inputs = [np.ascontiguousarray(each, dtype=model.dtype) for each in arrays]
        self.targets = loss.targets(y, (count, *model.output_shape))
        self._batch_targets: dict[int, Array] = {}

    def __len__(self) -> int:
        return len(self.inputs[0])

    def gather(self, indices: npt.NDArray[np.intp], plan: Plan) -> Array:
        """Copy the samples of these indices into a plan's inputs; return their targets (valid until the next call)."""
        for source, target in zip(self.inputs, plan.inputs, strict=True):
            # "raise" would gather into a buffer first and copy that; the indices are ours.
            np.take(source, indices, axis=0, out=target, mode="clip")
        targets = self._batch_targets.get(len(indices))
        if targets is None:
            targets = np.empty((len(indices), *self.targets.shape[1:]), self.targets.dtype)
            self._batch_targets[len(indices)] = targets
        return np.take(self.targets, indices, axis=0, out=targets, mode="clip")

    def copy_of(self, indices: npt.NDArray[np.intp]) -> list[Array]:
        """Return new arrays with the inputs of these indices."""
        return [each[indices] for each in self.inputs]


class Tally:
    """Loss and metrics summed over batches, each weighted by its number of samples."""

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        self._metrics = metrics
        self._sums = dict.fromkeys(("loss", *metrics), 0.0)
        self.samples = 0

    def add(self, loss: float, outputs: Array, targets: Array) -> None:
        """Take one batch: its mean loss, and what the metrics are measured on."""
        count = len(outputs)
        self.samples += count
        self._sums["loss"] += count * loss
        for name, metric in self._metrics.items():
            self._sums[name] += count * float(metric(outputs, targets))

    def means(self) -> dict[str, float]:
        """Return the means so far, NaN before the first batch."""
        return {name: total / self.samples if self.samples else float("nan") for name, total in self._sums.items()}


def ranges(samples: int, batch_size: int, join_single: bool = False) -> list[tuple[int, int]]:
    """Return the (start, stop) of consecutive batches; the last one holds what is left.

    With `join_single`, a last batch of one sample becomes part of the batch before.
    """
    starts = list(range(0, samples, expect_integer("batch_size", batch_size, 1)))
    if join_single and len(starts) > 1 and starts[-1] == samples - 1:
        del starts[-1]
    return list(zip(starts, [*starts[1:], samples], strict=True))


def named_metrics(loss: Loss, metrics: Mapping[str, Metric] | Iterable[Metric] | None) -> dict[str, Metric]:
    """Return metrics by their names: those given, or the accuracy where the loss is one of classes."""
    if metrics is None:
        accuracy = accuracy_of(loss)
        return {} if accuracy is None else {"accuracy": accuracy}
    if isinstance(metrics, Mapping):
        named = dict(metrics)
    else:
        named = {getattr(metric, "__name__", type(metric).__name__): metric for metric in metrics}
    for name, metric in named.items():
        if not callable(metric) or name == "loss":
            raise TypeError(f"metrics: expected callables under names other than 'loss', got {name!r}: {metric!r}")
    return named
