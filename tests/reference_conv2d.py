"""Float64 twins of the convolution and dense kernels: a loop over the taps of the kernel, NumPy for the rest."""

import numpy as np


def _taps(geometry, padded):
    """For every tap (i, j): the part of the padded input that meets it, (N, C, OH, OW), a view."""
    _, _, rows, columns = geometry.output_shape
    (sh, sw), (dh, dw) = geometry.stride, geometry.dilation
    for i in range(geometry.kernel[0]):
        for j in range(geometry.kernel[1]):
            bottom, right = i * dh + sh * (rows - 1) + 1, j * dw + sw * (columns - 1) + 1
            yield i, j, padded[:, :, i * dh : bottom : sh, j * dw : right : sw]


def _pad(geometry, x):
    ph, pw = geometry.padding
    return np.pad(x.astype(np.float64), ((0, 0), (0, 0), (ph, ph), (pw, pw)))


def _grouped(array, axis, groups):
    """Split an axis into (groups, size / groups)."""
    return array.reshape(*array.shape[:axis], groups, array.shape[axis] // groups, *array.shape[axis + 1 :])


def forward(geometry, x, weight, bias):
    weight = _grouped(weight.astype(np.float64), 0, geometry.groups)
    y = np.zeros(_grouped(np.empty(geometry.output_shape), 1, geometry.groups).shape)
    for i, j, part in _taps(geometry, _pad(geometry, x)):
        y += np.einsum("gkc,ngchw->ngkhw", weight[..., i, j], _grouped(part, 1, geometry.groups))
    y = y.reshape(geometry.output_shape)
    return y + bias.astype(np.float64)[:, None, None] if bias.size else y


def input_gradient(geometry, dy, weight):
    weight = _grouped(weight.astype(np.float64), 0, geometry.groups)
    dy = _grouped(dy.astype(np.float64), 1, geometry.groups)
    dx = _pad(geometry, np.zeros(geometry.input_shape))
    for i, j, part in _taps(geometry, dx):
        part += np.einsum("gkc,ngkhw->ngchw", weight[..., i, j], dy).reshape(part.shape)
    (ph, pw), (height, width) = geometry.padding, geometry.input_shape[2:]
    return dx[:, :, ph : ph + height, pw : pw + width]


def weight_gradient(geometry, dy, x):
    dy = _grouped(dy.astype(np.float64), 1, geometry.groups)
    dweight = np.empty((geometry.groups, dy.shape[2], *geometry.weight_shape[1:]))
    for i, j, part in _taps(geometry, _pad(geometry, x)):
        dweight[..., i, j] = np.einsum("ngkhw,ngchw->gkc", dy, _grouped(part, 1, geometry.groups))
    return dweight.reshape(geometry.weight_shape), dy.sum(axis=(0, 3, 4)).reshape(-1)
