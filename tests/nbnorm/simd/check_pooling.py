"""Maxima of windows: the first of equals, the last NaN; every count of windows."""

import numpy as np
from intrinsics import CANARY, checks, compiled, lanes_of, values

from nbnorm.simd.pooling.halving import make_halving
from nbnorm.simd.pooling.windows import (
    choose_between,
    halve_maximum,
    maximum_of_pairs,
    nothing_chosen,
    spread_maximum,
    store_chosen,
)
from nbnorm.simd.vectors import load, store


def chosen(windows):
    """(maximum, which) along the last axis: the first of equals, the last NaN."""
    best, which = windows[..., 0].copy(), np.zeros(windows.shape[:-1], np.int64)
    for k in range(1, windows.shape[-1]):
        take = (windows[..., k] > best) | np.isnan(windows[..., k])
        best, which = np.where(take, windows[..., k], best), np.where(take, k, which)
    return best, which


def with_nan(dtype, size):
    x = values(dtype, size)
    x[:: 7 if size > 7 else 2] = np.nan
    return np.where(np.random.default_rng(3).random(size) < 0.3, x[1], x)


@compiled
def _windows(x, starts, width, count, best, which, firsts, pairs, gradient, target, other_width, size):
    halve_maximum(x, starts, width, count, best, which, firsts)
    store(pairs, 0, maximum_of_pairs(x, starts[0], width, count))
    spread_maximum(gradient, which, firsts[0], count, target, 1, other_width, size)


@checks("halve_maximum", "maximum_of_pairs", "spread_maximum")
def check_halves(dtype):
    lanes = lanes_of(dtype)
    width = 2 * lanes + 1
    x, gradient = with_nan(dtype, 4 * width), values(dtype, 2 * lanes, 5)
    for count in range(lanes // 2 + 1):
        best, pairs = np.full(2 * lanes, CANARY, dtype), np.empty(lanes, dtype)
        which, target = np.full(2 * lanes, 9, np.int8), np.full(2 * width + 2, CANARY, dtype)
        firsts = (1, 1 + lanes)
        size = min(2 * count + 1, lanes)
        _windows(x, (1, 2 + 2 * width), width, count, best, which, firsts, pairs, gradient, target, width, size)
        expected_best, expected_which = np.full_like(best, CANARY), np.full_like(which, 9)
        for start, first in zip((1, 2 + 2 * width), firsts, strict=True):
            places = start + 2 * np.arange(count)[:, None] + np.array([0, 1, width, width + 1])
            own = slice(first, first + count)
            expected_best[own], expected_which[own] = chosen(x[places])
        np.testing.assert_array_equal(best, expected_best)
        np.testing.assert_array_equal(which, expected_which)
        np.testing.assert_array_equal(pairs[:count], best[1 : 1 + count])
        expected = np.full_like(target, CANARY)
        for row in range(2):
            expected[1 + row * width :][:size] = 0
            for i in range(count):
                if which[1 + i] // 2 == row:
                    expected[1 + row * width + 2 * i + which[1 + i] % 2] = gradient[1 + i]
        np.testing.assert_array_equal(target, expected)


@compiled
def _choose(x, lanes, low, high, best, which, count):
    state = nothing_chosen(x)
    for k in range(3):
        state = choose_between(state, load(x, k * lanes), k, low * (k == 1), lanes + (high - lanes) * (k == 1))
    store_chosen(state, best, which, 1, count)


@checks("nothing_chosen", "choose_between", "store_chosen")
def check_choice(dtype):
    lanes = lanes_of(dtype)
    x, lane = with_nan(dtype, 3 * lanes), np.arange(lanes)
    for number in (np.int8, np.int16, np.int32):
        for count in range(lanes + 1):
            low, high = count // 2, max(count - 1, 0)
            best, which = np.full(lanes + 2, CANARY, dtype), np.full(lanes + 2, 9, number)
            _choose(x, lanes, low, high, best, which, count)
            windows = x.reshape(3, lanes).T.copy()
            windows[~((low <= lane) & (lane < high)), 1] = -np.inf  # left out
            truth = chosen(windows)
            np.testing.assert_array_equal(best, [CANARY, *truth[0][:count], *[CANARY] * (lanes + 1 - count)])
            np.testing.assert_array_equal(which, [9, *truth[1][:count], *[9] * (lanes + 1 - count)])


def _halving_of(columns):
    gather, scatter = make_halving(columns)

    def there_and_back(x, best, which, first, gradient, target):
        gather(x, first, best, which)
        scatter(gradient, which, first, target)

    return compiled(there_and_back, f"_{columns}")


HALVINGS = {columns: _halving_of(columns) for columns in (1, 2, 4, 16)}


@checks("halving.gather", "halving.scatter")
def check_halving(dtype):
    lanes = lanes_of(dtype)
    for columns, there_and_back in HALVINGS.items():
        first = columns
        size = first + lanes + 1
        x, gradient = with_nan(dtype, 4 * size), values(dtype, size, 5)
        best, which = np.full(size, CANARY, dtype), np.full(size, 9, np.int8)
        target = np.full(4 * size, CANARY, dtype)
        there_and_back(x, best, which, first, gradient, target)
        expected = [np.full_like(best, CANARY), np.full_like(which, 9), np.full_like(target, CANARY)]
        if lanes % columns == 0:
            i = np.arange(lanes)[:, None]
            places = 4 * first + 4 * columns * (i // columns) + 2 * (i % columns)
            places = places + np.array([0, 1, 2 * columns, 2 * columns + 1])
            own = slice(first, first + lanes)
            expected[0][own], expected[1][own] = chosen(x[places])
            expected[2][places] = np.where(np.arange(4) == expected[1][own][:, None], gradient[own][:, None], 0)
        for found, truth in zip((best, which, target), expected, strict=True):
            np.testing.assert_array_equal(found, truth)
