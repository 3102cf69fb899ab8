"""Transposed copies of any size, and nothing beside them."""

import numpy as np
import pytest
from framed import framed, intact

from nbnorm.kernels.rows.turn import turn


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (3, 16, 64), (2, 37, 101), (5, 300, 9), (1, 2, 4000)])
def test_every_value_takes_its_place(shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for form in (turn.serial, turn.parallel):
        y, memory = framed((shape[0], shape[2], shape[1]), dtype, 3)
        form(x, y)
        np.testing.assert_array_equal(y, x.transpose(0, 2, 1))
        assert intact(memory, y.size, 3)
