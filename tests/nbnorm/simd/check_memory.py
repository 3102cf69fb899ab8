"""One element, prefetches, stores past the caches, views."""

import numpy as np
from intrinsics import CANARY, checks, compiled, lanes_of, values

from nbnorm.simd.memory import (
    borrowed,
    elements_to_boundary,
    flat,
    item,
    prefetch,
    prefetch_for_store,
    prefetch_nearest,
    reinterpreted,
    store_item,
    stream,
)
from nbnorm.simd.vectors import VECTOR_BYTES, load


@compiled
def _memory(x, first, out):
    for index in (first, -1000, 1000):
        prefetch(x, index)
        prefetch_nearest(x, index)
        prefetch_for_store(x, index)
    boundary = elements_to_boundary(out, first) + first
    stream(out, boundary, load(x, first))
    store_item(out, 0, item(x, first))
    return boundary


@checks("item", "store_item", "prefetch", "prefetch_nearest", "prefetch_for_store", "stream", "elements_to_boundary")
def check_memory(dtype):
    lanes = lanes_of(dtype)
    x, out = values(dtype, 2 * lanes), np.empty(3 * lanes + 1, dtype)
    before = x.copy()
    for first in range(1, lanes):
        out[:] = CANARY
        boundary = _memory(x, first, out)
        assert 0 <= boundary - first < lanes
        assert (out.ctypes.data + boundary * out.itemsize) % VECTOR_BYTES == 0
        expected = np.full_like(out, CANARY)
        expected[boundary : boundary + lanes] = x[first : first + lanes]
        expected[0] = x[first]
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(x, before)


@compiled
def _views(square, wide, out):
    rows, row = borrowed(square), flat(square)
    for i in range(row.size):
        out[i] = row[i] + rows[i // rows.shape[1], i % rows.shape[1]]
    other = reinterpreted(wide, square)
    for i in range(other.size):
        other[i] = i
    return row.size, other.size


@checks("borrowed", "flat", "reinterpreted")
def check_views(dtype):
    square, wide, out = values(dtype, 12).reshape(3, 4), np.zeros(6), np.empty(12, dtype)
    sizes = _views(square, wide, out)
    assert sizes == (12, wide.view(dtype).size)
    np.testing.assert_array_equal(out, 2 * square.ravel())
    np.testing.assert_array_equal(wide.view(dtype), np.arange(sizes[1]))
