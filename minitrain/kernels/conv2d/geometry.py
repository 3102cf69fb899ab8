"""Shapes of a two-dimensional convolution: everything that is known before the first number arrives."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from minitrain.kernels.conv2d.cutting import rounded
from minitrain.kernels.conv2d.depthwise.cut import (
    Depthwise,
    DepthwiseWeight,
    is_depthwise,
    plan_depthwise,
    plan_depthwise_weight,
)
from minitrain.kernels.conv2d.direct.cut import Correlation, cut_forward, cut_input_gradient
from minitrain.kernels.conv2d.direct.weight_cut import WeightGradient, cut_weight_gradient
from minitrain.kernels.conv2d.outer.weight_cut import OuterProducts, cut_outer_products, pays_to_transpose
from minitrain.kernels.conv2d.winograd.cut import Winograd, fits, pays, plan_winograd
from minitrain.kernels.conv2d.winograd.weight_cut import WinogradWeight, pays_to_transform, plan_winograd_weight

__all__ = ["Conv2dGeometry", "shared_geometry"]

MANY_IMAGES = 1024  # whatever the plane, these fill the strips of Winograd's convolution
LONG_ROW = 512  # of pixels: short enough to leave several bands to a single image


@dataclass(frozen=True)
class Conv2dGeometry:
    """A convolution of (N, C, H, W) arrays; pairs are (rows, columns).

    Nothing is checked here: the layer that makes one does that. The plans are made once, when they are first used.

    Examples
    --------
    >>> geometry = Conv2dGeometry((8, 3, 32, 32), out_channels=16, kernel=(3, 3), padding=(1, 1))
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

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Shape (N, K, OH, OW) of the result."""
        rows, columns = (self._output_size(axis) for axis in (0, 1))
        return self.input_shape[0], self.out_channels, rows, columns

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Shape (K, C / groups, kh, kw) of the weights."""
        return self.out_channels, self.input_shape[1] // self.groups, *self.kernel

    @cached_property
    def flops(self) -> int:
        """Multiplications and additions of one forward pass; either gradient takes as many."""
        images, channels, rows, columns = self.output_shape
        return 2 * images * channels * rows * columns * self.weight_shape[1] * self.kernel[0] * self.kernel[1]

    def _output_size(self, axis: int) -> int:
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return (self.input_shape[2 + axis] + 2 * self.padding[axis] - reach) // self.stride[axis] + 1

    def forward_scratch(self) -> int:
        """Elements of scratch that `forward` needs."""
        plan, winograd = self.forward_plan, self.winograd_forward_plan
        scratch = rounded(plan.packed) + plan.scratch
        return scratch if winograd is None else max(scratch, rounded(winograd.packed) + winograd.scratch)

    def packed_weight(self) -> int:
        """Elements of the packed weights that `convolution` reads; the same for any number of images."""
        return self.packed_for_winograd() + self.forward_plan.packed

    def packed_for_winograd(self) -> int:
        """Elements of them, the first, that are for Winograd's convolution: none where no number of images has it."""
        plan = self.winograd_plan_of_many
        return 0 if plan is None else plan.packed

    def input_gradient_scratch(self) -> int:
        """Elements of scratch that `backward_input` needs."""
        plan, winograd = self.input_gradient_plan, self.winograd_input_gradient_plan
        scratch = rounded(plan.packed) + plan.scratch
        return scratch if winograd is None else max(scratch, rounded(winograd.packed) + winograd.scratch)

    def weight_gradient_scratch(self) -> int:
        """Elements of scratch that `backward_weight` needs."""
        direct = self.depthwise_weight_plan or self.outer_product_cut(4) or self.weight_gradient_cut(4)
        return max(direct.scratch, self.winograd_weight_plan.scratch if self.winograd_weight_plan else 0)

    def forward_cut(self, itemsize: int) -> Correlation | Depthwise:
        """What `forward` does with items of so many bytes."""
        if ("forward_cut", itemsize) not in self._cuts:
            self._cuts["forward_cut", itemsize] = (
                plan_depthwise(self) if is_depthwise(self) else cut_forward(self._with_long_rows, itemsize)
            )
        return self._cuts["forward_cut", itemsize]  # type: ignore[no-any-return]

    def input_gradient_cut(self, itemsize: int) -> Correlation | Depthwise:
        """What `backward_input` does with items of so many bytes."""
        if ("input_gradient_cut", itemsize) not in self._cuts:
            self._cuts["input_gradient_cut", itemsize] = (
                plan_depthwise(self, gradient=True)
                if is_depthwise(self)
                else cut_input_gradient(self._with_long_rows, itemsize)
            )
        return self._cuts["input_gradient_cut", itemsize]  # type: ignore[no-any-return]

    @property
    def forward_plan(self) -> Correlation | Depthwise:
        """What `forward` does in float32; sizes are the same in float64."""
        return self.forward_cut(4)

    @property
    def input_gradient_plan(self) -> Correlation | Depthwise:
        """What `backward_input` does in float32; sizes are the same in float64."""
        return self.input_gradient_cut(4)

    @cached_property
    def winograd_forward_plan(self) -> Winograd | None:
        """What `forward` does instead in float32, where that is faster."""
        return plan_winograd(self, gradient=False) if pays(self) else None

    @cached_property
    def winograd_plan_of_many(self) -> Winograd | None:
        """What `forward` would do in float32 with many images; the weights are the same as with few."""
        many = replace(self, input_shape=(MANY_IMAGES, *self.input_shape[1:]))
        return plan_winograd(many, gradient=False) if pays(many) else None

    @cached_property
    def winograd_input_gradient_plan(self) -> Winograd | None:
        """What `backward_input` does instead in float32, where that is faster."""
        return plan_winograd(self, gradient=True) if pays(self) else None

    @cached_property
    def depthwise_weight_plan(self) -> DepthwiseWeight | None:
        """What `backward_weight` does where each output has a channel of its own."""
        return plan_depthwise_weight(self) if is_depthwise(self) else None

    def outer_product_cut(self, itemsize: int) -> OuterProducts | None:
        """What `backward_weight` does with items of so many bytes where there are enough outputs."""
        if ("outer_product_cut", itemsize) not in self._cuts:
            self._cuts["outer_product_cut", itemsize] = (
                cut_outer_products(self, itemsize) if pays_to_transpose(self) else None
            )
        return self._cuts["outer_product_cut", itemsize]  # type: ignore[no-any-return]

    @cached_property
    def winograd_weight_plan(self) -> WinogradWeight | None:
        """What `backward_weight` does instead in float32, where `pays_to_transform` or x is to be normalized."""
        return plan_winograd_weight(self) if fits(self) else None

    @cached_property
    def pays_to_transform(self) -> bool:
        """Whether the weight gradient of Winograd's form is faster in float32."""
        plan = self.winograd_weight_plan
        return plan is not None and pays_to_transform(self, plan)

    @property
    def sums_shape(self) -> tuple[int, int, int, int]:
        """Shape of the sums of moments that `forward` writes in float32; of size 0 where it does not."""
        return self.winograd_forward_plan.sums_shape if self.winograd_forward_plan else (0, 0, 0, 0)

    @property
    def normalizes(self) -> bool:
        """Whether `forward` and `backward_weight` can normalize x, and `forward` find moments, in float32."""
        return pays(self)

    def weight_gradient_cut(self, itemsize: int) -> WeightGradient:
        """What `backward_weight` does with items of so many bytes."""
        if ("weight_gradient_cut", itemsize) not in self._cuts:
            self._cuts["weight_gradient_cut", itemsize] = cut_weight_gradient(self._with_long_rows, itemsize)
        return self._cuts["weight_gradient_cut", itemsize]  # type: ignore[no-any-return]

    @cached_property
    def _cuts(self) -> dict[tuple[str, int], Any]:
        return {}

    @property
    def _with_long_rows(self) -> "Conv2dGeometry":
        """The same products with rows joined, where the kernel is a single tap and rows mean nothing."""
        if self.kernel != (1, 1) or self.stride != (1, 1) or self.padding != (0, 0):
            return self
        images, channels, height, width = self.input_shape
        join = max(
            rows for rows in range(1, height + 1) if height % rows == 0 and (rows == 1 or rows * width <= LONG_ROW)
        )
        shape = (images, channels, height // join, width * join)
        return Conv2dGeometry(shape, self.out_channels, self.kernel, groups=self.groups)


@lru_cache(maxsize=256)
def shared_geometry(
    input_shape: tuple[int, int, int, int],
    out_channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Conv2dGeometry:
    """Return the one geometry of these shapes: a model asks for it many times, and each plan takes a millisecond."""
    return Conv2dGeometry(input_shape, out_channels, kernel, stride, padding, dilation, groups)
