"""Pooling over planes: x (P, H, W) and y (P, OH, OW), where P = N x C. Every kernel overwrites all it writes.

`geometry` is (kernel height, kernel width, stride y, stride x, padding y, padding x). Padding is at most half the
kernel, so that every window covers at least one element of x.
"""

import numpy as np

from nbnorm._jit import device, kernel, prange

LANES = 8  # accumulators of a sum: the compiler keeps them in a vector register, and their order is part of the result


@device
def _better(value, best):
    """Whether a later element replaces the best one: it is larger, or NaN."""
    return (value > best) | (value != value)


@device
def _halve_maximum(x, y, chosen):
    """Maximum over windows of 2x2 with stride 2: reads every element once, in vector code."""
    for oh in range(y.shape[0]):
        top, bottom, best_row, index_row = x[2 * oh], x[2 * oh + 1], y[oh], chosen[oh]
        for ow in range(y.shape[1]):
            best, index = top[2 * ow], np.uint8(0)
            value = top[2 * ow + 1]
            take = _better(value, best)
            best, index = (value if take else best), (np.uint8(1) if take else index)
            value = bottom[2 * ow]
            take = _better(value, best)
            best, index = (value if take else best), (np.uint8(2) if take else index)
            value = bottom[2 * ow + 1]
            take = _better(value, best)
            best_row[ow], index_row[ow] = (value if take else best), (np.uint8(3) if take else index)


@device
def _first(position, stride, padding):
    """First element of a window that is not padding, counted from the window's start."""
    return max(0, padding - position * stride)


