"""Inputs side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

from minitrain.kernels.elementwise import copy_columns
from minitrain.layer import Declaration, Example, Layer, Shape, Tensors, describe
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

    def declare(self, *shapes: Shape) -> Declaration:
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
        return Declaration(outputs={"y": (*first[:axis], total, *first[axis + 1 :])})

    def prepare(self, t: Tensors) -> None:
        def as_rows(shape: Shape) -> tuple[int, int]:
            return math.prod(shape[: self.axis]), math.prod(shape[self.axis :])

        t.rows = [x.reshape(as_rows(x.shape)) for x in t.xs]
        t.y_rows = t.y.reshape(as_rows(t.y.shape))
        t.starts = [0, *accumulate(row.shape[1] for row in t.rows)][:-1]
        t.run = copy_columns.for_work(t.y.size)
        if hasattr(t, "dy"):
            t.dy_rows = t.dy.reshape(t.y_rows.shape)
            t.dx_rows = [None if dx is None else dx.reshape(as_rows(dx.shape)) for dx in t.dxs]

    def forward(self, t: Tensors) -> None:
        for x, start in zip(t.rows, t.starts, strict=True):
            t.run(x, 0, x.shape[1], t.y_rows, start)

    def backward(self, t: Tensors) -> None:
        for dx, start in zip(t.dx_rows, t.starts, strict=True):
            if dx is not None:
                t.run(t.dy_rows, start, dx.shape[1], dx, 0)
