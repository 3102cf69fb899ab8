"""The norm of a gradient vector, and whether it is finite, with and without frozen runs."""

import numpy as np
import pytest
import reference_optimizers as reference

from minitrain import optimizers


@pytest.mark.parametrize("size", [0, 1, 7, 63, 64, 65, 8191, 8257, 70001])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradient_norm(size, dtype):
    grads = np.random.default_rng(size).standard_normal(size).astype(dtype)
    expected = np.sqrt(reference.sum_of_squares(grads))
    assert optimizers.gradient_norm(grads) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("size", [0, 1, 7, 64, 65, 8191, 8257, 300_001])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_finite(size, dtype):
    grads = np.random.default_rng(size).choice([-1.0, 1.0], size).astype(dtype) * np.finfo(dtype).max
    assert optimizers.all_finite(grads)
    for place in {0, size // 2, size - 2, size - 1} & set(range(size)):
        for value in (np.nan, np.inf, -np.inf):
            spoiled = grads.copy()
            spoiled[place] = value
            assert not optimizers.all_finite(spoiled)


TRAINED = [
    (),
    (slice(3, None),),
    (slice(0, 0), slice(5, None)),
    (slice(0, 9000), slice(9001, 60_000), slice(60_001, None)),
]


@pytest.mark.parametrize("trained", TRAINED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_frozen_is_not_read(trained, dtype):
    grads = np.random.default_rng(0).standard_normal(70_001).astype(dtype)
    mask = np.zeros(grads.size, bool)
    for run in trained:
        mask[run] = True
    grads[~mask] = np.resize([np.nan, np.inf, -np.inf], (~mask).sum())
    assert optimizers.all_finite(grads, trained)
    expected = np.sqrt(reference.sum_of_squares(grads[mask]))
    assert optimizers.gradient_norm(grads, trained) == pytest.approx(expected, rel=1e-14)
    for run in trained:
        if grads[run].size:
            spoiled = grads.copy()
            spoiled[run][-1] = np.inf
            assert not optimizers.all_finite(spoiled, trained)
            assert optimizers.gradient_norm(spoiled, trained) == np.inf


def test_one_slice_of_everything_gives_the_same_bits():
    grads = np.random.default_rng(0).standard_normal(70_001).astype(np.float32)
    assert optimizers.gradient_norm(grads, (slice(0, None),)) == optimizers.gradient_norm(grads)
