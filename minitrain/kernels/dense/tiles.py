"""Products of matrices on register tiles: what a dense layer needs of them, on the threads of all other kernels.

    c = a @ b.T + bias        dweight = dy.T @ x, dx = dy @ weight, dbias = dy.sum(axis=0)

A product of a few million operations takes tens of microseconds. BLAS would run it on one thread, or wake threads of
its own that then fight Numba's for the cores (see `blas`). Every element is summed in an order that depends on the
shapes alone, however the work is divided.
"""

from typing import Any, NamedTuple

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.simd.masks import load_between
from nbnorm.simd.memory import borrowed, flat, item, store_item
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.vectors import LANES_FLOAT32, VECTOR_BYTES, add, lanes_of, load, splat, store
from nbnorm.simd.widening import add_wide

__all__ = ["gradient_fits", "gradients", "of_few_rows", "of_few_rows_fits", "of_rows", "of_rows_fits", "sum_of_rows"]

# Sides of the register tiles. Larger ones do not fit the registers, smaller ones load more vectors for each
# multiplication. Found with `benchmarks.peers training-step` on 4 cores of an AVX-512 Xeon, 2026-11.
SIDE = 4  # of a tile of rows by rows: its 16 sums come together in the lanes of one vector of float32 (AVX-512)
WIDTH = 8  # of a tile of one row by rows: fewer sums would wait for each other's additions
HEIGHT, VECTORS = 6, 4  # of a tile of rows by vectors: 24 sums, 4 vectors of b and one of a

_dots = make_tile(SIDE, SIDE)
_row = make_tile(1, WIDTH)
_outer = make_tile(HEIGHT, VECTORS)

_no_dots, _add_dots, _add_dots_between = _dots.zero, _dots.add_dots, _dots.add_dots_between
_store_sums = _dots.store_lane_sums
_no_row, _add_row, _add_row_between, _add_row_sums = _row.zero, _row.add_dots, _row.add_dots_between, _row.add_lane_sums
_no_outer, _add_outer, _store_columns = _outer.zero, _outer.add_outer_spaced, _outer.store_columns

# Terms of a sum at a time: 4 rows of b of this length, 16 KiB of float32, stay in the level 1 cache. More do not, fewer
# add up sums in memory oftener.
DEPTH = 1024
TASKS = 32  # to cut a product into, at least, where it is large enough: fewer leave threads idle, more are small
ZEROS = SIDE * SIDE * 64  # where zeros are in the working space, behind a tile for each of at most 64 tasks
SCRATCH = ZEROS + SIDE  # values of working space
# Rows and columns of dy that are summed at a time: more rows in one sum cost float32 its digits, fewer the time to add
# up in float64; more columns than 4 KiB of totals would leave the level 1 cache.
ROWS, COLUMNS = 16, 512


class Block(NamedTuple):
    """What a task computes of a product: rows m0 up to m1, columns n0 up to n1 of c, which has `columns` in all."""

    m0: int
    m1: int
    n0: int
    n1: int
    columns: int
    depth: int  #: terms of each sum


class Spaced(NamedTuple):
    """A matrix whose element (i, k) is at array[i * row + k * term]."""

    array: Any
    row: int
    term: int


def of_rows_fits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether `of_rows` takes these matrices."""
    return a.shape[0] >= SIDE and b.shape[0] >= SIDE


def of_few_rows_fits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether `of_few_rows` takes these matrices: b is read once for all rows of a."""
    return a.shape[0] < SIDE and b.shape[0] >= WIDTH


def gradient_fits(c: np.ndarray) -> bool:
    """Whether `gradients` takes this matrix as one of those it writes."""
    return c.shape[0] >= HEIGHT and c.shape[1] * c.itemsize >= VECTORS * VECTOR_BYTES


@device
def _dot_tile(a, b, k0, k1, depth, m, n):
    """acc[r, c], whose lanes sum to the sum of a[m + r, k] b[n + c, k] over k from k0 to k1."""
    lanes = lanes_of(a)
    acc = _no_dots(a)
    k = k0
    while k + lanes <= k1:
        acc = _add_dots(acc, a, m * depth + k, depth, b, n * depth + k, depth)
        k += lanes
    if k < k1:
        acc = _add_dots_between(acc, a, m * depth + k, depth, b, n * depth + k, depth, k1 - k)
    return acc


