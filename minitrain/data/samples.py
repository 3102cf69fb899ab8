"""Data sets cut into batches: checked once, then gathered into a plan's own inputs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain.arrays import as_numbers
from minitrain.arrays.mapped import MappedPages, is_mapped, some_of
from minitrain.compile.plan import Plan
from minitrain.data.splitting import split
from minitrain.data.unconverted import UnconvertedTargets
from minitrain.data.weights import ClassWeights, Given, classes_of, expect_some, present_targets, scaled_to_mean_one
from minitrain.data.weights import weights_of_samples as checked_weights
from minitrain.graph.graph import SINGLE
from minitrain.layer import TYPICAL_BATCH, Shape
from minitrain.losses import BinaryCrossEntropy, SoftmaxCrossEntropy
from minitrain.model import Model
from minitrain.objective.objective import Objective
from minitrain.objective.weighted import Weights
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_integer

__all__ = ["Samples", "output_shapes", "ranges", "with_present_targets"]

SMALLEST_FLOAT = 4  # bytes: what targets become
Rows = npt.NDArray[np.intp]


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
        Whether this is to stay as it is now, whatever becomes of `x` and `y`. The one rule on copying: what somebody
        else can write is copied; what nobody can write, and what is in a memory-mapped file, is read where it is.
        Without `keep` nothing is copied that need not be converted.
    sample_weight
        As `Trainer.fit` takes it.

    Attributes
    ----------
    inputs : list of arrays
        Of the inputs' dtypes, where that takes no more memory than what was given; else, and where they are in mapped
        files, as they were given: batches are converted.
    targets : tuple of arrays, or of UnconvertedTargets
        One for each loss, as it wants them, or giving them by rows.
    weights : tuple of arrays, or None
        Of all samples, for each loss, with a mean of 1 over `rows`.
    classes : list of int
        The size of the last axis of the outputs, for each loss.
    rows : array of int, or None
        The samples that belong to the set; None for all of them.

    Raises
    ------
    ValueError, TypeError
        Inputs that do not fit the model, targets that do not fit the losses, no samples, different lengths.
    """

    def __init__(
        self, model: Model, objective: Objective, x: Any, y: Any, keep: bool = False, *, sample_weight: Any = None
    ) -> None:
        arrays = model.check_inputs(x)
        count = len(arrays[0])
        if not count:
            raise ValueError("x: expected at least one sample, got none")
        for name, each in objective.split(y).items():
            label = f"y[{name!r}]" if objective.is_named else "y"
            if np.ndim(each) == 0 or len(np.asarray(each)) != count:
                received = "a single number" if np.ndim(each) == 0 else len(np.asarray(each))
                raise ValueError(f"{label}: expected {count} targets, one for each sample of x, got {received}")
        amounts = checked_weights(objective, sample_weight, count)
        if amounts is not None:
            expect_some("sample_weight", amounts)
            y = with_present_targets(objective, y, amounts)
        dtypes = [spec.dtype or model.dtype for spec in model.graph.inputs.values()]
        inputs = [_converted(each, np.dtype(dtype)) for each, dtype in zip(arrays, dtypes, strict=True)]
        shapes = output_shapes(model, [each.shape for each in arrays])
        targets = _targets(objective, y, shapes)
        given = [*arrays, *(np.asarray(each) for each in objective.split(y).values())]
        self._objective = objective
        self.classes = [shapes[term.output][-1] for term in objective.terms]
        self.inputs = [_kept(each, given) for each in inputs] if keep else inputs
        self.targets = tuple(_kept_targets(each, given) for each in targets) if keep else targets
        self.rows: Rows | None = None
        self.weights: Weights | None = None
        self._amounts: Given | None = None
        self._batches: dict[int, _Batch] = {}
        self._takes = [each.dtype == d and each.flags.c_contiguous for each, d in zip(self.inputs, dtypes, strict=True)]
        self._pages = MappedPages([*self.inputs, *(np.asarray(each) for each in self.targets)])
        if amounts is not None:
            self._weigh(amounts)

    def __len__(self) -> int:
        return len(self.inputs[0]) if self.rows is None else len(self.rows)

    def shapes(self, size: int) -> tuple[Shape, ...]:
        """Return the shapes of the inputs in a batch of this size."""
        return self._batch(size).shapes

    def gather(self, indices: Rows, plan: Plan) -> tuple[Array, ...]:
        """Copy the samples of these indices into a plan's inputs; return their targets (valid until the next call)."""
        rows = indices if self.rows is None else self.rows[indices]
        targets = self._batch(len(indices)).targets
        for piece in self._pages.pieces(len(rows)):
            chosen = rows[piece]
            for source, target, takes in zip(self.inputs, plan.inputs, self._takes, strict=True):
                if takes:  # "raise" would gather into a buffer first and copy that; the indices are ours.
                    np.take(source, chosen, axis=0, out=target[piece], mode="clip")
                else:
                    target[piece] = source[chosen]
            for each, gathered in zip(self.targets, targets, strict=True):
                if isinstance(each, UnconvertedTargets):
                    gathered[piece] = each[chosen]
                else:
                    np.take(each, chosen, axis=0, out=gathered[piece], mode="clip")
            self._pages.read(len(chosen), scattered=True)
        return targets

    def gather_weights(self, indices: Rows) -> Weights | None:
        """Return the weights of these samples, for each loss; None where the set has none."""
        if self.weights is None:
            return None
        chosen = indices if self.rows is None else self.rows[indices]
        return tuple(each[chosen] for each in self.weights)

    def slices(self, start: int, stop: int) -> tuple[list[Array], tuple[Array, ...], Weights | None]:
        """Return inputs, targets and weights of consecutive samples."""
        chosen = slice(start, stop) if self.rows is None else self.rows[start:stop]
        self._pages.read(stop - start)
        weights = None if self.weights is None else tuple(each[chosen] for each in self.weights)
        return [each[chosen] for each in self.inputs], tuple(each[chosen] for each in self.targets), weights

    def copy_of(self, indices: Rows) -> list[Array]:
        """Return new arrays with the inputs of these indices."""
        chosen = indices if self.rows is None else self.rows[indices]
        return [some_of(each, chosen) for each in self.inputs]

    def rows_of(self, array: Array, indices: Rows) -> Array:
        """Return the rows of an array that samples with these indices have."""
        return some_of(array, indices if self.rows is None else self.rows[indices])

    def fetch(self, indices: Rows) -> tuple[list[Array], tuple[Array, ...]]:
        """Return new arrays with the inputs and targets of these indices."""
        chosen = indices if self.rows is None else self.rows[indices]
        self._pages.read(len(indices), scattered=True)
        return [each[chosen] for each in self.inputs], tuple(each[chosen] for each in self.targets)

    def divided(self, share: float, seed: int) -> tuple[Samples, Samples]:
        """Return the part to train on and that to validate on: see `split`. The first loss of classes has its shares.

        Nothing is copied.
        """
        rows = np.arange(len(self.inputs[0])) if self.rows is None else self.rows
        return self._part(*split(rows, share, seed, self._labels(rows)))

    def weigh_classes(self, weights: ClassWeights) -> None:
        """Multiply the weights of the samples by those of their classes, counted in this set."""
        rows = slice(None) if self.rows is None else self.rows
        amounts = None if self._amounts is None else [None if w is None else w[rows] for w in self._amounts]
        weighed = weights.times(amounts, [np.asarray(each[rows]) for each in self.targets], self.classes)
        if self.rows is None:
            self._weigh(weighed)
            return
        whole: Given = []
        for each in weighed:
            spread = None if each is None else np.zeros(len(self.inputs[0]))
            if spread is not None:
                spread[self.rows] = each
            whole.append(spread)
        self._weigh(whole)

    def _part(self, *parts: Rows) -> tuple[Samples, Samples]:
        made = []
        for part in parts:
            samples = copy.copy(self)
            samples.rows, samples._batches = part, {}
            if self._amounts is not None:
                samples._weigh(self._amounts)
            made.append(samples)
        first, second = made
        return first, second

    def _weigh(self, amounts: Given) -> None:
        """Take weights; what has none for any loss no longer belongs to the set."""
        rows = np.arange(len(self.inputs[0])) if self.rows is None else self.rows
        if all(each is not None for each in amounts):
            chosen = [each[rows] for each in amounts if each is not None]
            expect_some("class_weight", list(chosen))
            present = np.any([each > 0.0 for each in chosen], axis=0)
            if not present.all():
                self.rows = rows = rows[present]
        scaled = scaled_to_mean_one([None if each is None else each[rows] for each in amounts], len(rows))
        self._amounts = amounts
        self.weights = tuple(np.zeros(len(self.inputs[0])) for _ in scaled)
        for whole, each in zip(self.weights, scaled, strict=True):
            whole[rows] = each

    def _labels(self, rows: Rows) -> Array | None:
        for term, targets, classes in zip(self._objective.terms, self.targets, self.classes, strict=True):
            single = isinstance(term.loss, BinaryCrossEntropy) and targets[0].size == 1
            if isinstance(term.loss, SoftmaxCrossEntropy) or single:
                return classes_of(targets[rows], classes)[0]
        return None

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


