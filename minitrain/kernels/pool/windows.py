"""Pooling over planes: x (P, H, W) and y (P, OH, OW), where P = N x C. Every kernel overwrites all it writes.

`geometry` is (kernel height, kernel width, stride y, stride x, padding y, padding x). Padding is at most half the
kernel, so that every window covers at least one element of x. With elements of padding left out of the maximum, and out
of the mean or counted as zeros,

    y[p, r, c] = maximum or mean of x[p, r sh - ph + i, c sw - pw + j] over the taps (i, j) of the kernel

or in NumPy, without padding, sliding_window_view(x, (kh, kw), (1, 2))[:, ::sh, ::sw].max((3, 4)). A tap is the number
i kw + j. Windows of 2 x 2 with stride 2, and strides of 1 and 2, are taken in vectors; the rest one by one.

The loops over a plane are helpers of their own on borrowed rows: what stands in a parallel loop compiles slowly.
"""

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.simd.bits import store_bits
from nbnorm.simd.masks import load_between, load_even_between
from nbnorm.simd.memory import flat
from nbnorm.simd.pooling.windows import (
    choose_between,
    halve_maximum,
    maximum_of_pairs,
    nothing_chosen,
    spread_maximum,
    store_chosen,
)
from nbnorm.simd.shuffles import sum_lanes
from nbnorm.simd.vectors import add, lanes_of, load
from nbnorm.simd.widening import no_sum, widen_add


@device
def _halve_plane(source, plane, height, width, rows, columns, best, taps):
    half = lanes_of(source) // 2
    for row in range(0, rows, 2):
        other = min(row + 1, rows - 1)  # an odd last row is its own partner
        x_rows = (plane * height + 2 * row) * width, (plane * height + 2 * other) * width
        y_rows = (plane * rows + row) * columns, (plane * rows + other) * columns
        for column in range(0, columns, half):
            count = min(half, columns - column)
            firsts = x_rows[0] + 2 * column, x_rows[1] + 2 * column
            halve_maximum(source, firsts, width, count, best, taps, (y_rows[0] + column, y_rows[1] + column))


@device
def _maximum_of_plane(source, plane, height, width, geometry, rows, columns, best, taps):
    kh, kw, sh, sw, ph, pw = geometry
    for row in range(rows):
        y_row = (plane * rows + row) * columns
        top = row * sh - ph
        first, last = max(0, -top), min(kh, height - top)
        for column in range(columns):
            left = column * sw - pw
            x_row = (plane * height + top) * width + left
            tap = first * kw + max(0, -left)
            value = source[x_row + first * width + max(0, -left)]
            for a in range(first, last):
                for b in range(max(0, -left), min(kw, width - left)):
                    other = source[x_row + a * width + b]
                    if (other > value) | (other != other):
                        value, tap = other, a * kw + b
            best[y_row + column] = value
            taps[y_row + column] = tap


@device
def _maximum_in_vectors(source, plane, height, width, geometry, rows, columns, best, taps):
    """The same for horizontal strides of 1 and 2, a vector of windows at a time."""
    kh, kw, sh, sw, ph, pw = geometry
    lanes = lanes_of(source)
    for row in range(rows):
        top = row * sh - ph
        first, last = max(0, -top), min(kh, height - top)
        for column in range(0, columns, lanes):
            chosen = nothing_chosen(source)
            for a in range(first, last):
                for b in range(kw):
                    left = column * sw - pw + b
                    x_row = (plane * height + top + a) * width + left
                    low, high = -left, width - left  # which elements from `x_row` on lie in the row
                    if sw == 1:
                        chosen = choose_between(chosen, load_between(source, x_row, low, high), a * kw + b, low, high)
                    else:
                        other = load_even_between(source, x_row, low, high)
                        chosen = choose_between(chosen, other, a * kw + b, (low + 1) >> 1, (high + 1) >> 1)
            store_chosen(chosen, best, taps, (plane * rows + row) * columns + column, min(lanes, columns - column))


@kernel
def max_pool(x, geometry, y, chosen):
    """y = maximum of each window, NaN if it holds one; chosen (P, OH, OW) = its tap, the first of equals."""
    planes, rows, columns = y.shape
    height, width = x.shape[1:]
    _, _, _, stride_x, _, _ = geometry
    halve = geometry == (2, 2, 2, 2, 0, 0)
    source, best, taps = flat(x), flat(y), flat(chosen)
    for plane in prange(planes):
        if halve:
            _halve_plane(source, plane, height, width, rows, columns, best, taps)
        elif stride_x <= 2:
            _maximum_in_vectors(source, plane, height, width, geometry, rows, columns, best, taps)
        else:
            _maximum_of_plane(source, plane, height, width, geometry, rows, columns, best, taps)


@kernel
def max_pool_of_pairs(x, y):
    """The y of `max_pool` for windows of 2 x 2 with stride 2 and no padding, to the bit."""
    planes, rows, columns = y.shape
    height, width = x.shape[1:]
    source, best = flat(x), flat(y)
    for plane in prange(planes):
        _pairs_of_plane(source, np.intp(plane), height, width, rows, columns, best)


@device
def _pairs_of_plane(source, plane, height, width, rows, columns, best):
    lanes = lanes_of(source)
    for row in range(rows):
        y_row, x_row = (plane * rows + row) * columns, (plane * height + 2 * row) * width
        for column in range(0, columns, lanes):
            count = min(lanes, columns - column)
            value = maximum_of_pairs(source, x_row + 2 * column, width, count)
            store_bits(best, y_row + column, value, (1 << count) - 1)


