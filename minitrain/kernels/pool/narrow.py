"""Maximum pooling of narrow planes: 2x2 windows with stride 2, in rows of few windows, a power of 2. See `pool`."""

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.simd.memory import flat
from nbnorm.simd.pooling.halving import make_halving
from nbnorm.simd.vectors import VECTOR_BYTES, lanes_of

__all__ = ["fits", "max_pool", "max_pool_backward"]

TASK = 1024  # windows
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
def _first_window(task, step, windows, lanes):
    """Where a vector begins: the last one reaches back over the one before."""
    return min(np.intp(task) * TASK + step, windows - lanes)


@kernel
def max_pool(x, y, chosen):
    """y (P, H / 2, W / 2) = maximum of each window, NaN if it holds one; chosen = its place there, the first of equals.

    x (P, H, W) is one that `fits`.
    """
    columns, windows = y.shape[2], y.size
    source, best, places = flat(x), flat(y), flat(chosen)
    lanes = lanes_of(source)
    for task in prange(-(-windows // TASK)):
        for step in range(0, min(TASK, windows - np.intp(task) * TASK), lanes):
            at = _first_window(task, step, windows, lanes)
            if columns == 1:
                _gather_1(source, at, best, places)
            elif columns == 2:
                _gather_2(source, at, best, places)
            elif columns == 4:
                _gather_4(source, at, best, places)
            elif columns == 8:
                _gather_8(source, at, best, places)
            else:
                _gather_16(source, at, best, places)


@kernel
def max_pool_backward(dy, chosen, dx):
    """dx (P, H, W) = dy (P, H / 2, W / 2) where the window chose this element, else 0."""
    columns, windows = dy.shape[2], dy.size
    gradient, places, target = flat(dy), flat(chosen), flat(dx)
    lanes = lanes_of(gradient)
    for task in prange(-(-windows // TASK)):
        for step in range(0, min(TASK, windows - np.intp(task) * TASK), lanes):
            at = _first_window(task, step, windows, lanes)
            if columns == 1:
                _scatter_1(gradient, places, at, target)
            elif columns == 2:
                _scatter_2(gradient, places, at, target)
            elif columns == 4:
                _scatter_4(gradient, places, at, target)
            elif columns == 8:
                _scatter_8(gradient, places, at, target)
            else:
                _scatter_16(gradient, places, at, target)
