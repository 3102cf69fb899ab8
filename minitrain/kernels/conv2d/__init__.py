"""Convolution of NCHW arrays and its two gradients. See README.md beside this file."""

from minitrain.kernels.conv2d.bind import (
    Conv2dGeometry,
    backward_input,
    backward_weight,
    convolution,
    forward,
    normalization_shape,
    prepare_weight,
    shared_geometry,
    write_normalization,
)

__all__ = [
    "Conv2dGeometry", "backward_input", "backward_weight", "convolution", "forward", "normalization_shape",
    "prepare_weight", "shared_geometry", "write_normalization",
]  # fmt: skip
