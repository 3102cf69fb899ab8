"""The pooling kernels against their NumPy twins, into buffers that hold rubbish."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference_layers as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_widths import NARROWER

from minitrain.kernels.pool import narrow as pool_narrow
from minitrain.kernels.pool import windows as pool
from nbnorm.simd.vectors import VECTOR_BYTES


@st.composite
def cases(draw):
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = tuple(draw(st.integers(0, size // 2)) for size in kernel)
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    sizes = tuple(draw(st.integers(max(1, k - 2 * p), 9)) for k, p in zip(kernel, padding, strict=True))
    return (draw(st.integers(1, 3)), *sizes), (*kernel, *stride, *padding)


def values(shape, dtype, seed=0):
    """Few different values, so that there are ties."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


@settings(max_examples=80, deadline=None)
@given(cases(), st.sampled_from(["float32", "float64"]))
def test_maximum(case, dtype):
    shape, geometry = case
    x = values(shape, dtype)
    expected = reference.max_pool(x, geometry)
    y, chosen = np.full(expected.shape, np.nan, dtype), np.full(expected.shape, 255, np.uint8)
    pool.max_pool.serial(x, geometry, y, chosen)
    np.testing.assert_array_equal(y, expected)
    dy, dx = values(y.shape, dtype, 1), np.full(shape, np.nan, dtype)
    offsets = np.full(geometry[0] * geometry[1], -1)
    pool.max_pool_backward.serial(dy, chosen, geometry, offsets, dx)
    np.testing.assert_array_equal(dx, reference.max_pool_backward(dy, x, geometry))


SIZES = [
    (2, 2),
    (2, 3),
    (3, 2),
    (4, 4),
    (7, 7),
    (8, 8),
    (14, 14),
    (5, 16),
    (4, 17),
    (3, 31),
    (6, 33),
    (28, 28),
    (2, 67),
]


