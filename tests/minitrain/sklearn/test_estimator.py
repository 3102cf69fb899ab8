"""What both estimators promise: scikit-learn's own checks, all or nothing, copies, early stopping."""

import copy
import pickle
import signal

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6")  # since when it checks single estimators without a wrapper

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks
from small_estimators import LABELS, TARGETS, X, bits, classifier, regressor, unchanged

from minitrain import Input, Model, layers, optimizers, schedules
from minitrain.sklearn import NetClassifier, NetRegressor
from minitrain.training.trainer import NonFiniteLossError

BOTH = pytest.mark.parametrize(("make", "y"), [(classifier, LABELS), (regressor, TARGETS)], ids=["classes", "numbers"])


@parametrize_with_checks([NetClassifier(), NetRegressor()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def net(input_shape, outputs, seed):
    x = Input(input_shape)
    return Model(x, layers.Dense(outputs)(layers.Tanh()(layers.Dense(5)(x))), seed=seed)


def inner(input_shape, outputs, seed):
    return lambda x: layers.Dense(outputs)(layers.ReLU()(layers.BatchNorm()(layers.Dense(5)(x))))


@BOTH
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"model": net, "optimizer": optimizers.Adam(schedules.Cosine(0.01, 20))},
        {"model": inner, "standardize": False},
        {"norm": "before", "hidden": (5, 4), "activation": layers.LeakyReLU(0.2)},
        {"early_stopping": True, "epochs": np.int16(5), "batch_size": np.uint8(7), "learning_rate": np.float32(0.01)},
        {"optimizer": "sgd", "alpha": 0},
    ],
    ids=["default", "model", "function", "norm", "early", "sgd"],
)
def test_copies_predict_the_same_and_clones_learn_the_same(make, y, parameters):
    estimator = make(**parameters).fit(X, y)
    for copied in (copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):
        np.testing.assert_array_equal(copied.predict(X), estimator.predict(X))
        assert bits(copied.partial_fit(X, y)) == bits(copy.deepcopy(estimator).partial_fit(X, y))
    new = clone(estimator)
    with pytest.raises(NotFittedError):
        new.predict(X)
    assert bits(new.fit(X, y)) == bits(estimator) == bits(clone(new).fit(X[::-1], y[::-1]))
    assert new.loss_curve_ == estimator.loss_curve_
    assert bits(clone(estimator).set_params(random_state=1).fit(X, y)) != bits(estimator)


@BOTH
def test_a_copy_of_one_that_learns_in_parts_goes_on_like_it(make, y):
    first = make().fit(X, y).partial_fit(X[:20], y[:20])
    second = pickle.loads(pickle.dumps(first))
    third = copy.deepcopy(first)
    for estimator in (first, second, third):
        estimator.partial_fit(X[20:], y[20:])
    assert bits(first) == bits(second) == bits(third)
    assert first.n_iter_ == 2
    assert len(first.loss_curve_) == 5


WRONG = [
    ("model", "mpl"), ("model", 3), ("model", lambda shape, outputs, seed: 3), ("hidden", 0), ("hidden", (1.5,)),
    ("model", lambda shape, outputs, seed: lambda x: layers.Dense(outputs + 1)(x)), ("hidden", None),
    ("activation", "relo"), ("norm", "bach"), ("input_shape", (3, 5)), ("input_shape", "a"), ("epochs", 0),
    ("epochs", 2.0), ("epochs", "many"), ("batch_size", "auto"), ("batch_size", 0), ("batch_size", True),
    ("optimizer", "adm"), ("optimizer", optimizers.Adam), ("learning_rate", 0), ("learning_rate", "constant"),
    ("learning_rate", np.nan), ("alpha", -1), ("alpha", "a"), ("standardize", "False"), ("standardize", 1),
    ("early_stopping", "no"), ("validation_fraction", 1), ("validation_fraction", 0.0), ("n_iter_no_change", np.inf),
    ("tol", -1e-9), ("tol", None), ("warm_start", "yes"), ("verbose", "False"), ("verbose", -1),
]  # fmt: skip


@BOTH
@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda value: str(value)[:20])
def test_a_wrong_parameter_is_named_and_nothing_is_lost(make, y, name, value):
    new = make(**{name: value})
    check = unchanged(new)
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: expected .*, got "):
        new.fit(X, y)
    check()
    fitted = make().fit(X, y).set_params(**{name: value})
    check = unchanged(fitted)
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: expected .*, got "):
        fitted.fit(X, y)
    check()


@BOTH
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("weight", "word"),
    [
        (np.ones(3), "60 finite weights"),
        (-np.ones(60), "-1 for sample 0"),
        (np.full(60, np.nan), "nan for sample 0"),
        (np.full(60, np.inf), "inf for sample 0"),
        (np.zeros(60), "at least one weight above 0"),
        (2.0, "shape"),
        (["a"] * 60, "dtype"),
        (np.ones((60, 2)), "shape"),
    ],
)
def test_what_cannot_be_weights_is_refused(make, y, method, weight, word):
    estimator = make().fit(X, y)
    check = unchanged(estimator)
    with pytest.raises((TypeError, ValueError), match=rf"^sample_weight: .*{word}"):
        getattr(estimator, method)(X, y, sample_weight=weight)
    check()


