"""Names and edges: nodes that the user builds, and the graph that everything else works on."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from minitrain.layer import FREE_SIZES, TYPICAL_BATCH, Declaration, FreeShape, Layer, Node, Shape, Spec
from nbnorm.jit.checks import mismatch

__all__ = ["SINGLE", "Graph", "GraphNode", "Input", "output_values", "part_of", "trace"]

SINGLE = ""  # the name of the output of a graph that has one and gives no name to it
INPUT_KINDS = "iub"  # dtypes beside the model's float type: integers and booleans


class Input(Node, sealed=True):
    """An input of a model.

    Parameters
    ----------
    shape : tuple of int or None
        Shape of one sample, without the batch axis: (C, H, W) for images, (features,) for vectors, () for one integer
        each. None is an axis that each batch has its own size of: (3, None, None), (None, 8).
    dtype : str, optional
        "int64", "bool" and the like for what is no measurement: labels, tokens, lengths, masks. No gradient flows into
        it, and no value is converted. By default the model's float type.
    name : str, optional
        "input", "input2" and so on unless given.

    Raises
    ------
    TypeError, ValueError
        Sizes that are no positive integers, or a dtype of another kind.
    """

    def __init__(self, shape: Sequence[int | None], dtype: str | None = None, name: str | None = None) -> None:
        if isinstance(shape, (str, bytes)) or not isinstance(shape, (tuple, list)):
            raise TypeError(mismatch("shape", "a tuple of sizes without the batch axis, such as (3, 32, 32)", shape))
        sizes: list[int | None] = []
        for size in shape:
            if size is not None and (isinstance(size, (bool, np.bool_)) or not isinstance(size, (int, np.integer))):
                raise ValueError(f"shape: expected positive sizes (or None) without the batch axis, got {tuple(shape)}")
            if size is not None and size < 1:
                raise ValueError(f"shape: expected positive sizes without the batch axis, got {tuple(shape)}")
            sizes.append(None if size is None else int(size))
        given = _input_dtype(dtype)
        if not sizes and given is None:
            raise ValueError("shape: expected positive sizes without the batch axis, got (); one number is (1,)")
        super().__init__(None, (), Spec(tuple(sizes), given), name)  # type: ignore[arg-type]


def _input_dtype(dtype: str | None) -> str | None:
    if dtype is None:
        return None
    expected = "None (the model's float type), an integer dtype or 'bool'"
    try:
        given = np.dtype(dtype)
    except TypeError:
        raise TypeError(mismatch("dtype", expected, repr(dtype))) from None
    if given.kind not in INPUT_KINDS:
        raise ValueError(mismatch("dtype", expected, repr(dtype)))
    return str(given)


@dataclass(frozen=True)
class GraphNode:
    """One call of a layer in a graph.

    `inputs` are names of values: "conv1" is the first output of the node conv1, "conv1.z" its output z. `names` maps
    the layer's own names of parameters and state to the model's ("gamma" to "bn1.gamma"), where these do not begin
    with the node's name: a fused layer keeps the names of the layers it stands for, a layer that is called again has
    those of its first call.
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
    inputs : name to Spec without the batch axis; None in its shape for a free axis
    nodes : tuple of GraphNode
    outputs : name of an output to name of the value that it is. A graph that returns one array has one, called SINGLE.
    frozen : names of parameters whose gradients are not computed, and of state that training does not move
    """

    inputs: Mapping[str, Spec]
    nodes: tuple[GraphNode, ...]
    outputs: Mapping[str, str]
    frozen: frozenset[str] = frozenset()

    @property
    def is_single(self) -> bool:
        """Whether it returns one array rather than a dictionary."""
        return list(self.outputs) == [SINGLE]

    @property
    def has_free_axes(self) -> bool:
        """Whether an input has an axis that each batch has its own size of."""
        return any(None in spec.shape for spec in self.inputs.values())

    def input_shapes(self, batch: int, free: int = FREE_SIZES[0]) -> dict[str, Shape]:
        """Return shapes of the inputs for a batch, with the same size for every free axis."""
        return {
            name: (batch, *(free if size is None else size for size in spec.shape))
            for name, spec in self.inputs.items()
        }

    def declarations(self, batch: int | Mapping[str, Shape]) -> dict[str, Declaration]:
        """Declare every layer, for a batch size or for shapes of the inputs; errors name the node."""
        return self.declare(batch)[0]

    def shapes(self, batch: int | Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shapes of all values, batch axis first."""
        return {name: spec.shape for name, spec in self.declare(batch)[1].items()}

    def free_shapes(self) -> dict[str, FreeShape]:
        """Return the shapes of all values without the batch axis, None where an axis is free."""
        small = self.shapes(TYPICAL_BATCH)
        large = small
        if self.has_free_axes:
            large = self.shapes(self.input_shapes(TYPICAL_BATCH, FREE_SIZES[1]))
        return {
            name: tuple(a if a == b else None for a, b in zip(shape[1:], large[name][1:], strict=True))
            for name, shape in small.items()
        }

    def declare(self, batch: int | Mapping[str, Shape]) -> tuple[dict[str, Declaration], dict[str, Spec]]:
        """Return what every layer declares, and a Spec of every value."""
        shapes = batch if isinstance(batch, Mapping) else self.input_shapes(batch)
        values = {name: replace(spec, shape=shapes[name]) for name, spec in self.inputs.items()}
        declared = {}
        for node in self.nodes:
            for value in node.inputs:
                if value not in values:
                    raise ValueError(f"graph: {node.name} reads {value!r}, which no earlier layer gives")
            try:
                declaration = node.layer.declare(*(values[value] for value in node.inputs))
            except ValueError as error:
                only_tried = self.has_free_axes and not isinstance(batch, Mapping)
                sizes = f" ({FREE_SIZES[0]} for free axes)" if only_tried else ""
                raise ValueError(f"{node.name}: {error}{sizes}") from None
            declared[node.name] = declaration
            values.update(zip(output_values(node, declaration), declaration.outputs.values(), strict=True))
        return declared, values

    def consumers(self) -> dict[str, list[GraphNode]]:
        """Map the name of each value to the nodes that read it (twice where one reads it twice)."""
        readers: dict[str, list[GraphNode]] = {}
        for node in self.nodes:
            for value in node.inputs:
                readers.setdefault(value, []).append(node)
        return readers

    def with_nodes(self, nodes: Sequence[GraphNode], outputs: Mapping[str, str]) -> Graph:
        """Return the graph with other nodes over the same inputs."""
        return replace(self, nodes=tuple(nodes), outputs=dict(outputs))


