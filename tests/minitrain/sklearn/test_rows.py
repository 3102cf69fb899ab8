"""Samples as a net is trained on them: what does not depend on order and repetition, and what standardizing does."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from minitrain.sklearn.rows import LARGEST, Rows, Scaling, checked_weights, distinct, present

rng = np.random.default_rng(0)
X = rng.integers(0, 3, (40, 2)).astype(float)
Y = rng.integers(0, 2, 40)


def same(first, second):
    assert first.total == second.total
    for one, other in zip(first[:3], second[:3], strict=True):
        assert (one is None and other is None) or np.array_equal(one, other)


@pytest.mark.parametrize("weight", [None, rng.random(40) + 0.1, rng.integers(1, 9, 40).astype(float)])
def test_order_does_not_matter(weight):
    order = rng.permutation(40)
    first = distinct(X, Y, weight)
    second = distinct(X[order], Y[order], None if weight is None else weight[order])
    assert first.total == pytest.approx(second.total)
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_array_equal(first.y, second.y)
    assert len(first.x) <= 18
    if weight is not None:
        np.testing.assert_allclose(first.weight, second.weight)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("outputs", [(), (2,)])
def test_few_equal_samples_stay_many_become_one(dtype, outputs):
    x = np.arange(6, dtype=dtype).reshape(3, 2)
    y = np.arange(3 * len(np.zeros(outputs).reshape(-1))).reshape(3, *outputs)
    twice = distinct(x[[0, 1, 2, 0]], y[[0, 1, 2, 0]], None)
    assert (len(twice.x), twice.weight, twice.total) == (4, None, 4.0)
    same(twice, distinct(x, y, np.array([2.0, 1.0, 1.0])))
    often = distinct(x[[0] * 9 + [1, 2]], y[[0] * 9 + [1, 2]], None)
    assert sorted(often.weight) == [1.0, 1.0, 9.0]
    same(often, distinct(x, y, np.array([9.0, 1.0, 1.0])))
    all_alike = distinct(np.repeat(x, 5, axis=0), np.repeat(y, 5, axis=0), None)
    assert (len(all_alike.x), all_alike.weight, all_alike.total) == (3, None, 15.0)


def test_sums_of_rounded_weights_are_whole():
    x = np.arange(4.0).reshape(4, 1)
    often = distinct(x[[0, 0, 0, 1, 2, 3]], Y[[0, 0, 0, 1, 2, 3]], np.full(6, 0.1))
    assert often.weight is None
    np.testing.assert_array_equal(often.x, distinct(x, Y[:4], np.array([3.0, 1.0, 1.0, 1.0])).x)


def test_zeros_of_both_signs_are_equal_and_targets_tell_samples_apart():
    x = np.array([[0.0], [-0.0]])
    assert distinct(x, np.array([1, 1]), None).total == 2.0
    np.testing.assert_array_equal(np.abs(distinct(x, np.array([1, 1]), None).x), [[0.0]])
    assert len(distinct(x, np.array([1, 2]), None).x) == 2


def test_samples_of_weight_0_are_left_out():
    x, y, weight = present(X, Y, np.where(np.arange(40) < 4, 0.0, 2.0))
    assert (len(x), len(y), len(weight)) == (36, 36, 36)
    assert present(X, Y, None)[0] is X


@pytest.mark.parametrize("given", [[1, 2, 3], np.array([1, 2, 3], np.uint8), np.float16([1, 2, 3])])
def test_weights_are_float64(given):
    weight = checked_weights(given, 3)
    assert weight.dtype == np.float64
    assert weight.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("count", [3, 5000])  # more than one chunk
@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_mean_and_deviation(count, group, weighted):
    values = 1e4 + rng.standard_normal((count, 6)) * [1e-3, 1e-3, 1e-3, 7.0, 7.0, 7.0]
    weight = rng.random(count) + 0.1 if weighted else None
    scaling = Scaling.of("X", values, Rows(values, values, weight, 12.5), group)
    grouped = values.reshape(count, 6 // group, group)
    mean = np.average(grouped, axis=0, weights=weight).mean(axis=1)
    variance = np.average((grouped - mean[:, None]) ** 2, axis=0, weights=weight).mean(axis=1)
    assert scaling.count == 12.5
    np.testing.assert_allclose(scaling.mean, np.repeat(mean, group), rtol=1e-12)
    np.testing.assert_allclose(scaling.variance, np.repeat(variance, group), rtol=1e-9)
    scaled = scaling.apply(values)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaling.undo(scaled), values, rtol=1e-6)


def test_two_parts_are_the_whole():
    values = rng.standard_normal((50, 2)) + 100.0
    parts = [Scaling.of("X", each, Rows(each, each, None, float(len(each)))) for each in (values[:13], values[13:])]
    whole = Scaling.of("X", values, Rows(values, values, None, 50.0))
    merged = parts[0].merged(parts[1])
    assert merged.count == 50.0
    np.testing.assert_allclose(merged.mean, whole.mean)
    np.testing.assert_allclose(merged.variance, whole.variance)


def test_constant_features_become_zero_and_outliers_stay_finite():
    values = np.column_stack([np.full(10, 0.1), np.arange(10.0)])
    scaling = Scaling.of("X", values, Rows(values, values, None, 10.0))
    np.testing.assert_allclose(scaling.apply(values)[:, 0], 0.0, atol=1e-15)
    far = scaling.apply(np.array([[1e300, -1e300]]))
    assert far.tolist() == [[np.float32(LARGEST), -np.float32(LARGEST)]]


@pytest.mark.parametrize("value", [1e200, -1e308])
def test_values_whose_squares_overflow(value):
    values = np.array([[0.0], [value]])
    with pytest.raises(ValueError, match=r"^y: expected values whose squares are finite.*got values up to 1e\+"):
        Scaling.of("y", values, Rows(values, values, None, 2.0))