@BOTH
def test_data_that_no_net_can_compute_with(make, y):
    fitted = make().fit(X, y)
    check = unchanged(fitted)
    for method in (fitted.fit, fitted.partial_fit):
        with pytest.raises(ValueError, match=r"^X: expected values whose squares are finite.*, got values up to"):
            method(X * 1e300, y)
        check()
    with pytest.raises(ValueError, match="features"):
        fitted.partial_fit(X[:, :2], y)
    check()
    raw = make(standardize=False).fit(X, y)
    with pytest.raises(ValueError, match=r"^X: expected values that the net can compute with, got .* in sample 7"):
        raw.predict(np.where(np.arange(60)[:, None] == 7, 1e60, X))
    outlier = np.where(np.arange(60)[:, None] == 7, 1e60, X)  # standardized it is only very far away
    assert (fitted.predict(outlier) == fitted.predict(X))[np.arange(60) != 7].all()


@BOTH
def test_a_training_that_diverges_leaves_the_former_net(make, y):
    estimator = make().fit(X, y).set_params(optimizer="sgd", learning_rate=1e30, epochs=9)
    check = unchanged(estimator)
    with pytest.raises(NonFiniteLossError):
        estimator.fit(X, y)
    check()


@BOTH
def test_interrupting_keeps_what_was_learned_and_ends_a_search(make, y, monkeypatch):
    forward = layers.ReLU.forward

    def interrupt(self, t):
        monkeypatch.undo()
        signal.raise_signal(signal.SIGINT)
        forward(self, t)

    estimator = make(epochs=5)
    monkeypatch.setattr(layers.ReLU, "forward", interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs it beside itself
    try:
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(X, y)
    finally:
        signal.signal(signal.SIGINT, before)
    assert estimator.history_.interrupted
    assert len(estimator.predict(X)) == 60


@BOTH
def test_early_stopping_keeps_the_best_epoch(make, y):
    estimator = make(early_stopping=True, epochs=60, n_iter_no_change=3, tol=0.05, validation_fraction=0.3).fit(X, y)
    validated = estimator.history_.metrics["val_loss"]
    assert len(validated) == estimator.n_iter_ == len(estimator.loss_curve_) < 60
    assert min(validated) == pytest.approx(validated[-4], abs=0.05)
    assert "val_loss" not in estimator.set_params(early_stopping=False, epochs=1).fit(X, y).history_.metrics


@BOTH
def test_early_stopping_needs_two_samples(make, y):
    with pytest.raises(ValueError, match=r"^early_stopping: expected two different samples or more, got 1 sample"):
        regressor(early_stopping=True).fit(np.repeat(X[:1], 5, axis=0), np.ones(5))


@BOTH
def test_a_warm_start_goes_on(make, y):
    estimator = make(warm_start=True).fit(X, y)
    first = bits(estimator)
    scaling, model = estimator._inputs, estimator.model_
    estimator.fit(X[:30] * 2.0, y[:30])
    assert estimator.model_ is model
    assert estimator._inputs is scaling
    assert bits(estimator) != first
    assert estimator.n_iter_ == 3
    assert len(estimator.loss_curve_) == 6
    again = make().fit(X, y).fit(X, y)
    assert bits(again) == first
    assert len(again.loss_curve_) == 3


@BOTH
def test_the_seed_may_be_a_generator_and_verbose_prints_epochs(make, y, capsys):
    random = np.random.RandomState(0)
    first = make(random_state=random).fit(X, y)
    assert capsys.readouterr().out == ""
    second = make(random_state=random, verbose=2).fit(X, y)
    assert bits(first) != bits(second)
    assert capsys.readouterr().out.count("loss") >= 3


@BOTH
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("norm", [None, "before"])
def test_few_samples(make, y, count, norm):
    rows = [int(np.argmax(label == LABELS)) for label in ("ant", "bee", "cat")][:count]
    if make is classifier and count == 1:
        with pytest.raises(ValueError, match=r"^y: expected labels of two classes or more, got 1 class: 'ant'"):
            make(norm=norm).fit(X[rows], y[rows])
        return
    assert len(make(norm=norm, batch_size=1 if norm is None else 2).fit(X[rows], y[rows]).predict(X)) == 60
    assert len(make(norm=norm).partial_fit(X[rows[:1]], y[rows[:1]], **_classes(make)).predict(X)) == 60


def _classes(make):
    return {"classes": ["ant", "bee", "cat"]} if make is classifier else {}


@BOTH
def test_frames_bring_the_names_of_features(make, y):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    estimator = make().fit(frame, pandas.Series(y))
    assert estimator.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(estimator.predict(frame), make().fit(X, y).predict(X))
    with pytest.raises(ValueError, match="feature names"):
        estimator.predict(frame[["b", "a", "c", "d"]])
