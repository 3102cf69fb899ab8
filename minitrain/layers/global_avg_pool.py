"""Mean of each channel over all positions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from minitrain.kernels.calls import in_order
from minitrain.kernels.pool import windows
from minitrain.layer import Declaration, Example, Layer, Spec, Tensors, describe, only_input


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

    def declare(self, *inputs: Spec) -> Declaration:
        x = only_input(self, inputs)
        if len(x) < 3:
            raise ValueError(f"GlobalAvgPool: expected an input of shape (N, C, ...) with positions, got {describe(x)}")
        return Declaration(outputs={"y": Spec(x[:2])})

    def bind_forward(self, t: Tensors) -> None:
        t.run_forward = partial(windows.global_average.for_work(t.x.size), _as_rows(t.x), t.y.reshape(-1))

    def bind_backward(self, t: Tensors) -> None:
        if t.dx is None:
            t.run_backward = in_order()
            return
        run = windows.global_average_backward.for_work(t.x.size)
        t.run_backward = partial(run, t.dy.reshape(-1), _as_rows(t.dx))

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def backward(self, t: Tensors) -> None:
        t.run_backward()


def _as_rows(a: np.ndarray) -> np.ndarray:
    """View (N, C, *spatial) as (N * C, positions)."""
    return a.reshape(math.prod(a.shape[:2]), math.prod(a.shape[2:]))
