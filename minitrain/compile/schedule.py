"""Which buffers a graph needs, and when each of them holds something. Integers and names only.

Time runs over the forward calls 0 .. L - 1, the loss at L, then two ticks for each backward call, last layer first: one
for the sum of its output's gradients, one for the call. After them the gradients of the inputs are summed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from minitrain.compile.memory import Lifetime, place
from minitrain.graph.graph import Graph, GraphNode, output_values
from minitrain.layer import Declaration, Shape, Spec

__all__ = ["Request", "Schedule", "Step", "schedule_inference", "schedule_training"]

Sum = tuple["Request", list["Request"]]  # the total, its parts


@dataclass(eq=False)
class Request:
    """One array in the arena, or a view of another one under a different shape."""

    shape: Shape
    dtype: np.dtype
    first: int
    last: int
    view_of: Request | None = None

    def use(self, time: int) -> None:
        """Keep the content until `time`, that of the array it is a view of too."""
        self.last = max(self.last, time)
        if self.view_of is not None:
            self.view_of.use(time)

    def owner(self) -> Request:
        """Return the request whose memory this is a view of, or itself."""
        return self if self.view_of is None else self.view_of.owner()

    def lifetime(self) -> Lifetime:
        return Lifetime(int(np.prod(self.shape)) * self.dtype.itemsize, self.first, self.last)


@dataclass(eq=False)
class Step:
    """One layer: its requests by kind. `dxs` has None where a gradient is not needed."""

    node: GraphNode
    declaration: Declaration
    xs: list[Request]
    outputs: dict[str, Request]
    local: dict[str, Request] = field(default_factory=dict)  # saved and forward scratch, by their names
    backward_scratch: dict[str, Request] = field(default_factory=dict)
    gradients: dict[str, Request] = field(default_factory=dict)  # of the outputs
    dxs: list[Request | None] = field(default_factory=list)
    dx_before: Request | None = None  # what backward adds to the gradient of the only input
    sums: list[Sum] = field(default_factory=list)  # before backward
    dparams: dict[str, Request | None] = field(default_factory=dict)  # None: straight into the model's gradient
    works_backward: bool = False


@dataclass(eq=False)
class Schedule:
    """Steps in forward order and all requests that they name."""

    steps: list[Step]
    inputs: dict[str, Request]
    outputs: dict[str, Request]
    requests: list[Request]
    output_gradients: dict[str, Request] = field(default_factory=dict)
    input_gradients: dict[str, Sum] = field(default_factory=dict)  # of the inputs that have and want them
    unreached: list[str] = field(default_factory=list)  # parameters that no loss depends on

    def owners(self) -> list[Request]:
        """Return the requests that need memory of their own."""
        return [request for request in self.requests if request.view_of is None]

    def arena_size(self) -> int:
        """Return the bytes that all of it takes."""
        return place([request.lifetime() for request in self.owners()])[1]


class _Builder:
    """Collects requests while the graph is walked forward, then backward."""

    def __init__(self, graph: Graph, inputs: int | Mapping[str, Shape], dtype: np.dtype) -> None:
        self.graph = graph
        self.dtype = dtype
        self.declarations, self.specs = graph.declare(inputs)
        self.requests: list[Request] = []
        self.values: dict[str, Request] = {name: self.request(self.specs[name], 0) for name in graph.inputs}
        self.steps: list[Step] = []

    def request(self, spec: Spec, time: int, view_of: Request | None = None) -> Request:
        made = Request(spec.shape, np.dtype(spec.dtype or self.dtype), time, time, view_of)
        if view_of is not None:
            view_of.use(time)
        self.requests.append(made)
        return made

    def gradient(self, shape: Shape, time: int, view_of: Request | None = None) -> Request:
        return self.request(Spec(shape), time, view_of)

    def forward(self) -> None:
        for time, node in enumerate(self.graph.nodes):
            declaration = self.declarations[node.name]
            xs = [self.values[value] for value in node.inputs]
            for x in xs:
                x.use(time)
            arrays = {f"x{index}": x for index, x in enumerate(xs)}
            outputs = {
                name: self.request(spec, time, arrays.get(declaration.same.get(name, "")))
                for name, spec in declaration.outputs.items()
            }
            self.values.update(zip(output_values(node, declaration), outputs.values(), strict=True))
            step = Step(node, declaration, xs, outputs)
            for name, spec in (*declaration.saved.items(), *declaration.scratch.items()):
                step.local[name] = self.request(spec, time)
            self.steps.append(step)

    def finish(self, end: int) -> Schedule:
        outputs = {name: self.values[value] for name, value in self.graph.outputs.items()}
        for output in outputs.values():
            output.use(end)  # may be read when everything has run
        inputs = {name: self.values[name] for name in self.graph.inputs}
        return Schedule(self.steps, inputs, outputs, self.requests)


def schedule_inference(graph: Graph, inputs: int | Mapping[str, Shape], dtype: np.dtype) -> Schedule:
    """Schedule the forward calls alone; saved arrays live as long as scratch does.

    `inputs` is a batch size, or the shapes of all inputs by name, batch axis first.
    """
    builder = _Builder(graph, inputs, dtype)
    builder.forward()
    return builder.finish(len(builder.steps))


def schedule_training(
    graph: Graph,
    inputs: int | Mapping[str, Shape],
    dtype: np.dtype,
    *,
    input_gradients: bool = False,
    share_memory: bool = True,
    losses: Collection[str] | None = None,
) -> Schedule:
    """Schedule forward, losses and backward.

    `input_gradients` asks for the gradients of the model's inputs too, which training does without. Without
    `share_memory` every gradient has an array of its own. `losses` names the outputs whose gradients are given; all
    that can have one unless given. What does not lead to one of them is not computed backward.
    """
    builder = _Builder(graph, inputs, dtype)
    builder.forward()
    loss_time = len(builder.steps)
    end = loss_time + 2 * len(builder.steps)
    backward = _Backward(builder, end, input_gradients)
    output_gradients = {}
    for name, value in graph.outputs.items():
        if builder.specs[value].gradient and (losses is None or name in losses):
            output_gradients[name] = builder.gradient(builder.values[value].shape, loss_time)
            backward.parts.setdefault(value, []).append(output_gradients[name])
    for position, step in reversed(list(enumerate(builder.steps))):
        backward.schedule(step, end - 2 * position)
    schedule = builder.finish(end)
    schedule.output_gradients = output_gradients
    schedule.unreached = backward.unreached()
    if input_gradients:
        schedule.input_gradients = backward.input_gradients(end)
    if share_memory:
        for position, step in reversed(list(enumerate(schedule.steps))):
            _share(step, end - 2 * position, schedule.inputs.values())
    return schedule


class _Backward:
    """The walk back: which gradients there are, and where the parts of each lie."""

    def __init__(self, builder: _Builder, end: int, input_gradients: bool) -> None:
        self._builder = builder
        self._end = end
        self._needed = _values_that_need_gradients(builder, input_gradients)
        self._written: set[str] = set()  # parameters whose gradient a node has written
        self.parts: dict[str, list[Request]] = {}

    def schedule(self, step: Step, time: int) -> None:
        builder, declaration, node = self._builder, step.declaration, step.node
        values = dict(zip(declaration.outputs, output_values(node, declaration), strict=True))
        differentiable = [name for name, spec in declaration.outputs.items() if spec.gradient]
        learned = [name for name in declaration.params if node.variable(name) not in builder.graph.frozen]
        wanted = [value in self._needed for value in node.inputs]
        step.dparams = dict.fromkeys(learned)
        if not any(self.parts.get(values[name]) for name in differentiable) or not (learned or any(wanted)):
            step.dxs = [None] * len(step.xs)
            step.dparams = {}
            return
        step.works_backward = True
        for name in differentiable:
            spec, parts = declaration.outputs[name], self.parts.pop(values[name], [])
            step.gradients[name] = self._total(step, parts, spec.shape, time)
        self._keep_what_is_read(step, time)
        for name in learned:
            variable = node.variable(name)
            if variable in self._written:  # another call of the same layer has: this part is added to that
                step.dparams[name] = builder.gradient(declaration.params[name].shape, time)
            self._written.add(variable)
        self._add_input_gradients(step, wanted, time)

    def _keep_what_is_read(self, step: Step, time: int) -> None:
        declaration = step.declaration
        reads = [x for index, x in enumerate(step.xs) if declaration.reads_input(index)]
        reads += [output for name, output in step.outputs.items() if name in declaration.backward_reads]
        for read in (*reads, *(step.local[name] for name in declaration.saved)):
            read.use(time)
        for name, spec in declaration.backward_scratch.items():
            step.backward_scratch[name] = self._builder.request(spec, time)

    def _add_input_gradients(self, step: Step, wanted: list[bool], time: int) -> None:
        declaration = step.declaration
        dys = {f"d{name}": dy for name, dy in step.gradients.items()}
        for index, (value, x) in enumerate(zip(step.node.inputs, step.xs, strict=True)):
            if not wanted[index]:
                step.dxs.append(None)
                continue
            dx = self._builder.gradient(x.shape, time, dys.get(declaration.same.get(f"dx{index}", "")))
            found = self.parts.setdefault(value, [])
            if declaration.adds_gradient and found:
                step.dx_before = found.pop()
                step.dx_before.use(time)
            found.append(dx)
            step.dxs.append(dx)

    def _total(self, step: Step, parts: list[Request], shape: Shape, time: int) -> Request:
        """Return the gradient of a value: the only part, or the sum of all, made one tick before it is read."""
        if len(parts) == 1:
            total = parts[0]
        else:
            total = self._builder.gradient(shape, time - 1)
            for part in parts:
                part.use(time - 1)
            step.sums.append((total, parts))
        total.use(time)
        return total

    def input_gradients(self, end: int) -> dict[str, Sum]:
        """Return the sums that the gradients of the inputs are; they are there when everything has run."""
        sums = {}
        for name, spec in self._builder.graph.inputs.items():
            if spec.gradient:
                parts = self.parts.get(name, [])
                for part in parts:
                    part.use(end)
                total = parts[0] if len(parts) == 1 else self._builder.gradient(self._builder.values[name].shape, end)
                total.use(end)
                sums[name] = total, parts
        return sums

    def unreached(self) -> list[str]:
        """Return the learned parameters whose gradient no node writes: it is zero."""
        builder = self._builder
        named = (
            step.node.variable(name) for step in builder.steps for name in step.declaration.params
        )  # of shared ones, several times
        return [name for name in dict.fromkeys(named) if name not in self._written | builder.graph.frozen]


def _share(step: Step, time: int, kept: Collection[Request]) -> None:
    """Make gradients of inputs views of arrays that are read for the last time when these gradients are written."""
    arrays = {f"x{index}": x for index, x in enumerate(step.xs)} | {f"d{n}": dy for n, dy in step.gradients.items()}
    owners = {each.owner() for each in kept}
    for name, places in step.declaration.may_share.items():
        dx = step.dxs[int(name.removeprefix("dx"))]
        for other in (arrays[each] for each in places if each in arrays):
            if dx is not None and dx.view_of is None and other.owner().last == time and other.owner() not in owners:
                dx.view_of = other
                other.use(dx.last)


def _values_that_need_gradients(builder: _Builder, input_gradients: bool) -> set[str]:
    """Return the values that learned parameters, or wanted inputs, lie behind."""
    graph = builder.graph
    needed = {name for name, spec in graph.inputs.items() if spec.gradient} if input_gradients else set()
    for node in graph.nodes:
        declaration = builder.declarations[node.name]
        learned = any(node.variable(name) not in graph.frozen for name in declaration.params)
        if learned or any(value in needed for value in node.inputs):
            values = zip(output_values(node, declaration), declaration.outputs.values(), strict=True)
            needed.update(value for value, spec in values if spec.gradient)
    return needed
