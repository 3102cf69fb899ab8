"""Updates and evaluations of a learner whose batches are divided among ranks."""

from __future__ import annotations

import itertools
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from minitrain.data.batch import Batch
from minitrain.layer import Shape
from minitrain.model import Model
from minitrain.objective.objective import Objective
from minitrain.terminal.interrupts import Interrupt
from minitrain.training.ranks.division import Division, ghost_sizes
from minitrain.training.ranks.group import Group
from minitrain.training.ranks.lockstep import Lockstep
from minitrain.training.ranks.tree import Span, subtrees, summed
from minitrain.training.statistics.of_batches import Found
from nbnorm.jit.arrays import Array

__all__ = ["Passed", "Spread"]

T = TypeVar("T")
Item = TypeVar("Item")
E = TypeVar("E", bound=BaseException)
KINDS = (ValueError, TypeError, OSError, ImportError, ArithmeticError)
MOST_SIZES = 4  # of batches whose plans are kept: a full one, the last of an epoch, and those of another fit


class Passed(NamedTuple):
    """What all ranks know of a batch after its forward pass."""

    outputs: dict[str, Array]
    targets: tuple[Array, ...]
    losses: tuple[float, ...]
    found: dict[str, list[Found]]  #: by the names of running means, in the order of the parts


class _Report(NamedTuple):
    """What a rank tells the others of the parts that it has passed forward."""

    outputs: list[dict[str, Array]]
    targets: list[tuple[Array, ...]]
    found: dict[str, list[Found]]
    signal: int | None


