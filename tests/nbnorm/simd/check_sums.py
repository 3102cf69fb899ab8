"""Sums: over lanes, and in float64."""

import numpy as np
from intrinsics import CANARY, checks, compiled, lanes_of

from nbnorm.simd.shuffles import sum_lanes
from nbnorm.simd.vectors import load, store
from nbnorm.simd.widening import add_wide, no_sum, widen_add


@compiled
def _sums(x, first, wide, totals):
    value = load(x, first)
    store(wide, 0, widen_add(widen_add(no_sum(x), value), value))
    add_wide(totals, 1, value)
    return sum_lanes(value)


@checks("sum_lanes", "no_sum", "widen_add", "add_wide")
def check_sums(dtype):
    lanes = lanes_of(dtype)
    x = np.random.default_rng(0).standard_normal(lanes + 3).astype(dtype)
    for first in range(4):
        own = x[first : first + lanes]
        wide, totals = np.full(lanes + 1, CANARY), np.full(lanes + 2, CANARY)
        total = _sums(x, first, wide, totals)
        tree = own
        while tree.size > 1:  # halves first
            tree = tree[: tree.size // 2] + tree[tree.size // 2 :]
        assert total == tree[0]
        np.testing.assert_array_equal(wide, [*(own.astype(float) * 2), CANARY])
        np.testing.assert_array_equal(totals, [CANARY, *(own.astype(float) + CANARY), CANARY])
