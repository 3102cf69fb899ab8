"""NetRegressor: one target or several, on any scale, within scikit-learn's tools."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from small_estimators import TARGETS, X, bits, regressor, unchanged

BOTH_TARGETS = np.column_stack([TARGETS, 1e6 + 1e3 * X[:, 0]])


@pytest.mark.parametrize("y", [TARGETS, TARGETS[:, None], BOTH_TARGETS], ids=["one", "column", "two"])
def test_predictions_have_the_shape_and_the_scale_of_the_targets(y):
    estimator = regressor(epochs=60, hidden=(20,)).fit(X, y)
    predicted = estimator.predict(X)
    assert predicted.shape == y.shape
    assert predicted.dtype == np.float64
    assert estimator.score(X, y) > 0.9
    assert bits(regressor().fit(X, y)) == bits(regressor().fit(X, y.tolist()))


@pytest.mark.parametrize(("scale", "shift"), [(1e-8, 0.0), (1e12, -1e13), (1.0, 1e6)])
def test_the_unit_of_the_targets_does_not_matter(scale, shift):
    scores = [regressor(epochs=40).fit(X, y).score(X, y) for y in (TARGETS, scale * TARGETS + shift)]
    assert scores[0] > 0.9
    assert scores[0] == pytest.approx(scores[1], abs=0.05)


def test_a_constant_target_is_predicted():
    np.testing.assert_allclose(regressor(epochs=40).fit(X, np.full(60, 3.5)).predict(X), 3.5, atol=0.3)


def test_integers_and_strings_of_numbers_are_targets_as_everywhere_in_scikit_learn():
    whole = np.rint(TARGETS).astype(int)
    assert bits(regressor().fit(X, whole)) == bits(regressor().fit(X, whole.astype(float)))


@pytest.mark.parametrize("most", [3, 50])
def test_weights_are_repetitions_whatever_the_order(most):
    rng = np.random.default_rng(most)
    times = rng.integers(0, most, 60)
    rows = rng.permutation(np.repeat(np.arange(60), times))
    for y in (TARGETS, BOTH_TARGETS):
        weighted = regressor().fit(X, y, sample_weight=times)
        repeated = regressor().fit(X[rows], y[rows])
        assert bits(weighted) == bits(repeated)
        np.testing.assert_array_equal(weighted.predict(X), repeated.predict(X))
    parts = [regressor(), regressor()]
    for half in (slice(None, 30), slice(30, None)):
        parts[0].partial_fit(X[half], TARGETS[half], sample_weight=times[half])
        rows = np.repeat(np.arange(60)[half], times[half])
        parts[1].partial_fit(X[rows], TARGETS[rows])
    assert bits(parts[0]) == bits(parts[1])


def test_heavy_samples_are_met():
    y = np.where(np.arange(60) % 2 == 0, TARGETS, TARGETS + 5.0)
    even = regressor(epochs=60).fit(X, y, sample_weight=np.where(np.arange(60) % 2 == 0, 10.0, 0.1))
    assert abs((even.predict(X) - TARGETS).mean()) < 1.0


def test_learning_in_parts_with_scales_of_all_so_far():
    estimator = regressor()
    for half in (slice(None, 30), slice(30, None)):
        estimator.partial_fit(X[half], BOTH_TARGETS[half])
    np.testing.assert_allclose(estimator._targets.mean, BOTH_TARGETS.mean(axis=0))
    np.testing.assert_allclose(estimator._targets.deviation, BOTH_TARGETS.std(axis=0))
    np.testing.assert_allclose(estimator._inputs.mean, X.mean(axis=0))
    np.testing.assert_allclose(estimator._inputs.deviation, X.std(axis=0))
    before = estimator.score(X, BOTH_TARGETS)
    for _ in range(60):
        estimator.partial_fit(X, BOTH_TARGETS)
    assert estimator.score(X, BOTH_TARGETS) > max(before, 0.5)


@pytest.mark.parametrize("train", ["fit", "partial_fit"])
def test_the_number_of_targets_stays(train):
    estimator = regressor(warm_start=True).fit(X, BOTH_TARGETS)
    check = unchanged(estimator)
    with pytest.raises(ValueError, match=r"^y: expected 2 targets as before, got 1"):
        getattr(estimator, train)(X, TARGETS)
    check()


def test_targets_that_no_float_can_square():
    with pytest.raises(ValueError, match=r"^y: expected values whose squares are finite.*, got values up to .*e\+30"):
        regressor().fit(X, 1e300 * TARGETS)


def test_within_scikit_learns_tools():
    x, y = load_diabetes(return_X_y=True)
    assert cross_val_score(regressor(epochs="auto", hidden=(100,)), x, y, cv=5).mean() > 0.4
    pipeline = make_pipeline(PolynomialFeatures(2, include_bias=False), regressor(early_stopping=True, epochs=20))
    search = GridSearchCV(pipeline, {"netregressor__alpha": [0.1, 3.0]}, cv=2, error_score="raise").fit(x, y)
    assert search.predict(x).shape == y.shape
    logarithm = TransformedTargetRegressor(regressor(), func=np.log, inverse_func=np.exp).fit(x, y)
    assert (logarithm.predict(x) > 0).all()
