"""Loads and stores of some lanes: every count, bounds of any sign, neighbours untouched, memory beyond not read."""

import numpy as np
from intrinsics import CANARY, before_forbidden_memory, checks, compiled, lanes_of, values

from nbnorm.simd.bits import load_bits, load_even_bits, store_bits
from nbnorm.simd.masks import (
    blend,
    load_between,
    load_even_between,
    load_part,
    store_between,
    store_interleaved,
    store_part,
)
from nbnorm.simd.vectors import load, store


@compiled
def _counted(x, y, first, count, out, pitch):
    other = load(y, 0)
    store(out, 0, load_part(x, first, count, other))
    store(out, pitch, blend(count, load(x, first), other))
    store_part(out, 2 * pitch, count, other)


@checks("load_part", "store_part", "blend")
def check_counts(dtype):
    lanes = lanes_of(dtype)
    x, y = values(dtype, lanes + 3), values(dtype, lanes, 1)
    for count in range(lanes + 1):
        for first in range(3):
            out = np.full((3, lanes + 1), CANARY, dtype)
            _counted(x, y, first, count, out.ravel(), lanes + 1)
            expected = np.where(np.arange(lanes) < count, x[first : first + lanes], y)
            np.testing.assert_array_equal(out[:2, :lanes], [expected] * 2)
            np.testing.assert_array_equal(out[2, :count], y[:count])
            assert (out[2, count:] == CANARY).all()


@compiled
def _between(x, first, low, high, out, pitch):
    value = load(x, first)
    store(out, 0, load_between(x, first, low, high))
    store(out, pitch, load_even_between(x, first, low, high))
    store_between(out, 2 * pitch, value, low, high)
    store_interleaved(out, 3 * pitch, value, load(x, 0), high)


@checks("load_between", "load_even_between", "store_between", "store_interleaved")
def check_bounds(dtype):
    lanes = lanes_of(dtype)
    x, lane = values(dtype, 2 * lanes + 3), np.arange(lanes)
    pitch = 2 * lanes + 1
    for low in (-(2**40), -1, *range(lanes + 2)):
        for high in (-5, *range(2 * lanes + 1)):
            first = abs(low + high) % 3
            out = np.full((4, pitch), CANARY, dtype)
            _between(x, first, low, high, out.ravel(), pitch)
            own = (low <= lane) & (lane < high)
            even = (low <= 2 * lane) & (2 * lane < high)
            np.testing.assert_array_equal(out[0, :lanes], np.where(own, x[first + lane], 0))
            np.testing.assert_array_equal(out[1, :lanes], np.where(even, x[first + 2 * lane], 0))
            np.testing.assert_array_equal(out[2, :lanes], np.where(own, x[first + lane], CANARY))
            mixed = np.stack([x[first + lane], x[lane]], 1).ravel()
            np.testing.assert_array_equal(out[3, :-1], np.where(np.arange(2 * lanes) < high, mixed, CANARY))
            assert (out[:, -1] == CANARY).all()


@compiled
def _bits(x, first, bits, out, pitch):
    store(out, 0, load_bits(x, first, bits))
    store(out, pitch, load_even_bits(x, first, bits))
    store_bits(out, 2 * pitch, load(x, first), bits)


@checks("load_bits", "load_even_bits", "store_bits")
def check_bits(dtype):
    lanes = lanes_of(dtype)
    x, lane = values(dtype, 2 * lanes + 3), np.arange(lanes)
    limit = 1 << 2 * lanes
    patterns = [*range(min(limit, 16)), limit - 1, *np.random.default_rng(0).integers(0, limit, 40).tolist()]
    for bits in patterns:
        first = bits % 3
        out = np.full((3, lanes + 1), CANARY, dtype)
        _bits(x, first, bits, out.ravel(), lanes + 1)
        own, even = bits >> lane & 1 == 1, bits >> 2 * lane & 1 == 1
        np.testing.assert_array_equal(out[0, :lanes], np.where(own, x[first + lane], 0))
        np.testing.assert_array_equal(out[1, :lanes], np.where(even, x[first + 2 * lane], 0))
        np.testing.assert_array_equal(out[2, :lanes], np.where(own, x[first + lane], CANARY))
        assert (out[:2, lanes:] == CANARY).all()


@compiled
def _at_the_end(x, count, out, lanes):
    other = load(out, 0)
    first = x.size - count
    total = 0.0
    for value in (
        load_part(x, first, count, other),
        load_between(x, first, 0, count),
        load_bits(x, first, (1 << count) - 1),
        load_even_between(x, first, 0, count),
        load_even_bits(x, first, (1 << count) - 1),
    ):
        store(out, 0, value)
        total += out[0]
    store_part(x, first, count, other)
    store_between(x, first, other, 0, count)
    store_bits(x, first, other, (1 << count) - 1)
    store_interleaved(x, first, other, other, count)
    return total


@checks()
def check_memory_beyond(dtype):
    lanes = lanes_of(dtype)
    x = before_forbidden_memory(dtype, 2 * lanes)
    for count in range(1, lanes + 1):
        x[:] = 3
        assert _at_the_end(x, count, np.zeros(lanes, dtype), lanes) == 15
