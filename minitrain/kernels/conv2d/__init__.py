"""Convolution of NCHW arrays and its two gradients. See README.md beside this file."""

from minitrain.kernels.conv2d.algorithm import Product
from minitrain.kernels.conv2d.bind import (
    convolution,
    forward,
    input_gradient,
    normalization_shape,
    prepare_weight,
    weight_gradient,
    write_normalization,
)
from minitrain.kernels.conv2d.choose import (
    choose,
    names_of_algorithms,
    normalizes,
    packed_size,
    scratch_size,
    sums_shape,
)
from minitrain.kernels.conv2d.geometry import Geometry

__all__ = [
    "Geometry", "Product", "choose", "convolution", "forward", "input_gradient", "names_of_algorithms",
    "normalization_shape", "normalizes", "packed_size", "prepare_weight", "scratch_size", "sums_shape",
    "weight_gradient", "write_normalization",
]  # fmt: skip
