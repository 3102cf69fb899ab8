"""Comparison of bits: every single one, in every block."""

import numpy as np
import pytest

from minitrain.kernels.compare import BLOCK, same_bits


def same(a, b, form):
    return form(a, b, np.full(-(-a.size // BLOCK), 7, np.uint8))


@pytest.mark.parametrize("form", [same_bits.serial, same_bits], ids=["serial", "parallel"])
@pytest.mark.parametrize("size", [0, 1, 15, 17, BLOCK, BLOCK + 1, 3 * BLOCK - 5])
def test_sees_a_difference_anywhere(size, form):
    a = np.random.default_rng(0).integers(-(2**31), 2**31, size).astype(np.int32)
    b = a.copy()
    assert same(a, b, form)
    for place in {0, 1, size // 2, size - 2, size - 1} & set(range(size)):
        for bit in (0, 15, 31):
            b[place] ^= np.int32(-(2**31)) if bit == 31 else np.int32(1 << bit)
            assert not same(a, b, form)
            b[place] = a[place]
    assert same(a, b, form)


def test_bits_count_not_values():
    values = np.array([np.nan, 0.0, 1.0], np.float32)
    other = np.array([np.nan, -0.0, 1.0], np.float32)
    bits, others = values.view(np.int32), other.view(np.int32)
    assert same(bits, bits.copy(), same_bits.serial)
    assert not same(bits, others, same_bits.serial)
