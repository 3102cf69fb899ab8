"""Maximum over windows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from minitrain.kernels.pool import narrow as pool_narrow
from minitrain.kernels.pool import windows as pool
from minitrain.layer import Declaration, Example, Shape, Tensors, array
from minitrain.layers._pool import Pool2d


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

    def declare(self, *shapes: Shape) -> Declaration:
        y = self.output_shape(shapes)
        kernel_height, kernel_width, *_ = self.geometry
        places = "uint8" if kernel_height * kernel_width <= 256 else "int32"
        return Declaration(
            outputs={"y": y},
            saved={"chosen": array(y, places)},
            backward_scratch={"offsets": array((kernel_height * kernel_width,), "int64")},
        )

    def prepare(self, t: Tensors) -> None:
        super().prepare(t)
        t.chosen_planes = t.chosen.reshape(t.y_planes.shape)
        t.run_pairs = pool.max_pool_of_pairs.for_work(t.x.size)
        work, x, y, chosen = t.x.size, t.planes, t.y_planes, t.chosen_planes
        narrow = pool_narrow.fits(x, t.geometry)
        if narrow:
            t.pool = partial(pool_narrow.max_pool.for_work(work), x, y, chosen)
        else:
            t.pool = partial(pool.max_pool.for_work(work), x, t.geometry, y, chosen)
        if t.dx is not None and narrow:
            t.pool_backward = partial(pool_narrow.max_pool_backward.for_work(work), t.dy_planes, chosen, t.dx_planes)
        elif t.dx is not None:
            run = pool.max_pool_backward.for_work(work)
            t.pool_backward = partial(run, t.dy_planes, chosen, t.geometry, t.offsets, t.dx_planes)

    def forward(self, t: Tensors) -> None:
        t.pool()

    def infer(self, t: Tensors) -> None:
        if t.geometry == (2, 2, 2, 2, 0, 0):
            t.run_pairs(t.planes, t.y_planes)
        else:
            self.forward(t)

    def backward(self, t: Tensors) -> None:
        if t.dx is not None:
            t.pool_backward()
