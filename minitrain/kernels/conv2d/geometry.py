"""Shapes of a two-dimensional convolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

__all__ = ["Geometry"]


@dataclass(frozen=True)
class Geometry:
    """A convolution of (N, C, H, W) arrays; pairs are (rows, columns).

    Nothing is checked here: the layer that makes one does that.

    Examples
    --------
    >>> geometry = Geometry((8, 3, 32, 32), out_channels=16, kernel=(3, 3), padding=(1, 1))
    >>> geometry.output_shape
    (8, 16, 32, 32)
    >>> geometry.weight_shape
    (16, 3, 3, 3)
    """

    input_shape: tuple[int, int, int, int]
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @cached_property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Shape (N, K, OH, OW) of the result."""
        rows, columns = (self._output_size(axis) for axis in (0, 1))
        return self.input_shape[0], self.out_channels, rows, columns

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Shape (K, C / groups, kh, kw) of the weights."""
        return self.out_channels, self.input_shape[1] // self.groups, *self.kernel

    @property
    def flops(self) -> int:
        """Multiplications and additions of one forward pass; either gradient takes as many."""
        images, channels, rows, columns = self.output_shape
        return 2 * images * channels * rows * columns * self.weight_shape[1] * self.kernel[0] * self.kernel[1]

    def _output_size(self, axis: int) -> int:
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return (self.input_shape[2 + axis] + 2 * self.padding[axis] - reach) // self.stride[axis] + 1

    def with_images(self, images: int) -> Geometry:
        """Return the same convolution of another number of images."""
        return replace(self, input_shape=(images, *self.input_shape[1:]))

    def with_long_rows(self, longest: int) -> Geometry:
        """Return the same products with rows joined, up to `longest` pixels in one.

        That is where the kernel is a single tap and rows mean nothing; elsewhere it is the convolution itself.
        """
        if self.kernel != (1, 1) or self.stride != (1, 1) or self.padding != (0, 0):
            return self
        images, channels, height, width = self.input_shape
        join = max(
            rows for rows in range(1, height + 1) if height % rows == 0 and (rows == 1 or rows * width <= longest)
        )
        shape = (images, channels, height // join, width * join)
        return Geometry(shape, self.out_channels, self.kernel, groups=self.groups)
