"""The empty array that stands for none."""

import numpy as np
import pytest

from nbnorm.jit.arrays import nothing


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("ndim", [1, 3])
def test_nothing_is_empty_and_shared(dtype, ndim):
    array = nothing(dtype, ndim)
    assert array.shape == (0,) * ndim
    assert array.dtype == dtype
    assert array.flags.carray  # for a read-only array a kernel would be compiled once more
    assert nothing(dtype, ndim) is array


def test_a_vector_is_the_default():
    assert nothing(np.dtype(np.float32)).shape == (0,)
