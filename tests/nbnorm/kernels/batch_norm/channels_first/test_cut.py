"""How work over rows is cut: equal shares, and stores that are announced."""

import contextlib
from unittest import mock

import numpy as np
import pytest
from framed import framed, intact

import nbnorm
from nbnorm.kernels.batch_norm.channels_first import cut
from nbnorm.kernels.batch_norm.channels_first.cut import Cut


@contextlib.contextmanager
def announced():
    """Plan rows as those of large arrays, whose stores are announced to the caches."""
    with mock.patch.object(cut, "AHEAD_FROM", 0):
        cut.cut.cache_clear()
        yield
    cut.cut.cache_clear()


@pytest.mark.parametrize("shape", [(3, 20, 7, 7), (5, 3, 30, 31), (4, 33, 5), (1, 17, 700), (7, 40, 100)], ids=str)
def test_announced_stores_change_nothing_else(shape):
    """What is announced may lie in the next run, in other arrays or nowhere: no value may change by it."""
    rng = np.random.default_rng(0)
    x, dy, residual = (rng.standard_normal(shape).astype(np.float32) for _ in range(3))
    expected_y, stats = nbnorm.batch_norm_forward(x, activation="relu", residual=residual)
    expected = nbnorm.batch_norm_backward(dy, x, stats, activation="relu", y=expected_y)
    for offset in (0, 5):
        outputs = [framed(shape, "float32", offset) for _ in range(3)]
        y, dx, dresidual = (inside for inside, _ in outputs)
        with announced():
            assert Cut(*cut.cut(shape[0], shape[1], int(np.prod(shape[2:])), 4, 1)).ahead > 0
            nbnorm.batch_norm_forward(x, activation="relu", residual=residual, out=y)
            nbnorm.batch_norm_backward(dy, x, stats, activation="relu", y=expected_y, out=(dx, None, None, dresidual))
        for result, wanted in ((y, expected_y), (dx, expected.dx), (dresidual, expected.dresidual)):
            np.testing.assert_array_equal(result, wanted)
        assert all(intact(memory, inside.size, offset) for inside, memory in outputs)


@pytest.mark.parametrize("shape", [(16, 6, 28, 28), (32, 100, 50), (64, 512, 7, 7), (2, 3, 224, 224)], ids=str)
@pytest.mark.parametrize("arrays", [1, 2])
def test_four_threads_get_nearly_equal_shares_of_rows(shape, arrays):
    images, channels, length = shape[0], shape[1], int(np.prod(shape[2:]))
    group, chunks, *_ = cut.cut(images, channels, length, 4, arrays)
    tasks = -(-channels // group) * chunks
    most = -(-tasks // 4) * group / chunks  # channels of the thread that has most to do
    assert most <= 1.03 * channels / 4
