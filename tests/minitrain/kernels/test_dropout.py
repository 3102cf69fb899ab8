"""The masks of dropout: bits as the NumPy twin says, statistics as randomness should have them."""

import numpy as np
import pytest
import reference_layers as reference

from minitrain.kernels.dropout import dropout


def kept(size, key=1, call=0, p=0.5, first=0):
    y = np.full(size, np.nan)
    dropout.serial(np.ones(size), np.array([key], np.uint64), np.array([call, first], np.uint64), p, y)
    assert set(np.unique(y)) <= {0.0, 1.0 / (1.0 - p)}
    return y > 0


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize(("key", "call"), [(0, 0), (1, 7), (2**64 - 1, 2**63)])
def test_bits(key, call, p):
    for size in (1, 15, 20_000):  # the last one is more than two blocks
        np.testing.assert_array_equal(kept(size, key, call, p), reference.dropout_keeps(size, key, call, p))


@pytest.mark.parametrize("first", [0, 1, 8191, 8192, 12_345])
def test_a_part_of_a_mask(first):
    np.testing.assert_array_equal(kept(9_000, first=first), kept(first + 9_000)[first:])


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.95])
def test_rate(p):
    size = 1_000_000
    for key in range(3):
        deviation = (kept(size, key, 5, p).mean() - (1 - p)) / np.sqrt(p * (1 - p) / size)
        assert abs(deviation) < 4


def test_masks_of_calls_keys_and_neighbours_are_independent():
    size = 400_000
    first = kept(size) - 0.5
    others = [kept(size, call=1), kept(size, key=2), kept(size, key=2**63 + 1), kept(size, call=2**40)]
    for other in [*others, *(np.roll(kept(size), lag) for lag in (1, 2, 8, 64, 8192))]:
        correlation = 4 * np.mean(first * (other - 0.5))
        assert abs(correlation) * np.sqrt(size) < 4


def test_runs_of_equal_decisions_are_as_long_as_they_should_be():
    changes = np.flatnonzero(np.diff(kept(400_000).astype(int)))
    lengths = np.diff(changes)
    for length in range(1, 8):
        expected = 0.5**length
        assert abs(np.mean(lengths == length) - expected) < 4 * np.sqrt(expected / len(lengths))


def test_dropping_everything_and_special_values():
    key, call = np.array([3], np.uint64), np.zeros(2, np.uint64)
    y = np.empty(100)
    dropout.serial(np.ones(100), key, call, 1.0, y)
    assert not y.any()
    dropout.serial(np.full(100, np.nan), key, call, 0.5, y)
    assert np.isnan(y).all()