def output_values(node: GraphNode, declaration: Declaration) -> list[str]:
    """Return the names of the values a node gives: its own name for the first output."""
    names = list(declaration.outputs)
    return [node.name, *(part_of(node.name, name) for name in names[1:])]


def part_of(node: str, name: str) -> str:
    """Return the name of the value that is another output of a node than the first."""
    return f"{node}.{name}"


def trace(
    inputs: Sequence[Node], outputs: Mapping[str, Node], known: Mapping[Node, str] | None = None
) -> tuple[Graph, dict[Node, str]]:
    """Collect what leads from `inputs` to `outputs`, in the order of creation, and give every node a name.

    Nodes that `known` has keep their names from there, and no other node gets one of these.

    Returns
    -------
    Graph
    names : name of each input, and of each first output

    Raises
    ------
    TypeError, ValueError
        An input that is not used, an `Input` that is used and not listed, or two layers of one name.
    """
    reached: dict[Node, None] = {}
    waiting = list(outputs.values())
    while waiting:
        node = waiting.pop().call
        if node not in reached:
            reached[node] = None
            waiting.extend(node.inputs)
    ordered = sorted(reached, key=lambda node: node.created)
    _check_ends(inputs, ordered, outputs)
    names = _name_nodes([*inputs, *(node for node in ordered if node.layer is not None)], known or {})

    def value(node: Node) -> str:
        return part_of(names[node.call], node.output) if node.output else names[node]

    first_calls: dict[int, str] = {}  # of each layer object
    nodes = []
    for node in ordered:
        if node.layer is None:
            continue
        owner = first_calls.setdefault(id(node.layer), names[node])
        shared = {} if owner == names[node] else {each: f"{owner}.{each}" for each in _variables(node)}
        nodes.append(GraphNode(names[node], node.layer, tuple(value(each) for each in node.inputs), shared))
    graph = Graph(
        inputs={names[node]: node.spec for node in inputs},
        nodes=tuple(nodes),
        outputs={name: value(node) for name, node in outputs.items()},
    )
    return graph, names


def _variables(node: Node) -> list[str]:
    """The layer's own names of parameters and state."""
    assert node.layer is not None
    sizes = ((TYPICAL_BATCH, *(FREE_SIZES[0] if a is None else a for a in each.shape)) for each in node.inputs)
    declared = node.layer.declare(
        *(replace(each.spec, shape=shape) for each, shape in zip(node.inputs, sizes, strict=True))
    )
    return [*declared.params, *declared.state]


def _check_ends(inputs: Sequence[Node], ordered: Sequence[Node], outputs: Mapping[str, Node]) -> None:
    reached = set(ordered)
    for node in inputs:
        if not isinstance(node, Node) or node.layer is not None:
            raise ValueError(f"inputs: expected Input nodes, got {node!r}")
        if node not in reached:
            listed = ", ".join(map(repr, outputs.values()))
            raise ValueError(f"inputs: {node!r} does not lead to the output {listed}")
    if len(set(inputs)) != len(inputs):
        raise ValueError(f"inputs: expected each Input once, got {list(inputs)!r}")
    for node in ordered:
        if node.layer is None and node not in inputs:
            raise ValueError(f"inputs: the output depends on {node!r}, which is not listed")
    for node in outputs.values():
        if node.layer is None:
            raise ValueError("outputs: expected the output of a layer, got an Input")


def _name_nodes(nodes: Sequence[Node], known: Mapping[Node, str]) -> dict[Node, str]:
    owners: dict[str, Node] = {}
    for node in nodes:
        name = node.name
        if name is None or node in known:
            continue
        other = owners.setdefault(name, node)
        if (other.layer is not node.layer or node.layer is None) and other is not node:
            raise ValueError(f"name: {name!r} stands for more than one layer; give one of them another name")
    taken = set(owners) | set(known.values())
    names: dict[Node, str] = {}
    for node in nodes:
        given = known.get(node) or (node.name if owners.get(node.name or "") is node else None)
        names[node] = given or _next_name(node, taken)
        taken.add(names[node])
    return names


def _next_name(node: Node, taken: set[str]) -> str:
    """Return "conv1", "conv2" ... for the layer's prefix; "embed2" for the second call of a layer called "embed"."""
    if node.layer is None:
        numbered = itertools.chain(["input"], (f"input{number}" for number in itertools.count(2)))
    elif node.name is not None:
        numbered = itertools.chain(f"{node.name}{number}" for number in itertools.count(2))
    else:
        prefix = node.layer.prefix or type(node.layer).__name__.lower()
        numbered = itertools.chain(f"{prefix}{number}" for number in itertools.count(1))
    return next(name for name in numbered if name not in taken)
