"""Where numbers that are not finite begin."""

import numpy as np
import pytest

from minitrain import Input, Model, layers
from minitrain.training.diagnosis import first_non_finite


def small_net(seed=0, dtype="float32", norm=True):
    x = Input((1, 6, 6))
    h = layers.Conv2d(3, 3, padding=1, bias=not norm, name="conv1")(x)
    if norm:
        h = layers.BatchNorm(name="bn1")(h)
    h = layers.Flatten()(layers.ReLU(name="relu1")(h))
    return Model(x, layers.Dense(4, name="head")(h), seed=seed, dtype=dtype)


@pytest.mark.parametrize("training", [True, False])
def test_first_non_finite(training):
    model = small_net()
    x = np.ones((4, 1, 6, 6), np.float32)
    before = model.flat_state.copy()
    assert first_non_finite(model, x, training) is None
    x[2, 0, 3, 3] = np.inf
    assert first_non_finite(model, x, training) == "input"
    x[2, 0, 3, 3] = 3e38
    model.params["conv1.weight"] = np.full((3, 1, 3, 3), 1e3)
    assert first_non_finite(model, x, training) == "conv1"
    model.params["head.bias"][1] = np.nan
    assert first_non_finite(model, x, training) == "head.bias"
    np.testing.assert_array_equal(model.flat_state, before)
