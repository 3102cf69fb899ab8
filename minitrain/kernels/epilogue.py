"""What follows a product of a dense layer or a convolution: bias and activation in one pass, and their way back.

Activations are numbers, so that one kernel does them all. Their values and gradients, NaN included, are those of
`elementwise`.
"""

import numpy as np

from minitrain.kernels.conv2d import sum_plane
from minitrain.kernels.elementwise import sigmoid_span, tanh_span
from nbnorm._jit import device, kernel, prange
from nbnorm.simd.lanes import load_between
from nbnorm.simd.parts import add_wide
from nbnorm.simd.vectors import LANES_FLOAT32, add, borrowed, flat, lanes_of, load, splat

__all__ = ["IDENTITY", "LEAKY_RELU", "RELU", "SIGMOID", "TANH", "backward", "backward_of_relu", "finish", "sum_rows"]

IDENTITY, RELU, LEAKY_RELU, SIGMOID, TANH = range(5)

ELEMENTS = 2048  # at least, of the rows that one task finishes
ROWS, COLUMNS = 16, 512  # that are taken back at a time; the columns by one task


@device
def _activate(y, begin, end, activation, slope):
    """y[begin : end] = activation(y[begin : end])"""
    zero = y.dtype.type(0)
    row = y[begin:end]
    if activation == RELU:
        for i in range(row.size):
            row[i] = zero if row[i] <= zero else row[i]
    elif activation == LEAKY_RELU:
        for i in range(row.size):
            row[i] = row[i] if row[i] > zero else slope * row[i]
    elif activation == SIGMOID:
        sigmoid_span(y, y, begin, end)
    elif activation == TANH:
        tanh_span(y, y, begin, end)


@kernel
def finish(bias, activation, slope, y):
    """y = activation(y + bias), for y (rows, columns) and bias (columns,) or (0,). The slope is of LEAKY_RELU."""
    rows, columns = y.shape
    bias, values, factor = borrowed(bias), flat(y), y.dtype.type(slope)
    height = max(1, ELEMENTS // max(1, columns))
    for task in prange(-(-rows // height)):
        first, last = np.intp(task) * height, min((np.intp(task) + 1) * height, rows)
        if bias.size > 0:
            for n in range(first, last):
                row = values[n * columns : (n + 1) * columns]
                for i in range(columns):
                    row[i] += bias[i]
        _activate(values, first * columns, last * columns, activation, factor)


@device
def _go_back(dy, y, activation, slope, dz):
    """dz = dy times the derivative of the activation whose value is y; all of one length."""
    zero, one = dy.dtype.type(0), dy.dtype.type(1)
    if activation == SIGMOID:
        for i in range(dz.size):
            dz[i] = dy[i] * (y[i] * (one - y[i]))
    elif activation == TANH:
        for i in range(dz.size):
            dz[i] = dy[i] * (one - y[i] * y[i])
    else:
        factor = slope if activation == LEAKY_RELU else zero
        for i in range(dz.size):
            dz[i] = factor * dy[i] if y[i] <= zero else dy[i]


@device
def _add_rows(source, at, pitch, rows, width, totals):
    """totals[i] += sum of source[at + n * pitch + i] over n < rows, in the type of source; totals in float64.

    totals has as much room behind them as a vector.
    """
    lanes = lanes_of(source)
    for i in range(0, width, lanes):
        whole = i + lanes <= width
        total = splat(source.dtype.type(0))
        for n in range(rows):
            place = at + n * pitch + i
            total = add(total, load(source, place) if whole else load_between(source, place, 0, width - i))
        add_wide(totals, i, total)


@device
def sum_rows(dy, rows, columns, dbias):
    """dbias (columns,) = the sum of dy (rows x columns) over the rows, as `backward` takes it."""
    room = np.zeros(COLUMNS + LANES_FLOAT32)
    totals = borrowed(room)
    for first in range(0, columns, COLUMNS):
        width = min(COLUMNS, columns - first)
        totals[:] = 0.0
        for top in range(0, rows, ROWS):
            _add_rows(dy, top * columns + first, columns, min(ROWS, rows - top), width, totals)
        for i in range(width):
            dbias[first + i] = room[i]


@kernel
def backward(dy, y, activation, slope, dz, dbias):
    """dz = dy times the derivative of the activation, dbias = its sum over the rows: ROWS in their type, then float64.

    dy, y and dz (rows, columns), dbias (columns,) or (0,). With IDENTITY dz is dy: y and dz are not touched.
    """
    rows, columns = dy.shape
    gradient, value, target, factor = flat(dy), flat(y), flat(dz), dy.dtype.type(slope)
    for block in prange(-(-columns // COLUMNS)):
        first = np.intp(block) * COLUMNS
        width = min(COLUMNS, columns - first)
        room = np.zeros(width + LANES_FLOAT32)
        totals = borrowed(room)
        for top in range(0, rows, ROWS):
            bottom = min(top + ROWS, rows)
            if activation != IDENTITY:
                at_once = bottom - top if width == columns else 1
                for n in range(top, bottom, at_once):
                    begin, end = n * columns + first, (n + at_once - 1) * columns + first + width
                    _go_back(gradient[begin:end], value[begin:end], activation, factor, target[begin:end])
            if dbias.size > 0:
                source = gradient if activation == IDENTITY else target
                _add_rows(source, top * columns + first, columns, bottom - top, width, totals)
        if dbias.size > 0:
            for i in range(width):
                dbias[first + i] = room[i]


@kernel
def backward_of_relu(dy, y, dz, dbias):
    """dz = dy where y > 0, else 0 dy; dbias[k] = sum of dz[:, k], or (0,). dy, y and dz (N, K, H, W)."""
    images, channels, pixels = dy.shape[0], dy.shape[1], dy.shape[2] * dy.shape[3]
    gradient, value, target = flat(dy), flat(y), flat(dz)
    for k in prange(channels):
        total = 0.0
        for n in range(images):
            begin = (n * channels + np.intp(k)) * pixels
            end = begin + pixels
            _go_back(gradient[begin:end], value[begin:end], RELU, dy.dtype.type(0), target[begin:end])
            if dbias.size > 0:
                total += sum_plane(target, begin, pixels)
        if dbias.size > 0:
            dbias[k] = total
