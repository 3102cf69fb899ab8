"""Mean over windows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from minitrain.kernels.calls import in_order
from minitrain.kernels.pool import windows as pool
from minitrain.layer import Declaration, Example, Spec, Tensors
from minitrain.layers._pool import Pool2d, as_planes
from nbnorm.jit.checks import expect_boolean, set_checked


@dataclass(frozen=True)
class AvgPool2d(Pool2d):
    """Mean over windows of x (N, C, H, W); rows and columns that fill no window are dropped.

    Parameters
    ----------
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        `kernel_size` unless given.
    padding : int or (int, int)
        On each side, of zeros; at most half of `kernel_size`.
    count_include_pad : bool
        Whether the mean is over the whole window or over its elements of x alone.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.AvgPool2d(2)(Input((8, 28, 28))).shape
    (8, 14, 14)
    """

    count_include_pad: bool = True

    examples: ClassVar[list[Example]] = [
        Example((2, 3, 6, 8), kernel_size=2),
        Example((2, 2, 7, 6), kernel_size=3, stride=2, padding=1),
        Example((2, 2, 7, 6), kernel_size=3, stride=2, padding=1, count_include_pad=False),
        Example((1, 2, 5, 6), kernel_size=(2, 3), stride=(1, 2), padding=(1, 0)),
        Example((1, 1, 1, 1), kernel_size=2, stride=1, padding=1),
        Example((4, 20, 24, 24), kernel_size=2),
    ]

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, count_include_pad=expect_boolean("count_include_pad", self.count_include_pad))

    def declare(self, *inputs: Spec) -> Declaration:
        return Declaration(outputs={"y": Spec(self.output_shape(inputs))})

    def bind_forward(self, t: Tensors) -> None:
        run = pool.average_pool.for_work(t.x.size)
        t.run_forward = partial(run, as_planes(t.x), self.geometry, self.count_include_pad, as_planes(t.y))

    def bind_backward(self, t: Tensors) -> None:
        if t.dx is None:
            t.run_backward = in_order()
            return
        run = pool.average_pool_backward.for_work(t.x.size)
        t.run_backward = partial(run, as_planes(t.dy), self.geometry, self.count_include_pad, as_planes(t.dx))

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def backward(self, t: Tensors) -> None:
        t.run_backward()
