"""The arrays that a graph needs, and when each of them holds something. Integers and names only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from minitrain.compile.memory import Lifetime, place
from minitrain.graph.graph import Graph, GraphNode, output_values
from minitrain.layer import Declaration, Shape, Spec

__all__ = ["Builder", "Request", "Schedule", "Step", "Sum"]


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


Sum = tuple[Request, list[Request]]  # the total, its parts


@dataclass(eq=False)
class Step:
    """One layer: its requests by kind."""

    node: GraphNode
    declaration: Declaration
    xs: list[Request]
    outputs: dict[str, Request]
    local: dict[str, Request] = field(default_factory=dict)  # saved and scratch of both passes, by their names
    # What follows is there where the layer works backward.
    sums: list[Sum] = field(default_factory=list)  # before the call
    gradients: dict[str, Request] = field(default_factory=dict)  # of the outputs
    dxs: list[Request | None] = field(default_factory=list)  # None: nobody needs it
    dx_before: Request | None = None  # what backward adds to the gradient of the only input
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


class Builder:
    """Collects requests while the graph is walked forward, then backward.

    Attributes
    ----------
    specs, values : name of a value to its Spec, and to its request
    steps, requests
        What there is so far.
    """

    def __init__(self, graph: Graph, inputs: int | Mapping[str, Shape], dtype: np.dtype) -> None:
        self.graph = graph
        self.dtype = dtype
        self.declarations, self.specs = graph.declare(inputs)
        self.requests: list[Request] = []
        self.values: dict[str, Request] = {name: self.request(self.specs[name], 0) for name in graph.inputs}
        self.steps: list[Step] = []

    def request(self, spec: Spec, time: int, view_of: Request | None = None) -> Request:
        """Ask for an array at a time, or for a view of one that is there until then."""
        made = Request(spec.shape, np.dtype(spec.dtype or self.dtype), time, time, view_of)
        if view_of is not None:
            view_of.use(time)
        self.requests.append(made)
        return made

    def forward(self) -> None:
        """Ask for what the forward calls need; one call, one tick."""
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
        """Keep the outputs until the end; they may be read when everything has run."""
        outputs = {name: self.values[value] for name, value in self.graph.outputs.items()}
        for output in outputs.values():
            output.use(end)
        inputs = {name: self.values[name] for name in self.graph.inputs}
        return Schedule(self.steps, inputs, outputs, self.requests)
