"""Register tiles of several shapes: all their operations, and those on some lanes with every count."""

import numpy as np
from intrinsics import CANARY, checks, compiled, lanes_of, values

from nbnorm.simd.tiles import Tile, make_tile
from nbnorm.simd.vectors import load

SHAPES = ((1, 1), (3, 2), (2, 4))


def _kernel_of(shape):
    tile = make_tile(*shape)

    rows, columns = shape
    (
        zero, splat_rows, add_outer, add_outer_spaced, add_products, add_products_between, add_scaled, add_dots,
        add_dots_between, add_lane_sums, store_lane_sums, add_to, load_columns_between, store_columns,
        store_columns_between, offsets,
    ) = tile[2:]  # fmt: skip

    def operations(a, b, table, counts, count, y, pitch):
        places, sizes = offsets(table, 1), offsets(counts, 0)
        add_to(splat_rows(a, 1), y, 0)
        add_to(add_outer(zero(a), a, 1, b, places, 2), y, pitch)
        add_to(add_outer_spaced(zero(a), a, 1, 3, b, 2), y, 2 * pitch)
        add_to(add_products(zero(a), a, 1, b, places, 2), y, 3 * pitch)
        add_to(add_products_between(zero(a), a, 1, b, places, 2, count), y, 4 * pitch)
        add_to(add_scaled(zero(a), load(a, 1), b, places, 2), y, 5 * pitch)
        dots = add_dots(zero(a), a, 1, 5, b, 2, 7)
        add_to(dots, y, 6 * pitch)
        add_to(add_dots_between(zero(a), a, 1, 5, b, 2, 7, count), y, 7 * pitch)
        add_to(load_columns_between(b, 1, places, 3, sizes), y, 8 * pitch)
        add_lane_sums(dots, y, 9 * pitch)
        store_lane_sums(dots, a, 1, 11, y, 10 * pitch, columns + 1)
        store_columns(dots, y, 11 * pitch, places, 4 * pitch)
        store_columns_between(dots, y, (11 + 4 * rows) * pitch, places, 4 * pitch, sizes)

    return compiled(tile.named(operations))


KERNELS = {shape: _kernel_of(shape) for shape in SHAPES}


@checks(*(f"tile.{name}" for name in Tile._fields if name not in ("rows", "columns")))
def check_tiles(dtype):
    for shape in SHAPES:
        for count in range(lanes_of(dtype) + 1):
            _check_tile(dtype, shape, count)


def _check_tile(dtype, shape, count):
    rows, columns = shape
    lanes = lanes_of(dtype)
    lane, r, c = np.arange(lanes), np.arange(rows)[:, None, None], np.arange(columns)[None, :, None]
    a, b = values(dtype, 40 * lanes + 40), values(dtype, 40 * lanes + 40, 1)
    table = np.array([-1, *(np.arange(columns) * (lanes + 2))])
    counts = (count + np.arange(columns)) % (lanes + 1)
    pitch = (rows * columns + columns) * (lanes + 2) + lanes
    y = np.zeros((11 + 8 * rows) * pitch, dtype)
    y[9 * pitch :] = CANARY
    KERNELS[shape](a, b, table, counts, count, y, pitch)
    y = y.reshape(-1, pitch)
    at, own = table[1 + c], lane < count
    dots = a[1 + 5 * r + lane] * b[2 + 7 * c + lane]
    products = a[1 + r * lanes + lane] * b[2 + at + lane]
    expected = [
        np.broadcast_to(a[1 + r], (rows, columns, lanes)),
        a[1 + r] * b[2 + at + lane],
        a[1 + 3 * r] * b[2 + c * lanes + lane],
        products,
        np.where(own, products, 0),
        np.broadcast_to(a[1 + lane] * b[2 + at + lane], (rows, columns, lanes)),
        dots,
        np.where(own, dots, 0),
        np.where(lane < counts[c], b[1 + at + 3 * r + lane], 0),
    ]
    size = rows * columns
    for row, truth in zip(y, expected, strict=False):
        np.testing.assert_array_equal(row[: size * lanes], truth.ravel())
        assert not row[size * lanes :].any()
    sums = dots.sum(axis=2)
    np.testing.assert_array_equal(y[9, :size], sums.ravel() + dtype(CANARY))
    assert (y[9, -(-size // lanes) * lanes :] == CANARY).all()
    stored = np.full((rows, columns + 1), CANARY, dtype)
    stored[:, :columns] = a[1 + 11 * r[:, :, 0] + c[:, :, 0]] + sums
    np.testing.assert_array_equal(y[10, : stored.size], stored.ravel())
    for first, limits in ((11, np.full(columns, lanes)), (11 + 4 * rows, counts)):
        for row in range(rows):
            line = np.full(pitch, CANARY, dtype)
            for column in range(columns):
                start = table[1 + column]
                line[start : start + limits[column]] = dots[row, column, : limits[column]]
            np.testing.assert_array_equal(y[first + 4 * row], line)
