"""NetClassifier: labels, probabilities, weights of samples and classes, within scikit-learn's tools."""

import re

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.metrics import recall_score
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_estimators import IRIS, LABELS, X, bits, classifier, unchanged

from minitrain import layers

CLASSES = ["ant", "bee", "cat"]


def test_probabilities_and_logits_belong_together():
    estimator = classifier().fit(X, LABELS)
    assert estimator.classes_.tolist() == CLASSES
    probabilities, logits = estimator.predict_proba(X), estimator.decision_function(X)
    assert probabilities.dtype == logits.dtype == np.float64
    assert probabilities.shape == logits.shape == (60, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.exp(estimator.predict_log_proba(X)), probabilities)
    assert (estimator.predict(X) == estimator.classes_[logits.argmax(axis=1)]).all()
    two = classifier().fit(X, LABELS == "ant")
    assert two.decision_function(X).shape == (60,)
    assert (two.predict(X) == (two.decision_function(X) > 0)).all()
    np.testing.assert_allclose(two.predict_proba(X)[:, 1], 1.0 / (1.0 + np.exp(-two.decision_function(X))))


@pytest.mark.parametrize(
    "labels",
    [
        np.array([7, -3, 50]),
        np.array([True, False]),
        np.array([1.0, 2.0]),
        np.array(["b", "a", "ä"], object),
        np.array(["x", "longer"]),
    ],
    ids=["numbers", "bools", "floats", "objects", "strings"],
)
def test_labels_of_every_kind_come_back(labels):
    y = labels[np.arange(60) % len(labels)]
    estimator = classifier(epochs=1).fit(X, y)
    assert estimator.classes_.tolist() == sorted(labels.tolist())
    assert estimator.predict(X).dtype == np.unique(y).dtype
    assert set(estimator.predict(X).tolist()) <= set(labels.tolist())


@pytest.mark.parametrize("count", [1, 2, 3, 33, 60])
def test_a_prediction_does_not_depend_on_what_comes_beside_it(count):
    estimator = classifier(hidden=(100,), norm="before").fit(X, LABELS)
    np.testing.assert_array_equal(estimator.predict_proba(X[:count]), estimator.predict_proba(X)[:count])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array(["a", 1], object), "y: expected labels of one kind, numbers or strings, got int, str"),
        (np.array(["a", None], object), "y: expected labels of one kind, numbers or strings, got NoneType, str"),
        (np.array([0.5, 1.5]), "Unknown label type"),
        (np.array([3, 3]), "y: expected labels of two classes or more, got 1 class: 3"),
    ],
    ids=["kinds", "None", "numbers", "one"],
)
def test_what_cannot_be_labels_is_refused(labels, message):
    estimator = classifier().fit(X, LABELS)
    check = unchanged(estimator)
    with pytest.raises((TypeError, ValueError), match=message):
        estimator.fit(X, labels[np.arange(60) % 2])
    check()


@pytest.mark.parametrize("scale", [1.0, 0.1])
@pytest.mark.parametrize("most", [3, 50])
def test_weights_are_repetitions_whatever_the_order(scale, most):
    rng = np.random.default_rng(most)
    times = rng.integers(0, most, 60)
    rows = rng.permutation(np.repeat(np.arange(60), times))
    for parameters in ({}, {"early_stopping": True}, {"class_weight": "balanced"}):
        weighted = classifier(**parameters).fit(X, LABELS, sample_weight=scale * times)
        repeated = classifier(**parameters).fit(X[rows], LABELS[rows], sample_weight=np.full(len(rows), scale))
        np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-6)
        if scale == 1.0:
            assert bits(weighted) == bits(repeated) == bits(classifier(**parameters).fit(X[rows], LABELS[rows]))
            assert weighted.loss_curve_ == repeated.loss_curve_


def test_classes_of_weight_0_are_absent():
    estimator = classifier().fit(X, LABELS, sample_weight=LABELS != "bee")
    assert estimator.classes_.tolist() == ["ant", "cat"]


@pytest.mark.parametrize("class_weight", [{"ant": 2.5}, {"ant": 3, "bee": 0.5, "cat": np.float32(1)}, "balanced"])
def test_weights_of_classes_are_weights_of_samples(class_weight):
    weighted = classifier(class_weight=class_weight).fit(X, LABELS)
    counts = {label: (label == LABELS).sum() for label in CLASSES}
    factors = {k: 60 / n for k, n in counts.items()} if class_weight == "balanced" else class_weight
    sample_weight = [factors.get(label, 1.0) for label in LABELS]
    by_sample = classifier().fit(X, LABELS, sample_weight=sample_weight)
    np.testing.assert_allclose(weighted.predict_proba(X), by_sample.predict_proba(X), rtol=1e-5)
    assert bits(weighted) != bits(classifier().fit(X, LABELS))


