"""What a layer says of its arrays before they exist."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain.initializers import Constant

__all__ = ["Buffer", "Declaration", "Fill", "FreeShape", "Shape", "Spec", "array", "ones", "weight", "zeros"]

Shape = tuple[int, ...]
FreeShape = tuple[Any, ...]  # int or None: an axis that each batch has its own size of
Fill = Callable[[np.random.Generator, Shape, int, int], npt.NDArray[Any]]


@dataclass(frozen=True)
class Spec:
    """What is known of an array before it exists.

    Attributes
    ----------
    shape : tuple of int
        Batch axis first, where a layer declares it.
    dtype : str or None
        None stands for the model's float type.
    gradient : bool
        Whether a gradient flows back. False for integers, masks, statistics.
    """

    shape: Shape
    dtype: str | None = None
    gradient: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if self.dtype is not None:
            dtype = np.dtype(self.dtype)
            object.__setattr__(self, "dtype", str(dtype))
            if dtype.kind != "f":
                object.__setattr__(self, "gradient", False)  # nothing flows through an integer

    @property
    def is_float(self) -> bool:
        """Whether it holds numbers of the model's float type, or of one of its own."""
        return self.dtype is None or np.dtype(self.dtype).kind == "f"


@dataclass(frozen=True)
class Buffer:
    """Shape, dtype and first content of one parameter or state.

    Attributes
    ----------
    shape : tuple of int
    dtype : str or None
        None stands for the model's dtype.
    fill : callable or None
        `fill(rng, shape, fan_in, fan_out)` gives the first content of a parameter or state. An initializer is one.
    fan_in, fan_out : int
        Inputs that reach one output, outputs that one input reaches: what initializers scale by.
    penalized : bool
        Whether L1 and L2 penalties reach this parameter unless the user says otherwise.
    """

    shape: Shape
    dtype: str | None = None
    fill: Fill | None = None
    fan_in: int = 1
    fan_out: int = 1
    penalized: bool = False


def array(shape: Shape, dtype: str | None = None) -> Spec:
    """Declare an array that is written before it is read, without a gradient."""
    return Spec(shape, dtype, gradient=False)


def zeros(shape: Shape) -> Buffer:
    """Declare a parameter or state that starts as zeros."""
    return Buffer(shape, fill=Constant(0.0))


def ones(shape: Shape) -> Buffer:
    """Declare a parameter or state that starts as ones."""
    return Buffer(shape, fill=Constant(1.0))


def weight(shape: Shape, fan_in: int, fan_out: int, fill: Fill) -> Buffer:
    """Declare weights: a parameter that starts at random and that penalties reach."""
    return Buffer(shape, None, fill, fan_in, fan_out, penalized=True)


SPECS = ("outputs", "carried", "saved", "scratch", "backward_scratch", "derived")  # fields of Declaration
BUFFERS = ("params", "state")
RESERVED = frozenset({"x", "xs", "ys", "dx", "dxs", "dx_before"})  # what else a layer finds in its Tensors


