"""Norms whose statistics are a sample's own: layer, RMS, group, instance and filter response norm."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np

from minitrain.initializers import Constant
from minitrain.kernels.calls import Call
from minitrain.layer import Buffer, Declaration, Layer, Shape, Spec, Tensors, array, only_input
from nbnorm.jit.arrays import nothing
from nbnorm.kernels import rows


class Rows(NamedTuple):
    """How x is divided into rows.

    Attributes
    ----------
    view : (rows, channels or elements of a row, length of a channel)
        As the kernels take x.
    own : shape
        Of gamma and beta.
    groups : int
        Rows of a sample that have a gamma of their own.
    order : axes or None
        In which they lie for the kernels, where that is another order than x's.
    """

    view: tuple[int, int, int]
    own: Shape
    groups: int = 1
    order: tuple[int, ...] | None = None


def rows_of_axes(shape: Shape, axes: tuple[int, ...]) -> Rows:
    """Divide an array into rows along these axes, whose elements have a gamma each."""
    outer = [axis for axis in range(len(shape)) if axis not in axes]
    order = (*outer, *axes)
    own = tuple(shape[axis] for axis in axes)
    moved = order if order != tuple(range(len(shape))) else None
    return Rows((math.prod(shape[axis] for axis in outer), math.prod(own), 1), own, 1, moved)


def rows_of_groups(shape: Shape, groups: int) -> Rows:
    """Divide (N, C, *spatial) into rows of the channels of a group, which have a gamma each."""
    return Rows((shape[0] * groups, shape[1] // groups, math.prod(shape[2:])), (shape[1],), groups)


class RowNorm(Layer):
    """Base of these norms: a layer says what its rows are, and which parameters it has.

    Attributes
    ----------
    centered : bool
        Whether the mean is taken away.
    """

    centered: ClassVar[bool] = True

    def rows(self, x: Shape) -> Rows:
        """Divide an input into rows, or raise ValueError."""
        raise TypeError(f"{type(self).__name__} does not define rows")

    def first_values(self) -> dict[str, float]:
        """Return the parameters, of gamma, beta and tau, and what they begin as."""
        raise TypeError(f"{type(self).__name__} does not define first_values")

    def epsilon(self, dtype: np.dtype) -> float:
        """Return what is added to the variance."""
        return float(self.eps)  # type: ignore[attr-defined]

    def declare(self, *inputs: Spec) -> Declaration:
        x = only_input(self, inputs)
        here = self.rows(x)
        moved = {} if here.order is None else {"moved": array(x)}
        # A model's dtype is not known yet: float32 rows are padded to more elements, and divided in the same way.
        room = rows.backward_room(here.view, here.groups, np.dtype(np.float32).itemsize, "tau" in self.first_values())
        return Declaration(
            outputs={"y": Spec(x)},
            params={name: Buffer(here.own, fill=Constant(value)) for name, value in self.first_values().items()},
            saved={"mean": array((here.view[0] if self.centered else 0,), "float64"),
                   "inv_std": array((here.view[0],), "float64")},
            scratch=moved,
            backward_scratch={
                "room": array((room,), "float64"), **{f"{name}_too": each for name, each in moved.items()}
            },
            backward_reads=("x0",),
            may_share={"dx0": ("dy", "x0")},
        )  # fmt: skip

    def flops(self, *shapes: Shape) -> int:
        return 8 * math.prod(shapes[0])

    def _parameters(self, t: Tensors, own: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return gamma, beta and tau as the kernels take them."""
        names = self.first_values()
        gamma, beta = (
            getattr(t, name).reshape(-1) if name in names else np.full(math.prod(own), value, t.y.dtype)
            for name, value in (("gamma", 1.0), ("beta", 0.0))
        )
        return gamma, beta, t.tau if "tau" in names else nothing(t.y.dtype)

    def bind_forward(self, t: Tensors) -> None:
        t.run_forward = self.bound_forward(t)

    def bind_backward(self, t: Tensors) -> None:
        t.run_backward = self.bound_backward(t)

    def bound_forward(self, t: Tensors, relu: bool = False) -> Call:
        """Return the call that writes y and the statistics; with a ReLU, y is never below 0."""
        here = self.rows(t.x.shape)
        parameters = self._parameters(t, here.own)
        eps, centered, none = self.epsilon(t.y.dtype), self.centered, nothing(t.y.dtype, 3)
        load, x = _loaded(t.x, here, None if here.order is None else t.moved)
        y, store = (t.y.reshape(here.view), None) if here.order is None else (x, _stored(x, here, t.y))

        def run() -> None:
            if load is not None:
                load()
            rows.forward(x, none, parameters, here.groups, eps, centered, relu, t.mean, t.inv_std, y)
            if store is not None:
                store()

        return run

    def bound_backward(self, t: Tensors, relu: bool = False) -> Call:
        """Return the call that writes the gradients; what a ReLU kept back is found from x."""
        here = self.rows(t.x.shape)
        parameters, names = self._parameters(t, here.own), self.first_values()
        no_array = nothing(t.y.dtype, 3)
        load, x = _loaded(t.x, here, None if here.order is None else t.moved)
        load_too, dy = _loaded(t.dy, here, None if here.order is None else t.moved_too)
        dx, store = no_array, None
        if t.dx is not None:
            dx, store = (t.dx.reshape(here.view), None) if here.order is None else (dy, _stored(dy, here, t.dx))
        # What nobody wants has memory, too: the kernels sum it in any case.
        size = math.prod(here.own)
        dgamma, dbeta = (
            np.empty(size, t.y.dtype) if each is None else each.reshape(-1)
            for each in (getattr(t, f"d{name}") if name in names else None for name in ("gamma", "beta"))
        )
        dtau = nothing(t.y.dtype) if "tau" not in names else np.empty(size, t.y.dtype) if t.dtau is None else t.dtau
        stats, centered = (t.mean, t.inv_std), self.centered

        def run() -> None:
            if load is not None and load_too is not None:
                load()
                load_too()
            gradients = (dx, dgamma, dbeta, dtau, no_array)
            rows.backward(dy, x, no_array, stats, parameters, here.groups, centered, relu, False, t.room, gradients)
            if store is not None:
                store()

        return run

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def backward(self, t: Tensors) -> None:
        t.run_backward()


def _loaded(a: np.ndarray, here: Rows, moved: np.ndarray | None) -> tuple[Call | None, np.ndarray]:
    """Return what copies `a` into rows, None where it lies in rows as it is, and the rows."""
    if moved is None or here.order is None:
        return None, a.reshape(here.view)
    source = a.transpose(here.order)
    target = moved.reshape(source.shape)
    return _copy(source, target), moved.reshape(here.view)


def _stored(in_rows: np.ndarray, here: Rows, a: np.ndarray) -> Call:
    """Return what copies rows back to where they belong."""
    assert here.order is not None
    target = a.transpose(here.order)
    return _copy(in_rows.reshape(target.shape), target)


def _copy(source: np.ndarray, target: np.ndarray) -> Callable[[], None]:
    return lambda: np.copyto(target, source)