def check_halving(size, dtype):
    """2x2 windows, also with NaN and at the very ends of their arrays, against one window after another."""
    height, width = size
    rows, columns = height // 2, width // 2
    x = values((3, height, width), dtype)
    x[np.random.default_rng(1).random(x.shape) < 0.05] = np.nan
    y, chosen = np.full((3, rows, columns), np.inf, dtype), np.full((3, rows, columns), 255, np.uint8)
    pool.max_pool.serial(x, (2, 2, 2, 2, 0, 0), y, chosen)
    alone = np.full(y.shape, np.inf, dtype)
    pool.max_pool_of_pairs.serial(x, alone)
    assert alone.tobytes() == y.tobytes()
    dy, dx = values(y.shape, dtype, 2) + 7, np.full(x.shape, np.nan, dtype)
    pool.max_pool_backward.serial(dy, chosen, (2, 2, 2, 2, 0, 0), np.full(4, -1), dx)
    expected = np.zeros(x.shape, dtype)
    for plane, row, column in np.ndindex(y.shape):
        window = x[plane, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel()
        wrong = np.flatnonzero(np.isnan(window))
        place = wrong[-1] if wrong.size else window.argmax()
        assert chosen[plane, row, column] == place
        np.testing.assert_array_equal(y[plane, row, column], window[place])
        expected[plane, 2 * row + place // 2, 2 * column + place % 2] = dy[plane, row, column]
    np.testing.assert_array_equal(dx, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
def test_halving(size, dtype):
    check_halving(size, dtype)


@st.composite
def narrow_planes(draw):
    dtype = draw(st.sampled_from(["float32", "float64"]))
    x = values((draw(st.integers(1, 40)), 2 * draw(st.integers(1, 4)), 2 * draw(st.sampled_from([1, 2, 4, 8]))), dtype)
    x[np.random.default_rng(1).random(x.shape) < 0.05] = np.nan
    return x


def check_narrow(x):
    """Rows of few windows are pooled to the bit as any others."""
    geometry = (2, 2, 2, 2, 0, 0)
    if not pool_narrow.fits(x, geometry):
        return False
    shape = x.shape[0], x.shape[1] // 2, x.shape[2] // 2
    dy = values(shape, x.dtype, 2) + 7
    results = []
    for narrow in (True, False):
        y, chosen, dx = np.full(shape, np.inf, x.dtype), np.full(shape, 255, np.uint8), np.full_like(x, np.nan)
        if narrow:
            pool_narrow.max_pool.serial(x, y, chosen)
            pool_narrow.max_pool_backward.serial(dy, chosen, dx)
        else:
            pool.max_pool.serial(x, geometry, y, chosen)
            pool.max_pool_backward.serial(dy, chosen, geometry, np.full(4, -1), dx)
        results.append([each.tobytes() for each in (y, chosen, dx)])
    assert results[0] == results[1]
    return True


@settings(max_examples=80, deadline=None)
@given(narrow_planes())
def test_narrow_planes(x):
    check_narrow(x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_narrow_planes_that_fit(dtype):
    for planes, height, width in ((700, 8, 8), (33, 2, 4), (65, 6, 2), (2, 32, 16)):
        x = values((planes, height, width), dtype)
        assert check_narrow(x) == (width // 2 <= VECTOR_BYTES // x.itemsize)
    for shape in ((9, 8, 6), (9, 7, 8), (9, 8, 3)):
        assert not pool_narrow.fits(np.zeros(shape, dtype), (2, 2, 2, 2, 0, 0))
    assert not pool_narrow.fits(np.zeros((9, 8, 8), dtype), (2, 2, 2, 1, 0, 0))


def test_narrow_planes_give_the_same_bits_in_parallel():
    x = values((3000, 8, 8), "float32")
    y, chosen, dx = np.empty((3000, 4, 4), "float32"), np.empty((3000, 4, 4), np.uint8), np.empty_like(x)
    before = []
    for form in ("serial", "parallel"):
        getattr(pool_narrow.max_pool, form)(x, y, chosen)
        getattr(pool_narrow.max_pool_backward, form)(y + 1, chosen, dx)
        before.append([each.tobytes() for each in (y, chosen, dx)])
        for each in (y, chosen, dx):
            each[...] = 9
    assert before[0] == before[1]


WINDOWS = [(3, 3, 2, 2, 1, 1), (3, 3, 1, 1, 1, 1), (2, 3, 3, 2, 0, 0), (2, 4, 1, 1, 1, 2), (3, 2, 2, 3, 1, 1)]


def check_windows(geometry, width, dtype):
    """Overlapping, padded windows with NaN, -inf and ties, against one window after another."""
    kernel_width = geometry[1]
    x = values((2, 5, width), dtype)
    draw = np.random.default_rng(3).random(x.shape)
    x[draw < 0.04] = np.nan
    x[draw > 0.5] = -np.inf
    shape = reference.pooled_shape(x.shape, geometry)
    y, chosen = np.full(shape, np.inf, dtype), np.full(shape, 255, np.uint8)
    pool.max_pool.serial(x, geometry, y, chosen)
    for row, column, rows, columns in reference.windows(x.shape, geometry):
        for plane in range(2):
            window = x[plane, rows, columns]
            wrong = np.flatnonzero(np.isnan(window.ravel()))
            i, j = divmod(wrong[-1] if wrong.size else window.argmax(), window.shape[1])
            np.testing.assert_array_equal(y[plane, row, column], window[i, j])
            i += rows.start - (row * geometry[2] - geometry[4])
            j += columns.start - (column * geometry[3] - geometry[5])
            assert chosen[plane, row, column] == i * kernel_width + j


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [4, 16, 33, 40])
@pytest.mark.parametrize("geometry", WINDOWS)
def test_windows(geometry, width, dtype):
    check_windows(geometry, width, dtype)


WIDTHS = """
import test_pool as t
for dtype in ("float32", "float64"):
    for size in t.SIZES:
        t.check_halving(size, dtype)
    for geometry in t.WINDOWS:
        t.check_windows(geometry, 33, dtype)
    t.test_narrow_planes_that_fit(dtype)
"""


@pytest.mark.parametrize("vector_bytes", NARROWER)
def test_agrees_with_narrower_vectors(vector_bytes):
    paths = [str(Path(__file__).parent), *sys.path]
    environment = {**os.environ, "NBNORM_VECTOR_BYTES": vector_bytes, "PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", WIDTHS], env=environment, check=True, timeout=300)


def test_halving_stays_inside_the_arrays():
    """Vectors reach beyond the rows of a plane: what lies around the arrays is not written."""
    x, y, dx = (np.full(size, 9.0, np.float32) for size in (40, 30, 40))
    chosen = np.full(30, 9, np.uint8)
    planes, best, places, target = x[10:30], y[10:14], chosen[10:14], dx[10:30]
    planes[:] = np.arange(20)
    geometry = (2, 2, 2, 2, 0, 0)
    pool.max_pool.serial(planes.reshape(1, 4, 5), geometry, best.reshape(1, 2, 2), places.reshape(1, 2, 2))
    np.testing.assert_array_equal(best, [6, 8, 16, 18])
    best[:] = 9
    pool.max_pool_of_pairs.serial(planes.reshape(1, 4, 5), best.reshape(1, 2, 2))
    np.testing.assert_array_equal(best, [6, 8, 16, 18])
    pool.max_pool_backward.serial(
        best.reshape(1, 2, 2), places.reshape(1, 2, 2), geometry, np.empty(4, np.int64), target.reshape(1, 4, 5)
    )
    assert target.sum() == best.sum()
    for array, size in ((x, 20), (y, 4), (dx, 20), (chosen, 4)):
        assert (np.delete(array, np.s_[10 : 10 + size]) == 9).all()


@settings(max_examples=80, deadline=None)
@given(cases(), st.booleans(), st.sampled_from(["float32", "float64"]))
def test_average(case, count_padding, dtype):
    shape, geometry = case
    x = values(shape, dtype)
    expected = reference.average_pool(x, geometry, count_padding)
    y = np.full(expected.shape, np.nan, dtype)
    pool.average_pool.serial(x, geometry, count_padding, y)
    tolerance = {"rtol": 0, "atol": 2e-6 if dtype == "float32" else 1e-14}
    np.testing.assert_allclose(y, expected, **tolerance)
    dy, dx = values(y.shape, dtype, 1), np.full(shape, np.nan, dtype)
    pool.average_pool_backward.serial(dy, geometry, count_padding, dx)
    expected = reference.average_pool_backward(dy, x, geometry, count_padding)
    np.testing.assert_allclose(dx, expected, rtol=0, atol=10 * tolerance["atol"])


@pytest.mark.parametrize("kernel", [2, 3])
def test_nan_reaches_the_maximum_and_minus_infinity_is_a_value(kernel):
    x = np.full((1, kernel, 2 * kernel), -np.inf)
    x[0, 0, 0] = np.nan
    x[0, 1, kernel + 1] = -np.inf
    y, chosen = np.zeros((1, 1, 2)), np.zeros((1, 1, 2), np.uint8)
    pool.max_pool.serial(x, (kernel, kernel, kernel, kernel, 0, 0), y, chosen)
    np.testing.assert_array_equal(y, [[[np.nan, -np.inf]]])
    np.testing.assert_array_equal(chosen, 0)


@pytest.mark.parametrize("position", range(4))
def test_nan_anywhere_in_a_window(position):
    x = np.arange(4.0)
    x[position] = np.nan
    y, chosen = np.zeros((1, 1, 1)), np.zeros((1, 1, 1), np.uint8)
    pool.max_pool.serial(x.reshape(1, 2, 2), (2, 2, 2, 2, 0, 0), y, chosen)
    assert np.isnan(y).all()
    assert chosen[0, 0, 0] == position


@given(st.integers(1, 4), st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_global_average(planes, length):
    x = np.random.default_rng(length).standard_normal((planes, length)) + 1e3
    y, dx = np.full(planes, np.nan), np.full_like(x, np.nan)
    pool.global_average.serial(x, y)
    np.testing.assert_allclose(y, x.mean(axis=1), rtol=1e-15)
    pool.global_average_backward.serial(y, dx)
    np.testing.assert_allclose(dx, np.repeat(y[:, None] / length, length, axis=1), rtol=1e-15)


def test_global_average_of_float32_is_summed_in_float64():
    x = np.full((1, 10_001), 0.1, np.float32)
    x[0, 0] = 1e6
    y = np.zeros(1, np.float32)
    pool.global_average.serial(x, y)
    assert y[0] == np.float32(x.mean(dtype=np.float64))
