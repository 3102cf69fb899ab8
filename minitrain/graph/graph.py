"""Names and edges: nodes that the user builds, and the graph that everything else works on."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from minitrain.layer import Declaration, Layer, Node, Shape

__all__ = ["Graph", "GraphNode", "Input", "trace"]


class Input(Node):
    """An input of a model.

    Parameters
    ----------
    shape : tuple of int
        Shape of one sample, without the batch axis: (C, H, W) for images, (features,) for vectors.
    name : str, optional
        "input", "input2" and so on unless given.
    """

    def __init__(self, shape: Sequence[int], name: str | None = None) -> None:
        sizes = tuple(int(size) for size in shape)
        if not sizes or min(sizes) < 1 or sizes != tuple(shape):
            raise ValueError(f"shape: expected positive sizes without the batch axis, got {tuple(shape)}")
        super().__init__(None, (), sizes, name)


@dataclass(frozen=True)
class GraphNode:
    """One layer in a graph.

    `inputs` are names of values: "conv1" is the first output of the node conv1, "conv1.z" its output z. `names` maps
    the layer's own names of parameters and state to the model's ("gamma" to "bn1.gamma"), so that a fused layer keeps
    the names of the layers it stands for.
    """

    name: str
    layer: Layer
    inputs: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)

    def variable(self, local: str) -> str:
        """Return the model's name of a parameter or state of this layer."""
        return self.names.get(local, f"{self.name}.{local}")


@dataclass(frozen=True)
class Graph:
    """Layers in an order in which they can run.

    Attributes
    ----------
    inputs : name to shape without the batch axis
    nodes : tuple of GraphNode
    output : name of the value that the model returns
    """

    inputs: Mapping[str, Shape]
    nodes: tuple[GraphNode, ...]
    output: str

    def declarations(self, batch: int) -> dict[str, Declaration]:
        """Declare every layer for a batch size; errors name the node."""
        return self._declare(batch)[0]

    def shapes(self, batch: int) -> dict[str, Shape]:
        """Return the shapes of all values, batch axis first."""
        return self._declare(batch)[1]

    def _declare(self, batch: int) -> tuple[dict[str, Declaration], dict[str, Shape]]:
        shapes: dict[str, Shape] = {name: (batch, *shape) for name, shape in self.inputs.items()}
        declared = {}
        for node in self.nodes:
            try:
                declaration = node.layer.declare(*(shapes[value] for value in node.inputs))
            except ValueError as error:
                raise ValueError(f"{node.name}: {error}") from None
            declared[node.name] = declaration
            shapes.update(zip(output_values(node, declaration), declaration.outputs.values(), strict=True))
            shapes |= {part_of(node.name, name): buffer.shape for name, buffer in declaration.side_outputs.items()}
        return declared, shapes

    def consumers(self) -> dict[str, list[GraphNode]]:
        """Map the name of each value to the nodes that read it (twice where one reads it twice)."""
        readers: dict[str, list[GraphNode]] = {}
        for node in self.nodes:
            for value in node.inputs:
                readers.setdefault(value, []).append(node)
        return readers

    def with_nodes(self, nodes: Sequence[GraphNode], output: str) -> Graph:
        """Return the graph with other nodes over the same inputs."""
        return replace(self, nodes=tuple(nodes), output=output)


def output_values(node: GraphNode, declaration: Declaration) -> list[str]:
    """Return the names of the values a node gives: its own name for the first output."""
    names = list(declaration.outputs)
    return [node.name, *(part_of(node.name, name) for name in names[1:])]


def part_of(node: str, name: str) -> str:
    """Return the name of the value that is another output of a node than the first, or a side output."""
    return f"{node}.{name}"


def trace(inputs: Sequence[Node], output: Node) -> Graph:
    """Collect what leads from `inputs` to `output`, in the order of creation, and give every node a name.

    Raises
    ------
    ValueError
        An input that is not used, an `Input` that is used and not listed, or two nodes of one name.
    """
    reached: dict[int, Node] = {}
    waiting = [output]
    while waiting:
        node = waiting.pop()
        if id(node) not in reached:
            reached[id(node)] = node
            waiting.extend(node.inputs)
    ordered = sorted(reached.values(), key=lambda node: node.created)
    _check_inputs(inputs, ordered, output)
    names = _name_nodes(list(inputs) + [node for node in ordered if node.layer is not None])
    return Graph(
        inputs={names[node]: node.shape for node in inputs},
        nodes=tuple(
            GraphNode(names[node], node.layer, tuple(names[each] for each in node.inputs))
            for node in ordered
            if node.layer is not None
        ),
        output=names[output],
    )


def _check_inputs(inputs: Sequence[Node], ordered: Sequence[Node], output: Node) -> None:
    for node in inputs:
        if not isinstance(node, Node) or node.layer is not None:
            raise ValueError(f"inputs: expected Input nodes, got {node!r}")
        if node not in ordered:
            raise ValueError(f"inputs: {node!r} does not lead to the output {output!r}")
    for node in ordered:
        if node.layer is None and node not in inputs:
            raise ValueError(f"inputs: the output depends on {node!r}, which is not listed")
    if output.layer is None:
        raise ValueError("outputs: expected the output of a layer, got an Input")


def _name_nodes(nodes: Sequence[Node]) -> dict[Node, str]:
    given = [node.name for node in nodes if node.name is not None]
    for name in given:
        if "." in name or not name:
            raise ValueError(f"name: expected a name without dots, got {name!r}")
        if given.count(name) > 1:
            raise ValueError(f"name: {name!r} stands for more than one layer (a layer is called once; make another)")
    taken = set(given)
    names: dict[Node, str] = {}
    for node in nodes:
        names[node] = node.name or _next_name(node, taken)
        taken.add(names[node])
    return names


def _next_name(node: Node, taken: set[str]) -> str:
    if node.layer is None:
        numbered = itertools.chain(["input"], (f"input{number}" for number in itertools.count(2)))
    else:
        prefix = node.layer.prefix or type(node.layer).__name__.lower()
        numbered = itertools.chain(f"{prefix}{number}" for number in itertools.count(1))
    return next(name for name in numbered if name not in taken)
