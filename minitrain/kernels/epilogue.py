"""The way back through what follows a convolution."""

import numpy as np

from minitrain.kernels.conv2d import sum_plane
from nbnorm._jit import kernel, prange
from nbnorm.simd.vectors import flat

__all__ = ["backward_of_relu"]


@kernel
def backward_of_relu(dy, y, dz, dbias):
    """dz = dy where y > 0, else 0 dy; dbias[k] = sum of dz[:, k], or (0,). dy, y and dz (N, K, H, W).

    NaN goes the way it goes through `elementwise.leaky_relu_backward`.
    """
    images, channels, pixels = dy.shape[0], dy.shape[1], dy.shape[2] * dy.shape[3]
    gradient, value, target, zero = flat(dy), flat(y), flat(dz), dy.dtype.type(0)
    for k in prange(channels):
        total = 0.0
        for n in range(images):
            begin = (n * channels + np.intp(k)) * pixels
            plane, signs = gradient[begin : begin + pixels], value[begin : begin + pixels]
            result = target[begin : begin + pixels]
            for i in range(result.size):
                result[i] = zero * plane[i] if signs[i] <= zero else plane[i]
            if dbias.size > 0:
                total += sum_plane(target, begin, pixels)
        if dbias.size > 0:
            dbias[k] = total
