"""Shapes of a two-dimensional convolution: everything that is known before the first number arrives."""

from dataclasses import dataclass

__all__ = ["Conv2dGeometry"]


@dataclass(frozen=True)
class Conv2dGeometry:
    """A convolution of (N, C, H, W) arrays; pairs are (rows, columns).

    Nothing is checked here: the layer that makes one does that.
    """

    input_shape: tuple[int, int, int, int]
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
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

    def forward_scratch(self) -> int:
        """Elements of scratch that `forward` needs."""
        return 0

    def input_gradient_scratch(self) -> int:
        """Elements of scratch that `backward_input` needs."""
        return 0

    def weight_gradient_scratch(self) -> int:
        """Elements of scratch that `backward_weight` needs."""
        return 0
