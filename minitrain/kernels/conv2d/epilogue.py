"""The way back through what follows a convolution."""

import numpy as np

from minitrain.kernels.conv2d.bind import sum_plane
from nbnorm.jit import kernel, prange
from nbnorm.simd.memory import flat

__all__ = ["backward_of_relu"]


@kernel
def backward_of_relu(dy, y, partial, dz, dbias):
    """dz = dy where y > 0, else 0 dy; dbias[k] = sum of dz[:, k], or (0,). dy, y and dz (N, K, H, W).

    partial (N, K), float64, is working space. NaN goes the way it goes through `elementwise.leaky_relu_backward`.
    """
    images, channels, pixels = dy.shape[0], dy.shape[1], dy.shape[2] * dy.shape[3]
    gradient, value, target, zero = flat(dy), flat(y), flat(dz), dy.dtype.type(0)
    size = channels * pixels
    for n in prange(images):
        begin = np.intp(n) * size
        image, signs, result = gradient[begin : begin + size], value[begin : begin + size], target[begin : begin + size]
        for i in range(result.size):
            result[i] = zero * image[i] if signs[i] <= zero else image[i]
        for k in range(dbias.size):
            partial[n, k] = sum_plane(result, k * pixels, pixels)
    for k in range(dbias.size):
        total = 0.0
        for n in range(images):
            total += partial[n, k]
        dbias[k] = total
