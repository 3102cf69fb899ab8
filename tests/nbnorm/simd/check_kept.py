"""Lanes by their marks: each where its byte is not 0, whatever it holds elsewhere; no byte beyond is read."""

import numpy as np
from intrinsics import before_forbidden_memory, checks, compiled, lanes_of, values

from nbnorm.simd.kept import keep
from nbnorm.simd.vectors import load, store


@compiled
def _kept(x, marks, first, out):
    store(out, 0, keep(load(x, 0), marks, first))


@checks("keep")
def check_kept(dtype):
    lanes = lanes_of(dtype)
    x = values(dtype, lanes)
    for first in range(3):
        marks = before_forbidden_memory(np.uint8, lanes + first)
        for seed in range(8):
            marks[...] = np.random.default_rng(seed).integers(0, 3, marks.size)
            out, given = np.empty(lanes, dtype), x.copy()
            own = marks[first:] != 0
            given[~own] = np.nan
            _kept(given, marks, first, out)
            np.testing.assert_array_equal(out, np.where(own, x, 0))
