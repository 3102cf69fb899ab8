"""Convolution of NCHW arrays and its two gradients.

    y[n, k, p, q] = bias[k] + sum over c, i, j of weight[k, c, i, j] * x[n, c, p * sh - ph + i * dh, q * sw - pw + j * dw]

Every function overwrites its outputs and uses `scratch` freely. Results have the same bits for any number of threads.
"""

import numpy as np

from minitrain.kernels.conv2d_geometry import Conv2dGeometry
from nbnorm._jit import kernel, prange

__all__ = ["Conv2dGeometry", "backward_input", "backward_weight", "forward"]

Array = np.ndarray


def forward(geometry: Conv2dGeometry, x: Array, weight: Array, bias: Array, scratch: Array, y: Array) -> None:
    """Convolve x (N, C, H, W) with weight (K, C / groups, kh, kw), add bias (K,) or (0,), overwrite y (N, K, OH, OW)."""
    _forward(x, weight, bias, geometry.stride, geometry.padding, geometry.dilation, geometry.groups, y)


def backward_input(geometry: Conv2dGeometry, dy: Array, weight: Array, scratch: Array, dx: Array) -> None:
    """Overwrite dx (N, C, H, W), the gradient with respect to the input, from dy (N, K, OH, OW)."""
    _backward_input(dy, weight, geometry.stride, geometry.padding, geometry.dilation, geometry.groups, dx)


def backward_weight(
    geometry: Conv2dGeometry, dy: Array, x: Array, scratch: Array, dweight: Array, dbias: Array
) -> None:
    """Overwrite dweight (K, C / groups, kh, kw) and dbias (K,) or (0,) from dy and x."""
    _backward_weight(dy, x, geometry.stride, geometry.padding, geometry.dilation, geometry.groups, dweight, dbias)


@kernel
def _forward(x, weight, bias, stride, padding, dilation, groups, y):
    images, _, height, width = x.shape
    out_channels, channels, kh, kw = weight.shape
    for n in prange(images):
        for k in range(out_channels):
            y[n, k] = bias[k] if bias.size else 0
            first = k // (out_channels // groups) * channels
            for c in range(channels):
                for i in range(kh):
                    for p in range(y.shape[2]):
                        row = p * stride[0] - padding[0] + i * dilation[0]
                        if 0 <= row < height:
                            for j in range(kw):
                                for q in range(y.shape[3]):
                                    column = q * stride[1] - padding[1] + j * dilation[1]
                                    if 0 <= column < width:
                                        y[n, k, p, q] += weight[k, c, i, j] * x[n, first + c, row, column]


@kernel
def _backward_input(dy, weight, stride, padding, dilation, groups, dx):
    images, _, height, width = dx.shape
    out_channels, channels, kh, kw = weight.shape
    for n in prange(images):
        dx[n] = 0
        for k in range(out_channels):
            first = k // (out_channels // groups) * channels
            for c in range(channels):
                for i in range(kh):
                    for p in range(dy.shape[2]):
                        row = p * stride[0] - padding[0] + i * dilation[0]
                        if 0 <= row < height:
                            for j in range(kw):
                                for q in range(dy.shape[3]):
                                    column = q * stride[1] - padding[1] + j * dilation[1]
                                    if 0 <= column < width:
                                        dx[n, first + c, row, column] += weight[k, c, i, j] * dy[n, k, p, q]


@kernel
def _backward_weight(dy, x, stride, padding, dilation, groups, dweight, dbias):
    images, _, height, width = x.shape
    out_channels, channels, kh, kw = dweight.shape
    for k in prange(out_channels):
        dweight[k] = 0
        if dbias.size:
            dbias[k] = 0
        first = k // (out_channels // groups) * channels
        for n in range(images):
            if dbias.size:
                dbias[k] += dy[n, k].sum()
            for c in range(channels):
                for i in range(kh):
                    for p in range(dy.shape[2]):
                        row = p * stride[0] - padding[0] + i * dilation[0]
                        if 0 <= row < height:
                            for j in range(kw):
                                for q in range(dy.shape[3]):
                                    column = q * stride[1] - padding[1] + j * dilation[1]
                                    if 0 <= column < width:
                                        dweight[k, c, i, j] += dy[n, k, p, q] * x[n, first + c, row, column]