@device
def _spread_maximum(gradient, plane, rows, columns, geometry, taps, offsets, height, width, target):
    _, _, sh, sw, ph, pw = geometry
    for i in range(plane * height * width, (plane + 1) * height * width):
        target[i] = 0.0
    for row in range(rows):
        y_row = (plane * rows + row) * columns
        x_row = (plane * height + row * sh - ph) * width - pw
        for column in range(columns):
            target[x_row + column * sw + offsets[taps[y_row + column]]] += gradient[y_row + column]


@device
def _double_plane(gradient, plane, rows, columns, taps, height, width, target):
    lanes = lanes_of(target)
    for row in range(rows):
        y_row = (plane * rows + row) * columns
        x_row = (plane * height + 2 * row) * width
        for left in range(0, width, lanes):
            column = left // 2
            count = max(0, min(lanes // 2, columns - column))
            size = min(lanes, width - left)
            spread_maximum(gradient, taps, y_row + column, count, target, x_row + left, width, size)
    for i in range((plane * height + 2 * rows) * width, (plane + 1) * height * width):
        target[i] = 0.0  # the last of an odd number of rows


@kernel
def max_pool_backward(dy, chosen, geometry, offsets, dx):
    """dx = the sum of dy over the windows that chose this element; offsets (kh x kw,) int64 is working space."""
    _, rows, columns = dy.shape
    planes, height, width = dx.shape
    double = geometry == (2, 2, 2, 2, 0, 0)
    _, kernel_width, _, _, _, _ = geometry
    for tap in range(offsets.size):
        offsets[tap] = tap // kernel_width * width + tap % kernel_width
    gradient, taps, target = flat(dy), flat(chosen), flat(dx)
    for plane in prange(planes):
        if double:
            _double_plane(gradient, plane, rows, columns, taps, height, width, target)
        else:
            _spread_maximum(gradient, plane, rows, columns, geometry, taps, offsets, height, width, target)


@device
def _count(position, stride, padding, size, kernel_size, count_padding):
    """Elements along one axis that a mean is over: those of the window, or those of the window in x."""
    start = position * stride - padding
    return kernel_size if count_padding else min(start + kernel_size, size) - max(start, 0)


@device
def _means_of_plane(source, plane, height, width, geometry, count_padding, rows, columns, target):
    kh, kw, sh, sw, ph, pw = geometry
    for row in range(rows):
        top = row * sh - ph
        elements = _count(row, sh, ph, height, kh, count_padding)
        for column in range(columns):
            left = column * sw - pw
            total = 0.0
            for a in range(max(0, top), min(top + kh, height)):
                x_row = (plane * height + a) * width
                for i in range(x_row + max(0, left), x_row + min(left + kw, width)):
                    total += source[i]
            divisor = elements * _count(column, sw, pw, width, kw, count_padding)
            target[(plane * rows + row) * columns + column] = total / divisor


@kernel
def average_pool(x, geometry, count_padding, y):
    """y = mean of each window, over all of it or only over what lies in x."""
    planes, rows, columns = y.shape
    height, width = x.shape[1:]
    source, target = flat(x), flat(y)
    for plane in prange(planes):
        _means_of_plane(source, plane, height, width, geometry, count_padding, rows, columns, target)


@device
def _spread_means(gradient, plane, rows, columns, geometry, count_padding, height, width, target):
    kh, kw, sh, sw, ph, pw = geometry
    for i in range(plane * height * width, (plane + 1) * height * width):
        target[i] = 0.0
    for row in range(rows):
        top = row * sh - ph
        elements = _count(row, sh, ph, height, kh, count_padding)
        for column in range(columns):
            left = column * sw - pw
            divisor = elements * _count(column, sw, pw, width, kw, count_padding)
            share = gradient[(plane * rows + row) * columns + column] / divisor
            for a in range(max(0, top), min(top + kh, height)):
                x_row = (plane * height + a) * width
                for i in range(x_row + max(0, left), x_row + min(left + kw, width)):
                    target[i] += share


@kernel
def average_pool_backward(dy, geometry, count_padding, dx):
    """dx = the sum of dy / (number of elements) over the windows that cover this element."""
    _, rows, columns = dy.shape
    planes, height, width = dx.shape
    gradient, target = flat(dy), flat(dx)
    for plane in prange(planes):
        _spread_means(gradient, plane, rows, columns, geometry, count_padding, height, width, target)


@device
def _sum(source, row, length):
    """Sum of source[row : row + length] in float64; two vectors, so that additions need not wait for each other."""
    lanes = lanes_of(source)
    even, odd = no_sum(source), no_sum(source)
    whole = length - length % (2 * lanes)
    for i in range(0, whole, 2 * lanes):
        even = widen_add(even, load(source, row + i))
        odd = widen_add(odd, load(source, row + i + lanes))
    for i in range(whole, length, 2 * lanes):
        even = widen_add(even, load_between(source, row + i, 0, length - i))
        odd = widen_add(odd, load_between(source, row + i + lanes, 0, length - i - lanes))
    return sum_lanes(add(even, odd))


@kernel
def global_average(x, y):
    """y[p] = mean of x[p], summed in float64; x (P, L), y (P,)."""
    planes, length = x.shape
    source = flat(x)
    for plane in prange(planes):
        y[plane] = _sum(source, plane * length, length) / length


@kernel
def global_average_backward(dy, dx):
    """dx[p, i] = dy[p] / L; dy (P,), dx (P, L)."""
    planes, length = dx.shape
    target = flat(dx)
    for plane in prange(planes):
        share = dy[plane] / length
        for i in range(plane * length, (plane + 1) * length):
            target[i] = share
