"""The layer contract: what a layer declares, what it is given, what it may touch.

1. A layer is a frozen dataclass of hyperparameters. It owns no arrays and knows no mode. One layer object that is
   called on several nodes shares its parameters and state among them.
2. `declare` takes a `Spec` of each input, batch axis first, and names every array by kind. Inputs that do not fit are
   errors there, in words.
3. `bind_forward`, `bind_backward` and `bind_infer` are given the arrays of a `Tensors`, once: they choose kernels, make
   views, and bind calls to arrays. `forward`, `backward` and `infer` then compute: they choose nothing. What nobody
   wants is None: `t.dx` where no gradient of the input is needed, `t.dweight` of a frozen parameter. They overwrite
   what they write, never change what they read (where a gradient may take an array's place, the layer says so:
   `may_share`), and allocate nothing that grows with the batch. The plan sums what several readers give: gradients of
   values, and of shared parameters.
4. `infer` is `forward` unless the layer says otherwise. What it needs of the parameters and the state in another form
   (weights in the order of a kernel, a batch norm folded into them) is a `derived` array, which `derive` writes.
   Inference runs `derive` before `infer` when a parameter or state has changed: a layer need not ask.
5. `examples` lists inputs (and arguments) that `minitrain.testing.check_layer` runs. A layer without examples fails it.

What an array is before it exists, and the kinds of arrays, are in `minitrain/spec.py`.
"""

from __future__ import annotations

import itertools
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from minitrain.sealed import Sealed
from minitrain.spec import Buffer, Declaration, Fill, FreeShape, Shape, Spec, array, ones, weight, zeros
from nbnorm.jit.checks import mismatch

__all__ = [
    "Buffer",
    "Declaration",
    "Example",
    "Fill",
    "FreeShape",
    "Layer",
    "Node",
    "Shape",
    "Spec",
    "Tensors",
    "array",
    "describe",
    "float_shapes",
    "ones",
    "only_input",
    "weight",
    "zeros",
]

TYPICAL_BATCH = 2  # the smallest batch that batch norm accepts: shapes are inferred with it
# A free axis is declared with both of these sizes: what differs follows from it. Powers of two, so that the two still
# differ after many halvings, and large enough for the windows of usual nets.
FREE_SIZES = (256, 512)
_created = itertools.count()


class Tensors:
    """The arrays of one layer in one plan, as attributes.

    `x`, `dx`: the only input and its gradient; `xs`, `dxs`: all of them, as tuples. `y`, `dy` and so on for every
    declared output, `ys` all of them; `weight`, `dweight` for a parameter called weight; state, carried, saved, scratch
    and derived arrays by their names. A gradient is None where nobody needs it (`dx` of the first layer, `dweight` of a
    frozen one). `dx_before` is what a layer that declares `adds_gradient` adds to `dx`, or None. Gradients are there
    for training, derived arrays for inference. The layer's `bind_...` may add attributes of its own, under other names:
    what is bound here cannot be bound anew.

    Parameters
    ----------
    xs, dxs : sequences of array, and of array or None
    arrays : mapping of name to array or None
        Everything else.
    dx_before : array, optional
    ys : sequence of array
        The outputs.
    """

    xs: tuple[npt.NDArray[Any], ...]
    dxs: tuple[npt.NDArray[Any] | None, ...]
    ys: tuple[npt.NDArray[Any], ...]
    dx_before: npt.NDArray[Any] | None

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init__(
        self,
        xs: Sequence[npt.NDArray[Any]],
        dxs: Sequence[npt.NDArray[Any] | None] | None = None,
        arrays: Mapping[str, npt.NDArray[Any] | None] | None = None,
        dx_before: npt.NDArray[Any] | None = None,
        ys: Sequence[npt.NDArray[Any]] = (),
    ) -> None:
        bound: dict[str, Any] = {"xs": tuple(xs), "dxs": tuple(dxs) if dxs is not None else (None,) * len(xs)}
        bound["ys"] = tuple(ys)
        if len(bound["xs"]) == 1:
            bound["x"], bound["dx"] = bound["xs"][0], bound["dxs"][0]
        bound["dx_before"] = dx_before
        for name, each in (arrays or {}).items():
            if name in bound:
                raise ValueError(f"{name}: expected one array of this name in a layer, got two")
            bound[name] = each
        self.__dict__.update(bound)
        self.__dict__["_bound"] = frozenset(bound)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._bound:
            raise AttributeError(
                f"t.{name} is bound already: write into the array (t.{name}[...] = ...), or "
                "give another name to what you add"
            )
        self.__dict__[name] = value


