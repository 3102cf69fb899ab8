"""Mean of each channel over all positions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from minitrain.kernels.pool import windows
from minitrain.layer import Declaration, Example, Layer, Shape, Tensors, describe, only_input


@dataclass(frozen=True)
class GlobalAvgPool(Layer):
    """Mean of each channel of x (N, C, *spatial) over all its positions: y (N, C).

    Lin, Chen & Yan, "Network in network", 2013 (arXiv:1312.4400), section 3.2.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.GlobalAvgPool()(Input((64, 8, 8))).shape
    (64,)
    """

    prefix: ClassVar[str] = "pool"
    examples: ClassVar[list[Example]] = [
        Example((2, 3, 4, 5)),
        Example((3, 2, 7)),
        Example((1, 1, 1, 1)),
        Example((4, 40, 11, 11)),
    ]

    def declare(self, *shapes: Shape) -> Declaration:
        x = only_input(self, shapes)
        if len(x) < 3:
            raise ValueError(f"GlobalAvgPool: expected an input of shape (N, C, ...) with positions, got {describe(x)}")
        return Declaration(outputs={"y": x[:2]})

    def prepare(self, t: Tensors) -> None:
        planes = (math.prod(t.x.shape[:2]), math.prod(t.x.shape[2:]))
        t.planes, t.flat_y = t.x.reshape(planes), t.y.reshape(-1)
        t.run = windows.global_average.for_work(t.x.size)
        if t.dx is not None:
            t.flat_dy, t.dx_planes = t.dy.reshape(-1), t.dx.reshape(planes)
            t.run_backward = windows.global_average_backward.for_work(t.x.size)

    def forward(self, t: Tensors) -> None:
        t.run(t.planes, t.flat_y)

    def backward(self, t: Tensors) -> None:
        if t.dx is not None:
            t.run_backward(t.flat_dy, t.dx_planes)
