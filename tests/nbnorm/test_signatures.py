"""What a call leaves out, and how its arrays lie in memory, does not compile a kernel once more."""

from itertools import product

import numpy as np
import pytest
from signatures import recorded

import nbnorm


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4, 3)])
def test_optional_arguments_do_not_change_a_signature(shape, dtype):
    x = np.ones(shape, dtype)
    forms = [x, read_only(x.copy()), x.repeat(2, axis=0)[::2]]
    stats = nbnorm.BatchNormStats(np.ones(3), np.ones(3))
    with recorded() as signatures:
        for given, vector, other in product(forms, (None, np.ones(3, dtype)), (None, *forms)):
            running = (None, None) if vector is None else (vector.copy(), vector.copy())
            nbnorm.batch_norm_forward(given, vector, vector, *running, residual=other)
            nbnorm.batch_norm_infer(given, np.ones(3, dtype), np.ones(3, dtype), vector, vector, residual=other)
            nbnorm.batch_norm_backward(given, given, stats, vector, vector, activation="relu", y=other)
            nbnorm.batch_norm_inverse(given, stats, vector, vector)
    assert len(signatures) == 3
    assert [form.py_func.__name__ for form, each in signatures.items() if len(each) > 1] == []
