"""The parts of a batch that one rank computes, layer by layer, so that batch norms of all parts can meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from minitrain.compile.plan import Plan
from minitrain.compile.requests import Schedule, Step
from minitrain.compile.schedule import schedule_training
from minitrain.layer import Shape, Tensors
from minitrain.layers.fused.synchronized_batch_norm import PooledStatistics, SynchronizedBatchNorm
from minitrain.model import Model
from minitrain.model.variables import flat_views
from minitrain.training.ranks.division import Division, Part
from minitrain.training.ranks.group import Group
from minitrain.training.statistics.of_batches import Found, finds_statistics, found_of
from nbnorm.jit.arrays import Array

__all__ = ["Lockstep", "OwnPart", "Sighting"]

Call = Callable[[], object]


@dataclass(frozen=True)
class OwnPart:
    """A part of this rank.

    Attributes
    ----------
    index : int
        Among all parts.
    samples : Part
    plan : Plan
    gradients : array
        Of all parameters, flat.
    """

    index: int
    samples: Part
    plan: Plan
    gradients: Array


class Sighting(NamedTuple):
    """Where a number that is not finite is seen: when, in the order of computing, and in which part."""

    moment: int
    part: int


class _Meeting(NamedTuple):
    """A synchronized norm, its arrays in each part of this rank, and where these put what they send."""

    name: str
    layer: SynchronizedBatchNorm
    tensors: list[Tensors]
    rows: Array


class Lockstep:
    """Plans for the parts of batches of one size, which go forward and backward together.

    Parameters
    ----------
    model : Model
    group : Group
    division : Division
    shapes : tuple of shapes
        Of the inputs of the whole batch.
    losses : tuple of str, optional
        The outputs whose gradients are given; all unless given.
    synchronize : bool
        Whether batch norms are those of the whole batch.
    flats : sequence of arrays
        Where the gradients of each part of this rank go, those of all parameters in one; zeros for what is frozen.

    Attributes
    ----------
    own : list of OwnPart
        Those of this rank, maybe none: it meets the others all the same.
    found, own_found : dict of node name to list of Found
        After `forward`: what norms found for the whole batch, and for the parts of this rank. Nobody has moved running
        statistics in a way that lasts: see `PooledMove`.
    """

    def __init__(
        self,
        model: Model,
        group: Group,
        division: Division,
        shapes: tuple[Shape, ...],
        losses: tuple[str, ...] | None,
        synchronize: bool,
        flats: Sequence[Array],
    ) -> None:
        self._model, self._group, self._counts = model, group, division.counts
        self.division = division
        self.found: dict[str, list[Found]] = {}
        self.own_found: dict[str, list[Found]] = {}
        indices = division.of_rank(group.rank)
        first = division.parts[indices[0] if indices else 0]
        graph = model.graph_of_part(first.start, synchronize)
        named = _named(model, shapes, first)
        # The layers in the order in which they run: a rank without a part goes through it, too.
        schedule = schedule_training(graph, named, model.dtype, losses=losses)
        self._steps = {step.node.name: step for step in schedule.steps}
        self.trained = tuple(schedule.output_gradients)
        self.running_means = {
            name: step.node.variable("running_mean")
            for name, step in self._steps.items()
            if "running_mean" in step.declaration.state
        }
        self.own: list[OwnPart] = []
        for index in indices:
            part, flat = division.parts[index], flats[len(self.own)]
            gradients = flat_views(model._param_buffers, flat)
            graph = model.graph_of_part(part.start, synchronize)
            try:
                plan = Plan(
                    graph, _named(model, shapes, part), model.dtype, model.params, model.state, gradients, losses=losses
                )
            except ValueError as error:
                raise ValueError(
                    f"{error} (samples {part.start} to {part.stop - 1} of a batch of {division.samples}, which "
                    "sync_batch_norm=False normalizes by themselves)"
                ) from error
            self.own.append(OwnPart(index, part, plan, flat))
        self._schedule = schedule
        self._runs = 0
        self._bind()

    def _bind(self) -> None:
        self._forward = self._calls(self._schedule, "forward")
        self._backward = self._calls(self._schedule, "backward")

    def forward(self) -> None:
        """Run all layers on what the parts have in their inputs."""
        self.found.clear()
        self.own_found.clear()
        for each in self.own:
            each.plan.update_derived()
        with np.errstate(over="ignore", invalid="ignore"):  # who runs a step looks at its numbers
            for call in self._forward:
                call()

    def backward(self) -> None:
        """Write the gradients of each part, from the gradients of its outputs."""
        with np.errstate(over="ignore", invalid="ignore"):
            for call in self._backward:
                call()
        self._runs += 1
        if self._runs == 1:  # first calls of users' layers are looked at, and are other calls than those that follow
            self._bind()

    def first_not_finite(self, gradients: Mapping[str, Array] | None) -> Sighting | None:
        """Return where a number that is not finite is seen first among the parts of this rank, if anywhere.

        Forward, or backward from these gradients of the outputs of the whole batch.
        """
        sightings = []
        for each in self.own:
            looked_at = self._forward_numbers(each) if gradients is None else self._backward_numbers(each, gradients)
            moment = next((i for i, array in enumerate(looked_at) if not np.isfinite(array).all()), None)
            if moment is not None:
                sightings.append(Sighting(moment, each.index))
        return min(sightings, default=None)

    def _forward_numbers(self, own: OwnPart) -> Iterator[Array]:
        """Yield what a part has given to the others, and then to the loss."""
        for name, step in self._steps.items():
            if isinstance(step.node.layer, SynchronizedBatchNorm):
                yield own.plan.tensors[name].own
        yield from own.plan.outputs.values()

    def _backward_numbers(self, own: OwnPart, gradients: Mapping[str, Array]) -> Iterator[Array]:
        """Yield the gradients of outputs, and those of parameters from the last layer to the first."""
        for name in self.trained:
            yield gradients[name][slice(*own.samples)]
        yield from reversed(flat_views(self._model._param_buffers, own.gradients).values())

    # --------------------------------------------------------------------------------------------- what is called

    def _calls(self, schedule: Schedule, direction: Literal["forward", "backward"]) -> list[Call]:
        """Return what a pass does, one layer after the other: calls of all parts, and meetings of all ranks."""
        ahead = direction == "forward"
        meet = self._normalize if ahead else self._differentiate
        meeting = {
            step.node.name: partial(meet, self._meeting(step.node.name, step.node.layer, ahead))
            for step in (schedule.steps if ahead else reversed(schedule.steps))
            if isinstance(step.node.layer, SynchronizedBatchNorm) and (ahead or step.works_backward)
        }
        if not self.own:
            return list(meeting.values())
        planned = [[c for c in each.plan.calls() if (c[1] == "forward") == ahead] for each in self.own]
        calls: list[Call] = []
        for of_parts in zip(*planned, strict=True):
            name, kind, _ = of_parts[0]
            runs = [run for _, _, run in of_parts]
            if kind == direction and name in meeting:
                calls.append(meeting[name])
            elif ahead and self._steps[name].declaration.state:
                calls.append(partial(self._run, runs, self._steps[name]))
            else:
                calls.append(partial(_call_each, runs))
        return calls

    def _run(self, runs: Sequence[Call], step: Step) -> None:
        """Run a layer on all parts, each beside the state that there was; that of the first part stays."""
        name = step.node.name
        state = [self._model.state[step.node.variable(each)] for each in step.declaration.state]
        before, after = [each.copy() for each in state] if len(runs) > 1 else [], None
        for run, own in zip(runs, self.own, strict=True):
            run()
            if finds_statistics(own.plan.tensors[name]):
                self.own_found.setdefault(name, []).extend(found_of(step.node, own.plan.tensors[name]))
            if before:
                after = [each.copy() for each in state] if after is None else after
                _restore(state, before)
        if after is not None:
            _restore(state, after)

    def _meeting(self, name: str, layer: SynchronizedBatchNorm, ahead: bool) -> _Meeting:
        tensors = [each.plan.tensors[name] for each in self.own]
        declaration = self._steps[name].declaration
        (width,) = (declaration.saved["own"] if ahead else declaration.backward_scratch["own_sums"]).shape
        return _Meeting(name, layer, tensors, np.empty((len(tensors), width)))

    def _normalize(self, meeting: _Meeting) -> None:
        layer = meeting.layer
        for t, row in zip(meeting.tensors, meeting.rows, strict=True):
            layer.measure(t)
            row[...] = t.own
        pooled = PooledStatistics.of(self._group.rows(meeting.rows, self._counts))
        layer.expect_two(pooled)
        if layer.norm.track_running_stats:
            self.found[meeting.name] = [Found(pooled.count, pooled.mean, pooled.var)]
        for t in meeting.tensors:
            layer.normalize(t, pooled)

    def _differentiate(self, meeting: _Meeting) -> None:
        layer = meeting.layer
        for t, row in zip(meeting.tensors, meeting.rows, strict=True):
            layer.sum_gradients(t)
            row[...] = t.own_sums
        total, *others = self._group.rows(meeting.rows, self._counts).copy()
        for each in others:
            total += each
        for t in meeting.tensors:
            layer.differentiate(t, total)


def _named(model: Model, shapes: Sequence[Shape], part: Part) -> dict[str, Shape]:
    of_part = [(part.stop - part.start, *each[1:]) for each in shapes]
    return dict(zip(model.graph.inputs, of_part, strict=True))


def _call_each(runs: Sequence[Call]) -> None:
    for run in runs:
        run()


def _restore(arrays: Sequence[Array], values: Sequence[Array]) -> None:
    for each, value in zip(arrays, values, strict=True):
        each[...] = value
