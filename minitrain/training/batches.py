"""Data sets cut into batches: checked once, then gathered into a plan's own inputs."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain.compile.plan import Plan
from minitrain.graph.graph import SINGLE
from minitrain.layer import TYPICAL_BATCH, Shape
from minitrain.model import Model
from minitrain.objective.objective import Objective
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_integer

__all__ = ["Samples", "ranges"]


@dataclass(frozen=True)
class _Batch:
    """What batches of one size have in common: shapes of the inputs, and where their targets are gathered."""

    shapes: tuple[Shape, ...]
    targets: tuple[Array, ...]


class Samples:
    """Inputs and targets of one data set, checked against a model and its losses.

    Parameters
    ----------
    model : Model
    objective : Objective
    x, y
        As `Trainer.fit` takes them.
    keep : bool
        Whether this is to stay as it is now, whatever becomes of `x` and `y`. What can be written is copied; what
        cannot, such as `numpy.load(path, mmap_mode="r")`, is read where it is.

    Attributes
    ----------
    inputs : list of arrays
        C-contiguous, of the inputs' dtypes: a row can be gathered with one copy.
    targets : tuple of arrays
        One for each loss, as it wants them.

    Raises
    ------
    ValueError, TypeError
        Inputs that do not fit the model, targets that do not fit the losses, no samples, different lengths.
    """

    def __init__(self, model: Model, objective: Objective, x: Any, y: Any, keep: bool = False) -> None:
        arrays = model.check_inputs(x)
        count = len(arrays[0])
        if not count:
            raise ValueError("x: expected at least one sample, got none")
        for name, each in objective.split(y).items():
            label = f"y[{name!r}]" if objective.is_named else "y"
            if np.ndim(each) == 0 or len(np.asarray(each)) != count:
                received = "a single number" if np.ndim(each) == 0 else len(np.asarray(each))
                raise ValueError(f"{label}: expected {count} targets, one for each sample of x, got {received}")
        dtypes = [spec.dtype or model.dtype for spec in model.graph.inputs.values()]
        inputs = [np.ascontiguousarray(each, dtype) for each, dtype in zip(arrays, dtypes, strict=True)]
        targets = objective.targets(y, _output_shapes(model, [each.shape for each in arrays]))
        given = [*arrays, *(np.asarray(each) for each in objective.split(y).values())]
        self.inputs = [_kept(each, given) for each in inputs] if keep else inputs
        self.targets = tuple(_kept(each, given) for each in targets) if keep else targets
        self._batches: dict[int, _Batch] = {}

    def __len__(self) -> int:
        return len(self.inputs[0])

    def shapes(self, size: int) -> tuple[Shape, ...]:
        """Return the shapes of the inputs in a batch of this size."""
        return self._batch(size).shapes

    def gather(self, indices: npt.NDArray[np.intp], plan: Plan) -> tuple[Array, ...]:
        """Copy the samples of these indices into a plan's inputs; return their targets (valid until the next call)."""
        for source, target in zip(self.inputs, plan.inputs, strict=True):
            # "raise" would gather into a buffer first and copy that; the indices are ours.
            np.take(source, indices, axis=0, out=target, mode="clip")
        targets = self._batch(len(indices)).targets
        for source, target in zip(self.targets, targets, strict=True):
            np.take(source, indices, axis=0, out=target, mode="clip")
        return targets

    def copy_of(self, indices: npt.NDArray[np.intp]) -> list[Array]:
        """Return new arrays with the inputs of these indices."""
        return [each[indices] for each in self.inputs]

    def _batch(self, size: int) -> _Batch:
        batch = self._batches.get(size)
        if batch is None:
            shapes = tuple((size, *each.shape[1:]) for each in self.inputs)
            batch = _Batch(shapes, tuple(np.empty((size, *each.shape[1:]), each.dtype) for each in self.targets))
            self._batches[size] = batch
        return batch


def ranges(samples: int, batch_size: int, join_single: bool = False) -> list[tuple[int, int]]:
    """Return the (start, stop) of consecutive batches; the last one holds what is left.

    With `join_single`, a last batch of one sample becomes part of the batch before.
    """
    starts = list(range(0, samples, expect_integer("batch_size", batch_size, 1)))
    if join_single and len(starts) > 1 and starts[-1] == samples - 1:
        del starts[-1]
    return list(zip(starts, [*starts[1:], samples], strict=True))


def _output_shapes(model: Model, inputs: Sequence[Shape]) -> dict[str, Shape]:
    """Return the shapes of the outputs, batch axis first, for inputs of these shapes."""
    count = inputs[0][0]
    shapes = {SINGLE: model.output_shape} if model.graph.is_single else model.output_shape
    if any(None in shape for shape in shapes.values()):  # as many samples as batch norm accepts
        enough = max(count, TYPICAL_BATCH)
        values = model.graph.shapes(
            {name: (enough, *shape[1:]) for name, shape in zip(model.graph.inputs, inputs, strict=True)}
        )
        shapes = {name: values[value][1:] for name, value in model.graph.outputs.items()}
    return {name: (count, *shape) for name, shape in shapes.items()}


def _kept(array: Array, given: Sequence[Array]) -> Array:
    """Return an array that stays as it is: a copy where somebody else can write it."""
    if any(np.may_share_memory(array, each) for each in given) and _can_change(array):
        return np.array(array, order="C")
    return array


def _can_change(array: Any) -> bool:
    """Whether somebody may write into the memory of an array."""
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return True
        array = array.base
    return not isinstance(array, (type(None), bytes, mmap.mmap))