class Spread:
    """What a learner does together with other ranks.

    Every rank has the whole batch's outputs and targets when the loss is computed, so that losses need not be means
    over samples, and what is reported is that of one process, bit for bit.

    Parameters
    ----------
    model : Model
    objective : Objective
    group : Group
    synchronize : bool
        Whether batch norms are those of the whole batch; else each part is normalized by itself.
    deterministic : bool
        Whether the bits of a result do not depend on the number of ranks.
    """

    def __init__(
        self, model: Model, objective: Objective, group: Group, synchronize: bool, deterministic: bool
    ) -> None:
        self.group = group
        self.deterministic = deterministic
        self._model, self._objective, self._synchronize = model, objective, synchronize
        self._whole = ghost_sizes(model.graph)
        self._locksteps: OrderedDict[tuple[Shape, ...], Lockstep] = OrderedDict()
        self._flats: list[Array] = []  # the gradients of each part, for batches of all sizes
        self._version = -1
        self._gradients: dict[str, Array] = {}  # of the outputs of the batch that was passed last
        self._interrupt: Interrupt | None = None  # of the fit that runs: what this rank was sent
        self._signal: int | None = None  # that one of the ranks was sent, known to all of them
        self._common: BaseException | None = None
        model.graph_of_part(0, synchronize)  # what has no form for it is said at once

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """Refuse."""
        raise TypeError("a trainer of several ranks cannot be copied: copy its model, and make another Trainer of that")

    # ------------------------------------------------------------------------------------------------------ steps

    def forward(self, batch: Batch) -> Passed:
        """Pass a batch forward; leave the gradients of its outputs where `backward` needs them.

        Losses that are not finite are returned as they are, and nothing goes backward then.
        """
        lockstep = self._lockstep_of(batch)
        self._last = lockstep
        targets = []
        for own in lockstep.own:
            targets.append(tuple(each.copy() for each in batch.part(*own.samples).load(own.plan)))
        lockstep.forward()
        outputs = [{name: each.copy() for name, each in own.plan.outputs.items()} for own in lockstep.own]
        reports = self.group.gathered(_Report(outputs, targets, lockstep.own_found, self._own_signal()))
        self._signal = next((each.signal for each in reports if each.signal is not None), None)
        self._share_state()
        every = [each for report in reports for each in report.outputs]
        whole = {name: np.concatenate([each[name] for each in every]) for name in every[0]}
        goals = tuple(map(np.concatenate, zip(*[each for report in reports for each in report.targets], strict=True)))
        gradients = {name: np.empty_like(whole[name]) for name in lockstep.trained}
        losses = self._objective(whole, goals, gradients, batch.weights)
        self._gradients = gradients
        for own in lockstep.own:
            for name, gradient in own.plan.output_gradients.items():
                gradient[...] = gradients[name][slice(*own.samples)]
        return Passed(whole, goals, losses, self._found(lockstep, reports))

    def backward(self) -> None:
        """Leave the gradients of the whole batch in the model's, on all ranks the same."""
        lockstep, model = self._last, self._model
        lockstep.backward()
        if self.deterministic:
            self._add_in_fixed_order(lockstep)
        else:
            (own,) = [each.gradients for each in lockstep.own] or [np.zeros_like(model.flat_gradients)]
            self.group.add_up(own, model.flat_gradients)

    def _add_in_fixed_order(self, lockstep: Lockstep) -> None:
        model, division = self._model, lockstep.division
        total = len(division.parts)
        nodes = {(own.index, own.index + 1): own.gradients for own in lockstep.own}
        spans = [_spans_of(division.of_rank(rank), total) for rank in range(self.group.size)]
        mine = [summed(nodes, *span) for span in spans[self.group.rank]]
        own = np.array(mine, model.dtype).reshape(len(mine), model.flat_gradients.size)
        rows = self.group.rows(own, [len(each) for each in spans])
        every = dict(zip((s for each in spans for s in each), rows, strict=True))
        model.flat_gradients[...] = summed(every, 0, total)

    def _found(self, lockstep: Lockstep, reports: Sequence[_Report]) -> dict[str, list[Found]]:
        """Return what norms found for the batch, by the names of running means."""
        found: dict[str, list[Found]] = {}
        for name, mean in lockstep.running_means.items():
            if name in lockstep.found:
                found.setdefault(mean, []).extend(lockstep.found[name])
            for report in reports:
                found.setdefault(mean, []).extend(report.found.get(name, []))
        return found

    def _share_state(self) -> None:
        """Let the state be that of the first part, whose rank is the first: not all ranks have run a part."""
        self.make_alike([self._model.flat_state])

    def where_not_finite(self, backward: bool) -> str:
        """Return in words where the first part is whose numbers are not finite, of a step that went backward or not.

        "" where all of them are. What a synchronized norm pools spreads to all parts: the part in question is the one
        in which it is seen first, in the order of computing.
        """
        lockstep = self._last
        seen = lockstep.first_not_finite(self._gradients if backward else None)
        every = [each for each in self.group.gathered(seen) if each is not None]
        if not every:
            return ""
        part = min(every).part
        start, stop = lockstep.division.parts[part]
        place = self.group.place(lockstep.division.owner(part))
        return f"; first seen on {place}, samples {start} to {stop - 1} of the batch of {lockstep.division.samples}"

    def _lockstep_of(self, batch: Batch) -> Lockstep:
        model = self._model
        if self._version != model._plans.version:  # what is frozen has changed
            self._locksteps.clear()
            self._flats.clear()
            self._version = model._plans.version
        lockstep = self._locksteps.get(batch.shapes)
        if lockstep is None:
            division = Division(batch.size, self.group.size, self.deterministic, self._whole)
            while len(self._flats) < len(division.of_rank(self.group.rank)):
                self._flats.append(np.zeros_like(model.flat_gradients))
            given = self.group, division, batch.shapes, self._objective.trained, self._synchronize, self._flats
            lockstep = self.agreed(lambda: Lockstep(model, *given))
            if len(self._locksteps) >= MOST_SIZES:
                self._locksteps.popitem(last=False)
            self._locksteps[batch.shapes] = lockstep
        else:
            self._locksteps.move_to_end(batch.shapes)
        return lockstep

    def begin(self, interrupt: Interrupt) -> None:
        """Let others know what this rank is asked for while a fit runs."""
        self._interrupt, self._signal = interrupt, None

    def _own_signal(self) -> int | None:
        return None if self._interrupt is None else self._interrupt.requested

    def check_interrupt(self) -> None:
        """Raise KeyboardInterrupt where all ranks know that one of them was asked to end: between steps."""
        if self._signal is not None:
            common = Interrupt()
            common.requested = self._signal
            try:
                common.check()
            except KeyboardInterrupt as interrupt:
                raise self.common(interrupt) from None

    # ------------------------------------------------------------------------------------------------ whole sets

    def each_computed_once(self, items: Iterable[Item], compute: Callable[[Item], T]) -> Iterator[T]:
        """Yield what `compute` makes of each item, each computed by one rank, the same to all.

        Items are the same on all ranks, and come in the same order. Which rank computes what matters to nothing but
        time: each result is that of one process.
        """
        every, group = iter(items), self.group

        def compute_own() -> tuple[int, list[T]]:
            found: list[T] = []
            count = 0
            for count, item in enumerate(itertools.islice(every, group.size), 1):
                if count - 1 == group.rank:
                    found.append(compute(item))
            return count, found

        while True:
            count, own = self.agreed(compute_own)
            if not count:
                return
            yield from itertools.chain.from_iterable(group.gathered(own))

    def make_alike(self, arrays: Iterable[Array]) -> None:
        """Let all ranks have the arrays of the first: processors that are not alike round differently."""
        if self.group.size > 1:
            for each in arrays:
                if each.size:
                    self.group.share(each)

    def agreed(self, work: Callable[[], T]) -> T:
        """Return what this rank's work gives, once that of all ranks is done; where one has failed, all raise.

        Those that have not failed raise an error of the same kind, which names the rank.
        """
        result, error = None, None
        try:
            result = work()
        except Exception as raised:
            error = raised
        failed = self.group.gathered(None if error is None else (_kind_of(error), str(error)))
        rank = next((index for index, each in enumerate(failed) if each is not None), None)
        if rank is None:
            return result  # type: ignore[return-value]
        kind, text = failed[rank]  # type: ignore[misc]
        raise self.common(kind(f"{self.group.place(rank)}: {text}") if error is None else error)

    def common(self, error: E) -> E:
        """Return an exception that all ranks raise, each on its own: none of them waits for another."""
        self._common = error
        return error

    def is_common(self, error: BaseException) -> bool:
        """Return whether all ranks have raised this one."""
        return error is self._common

    def end_unless_common(self, error: BaseException) -> None:
        """End all ranks by an exception that this one alone has: the others wait for it, or will."""
        if self.group.size > 1 and not self.is_common(error):
            self.group.abort("".join(traceback.format_exception(error)).rstrip())


def _kind_of(error: Exception) -> type[Exception]:
    """Return a builtin class of errors that can be sent to other ranks."""
    return next((each for each in KINDS if isinstance(error, each)), RuntimeError)


def _spans_of(parts: range, total: int) -> list[Span]:
    return subtrees(parts.start, parts.stop, total)
