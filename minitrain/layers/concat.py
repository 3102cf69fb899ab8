"""Inputs side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import ClassVar

import numpy as np

from minitrain.kernels.calls import in_order
from minitrain.kernels.elementwise import copy_columns
from minitrain.layer import Declaration, Example, Layer, Spec, Tensors, describe, float_shapes
from nbnorm.jit.checks import expect_integer, set_checked


@dataclass(frozen=True)
class Concat(Layer):
    """Put inputs side by side along one axis; they agree in the others.

    Parameters
    ----------
    axis : int
        Counted with the batch axis, as in NumPy: 1 is the channels. Negative ones count from the end. The batch axis
        itself cannot be chosen.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.Concat()(Input((8, 4, 4)), Input((3, 4, 4))).shape
    (11, 4, 4)
    """

    axis: int = 1

    prefix: ClassVar[str] = "concat"
    examples: ClassVar[list[Example]] = [
        Example((4, 3, 5, 5), (4, 2, 5, 5)),
        Example((2, 7), (2, 1), (2, 3)),
        Example((2, 3, 4), (2, 3, 1), axis=-1),
        Example((3, 4)),
        Example((3, 40, 9, 17), (3, 20, 9, 17)),
    ]

    def __post_init__(self) -> None:
        set_checked(self, axis=expect_integer("axis", self.axis, -32))

    def declare(self, *inputs: Spec) -> Declaration:
        shapes = float_shapes(self, inputs)
        if not shapes:
            raise ValueError("Concat: expected one or more inputs, got none")
        first = shapes[0]
        axis = self.axis + len(first) if self.axis < 0 else self.axis
        if not 0 < axis < len(first):
            raise ValueError(f"axis: expected an axis of {describe(first)} other than the batch, got {self.axis}")
        for shape in shapes[1:]:
            if len(shape) != len(first) or shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
                listed = ", ".join(map(describe, shapes))
                raise ValueError(f"Concat: expected inputs that differ in axis {axis} alone, got {listed}")
        total = sum(shape[axis] for shape in shapes)
        return Declaration(outputs={"y": Spec((*first[:axis], total, *first[axis + 1 :]))})

    def bind_forward(self, t: Tensors) -> None:
        run, y = copy_columns.for_work(t.y.size), self._as_rows(t.y)
        columns = self._columns(t)
        t.run_forward = in_order(*(partial(run, x, 0, x.shape[1], y, start) for x, start in columns))

    def bind_backward(self, t: Tensors) -> None:
        run, dy = copy_columns.for_work(t.y.size), self._as_rows(t.dy)
        wanted = [(dx, start) for dx, (_, start) in zip(t.dxs, self._columns(t), strict=True) if dx is not None]
        rows = [(self._as_rows(dx), start) for dx, start in wanted]
        t.run_backward = in_order(*(partial(run, dy, start, dx.shape[1], dx, 0) for dx, start in rows))

    def _as_rows(self, a: np.ndarray) -> np.ndarray:
        return a.reshape(math.prod(a.shape[: self.axis]), math.prod(a.shape[self.axis :]))

    def _columns(self, t: Tensors) -> list[tuple[np.ndarray, int]]:
        """The inputs as rows, and the column of the output's rows in which each begins."""
        rows = [self._as_rows(x) for x in t.xs]
        starts = [0, *accumulate(row.shape[1] for row in rows)][:-1]
        return list(zip(rows, starts, strict=True))

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def backward(self, t: Tensors) -> None:
        t.run_backward()
