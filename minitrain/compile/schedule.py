"""Which buffers a graph needs, and when each of them holds something. Integers and names only.

Time runs over the forward calls 0 .. L - 1, the loss at L, then two ticks for each backward call, last layer first: one
for the sum of its output's gradients, one for the call.
"""

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from minitrain.compile.memory import Lifetime, place
from minitrain.graph.graph import Graph, GraphNode, output_values, part_of
from minitrain.layer import Buffer, Declaration, Shape

__all__ = ["Request", "Schedule", "schedule_inference", "schedule_training"]


@dataclass(eq=False)
class Request:
    """One array in the arena, or a view of another one under a different shape."""

    shape: Shape
    dtype: np.dtype
    first: int
    last: int
    view_of: "Request | None" = None

    def use(self, time: int) -> None:
        """Keep the content until `time`, that of the array it is a view of too."""
        self.last = max(self.last, time)
        if self.view_of is not None:
            self.view_of.use(time)

    def owner(self) -> "Request":
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
    local: dict[str, Request] = field(default_factory=dict)  # side outputs, saved and forward scratch, by their names
    backward_scratch: dict[str, Request] = field(default_factory=dict)
    gradients: dict[str, Request] = field(default_factory=dict)  # of the outputs
    dxs: list[Request | None] = field(default_factory=list)
    dx_before: Request | None = None  # what backward adds to the gradient of the only input
    sums: list[tuple[Request, list[Request]]] = field(default_factory=list)  # before backward: total, parts


@dataclass(eq=False)
class Schedule:
    """Steps in forward order and all requests that they name."""

    steps: list[Step]
    inputs: dict[str, Request]
    output: Request
    requests: list[Request]
    output_gradient: Request | None = None
    input_gradients: dict[str, list[Request]] = field(default_factory=dict)  # their parts, of the inputs that want them

    def owners(self) -> list[Request]:
        """Return the requests that need memory of their own."""
        return [request for request in self.requests if request.view_of is None]

    def arena_size(self) -> int:
        """Return the bytes that all of it takes."""
        return place([request.lifetime() for request in self.owners()])[1]


class _Builder:
    """Collects requests while the graph is walked forward, then backward."""

    def __init__(self, graph: Graph, declarations: Mapping[str, Declaration], batch: int, dtype: np.dtype) -> None:
        self.graph = graph
        self.declarations = declarations
        self.dtype = dtype
        self.requests: list[Request] = []
        self.values: dict[str, Request] = {
            name: self.request(Buffer((batch, *shape)), 0) for name, shape in graph.inputs.items()
        }
        self.steps: list[Step] = []

    def request(self, buffer: Buffer, time: int, view_of: Request | None = None) -> Request:
        made = Request(buffer.shape, np.dtype(buffer.dtype or self.dtype), time, time, view_of)
        if view_of is not None:
            view_of.use(time)
        self.requests.append(made)
        return made

    def forward(self, training: bool) -> None:
        for time, node in enumerate(self.graph.nodes):
            declaration = self.declarations[node.name]
            xs = [self.values[value] for value in node.inputs]
            for x in xs:
                x.use(time)
            view_of = xs[0] if declaration.output_is_view else None
            outputs = {name: self.request(Buffer(shape), time, view_of) for name, shape in declaration.outputs.items()}
            self.values.update(zip(output_values(node, declaration), outputs.values(), strict=True))
            step = Step(node, declaration, xs, outputs)
            saved = declaration.saved if training or declaration.infer_reads_saved else {}
            for name, buffer in (*declaration.side_outputs.items(), *saved.items(), *declaration.scratch.items()):
                step.local[name] = self.request(buffer, time)
            self.values |= {part_of(node.name, name): step.local[name] for name in declaration.side_outputs}
            self.steps.append(step)

    def finish(self, end: int) -> Schedule:
        output = self.values[self.graph.output]
        output.use(end)  # may be read when everything has run
        inputs = {name: self.values[name] for name in self.graph.inputs}
        return Schedule(self.steps, inputs, output, self.requests)


def schedule_inference(graph: Graph, batch: int, dtype: np.dtype) -> Schedule:
    """Schedule the forward calls alone; saved arrays live as long as scratch does."""
    builder = _Builder(graph, graph.declarations(batch), batch, dtype)
    builder.forward(training=False)
    return builder.finish(len(builder.steps))