@device
def _outputs_inside(offset, stride, padding, size, outputs):
    """Range of outputs whose window element `offset` lies in x and not in the padding."""
    begin = max(0, (padding - offset + stride - 1) // stride)
    end = min(outputs, (size - 1 + padding - offset) // stride + 1)
    return begin, max(begin, end)


@device
def _plane_maximum(x, geometry, y, chosen):
    """Maximum over any windows: one pass over a row of y for each element of the window, in vector code."""
    kh, kw, sh, sw, ph, pw = geometry
    height, width = x.shape
    for oh in range(y.shape[0]):
        best_row, index_row = y[oh], chosen[oh]
        first = _first(oh, sh, ph)
        for ow in range(y.shape[1]):
            best_row[ow] = -np.inf
            index_row[ow] = first * kw + _first(ow, sw, pw)
        for a in range(first, min(kh, height + ph - oh * sh)):
            row = x[oh * sh - ph + a]
            for b in range(kw):
                begin, end = _outputs_inside(b, sw, pw, width, y.shape[1])
                for ow in range(begin, end):
                    value = row[ow * sw + b - pw]
                    take = _better(value, best_row[ow])
                    best_row[ow] = value if take else best_row[ow]
                    index_row[ow] = a * kw + b if take else index_row[ow]


@kernel
def max_pool(x, geometry, y, chosen):
    """y = maximum of each window, NaN if it holds one; chosen (P, OH, OW) = its place there, the first of equals."""
    kh, kw, sh, sw, ph, pw = geometry
    halve = kh == 2 and kw == 2 and sh == 2 and sw == 2 and ph == 0 and pw == 0
    for plane in prange(x.shape[0]):
        if halve:
            _halve_maximum(x[plane], y[plane], chosen[plane])
        else:
            _plane_maximum(x[plane], geometry, y[plane], chosen[plane])


@device
def _double(dy, chosen, dx):
    """Gradient of `_halve_maximum`: writes every element of dx once."""
    zero = dy.dtype.type(0)
    for oh in range(dy.shape[0]):
        gradient, index, top, bottom = dy[oh], chosen[oh], dx[2 * oh], dx[2 * oh + 1]
        for ow in range(dy.shape[1]):
            top[2 * ow] = gradient[ow] if index[ow] == 0 else zero
            top[2 * ow + 1] = gradient[ow] if index[ow] == 1 else zero
            bottom[2 * ow] = gradient[ow] if index[ow] == 2 else zero
            bottom[2 * ow + 1] = gradient[ow] if index[ow] == 3 else zero
    dx[2 * dy.shape[0] :] = zero
    dx[:, 2 * dy.shape[1] :] = zero


@kernel
def max_pool_backward(dy, chosen, geometry, dx):
    """dx = the sum of dy over the windows that chose this element."""
    kh, kw, sh, sw, ph, pw = geometry
    halve = kh == 2 and kw == 2 and sh == 2 and sw == 2 and ph == 0 and pw == 0
    for plane in prange(dy.shape[0]):
        if halve:
            _double(dy[plane], chosen[plane], dx[plane])
        else:
            dx[plane] = 0.0
            for oh in range(dy.shape[1]):
                for ow in range(dy.shape[2]):
                    place = np.int64(chosen[plane, oh, ow])
                    dx[plane, oh * sh - ph + place // kw, ow * sw - pw + place % kw] += dy[plane, oh, ow]


@device
def _divisors(oh, geometry, height, width, count_padding, row):
    """row[ow] = how many elements the mean of window (oh, ow) is over."""
    kh, kw, sh, sw, ph, pw = geometry
    rows = kh if count_padding else min(oh * sh - ph + kh, height) - max(oh * sh - ph, 0)
    for ow in range(row.size):
        columns = kw if count_padding else min(ow * sw - pw + kw, width) - max(ow * sw - pw, 0)
        row[ow] = rows * columns


@kernel
def average_pool(x, geometry, count_padding, divisors, y):
    """y = mean of each window; divisors (OH, OW) is written: the number of elements, with or without the padding."""
    kh, kw, sh, sw, ph, pw = geometry
    planes, height, width = x.shape
    for oh in range(y.shape[1]):
        _divisors(oh, geometry, height, width, count_padding, divisors[oh])
    for plane in prange(planes):
        for oh in range(y.shape[1]):
            total = y[plane, oh]
            total[:] = 0.0
            for a in range(_first(oh, sh, ph), min(kh, height + ph - oh * sh)):
                row = x[plane, oh * sh - ph + a]
                for b in range(kw):
                    begin, end = _outputs_inside(b, sw, pw, width, y.shape[2])
                    for ow in range(begin, end):
                        total[ow] += row[ow * sw + b - pw]
            for ow in range(total.size):
                total[ow] /= divisors[oh, ow]


@kernel
def average_pool_backward(dy, geometry, divisors, dx):
    """dx = the sum of dy / divisor over the windows that cover this element."""
    kh, kw, sh, sw, ph, pw = geometry
    planes, height, width = dx.shape
    for plane in prange(planes):
        dx[plane] = 0.0
        for oh in range(dy.shape[1]):
            for a in range(_first(oh, sh, ph), min(kh, height + ph - oh * sh)):
                row = dx[plane, oh * sh - ph + a]
                for b in range(kw):
                    begin, end = _outputs_inside(b, sw, pw, width, dy.shape[2])
                    for ow in range(begin, end):
                        row[ow * sw + b - pw] += dy[plane, oh, ow] / divisors[oh, ow]


@device
def _sum(row):
    """Sum in float64 with LANES accumulators, added in a fixed order."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    whole = row.size - row.size % LANES
    for i in range(0, whole, LANES):
        s0 += row[i]
        s1 += row[i + 1]
        s2 += row[i + 2]
        s3 += row[i + 3]
        s4 += row[i + 4]
        s5 += row[i + 5]
        s6 += row[i + 6]
        s7 += row[i + 7]
    for i in range(whole, row.size):
        s0 += row[i]
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


@kernel
def global_average(x, y):
    """y[p] = mean of x[p]; x (P, L), y (P,)."""
    for plane in prange(x.shape[0]):
        y[plane] = _sum(x[plane]) / x.shape[1]


@kernel
def global_average_backward(dy, dx):
    """dx[p, i] = dy[p] / L; dy (P,), dx (P, L)."""
    for plane in prange(dx.shape[0]):
        dx[plane] = dy[plane] / dx.shape[1]
