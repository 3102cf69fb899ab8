"""Maximum over windows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from minitrain.kernels.calls import in_order
from minitrain.kernels.pool import narrow as pool_narrow
from minitrain.kernels.pool import windows as pool
from minitrain.layer import Declaration, Example, Spec, Tensors, array
from minitrain.layers._pool import Pool2d, as_planes


@dataclass(frozen=True)
class MaxPool2d(Pool2d):
    """Maximum over windows of x (N, C, H, W); rows and columns that fill no window are dropped.

    The padding counts as -inf. A NaN in the window gives NaN; of equal elements the first gets the gradient.

    Parameters
    ----------
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        `kernel_size` unless given.
    padding : int or (int, int)
        On each side; at most half of `kernel_size`.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.MaxPool2d(2)(Input((8, 28, 28))).shape
    (8, 14, 14)
    """

    examples: ClassVar[list[Example]] = [
        Example((2, 3, 6, 8), kernel_size=2),
        Example((2, 3, 7, 5), kernel_size=2),
        Example((2, 2, 7, 6), kernel_size=3, stride=2, padding=1),
        Example((1, 2, 5, 6), kernel_size=(2, 3), stride=(1, 2), padding=(1, 0)),
        Example((1, 1, 1, 1), kernel_size=2, stride=1, padding=1),
        Example((1, 1, 17, 20), kernel_size=(17, 20)),
        Example((4, 20, 24, 24), kernel_size=2),
        Example((3, 5, 6, 8), kernel_size=2),
        Example((2, 9, 4, 4), kernel_size=2),
    ]

    def declare(self, *inputs: Spec) -> Declaration:
        y = self.output_shape(inputs)
        kernel_height, kernel_width, *_ = self.geometry
        places = "uint8" if kernel_height * kernel_width <= 256 else "int32"
        return Declaration(
            outputs={"y": Spec(y)},
            saved={"chosen": array(y, places)},
            backward_scratch={"offsets": array((kernel_height * kernel_width,), "int64")},
        )

    def bind_forward(self, t: Tensors) -> None:
        x, y, chosen = (as_planes(a) for a in (t.x, t.y, t.chosen))
        if pool_narrow.fits(x, self.geometry):
            t.run_forward = partial(pool_narrow.max_pool.for_work(x.size), x, y, chosen)
        else:
            t.run_forward = partial(pool.max_pool.for_work(x.size), x, self.geometry, y, chosen)

    def bind_backward(self, t: Tensors) -> None:
        if t.dx is None:
            t.run_backward = in_order()
            return
        x, dy, chosen, dx = (as_planes(a) for a in (t.x, t.dy, t.chosen, t.dx))
        if pool_narrow.fits(x, self.geometry):
            t.run_backward = partial(pool_narrow.max_pool_backward.for_work(x.size), dy, chosen, dx)
        else:
            run = pool.max_pool_backward.for_work(x.size)
            t.run_backward = partial(run, dy, chosen, self.geometry, t.offsets, dx)

    def bind_infer(self, t: Tensors) -> None:
        if self.geometry == (2, 2, 2, 2, 0, 0):
            run = pool.max_pool_of_pairs.for_work(t.x.size)
            t.run_infer = partial(run, as_planes(t.x), as_planes(t.y))
        else:
            self.bind_forward(t)
            t.run_infer = t.run_forward

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def infer(self, t: Tensors) -> None:
        t.run_infer()

    def backward(self, t: Tensors) -> None:
        t.run_backward()
