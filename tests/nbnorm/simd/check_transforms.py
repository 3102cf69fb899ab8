"""T X T^T of squares of vectors, in one pass and in two, with a last line of its own."""

import numpy as np
from intrinsics import CANARY, checks, compiled, lanes_of, values

from nbnorm.simd.transforms import make_transform
from nbnorm.simd.vectors import load

MATRIX = np.array([[1, 1, 0], [0, 1, -1], [2, 1, 0], [0, 0.5, 0]])


def _line(do, x):
    return [do.add(x[0], x[1]), do.subtract(x[1], x[2]), do.fma(2, x[0], x[1]), do.multiply(0.5, x[1])]


def _line_plus(do, x, more):
    return [do.add(value, more) for value in _line(do, x)]


_plain, _in_two, _with_more = make_transform(_line, 3), make_transform(_line, 3, passes=2), make_transform(
    _line, 3, _line_plus
)  # fmt: skip


@compiled
def _transform(x, y, lanes):
    row, column = 3 * lanes + 1, lanes
    size = 16 * lanes
    _plain(x, 1, row, column, y, 0, 4 * lanes, lanes)
    _in_two(x, 1, row, column, y, size, 4 * lanes, lanes)
    _with_more(x, 1, row, column, y, 2 * size, 4 * lanes, lanes, load(x, 0))


@checks("make_transform")
def check_transform(dtype):
    lanes = lanes_of(dtype)
    x, y = values(dtype, 3 * (3 * lanes + 1) + 1), np.full(48 * lanes + 1, CANARY, dtype)
    _transform(x, y, lanes)
    square = x[1:].reshape(3, -1)[:, : 3 * lanes].reshape(3, 3, lanes)
    expected = np.einsum("ia,jb,abl->ijl", MATRIX, MATRIX, square)
    np.testing.assert_array_equal(y[:-1].reshape(3, 4, 4, lanes), [expected, expected, expected + x[:lanes]])
    assert y[-1] == CANARY