@device
def _add_new(scratch, sums, y, y_tile, columns, r0, s0):
    """Add the tile at scratch[sums:], from its row r0 and column s0 on, to the one at y[y_tile:]."""
    for r in range(r0, SIDE):
        for s in range(s0, SIDE):
            i = y_tile + r * columns + s
            store_item(y, i, item(y, i) + item(scratch, sums + SIDE * r + s))


@device
def _rows_task(a, b, bias, y, block, scratch, sums):
    """A block of y, at least a tile in size. The last tiles of a side reach back over the ones before.

    What those write there first, they write once more in the same bits; what they add, they add only to what is new.
    scratch[sums:] has room for a tile.
    """
    m0, m1, n0, n1, columns, depth = block
    for k0 in range(0, max(depth, 1), DEPTH):
        k1 = min(k0 + DEPTH, depth)
        for n_from in range(n0, n1, SIDE):
            n = min(n_from, n1 - SIDE)
            for m_from in range(m0, m1, SIDE):
                m = min(m_from, m1 - SIDE)
                acc = _dot_tile(a, b, k0, k1, depth, m, n)
                y_tile = m * columns + n
                if k0 == 0 and bias.size > 0:
                    _store_sums(acc, bias, n, 0, y, y_tile, columns)
                elif k0 == 0:
                    _store_sums(acc, scratch, ZEROS, 0, y, y_tile, columns)
                elif m == m_from and n == n_from:
                    _store_sums(acc, y, y_tile, columns, y, y_tile, columns)
                else:
                    _store_sums(acc, scratch, ZEROS, 0, scratch, sums, SIDE)
                    _add_new(scratch, sums, y, y_tile, columns, m_from - m, n_from - n)


