"""What dropout promises: reproducible masks, new ones for each call, the same one for the gradient."""

import numpy as np
import pytest

from minitrain.layers import Dropout
from minitrain.testing import BoundLayer

SHAPE = (64, 50)


def bind(p=0.3, seed=0, **options):
    bound = BoundLayer(Dropout(p), [SHAPE], seed=seed, **options)
    bound.tensors.x[...] = 1.0
    return bound


def masks(bound, calls=3):
    for _ in range(calls):
        bound.layer.forward(bound.tensors)
        yield bound.tensors.y.copy()


def test_each_call_draws_a_new_mask_and_the_same_seed_the_same_ones():
    first, again, other = (list(masks(bind(seed=seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert len({mask.tobytes() for mask in [*first, *other]}) == 6


def test_the_number_of_the_call_is_state():
    bound = bind()
    list(masks(bound, 2))
    third = next(masks(bound))
    resumed = bind()
    resumed.tensors.key[...], resumed.tensors.calls[...] = bound.tensors.key, 2
    np.testing.assert_array_equal(next(masks(resumed)), third)
    assert resumed.tensors.calls.tolist() == [3]


def test_the_mean_is_kept():
    means = [mask.mean() for mask in masks(bind(), 40)]
    assert abs(np.mean(means) - 1.0) < 4 * np.sqrt(0.3 / 0.7 / (40 * 64 * 50))


def test_the_gradient_has_the_mask_of_the_forward_pass():
    bound = bind()
    list(masks(bound, 2))
    bound.tensors.dy[...] = 1.0
    bound.layer.backward(bound.tensors)
    np.testing.assert_array_equal(bound.tensors.dx, bound.tensors.y)


def test_inference_is_the_identity_and_draws_nothing():
    bound = bind(training=False)
    bound.tensors.x[...] = np.arange(3200).reshape(SHAPE)
    bound.layer.infer(bound.tensors)
    np.testing.assert_array_equal(bound.tensors.y, bound.tensors.x)
    assert bound.tensors.calls.tolist() == [0]


def test_the_same_mask_in_float32():
    double, single = (next(masks(bind(dtype=dtype))) for dtype in ("float64", "float32"))
    np.testing.assert_array_equal(double > 0, single > 0)


@pytest.mark.parametrize(
    ("p", "error"), [(-0.1, ValueError), (1.1, ValueError), (float("nan"), ValueError), ("a", TypeError)]
)
def test_errors(p, error):
    with pytest.raises(error, match="p: expected a"):
        Dropout(p)