class Example:
    """Inputs and layer arguments that the contract tests run.

    `Example((4, 3, 8, 8), out_channels=5, kernel_size=3)`; several inputs: `Example((2, 3), (2, 3))`. An input of
    integers or booleans is a `Spec`: `Example(Spec((4, 7), "int64"), high=10, count=10)`; integers are drawn from 0 to
    `high`, which is not reached, booleans are True in two of three places. An input that follows from the others is
    computed from them, and anew when they move, with `computed`: `computed={"x1": lambda x: x.mean(axis=0)}` is given
    all the others in order.
    """

    def __init__(
        self,
        *inputs: Shape | Spec,
        x: Shape | Spec | None = None,
        high: int = 2,
        computed: Mapping[str, Callable[..., Any]] | None = None,
        **arguments: Any,
    ) -> None:
        given = (*inputs, x) if x is not None else inputs
        self.inputs: tuple[Spec, ...] = tuple(each if isinstance(each, Spec) else Spec(each) for each in given)
        self.high = high
        self.computed = dict(computed or {})
        self.arguments = arguments
        unknown = set(self.computed) - {f"x{index}" for index in range(len(self.inputs))}
        if unknown or not self.inputs:
            raise ValueError(mismatch("computed", "names of inputs, x0, x1 ...", ", ".join(unknown) or "no inputs"))

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of the inputs."""
        return tuple(each.shape for each in self.inputs)

    def __repr__(self) -> str:
        arguments = "".join(f", {name}={value!r}" for name, value in self.arguments.items())
        return f"{', '.join(map(str, self.shapes))}{arguments}"


class _Name:
    """The name of a layer or an Input, checked when it is given. A descriptor, so that no subclass can forget it."""

    def __get__(self, instance: Any, owner: type | None = None) -> str | None:
        return None if instance is None else instance.__dict__.get("name")

    def __set__(self, instance: Any, value: object) -> None:
        if value is not None and (not isinstance(value, str) or not value or "." in value):
            raise (ValueError if isinstance(value, str) else TypeError)(
                mismatch("name", "a string that is not empty and has no dots", repr(value))
            )
        instance.__dict__["name"] = value


def _checked_name() -> Any:
    return _Name()


@dataclass(frozen=True)
class Layer:
    """Base of all layers. Calling a layer on nodes gives the node of its output."""

    _: KW_ONLY
    name: str | None = _checked_name()

    prefix: ClassVar[str] = ""  # automatic names are the prefix and a number: "conv1"
    trains: ClassVar[bool] = True  # False: stands in graphs for inference only, and has neither forward nor backward
    learns: ClassVar[bool] = True  # False: its parameters are frozen where it stands, it finds no gradients of them
    statistics: ClassVar[tuple[str, ...]] = ()  # names of the state that follows the data, and that can be frozen
    derives_in_training: ClassVar[bool] = False  # True: its derived arrays are there in training too
    examples: ClassVar[list[Example]] = []

    def __call__(self, *inputs: Node | Sequence[Node]) -> Any:
        """Return the node of the output; a named tuple of nodes where the layer has several outputs.

        One layer object called several times shares its parameters and state.

        Raises
        ------
        TypeError
            What is no node.
        ValueError
            Inputs that do not fit, or parameters whose shape would depend on a free axis.
        """
        nodes = _nodes_of(type(self).__name__, inputs)
        try:
            outputs = self._infer_outputs([node.spec for node in nodes])
        except ValueError as error:
            text = str(error) if str(error).startswith(type(self).__name__) else f"{type(self).__name__}: {error}"
            several = next((each for each in inputs if isinstance(each, tuple) and type(each) is not tuple), None)
            if several is not None:
                text += f" (a {type(several).__name__}: pass one of its outputs, such as .{several._fields[0]})"  # type: ignore[attr-defined]
            raise ValueError(text if self.name is None else f"{self.name}: {text}") from None
        first = Node(self, nodes, next(iter(outputs.values())), self.name)
        if len(outputs) == 1:
            return first
        names = list(outputs)
        others = [Node(self, nodes, outputs[name], None, output=name, call=first) for name in names[1:]]
        return _outputs_tuple(f"{type(self).__name__}Outputs", names)(first, *others)

    def _infer_outputs(self, inputs: Sequence[Spec]) -> dict[str, Spec]:
        """Return the outputs without batch axis, None where an axis follows from a free axis of the inputs."""
        small = large = self.declare(*(_with_batch(each, FREE_SIZES[0]) for each in inputs))
        if any(None in each.shape for each in inputs):
            large = self.declare(*(_with_batch(each, FREE_SIZES[1]) for each in inputs))
        variables = {**large.params, **large.state}
        for name, buffer in (*small.params.items(), *small.state.items()):
            shape = _free(buffer.shape, variables[name].shape)
            if None in shape:
                came = ", ".join(str(each.shape) for each in inputs)
                raise ValueError(
                    f"{type(self).__name__}: its {name} {shape} depends on a free axis (None) of the input {came}; "
                    "give Input the size of that axis, or take it away before, with GlobalAvgPool() for example"
                )
        return {
            name: Spec(_free(spec.shape[1:], large.outputs[name].shape[1:]), spec.dtype, spec.gradient)  # type: ignore[arg-type]
            for name, spec in small.outputs.items()
        }

    def declare(self, *inputs: Spec) -> Declaration:
        """Name every array for these inputs, batch axis first; ValueError for what does not fit."""
        raise TypeError(f"{type(self).__name__} does not define declare")

    def flops(self, *shapes: Shape) -> int:
        """Multiplications and additions of one forward call, where they are what its time goes into; else 0."""
        return 0

    def algorithms(self, *shapes: Shape, dtype: np.dtype) -> Mapping[str, str]:
        """Name what is chosen for these inputs, by what it makes: "forward", "input gradient" and so on. For people."""
        return {}

    def bind_forward(self, t: Tensors) -> None:
        """Choose and slice for `forward`: what every call would otherwise do anew. For training only."""

    def bind_backward(self, t: Tensors) -> None:
        """Choose and slice for `backward`, after `bind_forward`. For training only."""

    def bind_infer(self, t: Tensors) -> None:
        """Choose and slice for `derive` and `infer`. For inference only; there are no gradients in t."""
        self.bind_forward(t)

    def forward(self, t: Tensors) -> None:
        """Write the outputs, the saved arrays and the new state from the inputs and parameters."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def derive(self, t: Tensors) -> None:
        """Write all derived arrays from the parameters and the state."""

    def infer(self, t: Tensors) -> None:
        """Write the outputs alone, as for a trained net: neither state nor gradients nor derived arrays change."""
        self.forward(t)

    def backward(self, t: Tensors) -> None:
        """Write the gradients of the inputs (those that are not None) and of the parameters."""
        raise TypeError(f"{type(self).__name__} does not define backward")


