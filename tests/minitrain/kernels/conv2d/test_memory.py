"""What all algorithms do with memory."""

import numpy as np
import pytest

from minitrain.kernels.conv2d.memory import clear, fetch
from nbnorm.jit import kernel
from nbnorm.simd.memory import flat
from nbnorm.simd.vectors import LANES_FLOAT32


@kernel
def run(array, result):
    clear(flat(array), 3, 5)
    result[0], result[1] = fetch(flat(array), (7, 1000))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clears_what_it_should_and_says_where_to_go_on(dtype):
    array, result = np.ones(3 + 5 + LANES_FLOAT32, dtype), np.zeros(2, np.int64)
    run.serial(array, result)
    assert (array[:3] == 1).all()
    assert (array[3:8] == 0).all()
    np.testing.assert_array_equal(result, [1007, 1000])
