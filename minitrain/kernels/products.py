"""Products of matrices on register tiles: what a dense layer needs of them, on the threads of all other kernels.

A product of a few million operations takes tens of microseconds. BLAS would run it on one thread, or wake threads of
its own that then fight Numba's for the cores (see `blas`). Every element is summed in an order that depends on the
shapes alone, however the work is divided.
"""

import numpy as np

from nbnorm._jit import device, kernel, prange
from nbnorm.simd.lanes import item, store_item
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.vectors import borrowed, flat, lanes_of, splat, store

__all__ = ["of_columns", "of_columns_fits", "of_rows", "of_rows_fits"]

_dots = make_tile(4, 4)  # of rows by rows: as many sums as float32 lanes, which come together in one vector
_outer = make_tile(6, 4)  # of rows by vectors

_no_dots, _add_dots, _add_dots_between = _dots.zero, _dots.add_dots, _dots.add_dots_between
_add_lane_sums = _dots.add_lane_sums
_no_outer, _add_outer, _store_columns = _outer.zero, _outer.add_outer, _outer.store_columns

DEPTH = 1024  # terms of a sum at a time: 4 rows of b of this length stay in the first-level cache
SCRATCH = 16 * 64  # values of working space that `of_rows` needs: a tile for each task
TASKS = 32  # tasks to cut a product into, at least, where it is large enough


def of_rows_fits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether `of_rows` takes these matrices."""
    return a.shape[0] >= _dots.rows and b.shape[0] >= _dots.columns


def of_columns_fits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether `of_columns` takes these matrices."""
    return a.shape[1] >= _outer.rows and b.shape[1] * b.itemsize >= _outer.columns * 64


@device
def _dot_tile(a, b, k0, k1, depth, m, n, scratch, at):
    """scratch[at + 4 r + c] = sum of a[m + r, k] b[n + c, k] over k from k0 to k1."""
    lanes = lanes_of(a)
    acc = _no_dots(a)
    k = k0
    while k + lanes <= k1:
        acc = _add_dots(acc, a, m * depth + k, depth, b, n * depth + k, depth)
        k += lanes
    if k < k1:
        acc = _add_dots_between(acc, a, m * depth + k, depth, b, n * depth + k, depth, k1 - k)
    for i in range(at, at + 16, lanes):
        store(scratch, i, splat(a.dtype.type(0)))
    _add_lane_sums(acc, scratch, at)


@device
def _put(scratch, at, first, bias, n, y, place, columns):
    """Store a tile of sums, or add it to what the terms before gave."""
    zero = y.dtype.type(0)
    for r in range(4):
        for s in range(4):
            before = item(y, place + r * columns + s) if not first else item(bias, n + s) if bias.size > 0 else zero
            store_item(y, place + r * columns + s, before + item(scratch, at + 4 * r + s))


@device
def _put_rest(scratch, at, first, bias, n, y, place, columns, r0, s0):
    """The same for the last rows and columns of a tile, from r0 and s0 on: the others are done."""
    zero = y.dtype.type(0)
    for r in range(r0, 4):
        for s in range(s0, 4):
            before = item(y, place + r * columns + s) if not first else item(bias, n + s) if bias.size > 0 else zero
            store_item(y, place + r * columns + s, before + item(scratch, at + 4 * r + s))


@device
def _rows_task(a, b, bias, y, columns, m0, m1, n0, n1, depth, scratch, at):
    """y[m0 : m1, n0 : n1], at least a tile in size. The last tiles of a side reach back over the ones before."""
    for k0 in range(0, max(depth, 1), DEPTH):
        k1 = min(k0 + DEPTH, depth)
        for n_from in range(n0, n1, 4):
            n = min(n_from, n1 - 4)
            for m_from in range(m0, m1, 4):
                m = min(m_from, m1 - 4)
                _dot_tile(a, b, k0, k1, depth, m, n, scratch, at)
                if m == m_from and n == n_from:
                    _put(scratch, at, k0 == 0, bias, n, y, m * columns + n, columns)
                else:
                    _put_rest(scratch, at, k0 == 0, bias, n, y, m * columns + n, columns, m_from - m, n_from - n)


@kernel
def of_rows(a, b, bias, scratch, c):
    """c (M, N) = a (M, K) times b (N, K), transposed, plus bias (N,) or (0,).

    M and N are at least 4. scratch is working space of SCRATCH values.
    """
    a, b, bias, scratch, c = borrowed(a), borrowed(b), borrowed(bias), borrowed(scratch), borrowed(c)
    rows, columns = c.shape
    across = min(columns // 4, TASKS)
    down = min(rows // 4, -(-TASKS // across))
    for task in prange(across * down):
        t = np.intp(task)
        n0, n1 = columns // 4 * (t // down) // across * 4, columns // 4 * (t // down + 1) // across * 4
        m0, m1 = rows // 4 * (t % down) // down * 4, rows // 4 * (t % down + 1) // down * 4
        n1 = columns if t // down == across - 1 else n1
        m1 = rows if t % down == down - 1 else m1
        _rows_task(flat(a), flat(b), bias, flat(c), columns, m0, m1, n0, n1, a.shape[1], scratch, 16 * t)


@device
def _outer_block(a, b, c, depth, rows, columns, m0, m1, n):
    """c[m0 : m1, n : n + 4 lanes], at least 6 rows of it."""
    lanes = lanes_of(a)
    places = (0, lanes, 2 * lanes, 3 * lanes)
    for m_from in range(m0, m1, 6):
        m = min(m_from, m1 - 6)
        acc = _no_outer(a)
        for k in range(depth):
            acc = _add_outer(acc, a, k * rows + m, b, places, k * columns + n)
        _store_columns(acc, c, m * columns + n, places, columns)


@kernel
def of_columns(a, b, c):
    """c (M, N) = a (K, M), transposed, times b (K, N). M is at least 6, a row of b at least four vectors."""
    a, b, c = borrowed(a), borrowed(b), borrowed(c)
    rows, columns = c.shape
    width = 4 * lanes_of(a)
    across = -(-columns // width)
    down = min(rows // 6, -(-TASKS // across))
    for task in prange(across * down):
        t = np.intp(task)
        n = min(t // down * width, columns - width)
        m0, m1 = rows // 6 * (t % down) // down * 6, rows // 6 * (t % down + 1) // down * 6
        m1 = rows if t % down == down - 1 else m1
        _outer_block(flat(a), flat(b), flat(c), a.shape[0], rows, columns, m0, m1, n)