@kernel
def of_rows(a, b, bias, scratch, c):
    """c (M, N) = a (M, K) times b (N, K), transposed, plus bias (N,) or (0,).

    M and N are at least SIDE. scratch is working space of SCRATCH values.
    """
    a, b, bias, scratch, c = borrowed(a), borrowed(b), borrowed(bias), borrowed(scratch), borrowed(c)
    rows, columns = c.shape
    across = min(columns // SIDE, TASKS)
    down = min(rows // SIDE, -(-TASKS // across))
    scratch[ZEROS:] = 0
    for task in prange(across * down):
        i, j = np.intp(task) % down, np.intp(task) // down
        m0, n0 = rows // SIDE * i // down * SIDE, columns // SIDE * j // across * SIDE
        m1 = rows if i == down - 1 else rows // SIDE * (i + 1) // down * SIDE
        n1 = columns if j == across - 1 else columns // SIDE * (j + 1) // across * SIDE
        block = Block(m0, m1, n0, n1, columns, a.shape[1])
        _rows_task(flat(a), flat(b), bias, flat(c), block, scratch, SIDE * SIDE * np.intp(task))


@device
def _row_task(a, b, bias, y, block, scratch, sums):
    """A block of y with all of its rows, WIDTH columns at a time; the last ones reach back over those before."""
    m0, m1, n0, n1, columns, depth = block
    lanes = lanes_of(a)
    for first in range(n0, n1, WIDTH):
        n = min(first, columns - WIDTH)
        for m in range(m0, m1):
            acc = _no_row(a)
            k = 0
            while k + lanes <= depth:
                acc = _add_row(acc, a, m * depth + k, depth, b, n * depth + k, depth)
                k += lanes
            if k < depth:
                acc = _add_row_between(acc, a, m * depth + k, depth, b, n * depth + k, depth, depth - k)
            for i in range(sums, sums + SIDE * SIDE, lanes):
                store(scratch, i, splat(a.dtype.type(0)))
            _add_row_sums(acc, scratch, sums)
            for s in range(first - n, WIDTH):
                total = item(scratch, sums + s)
                store_item(y, m * columns + n + s, total + item(bias, n + s) if bias.size > 0 else total)


@kernel
def of_few_rows(a, b, bias, scratch, c):
    """c (M, N) = a (M, K) times b (N, K), transposed, plus bias (N,) or (0,), where M is less than SIDE.

    N is at least WIDTH. scratch is working space of SCRATCH values.
    """
    a, b, bias, scratch, c = borrowed(a), borrowed(b), borrowed(bias), borrowed(scratch), borrowed(c)
    rows, columns = c.shape
    blocks = (columns + WIDTH - 1) // WIDTH
    tasks = min(blocks, TASKS)
    for index in prange(tasks):
        task = np.intp(index)
        n0, n1 = WIDTH * (blocks * task // tasks), min(columns, WIDTH * (blocks * (task + 1) // tasks))
        block = Block(0, rows, n0, n1, columns, a.shape[1])
        _row_task(flat(a), flat(b), bias, flat(c), block, scratch, SIDE * SIDE * task)


@device
def _columns_task(task, down, a, b, c, depth, rows, columns):
    """Task i + down j of c (rows, columns) = a (`Spaced`) times b (depth, columns).

    The task is the i-th of `down` shares of the rows, and of their columns the j-th few vectors. The last of these
    reach back over the ones before; what two tasks write there are the same bits.
    """
    lanes = lanes_of(b)
    width = VECTORS * lanes
    i, n = task % down, min(task // down * width, columns - width)
    m0 = rows // HEIGHT * i // down * HEIGHT
    m1 = rows if i == down - 1 else rows // HEIGHT * (i + 1) // down * HEIGHT
    offsets = (0, lanes, 2 * lanes, 3 * lanes)  # of the vectors of a row of the tile
    for m_from in range(m0, m1, HEIGHT):
        m = min(m_from, m1 - HEIGHT)
        acc = _no_outer(b)
        for k in range(depth):
            acc = _add_outer(acc, a.array, m * a.row + k * a.term, a.row, b, k * columns + n)
        _store_columns(acc, c, m * columns + n, offsets, columns)


@device
def _add_rows(source, first, pitch, rows, width, totals):
    """totals[i] += sum of source[first + n * pitch + i] over n < rows, in the type of source; totals in float64.

    totals has as much room behind them as a vector.
    """
    lanes = lanes_of(source)
    for i in range(0, width, lanes):
        whole = i + lanes <= width
        total = splat(source.dtype.type(0))
        for n in range(rows):
            row = first + n * pitch + i
            total = add(total, load(source, row) if whole else load_between(source, row, 0, width - i))
        add_wide(totals, i, total)


@device
def _sum_rows(dy, rows, columns, dbias):
    """dbias (columns,) = the sum of dy (rows x columns) over the rows: ROWS in their type, then in float64."""
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
def sum_of_rows(dy, dbias):
    """dbias (M,) = the sum of dy (K, M) over its rows."""
    _sum_rows(flat(dy), dy.shape[0], dy.shape[1], dbias)


@kernel
def gradients(dy, x, weight, dweight, dbias, dx):
    """dweight (M, N) = dy (K, M), transposed, times x (K, N); dx (K, N) = dy times weight (M, N); dbias = sum of dy.

    Each of the three may be empty. dweight is one that fits, and so is dx. All are tasks of one parallel loop.
    """
    (batch, outputs), inputs = dy.shape, x.shape[1]
    across = -(-inputs // (VECTORS * lanes_of(x)))
    down = min(outputs // HEIGHT, -(-TASKS // across)) if dweight.size > 0 else 0
    down_x = min(batch // HEIGHT, -(-TASKS // across)) if dx.size > 0 else 0
    first = 1 + across * down  # the sum is the task before
    dy, x, weight, dweight, dbias, dx = flat(dy), flat(x), flat(weight), flat(dweight), borrowed(dbias), flat(dx)
    for index in prange(first + across * down_x):
        task = np.intp(index)
        if task >= first:
            _columns_task(task - first, down_x, Spaced(dy, outputs, 1), weight, dx, outputs, batch, inputs)
        elif task > 0:
            _columns_task(task - 1, down, Spaced(dy, 1, outputs), x, dweight, batch, outputs, inputs)
        elif dbias.size > 0:
            _sum_rows(dy, batch, outputs, dbias)
