"""Squares that are transposed on their way, with fewer rows and columns than lanes, too."""

import numpy as np
from intrinsics import CANARY, checks, compiled, lanes_of, values

from nbnorm.simd.transpose import scatter_transposed, store_transposed, store_transposed_rows
from nbnorm.simd.vectors import load


@compiled
def _scatter(x, first, pitch, rows, factors, lanes, y, z, y_first, offsets):
    scatter_transposed(x, first, pitch, rows, None, y, y_first, offsets, 1)
    normalization = (load(factors, 0), load(factors, lanes), load(factors, 2 * lanes), load(factors, 3 * lanes))
    scatter_transposed(x, first, pitch, rows, normalization, z, y_first, offsets, 1)


@checks("scatter_transposed")
def check_scatter(dtype):
    lanes = lanes_of(dtype)
    pitch = lanes + 1
    x, factors = values(dtype, lanes * pitch + 1), values(dtype, 4 * lanes, 1).reshape(4, lanes)
    factors[3, 0] = np.nan  # no limit
    offsets = np.concatenate([[-1], np.random.default_rng(2).permutation(lanes) * (lanes + 1)])
    for rows in range(1, lanes + 1):
        y, z = np.full((2, 2 + lanes * (lanes + 1)), CANARY, dtype)
        _scatter(x, 1, pitch, rows, factors.ravel(), lanes, y, z, 2, offsets)
        square = x[1:].reshape(lanes, pitch)[np.minimum(np.arange(lanes), rows - 1), :lanes]
        center, scale, shift, floor = factors[:, :, None]
        normalized = (square - center) * scale + shift
        normalized = np.where(floor > normalized, floor, normalized)
        for result, source in ((y, square), (z, normalized)):
            expected = np.full_like(result, CANARY)
            for i in range(lanes):
                place = 2 + offsets[1 + i]
                expected[place : place + lanes] = source[:, i]
            np.testing.assert_array_equal(result, expected)


@compiled
def _rows(x, first, y, y_first, pitch, rows):
    store_transposed_rows(x, first, y, y_first, pitch, rows)


@checks("store_transposed_rows")
def check_rows(dtype):
    lanes = lanes_of(dtype)
    pitch, x = lanes + 2, values(dtype, lanes * lanes + 1)
    for rows in range(1, lanes + 1):
        y = np.full(1 + lanes * pitch, CANARY, dtype)
        _rows(x, 1, y, 1, pitch, rows)
        expected = np.full((lanes, pitch), CANARY, dtype)
        expected[:rows, :lanes] = x[1:].reshape(lanes, lanes).T[:rows]
        np.testing.assert_array_equal(y, [CANARY, *expected.ravel()])


@compiled
def _store(x, first, pitch, rows, count, y, y_first, offsets):
    store_transposed(x, first, pitch, rows, count, y, y_first, offsets, 1)


@checks("store_transposed")
def check_store(dtype):
    lanes = lanes_of(dtype)
    pitch, x = lanes + 1, values(dtype, lanes * (lanes + 1) + 1)
    offsets = np.concatenate([[-1], np.arange(lanes)[::-1] * (lanes + 1)])
    for rows in range(1, lanes + 1):
        for count in range(1, lanes + 1):
            y = np.full(3 + lanes * (lanes + 1), CANARY, dtype)
            _store(x, 1, pitch, rows, count, y, 2, offsets)
            expected = np.full_like(y, CANARY)
            for i in range(count):
                place = 2 + offsets[1 + i]
                expected[place : place + rows] = x[1:].reshape(lanes, pitch)[:rows, i]
            np.testing.assert_array_equal(y, expected)
