"""Maximum pooling of narrow planes: 2x2 windows with stride 2, in rows of few windows, a power of 2. See `pool`."""

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.simd.memory import flat
from nbnorm.simd.pooling.halving import make_halving
from nbnorm.simd.vectors import VECTOR_BYTES, lanes_of

__all__ = ["fits", "max_pool", "max_pool_backward"]

# Windows of a task: fewer take less time than a thread needs to begin them, more leave threads idle on small arrays.
# Found with `benchmarks.peers training-step` on 4 cores of an AVX-512 Xeon, 2026-11.
TASK = 1024
COLUMNS = (1, 2, 4, 8, 16)  # windows in a row

_gather_1, _gather_2, _gather_4, _gather_8, _gather_16 = (make_halving(columns).gather for columns in COLUMNS)
_scatter_1, _scatter_2, _scatter_4, _scatter_8, _scatter_16 = (make_halving(columns).scatter for columns in COLUMNS)


def fits(x: np.ndarray, geometry: tuple[int, ...]) -> bool:
    """Whether these kernels pool planes x (P, H, W) in this way."""
    _, height, width = x.shape
    lanes = VECTOR_BYTES // x.itemsize
    whole = geometry == (2, 2, 2, 2, 0, 0) and height % 2 == 0 and width % 2 == 0
    return whole and width // 2 in COLUMNS and width // 2 <= lanes and x.size >= 4 * lanes


@device
def _first_window(task, done, windows, lanes):
    """Where a vector begins: the last one reaches back over the one before."""
    return min(np.intp(task) * TASK + done, windows - lanes)


@kernel
def max_pool(x, y, chosen):
    """y (P, H / 2, W / 2) = maximum of each window, NaN if it holds one; chosen = its tap, the first of equals.

    x (P, H, W) is one that `fits`.
    """
    columns, windows = y.shape[2], y.size
    source, best, taps = flat(x), flat(y), flat(chosen)
    lanes = lanes_of(source)
    for task in prange(-(-windows // TASK)):
        for done in range(0, min(TASK, windows - np.intp(task) * TASK), lanes):
            window = _first_window(task, done, windows, lanes)
            if columns == 1:
                _gather_1(source, window, best, taps)
            elif columns == 2:
                _gather_2(source, window, best, taps)
            elif columns == 4:
                _gather_4(source, window, best, taps)
            elif columns == 8:
                _gather_8(source, window, best, taps)
            else:
                _gather_16(source, window, best, taps)


@kernel
def max_pool_backward(dy, chosen, dx):
    """dx (P, H, W) = dy (P, H / 2, W / 2) where the window chose this element, else 0."""
    columns, windows = dy.shape[2], dy.size
    gradient, taps, target = flat(dy), flat(chosen), flat(dx)
    lanes = lanes_of(gradient)
    for task in prange(-(-windows // TASK)):
        for done in range(0, min(TASK, windows - np.intp(task) * TASK), lanes):
            window = _first_window(task, done, windows, lanes)
            if columns == 1:
                _scatter_1(gradient, taps, window, target)
            elif columns == 2:
                _scatter_2(gradient, taps, window, target)
            elif columns == 4:
                _scatter_4(gradient, taps, window, target)
            elif columns == 8:
                _scatter_8(gradient, taps, window, target)
            else:
                _scatter_16(gradient, taps, window, target)