def test_balanced_classes_find_the_rare_one():
    rng = np.random.default_rng(0)
    rare = np.arange(400) % 20 == 0
    x = rng.standard_normal((400, 2)) + 1.2 * rare[:, None]
    found = [
        recall_score(rare, classifier(class_weight=each, epochs=20).fit(x, rare).predict(x))
        for each in (None, "balanced")
    ]
    assert found[1] > found[0] + 0.3


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ("balance", "class_weight: expected 'balanced', got 'balance'"),
        (3, "class_weight: expected a dictionary of weights by label, or 'balanced', got 3"),
        ({"ant": -1}, "class_weight['ant']: expected a finite number >= 0, got -1"),
        ({"bee": "2"}, "class_weight['bee']: expected a number, got '2'"),
        ({"bees": 2.0}, "class_weight: expected labels of the classes ['ant', 'bee', 'cat'], got 'bees'"),
        (dict.fromkeys(CLASSES, 0), "class_weight: expected a weight above 0 for one class that is there"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_wrong_weights_of_classes(class_weight, message, method):
    estimator = classifier().fit(X, LABELS).set_params(class_weight=class_weight)
    check = unchanged(estimator)
    with pytest.raises((TypeError, ValueError), match=rf"^{re.escape(message)}"):
        getattr(estimator, method)(X, LABELS)
    check()


def test_a_class_that_is_not_in_this_part_of_the_data_may_have_a_weight():
    there = LABELS != "bee"
    assert classifier(class_weight={"ant": 2, "bee": 3, "cat": 1}).fit(X[there], LABELS[there]).classes_.size == 2


def test_learning_in_parts():
    estimator = classifier().partial_fit(X[:10], LABELS[:10], classes=CLASSES[::-1])
    assert estimator.classes_.tolist() == CLASSES
    for _ in range(30):
        estimator.partial_fit(X[10:], LABELS[10:]).partial_fit(X[:10], LABELS[:10], classes=CLASSES)
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 61
    assert estimator.loss_curve_[-1] < estimator.loss_curve_[0]
    assert estimator.score(X, LABELS) > 0.8


def test_learning_in_parts_balances_all_that_came():
    one = classifier(class_weight="balanced")
    one.partial_fit(X[:30], LABELS[:30], classes=CLASSES)
    one.partial_fit(X[30:], LABELS[30:], sample_weight=np.full(30, 3.0))
    assert one._amounts.tolist() == [
        (LABELS[:30] == label).sum() + 3.0 * (LABELS[30:] == label).sum() for label in CLASSES
    ]
    assert one.fit(X, LABELS)._amounts.sum() == 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "classes: expected all labels in the first call of partial_fit, got None"),
        ({"classes": ["ant"]}, "classes: expected two or more, got 1"),
        ({"classes": ["ant", "bee"]}, "y: expected labels of the classes ant, bee, got 'cat'"),
        ({"classes": [1, 2, 3]}, "y: expected labels of the classes 1, 2, 3, got"),
    ],
)
def test_the_first_part_names_all_classes(arguments, message):
    estimator = classifier()
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}"):
        estimator.partial_fit(X, LABELS, **arguments)
    assert "classes_" not in vars(estimator)
    assert "n_features_in_" not in vars(estimator)


def test_later_labels_are_of_the_first_classes():
    for estimator in (classifier(warm_start=True), classifier().fit(X, LABELS)):
        estimator.fit(X, LABELS)
        check = unchanged(estimator)
        train = estimator.fit if estimator.warm_start else estimator.partial_fit
        with pytest.raises(ValueError, match=r"^y: expected labels of the classes ant, bee, cat, got 'dog'"):
            train(X, np.where(LABELS == "bee", "dog", LABELS))
        check()
        with pytest.raises(ValueError, match=r"^classes: expected those of the first call"):
            estimator.partial_fit(X, LABELS, classes=["ant", "bee"])
        check()


def test_images_for_a_net_that_takes_them():
    shapes = []

    def net(input_shape, outputs, seed):
        shapes.append(input_shape)
        return lambda x: layers.Dense(outputs)(layers.Flatten()(layers.AvgPool2d(2)(x)))

    images, digits = load_digits(return_X_y=True)
    estimator = classifier(model=net, input_shape=(1, 8, 8), epochs=10).fit(images[:500], digits[:500])
    assert shapes == [(1, 8, 8)]
    assert estimator.score(images[500:800], digits[500:800]) > 0.6
    assert len(set(estimator._inputs.mean.tolist())) == 1  # one channel


def test_scores_of_five_folds():
    x, y = IRIS
    estimator = classifier(epochs=60, hidden=(100,))
    assert cross_val_score(estimator, x, y, cv=5).mean() > 0.93
    probabilities = cross_val_predict(estimator, x, y, cv=3, method="predict_proba")
    assert (probabilities.argmax(axis=1) == y).mean() > 0.93


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibrated_probabilities(method):
    x, y = IRIS
    calibrated = CalibratedClassifierCV(classifier(epochs=30, hidden=(100,)), method=method, cv=3).fit(
        x, y, sample_weight=1.0 + y
    )
    np.testing.assert_allclose(calibrated.predict_proba(x).sum(axis=1), 1.0)
    assert calibrated.score(x, y) > 0.9


def test_a_search_over_a_pipeline_in_two_processes():
    x, y = IRIS
    pipeline = make_pipeline(StandardScaler(), classifier(epochs=20))
    grid = {"netclassifier__hidden": [(4,), (16, 8)], "netclassifier__optimizer": ["adamw", "sgd"]}
    searches = [GridSearchCV(pipeline, grid, cv=2, n_jobs=jobs, error_score="raise").fit(x, y) for jobs in (None, 2)]
    scores = [search.cv_results_["mean_test_score"].tolist() for search in searches]
    assert scores[0] == scores[1]
    assert searches[1].best_score_ > 0.8
    assert bits(searches[0].best_estimator_[-1]) == bits(searches[1].best_estimator_[-1])