def schedule_training(
    graph: Graph, batch: int, dtype: np.dtype, *, input_gradients: bool = False, share_memory: bool = True
) -> Schedule:
    """Schedule forward, loss and backward.

    `input_gradients` asks for the gradients of the model's inputs too, which training does without. Without
    `share_memory` every gradient has an array of its own.
    """
    builder = _Builder(graph, graph.declarations(batch), batch, dtype)
    builder.forward(training=True)
    loss_time = len(builder.steps)
    end = loss_time + 2 * len(builder.steps)
    needed = _values_that_need_gradients(graph, builder.declarations, input_gradients)
    parts: dict[str, list[Request]] = {}
    output_gradient = builder.request(Buffer(builder.values[graph.output].shape), loss_time)
    parts[graph.output] = [output_gradient]
    for position, step in reversed(list(enumerate(builder.steps))):
        time = end - 2 * position
        _schedule_backward(builder, step, time, parts, needed)
    schedule = builder.finish(end)
    schedule.output_gradient = output_gradient
    if input_gradients:
        schedule.input_gradients = {name: parts[name] for name in graph.inputs}
        for part in itertools.chain(*schedule.input_gradients.values()):
            part.use(end)
    if share_memory:
        for position, step in reversed(list(enumerate(schedule.steps))):
            _work_in_place(step, end - 2 * position, schedule.inputs.values())
    return schedule


def _schedule_backward(
    builder: _Builder, step: Step, time: int, parts: dict[str, list[Request]], needed: set[str]
) -> None:
    declaration, node = step.declaration, step.node
    for name, value in zip(declaration.outputs, output_values(node, declaration), strict=True):
        step.gradients[name] = _total_gradient(builder, step, parts.pop(value, []), declaration.outputs[name], time)
    reads = [x for index, x in enumerate(step.xs) if declaration.reads_input(index)]
    reads += [output for name, output in step.outputs.items() if name in declaration.backward_reads]
    for read in reads:
        read.use(time)
    for name in declaration.saved:
        step.local[name].use(time)
    for name, buffer in declaration.backward_scratch.items():
        step.backward_scratch[name] = builder.request(buffer, time)
    dy = next(iter(step.gradients.values()))
    view_of = dy if declaration.output_is_view or declaration.gradients_are_views else None
    for value, x in zip(node.inputs, step.xs, strict=True):
        if value not in needed:
            step.dxs.append(None)
            continue
        dx = builder.request(Buffer(x.shape), time, view_of)
        found = parts.setdefault(value, [])
        if declaration.adds_gradient and found:
            step.dx_before = found.pop()
            step.dx_before.use(time)
        found.append(dx)
        step.dxs.append(dx)


def _work_in_place(step: Step, time: int, kept: Collection[Request]) -> None:
    """Make gradients of inputs views of arrays that are read for the last time when these gradients are written."""
    arrays = {f"x{index}": x for index, x in enumerate(step.xs)} | {f"d{n}": dy for n, dy in step.gradients.items()}
    for name, places in step.declaration.in_place.items():
        dx = step.dxs[int(name.removeprefix("dx"))]
        for other in (arrays[each] for each in places):
            if dx is not None and dx.view_of is None and other.owner().last == time and other not in kept:
                dx.view_of = other
                other.use(dx.last)


def _total_gradient(builder: _Builder, step: Step, parts: list[Request], shape: Shape, time: int) -> Request:
    """Return the gradient of a value: the only part, or the sum of all, made one tick before it is read."""
    if len(parts) == 1:
        total = parts[0]
    else:
        total = builder.request(Buffer(shape), time - 1)
        for part in parts:
            part.use(time - 1)
        step.sums.append((total, parts))
    total.use(time)
    return total


def _values_that_need_gradients(
    graph: Graph, declarations: Mapping[str, Declaration], input_gradients: bool
) -> set[str]:
    """Return the values that parameters, or wanted inputs, lie behind."""
    needed = set(graph.inputs) if input_gradients else set()
    for node in graph.nodes:
        declaration = declarations[node.name]
        if declaration.params or any(value in needed for value in node.inputs):
            needed.update(output_values(node, declaration))
    return needed