@dataclass(frozen=True)
class Declaration:
    """Every array of a layer for given inputs.

    Attributes
    ----------
    outputs : name to Spec, batch axis first
        The first one has the layer's own name in a graph; it is called "y". Another one, "h", is the value "rnn1.h".
        Those without a gradient are written by `forward`, and nothing flows back from them.
    params : learned arrays; the gradient of `weight` is bound as `dweight`.
    state : arrays that are kept and saved with the model but never optimized, such as running statistics.
    carried : arrays that a plan keeps from call to call, zeros at first and after `Plan.reset`. `forward` and `infer`
        write them; each plan has its own.
    saved : arrays that forward writes and backward reads.
    scratch : working space of one call of `forward` or `infer`; holds rubbish before it.
    backward_scratch : working space of one call of `backward`.
    derived : arrays that `derive` writes from the parameters and the state alone, and `infer` reads. They are kept
        between calls, for plans of any batch size: neither shape nor content depends on the batch. There in inference,
        and in training where the class says so (`derives_in_training`).
    backward_reads : which of "x" (all inputs), "x0", "x1" ... (one of several) and the outputs' names backward needs.
        Anything not named here may have been overwritten by then. Gradients of the outputs, parameters, state, carried
        and saved arrays are always there. Where the layer has several outputs and no loss depends on one of them, its
        gradient is zeros; where none depends on any of them, `backward` is not called.
    same : which arrays are one memory, under another shape perhaps, so that there is no work: "y": "x0" (the output is
        the input), "dx0": "dy" (the input's gradient is the output's).
    may_share : for a gradient of an input ("dx0"), what it may share its memory with, best first: an input of the same
        shape ("x1"), or the gradient of the output ("dy"). A layer that allows it reads each element of that before it
        writes there.
    adds_gradient : the layer has one input, and `backward` adds `t.dx_before` to its gradient, where that is not None:
        what the other layers that read the input have found already.
    """

    outputs: Mapping[str, Spec]
    params: Mapping[str, Buffer] = field(default_factory=dict)
    state: Mapping[str, Buffer] = field(default_factory=dict)
    carried: Mapping[str, Spec] = field(default_factory=dict)
    saved: Mapping[str, Spec] = field(default_factory=dict)
    scratch: Mapping[str, Spec] = field(default_factory=dict)
    backward_scratch: Mapping[str, Spec] = field(default_factory=dict)
    derived: Mapping[str, Spec] = field(default_factory=dict)
    backward_reads: tuple[str, ...] = ()
    same: Mapping[str, str] = field(default_factory=dict)
    may_share: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    adds_gradient: bool = False

    def __post_init__(self) -> None:
        if not self.outputs:
            raise ValueError("outputs: expected one or more, got none")
        names: list[str] = []
        for kind in (*SPECS, *BUFFERS):
            for name, each in getattr(self, kind).items():
                expected = Spec if kind in SPECS else Buffer
                if not isinstance(each, expected):
                    raise TypeError(f"{kind}: expected a {expected.__name__} for {name!r}, got {each!r}")
                if not name.isidentifier() or name.startswith("_"):
                    raise ValueError(f"{kind}: expected the name of an attribute of t, got {name!r}")
                names.append(name)
        names += [f"d{name}" for name in (*self.outputs, *self.params)]
        for name in names:
            if names.count(name) > 1 or name in RESERVED:
                raise ValueError(f"{name}: stands for more than one array of the layer; give one another name")
        self._check_references()

    def _check_references(self) -> None:
        """Refuse a name that no array has: what it was to say would go unheard."""
        inputs, gradients = re.compile(r"x\d+"), {f"d{name}" for name in self.outputs}
        for name in self.backward_reads:
            if name != "x" and name not in self.outputs and not inputs.fullmatch(name):
                raise ValueError(f"backward_reads: expected 'x', 'x0' ... or an output, got {name!r}")
        pairs = [("same", name, other) for name, other in self.same.items()]
        pairs += [("may_share", name, other) for name, others in self.may_share.items() for other in others]
        for kind, name, other in pairs:
            is_gradient = name.startswith("dx") and inputs.fullmatch(name[1:])
            if kind == "same" and name in self.outputs and inputs.fullmatch(other):
                continue
            if is_gradient and (other in gradients or (kind == "may_share" and inputs.fullmatch(other))):
                continue
            expected = {"same": "'y': 'x0' or 'dx0': 'dy'", "may_share": "'dx0': ('dy', 'x1')"}[kind]
            raise ValueError(f"{kind}: {name!r} can not be {other!r}; expected such as {expected}")

    def reads_input(self, index: int) -> bool:
        """Return whether backward needs this input."""
        return "x" in self.backward_reads or f"x{index}" in self.backward_reads

    @property
    def works_forward(self) -> bool:
        """Whether there is an output that is not the input itself."""
        return any(name not in self.same for name in self.outputs)

    @property
    def first(self) -> Spec:
        """The first output."""
        return next(iter(self.outputs.values()))
