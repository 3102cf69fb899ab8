"""Batches that come one after the other: what a person's own class, a list of batches or a PyTorch DataLoader gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from minitrain.arrays import described
from minitrain.arrays.frames import is_frame
from minitrain.data.batch import Batch, GivenBatch, joined, weigh_together
from minitrain.data.scale import some_rows
from minitrain.data.weights import ClassWeights
from minitrain.layer import Shape
from minitrain.model import Model
from minitrain.objective.objective import Objective
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import mismatch

__all__ = ["Stream", "StreamFeed", "expect_stream", "is_stream"]

FORM = "batches (x, y) or (x, y, sample_weight)"


def is_stream(x: Any) -> bool:
    """Whether this gives batches one after the other, rather than being an array or several."""
    if isinstance(x, (str, bytes, Mapping)) or is_frame(x) or callable(getattr(x, "__array__", None)):
        return False
    if isinstance(x, (list, tuple)):
        return bool(len(x)) and all(isinstance(each, (list, tuple)) and _is_batch(each) for each in x)
    return _can_iterate(x)


def expect_stream(label: str, x: Any, y: Any, sample_weight: Any) -> bool:
    """Tell whether `x` gives batches, where `y` was left out; raise for what does not go together."""
    if y is None:
        if not is_stream(x):
            raise TypeError(
                f"y: expected targets, got None; only an iterable of {FORM} comes without, and {label} is "
                f"{described(x)}"
            )
        if sample_weight is not None:
            raise ValueError(f"sample_weight: expected None where {label} gives batches: (x, y, sample_weight)")
        return True
    if is_stream(x) and not isinstance(x, (list, tuple)):
        raise TypeError(
            f"{label}: expected an array beside y, got {described(x)}; where it gives batches (x, y), leave y out"
        )
    return False


def _is_batch(given: Sequence[Any]) -> bool:
    """Whether a list in a list is a batch of arrays, rather than a sample of numbers."""
    return len(given) in (2, 3) and all(_has_axis(each) for each in given[:2])


def _has_axis(given: Any) -> bool:
    return isinstance(given, (list, tuple, Mapping)) or bool(getattr(given, "ndim", 0))


def _can_iterate(x: Any) -> bool:
    kind = type(x)
    return callable(getattr(kind, "__iter__", None)) or callable(getattr(kind, "__getitem__", None))


class Stream:
    """An iterable of batches, each checked as it comes, before anything is computed with it.

    Parameters
    ----------
    model : Model
    objective : Objective
    batches : iterable
        Of (x, y) or (x, y, sample_weight), as `Trainer.step` takes them; anything that NumPy makes arrays of, such as
        tensors. An object with `__len__` and `__getitem__`, but without `__iter__`, gives its items in order.
    label : str
        What messages call it.
    class_weights : ClassWeights, optional

    Raises
    ------
    ValueError, TypeError
        What is no iterable of such batches; the first one is looked at, and is not asked for again.

    Notes
    -----
    Before each pass its method `set_epoch(epoch)` is called where it has one, as PyTorch's samplers do: an order that
    depends on the epoch alone makes a training that goes on later the same as one without a break.
    """

    def __init__(
        self, model: Model, objective: Objective, batches: Any, label: str, class_weights: ClassWeights | None = None
    ) -> None:
        self._model = model
        self._objective = objective
        self._batches = batches
        self._label = label
        self._class_weights = class_weights
        self.is_one_shot = isinstance(batches, Iterator)
        self.samples: int | None = None  #: in a pass, once there was one
        self._waiting: Iterator[Any] | None = None
        self._first: GivenBatch | None = None

    def check(self, epoch: int | None = None) -> Stream:
        """Look at the first batch, of the pass of an epoch that comes next; None where it is not for training."""
        self._waiting = self._open(epoch)
        for given in self._waiting:
            self._first = self._checked(given, 0)
            self.is_weighted = self._first.weights is not None
            self.shapes: tuple[Shape, ...] = self._first.shapes
            self.first_inputs = [each[some_rows(each, len(each))] for each in self._first.inputs()]
            return self
        raise ValueError(mismatch(self._label, FORM, f"no batch from {described(self._batches)}{self._dry()}"))

    def each(self, epoch: int | None = None) -> Iterator[GivenBatch]:
        """Yield the batches of a pass.

        Raises
        ------
        ValueError, TypeError
            A batch that does not fit, one that has weights where the first has none, or none at all.
        """
        waiting, first = self._waiting, self._first
        self._waiting = self._first = None
        count = samples = 0
        if first is not None:
            count, samples = 1, first.size
            yield first
        for given in self._open(epoch) if waiting is None else waiting:
            batch = self._checked(given, count)
            if (batch.weights is not None) != self.is_weighted:
                expected = "with weights, as the first one" if self.is_weighted else "without weights, as the first one"
                raise ValueError(mismatch(self._label, f"all batches {expected}", f"another one, number {count}"))
            batch.first_id = samples
            count, samples = count + 1, samples + batch.size
            yield batch
        if not count:
            raise ValueError(mismatch(self._label, f"{FORM} in each pass", f"none in another one{self._dry()}"))
        self.samples = samples

    def _open(self, epoch: int | None) -> Iterator[Any]:
        batches: Any = self._batches
        set_epoch = getattr(batches, "set_epoch", None)
        if epoch is not None and callable(set_epoch):
            set_epoch(epoch)
        if callable(getattr(type(batches), "__iter__", None)):
            return iter(batches)
        if callable(getattr(type(batches), "__len__", None)):
            return (batches[index] for index in range(len(batches)))
        return iter(batches)

    def _checked(self, given: Any, number: int) -> GivenBatch:
        where = f"{self._label}, batch {number}"
        if not isinstance(given, (list, tuple)) or len(given) not in (2, 3):
            got = f"{described(given)} of {len(given)}" if isinstance(given, (list, tuple)) else described(given)
            raise TypeError(mismatch(where, "(x, y) or (x, y, sample_weight)", got))
        x, y, *weight = given
        try:
            weights = weight[0] if weight else None
            return GivenBatch(self._model, self._objective, x, y, weights, self._class_weights)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{where}: {error}") from None

    def _dry(self) -> str:
        if self.is_one_shot:
            return "; it runs dry after one pass: make a new one for each fit, or pass something that can begin again"
        return "; its __iter__ must begin anew each time it is called"


class StreamFeed:
    """Feeds a training with batches that come one after the other.

    Parameters
    ----------
    stream : Stream
        Its first batch was looked at.
    accumulate : int
        Batches in a group.
    trains_on_one : bool
        Whether the net can train on a batch of one sample; else that joins the batch before.
    """

    def __init__(self, stream: Stream, accumulate: int, trains_on_one: bool) -> None:
        self._stream = stream
        self._accumulate = accumulate
        self._trains_on_one = trains_on_one

    @property
    def samples(self) -> int | None:
        return self._stream.samples

    @property
    def is_weighted(self) -> bool:
        return self._stream.is_weighted

    @property
    def shapes(self) -> list[tuple[Shape, ...]]:
        return [self._stream.shapes]

    def some_inputs(self) -> list[Array]:
        return self._stream.first_inputs

    def groups(self, epoch: int, seed: int, shuffle: bool, first: int) -> Iterator[Sequence[Batch]]:
        batches = self._stream.each(epoch)
        whole = batches if self._trains_on_one else _with_singles_joined(batches)
        for number, group in enumerate(_grouped(whole, self._accumulate)):
            if number >= first:  # those before were trained on, before a break
                weigh_together(group)
                yield group


def _with_singles_joined(batches: Iterable[GivenBatch]) -> Iterator[GivenBatch]:
    """Yield the batches, one behind, so that one of a single sample can join that before."""
    before: GivenBatch | None = None
    for batch in batches:
        if before is not None and batch.size == 1:
            batch = joined(before, batch)
        elif before is not None:
            yield before
        before = batch
    if before is not None:
        yield before


def _grouped(batches: Iterable[GivenBatch], size: int) -> Iterator[list[GivenBatch]]:
    group: list[GivenBatch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
