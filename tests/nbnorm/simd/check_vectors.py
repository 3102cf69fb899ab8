"""Arithmetic, and loads and stores of all lanes, at any offset."""

from fractions import Fraction

import numpy as np
from intrinsics import CANARY, checks, compiled, lanes_of, values

from nbnorm.simd import vectors
from nbnorm.simd.vectors import add, fma, gate, load, maximum, multiply, splat, store, subtract, zero_like


def fused(a, b, c):
    """a * b + c, rounded once: exact here, unless it is not finite."""

    def one(x, y, z):
        if not np.isfinite([x, y, z]).all():
            return x * y + z
        return float(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)))

    return np.array([one(*each) for each in zip(a, b, c, strict=True)], a.dtype)


TWINS = {  # in the order of the rows that `_all` writes
    "load": lambda a, b, c: a,
    "splat": lambda a, b, c: np.full_like(a, a[0]),
    "zero_like": lambda a, b, c: np.zeros_like(a),
    "add": lambda a, b, c: a + b,
    "subtract": lambda a, b, c: a - b,
    "multiply": lambda a, b, c: a * b,
    "fma": fused,
    "maximum": lambda a, b, c: np.where(a > b, a, b),
    "gate": lambda a, b, c: np.where(a <= b, 0, c),
}


@compiled
def _all(x, y, z, first, out, pitch):
    a, b, c = load(x, first), load(y, first), load(z, first)
    store(out, 0, a)
    store(out, pitch, splat(x[first]))
    store(out, 2 * pitch, zero_like(a))
    store(out, 3 * pitch, add(a, b))
    store(out, 4 * pitch, subtract(a, b))
    store(out, 5 * pitch, multiply(a, b))
    store(out, 6 * pitch, fma(a, b, c))
    store(out, 7 * pitch, maximum(a, b))
    store(out, 8 * pitch, gate(a, b, c))
    return vectors.lanes_of(x), zero_like(first)


@checks(*TWINS, "store", "lanes_of")
def check_vectors(dtype):
    lanes = lanes_of(dtype)
    pitch = lanes + 3
    for first in range(5):
        x, y, z = (values(dtype, lanes + 5, seed) for seed in range(3))
        tiny = dtype(2.0 ** (-12 if dtype == np.float32 else -30))  # (1 + tiny)^2 does not fit
        x[first] = y[first] = 1 + tiny
        z[first] = -1 - 2 * tiny
        x[first + 1] = np.nan
        if lanes > 3:
            y[first + 2] = np.nan
            x[first + 3], z[first + 3] = np.inf, np.nan
        out = np.full(len(TWINS) * pitch, CANARY, dtype)
        assert _all(x, y, z, first, out, pitch) == (lanes, 0)
        own = slice(first, first + lanes)
        with np.errstate(invalid="ignore"):
            for row, (name, twin) in zip(out.reshape(-1, pitch), TWINS.items(), strict=True):
                np.testing.assert_array_equal(row[:lanes], twin(x[own], y[own], z[own]), name)
                assert (row[lanes:] == CANARY).all(), name