class Node(Sealed, sealed=True):
    """An output of a layer, before there are arrays. Made by calling a layer on nodes; fixed then.

    Attributes
    ----------
    shape : tuple of int or None
        Without the batch axis; None for an axis that each batch has its own size of.
    dtype : str or None
        None: the model's float type.
    layer : Layer or None
        None for an `Input`.
    inputs : tuple of Node
    output : str
        Which output of the layer it is; "" for the first.
    call : Node
        The node of the first output of the same call; itself where it is that.
    """

    remedies: ClassVar[Mapping[str, str]] = {
        "shape": "make another Input(shape), and call the layers on it",
        "dtype": "make another Input(shape, dtype=...), and call the layers on it",
        "name": 'give it to the layer or the input: Dense(10, name="head"), Input(shape, name="image")',
        "layer": "call another layer on node.inputs",
        "inputs": "call the layer on other nodes",
        "trainable": 'write model.freeze("conv*")',
    }

    layer: Layer | None
    inputs: tuple[Node, ...]
    spec: Spec
    name: str | None = _checked_name()
    output: str
    call: Node
    created: int

    def __init__(
        self,
        layer: Layer | None,
        inputs: tuple[Node, ...],
        spec: Spec,
        name: str | None,
        output: str = "",
        call: Node | None = None,
    ) -> None:
        self.layer = layer
        self.inputs = inputs
        self.spec = spec
        self.name = name
        self.output = output
        self.call = self if call is None else call
        self.created = next(_created)

    @property
    def shape(self) -> FreeShape:
        return self.spec.shape

    @property
    def dtype(self) -> str | None:
        return self.spec.dtype

    def __copy__(self) -> Node:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """What leads to a node comes first, so that deep nets are no deep recursion."""
        return {"before": _ancestors(self), **vars(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({name: each for name, each in state.items() if name != "before"})
        while next(_created) < self.created:  # what is built on it comes after it, also in another process
            pass

    def __repr__(self) -> str:
        kind = "Input" if self.layer is None else type(self.layer).__name__
        kind += f".{self.output}" if self.output else ""
        return f"<Node {self.name or ''} {kind} {self.shape}>".replace("  ", " ")


def _ancestors(node: Node) -> list[Node]:
    """Return the nodes that lead to a node, in the order in which they were made."""
    found: dict[Node, None] = {}
    waiting = [node]
    while waiting:
        each = waiting.pop()
        for other in (*each.inputs, each.call):
            if other is not node and other not in found:
                found[other] = None
                waiting.append(other)
    return sorted(found, key=lambda each: each.created)


def only_input(layer: Layer, inputs: Sequence[Spec], ndim: int | None = None, axes: str = "") -> Shape:
    """Return the shape of a layer's only input, of floats; a ValueError names the layer and what it expected."""
    name = type(layer).__name__
    if len(inputs) != 1:
        raise ValueError(f"{name}: expected one input, got {len(inputs)}")
    (shape,) = float_shapes(layer, inputs)
    if ndim is not None and len(shape) != ndim:
        raise ValueError(f"{name}: expected an input of shape {axes}, got {describe(shape)}")
    return shape


def float_shapes(layer: Layer, inputs: Iterable[Spec]) -> tuple[Shape, ...]:
    """Return the shapes of inputs that are to be floats; a ValueError names the layer and what came."""
    inputs = tuple(inputs)
    for each in inputs:
        if not each.is_float:
            raise ValueError(f"{type(layer).__name__}: expected an input of floats, got {each.dtype}")
    return tuple(each.shape for each in inputs)


def describe(shape: Sequence[int | None]) -> str:
    """Print a shape with the batch axis as N."""
    return "(" + ", ".join(["N", *map(str, shape[1:])]) + ("," if len(shape) == 1 else "") + ")"


def _nodes_of(layer: str, given: Sequence[Any]) -> tuple[Node, ...]:
    """Return the nodes that a layer is called on, one by one or in lists; TypeError says what else came."""
    nodes: list[Any] = []
    for each in given:
        nodes.extend(each if isinstance(each, (list, tuple)) else [each])
    wrong = [each for each in nodes if not isinstance(each, Node)]
    if nodes and not wrong:
        return tuple(nodes)
    expected = f"{layer}: expected nodes (from Input or from other layers), got "
    if not wrong:
        raise TypeError(f"{expected}nothing")
    first = wrong[0]
    if isinstance(first, np.ndarray):
        what = f"an array of shape {first.shape}; a model takes arrays, layers build it: Model(x, y).predict(array)"
    elif isinstance(first, (int, np.integer)) or first is None:
        what = f"the number or shape {given[0]!r}; make a node of a shape: Input((3, 32, 32)), without the batch axis"
    elif isinstance(first, Layer):
        what = f"the layer {type(first).__name__} itself; call it on its input first: {type(first).__name__}(...)(x)"
    elif isinstance(first, type):
        what = f"the class {first.__name__}; make one of it first"
    else:
        what = f"a {type(first).__name__}; a net is built from Input(shape) and layers called on nodes, one or several"
    raise TypeError(expected + what)


def _outputs_tuple(name: str, fields: Sequence[str]) -> Callable[..., Any]:
    return namedtuple(name, fields)  # type: ignore[misc]


def _free(small: Shape, large: Shape) -> FreeShape:
    """Return the sizes that two shapes have in common, None for the others."""
    return tuple(a if a == b else None for a, b in zip(small, large, strict=True))


def _with_batch(spec: Spec, free: int) -> Spec:
    """Put the typical batch axis in front, and a size for each free axis."""
    return Spec((TYPICAL_BATCH, *(free if size is None else size for size in spec.shape)), spec.dtype, spec.gradient)