def output_shapes(model: Model, inputs: Sequence[Shape]) -> dict[str, Shape]:
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


def _targets(objective: Objective, y: Any, shapes: Mapping[str, Shape]) -> tuple[Array | UnconvertedTargets, ...]:
    """Return all targets, checked; those that would take more memory converted are left as they are."""
    given = objective.split(y)
    found: list[Array | UnconvertedTargets] = []
    for term in objective.terms:
        each, shape = given[term.output], shapes[term.output]
        try:
            wide = isinstance(each, np.ndarray) and each.shape == shape and each.size > len(each)
            if wide and each.dtype.kind in "fiub" and (is_mapped(each) or each.dtype.itemsize < SMALLEST_FLOAT):
                found.append(UnconvertedTargets(term, each, shape))
            else:
                found.append(term.targets(each, shape))
        except (ValueError, TypeError) as error:
            raise type(error)(f"y[{term.output!r}]: {error}" if objective.is_named else str(error)) from None
    return tuple(found)


def with_present_targets(objective: Objective, y: Any, amounts: Given) -> Any:
    """Return targets in which those of weight 0 are such that count: see `present_targets`."""
    given = objective.split(y)
    for term, weights in zip(objective.terms, amounts, strict=True):
        label = f"y[{term.output!r}]" if objective.is_named else "y"
        given[term.output] = present_targets(as_numbers(label, given[term.output], "targets"), weights)
    return given if objective.is_named else given[objective.terms[0].output]


def _converted(array: Array, dtype: np.dtype) -> Array:
    """Return an input as it is to be read: of the dtype, unless that takes more memory than it has, or is a file's."""
    if is_mapped(array) or array.dtype.itemsize < dtype.itemsize:
        return array
    return np.ascontiguousarray(array, dtype)


def _kept_targets(targets: Array | UnconvertedTargets, given: Sequence[Array]) -> Array | UnconvertedTargets:
    if isinstance(targets, UnconvertedTargets):
        return targets.over(_kept(np.asarray(targets), given))
    return _kept(targets, given)


def _kept(array: Array, given: Sequence[Array]) -> Array:
    """Return an array that stays as it is: a copy where somebody else can write it."""
    if not is_mapped(array) and any(np.may_share_memory(array, each) for each in given) and _can_change(array):
        return np.array(array, order="C")
    return array


def _can_change(array: Any) -> bool:
    """Whether somebody may write into the memory of an array."""
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return True
        array = array.base
    return not isinstance(array, (type(None), bytes))
