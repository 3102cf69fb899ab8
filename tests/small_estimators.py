"""Estimators that are fitted in a moment, and data for them."""

import copy

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.datasets import load_iris

from minitrain.sklearn import NetClassifier, NetRegressor

rng = np.random.default_rng(0)
X = rng.standard_normal((60, 4))
LABELS = np.array(["ant", "bee", "cat"])[X[:, :3].argmax(axis=1)]
TARGETS = X @ [1.0, -2.0, 0.5, 0.0] + 0.1 * rng.standard_normal(60)
IRIS = load_iris(return_X_y=True)


def classifier(**parameters):
    return NetClassifier(**{"epochs": 3, "hidden": (8,), "random_state": 0, **parameters})


def regressor(**parameters):
    return NetRegressor(**{"epochs": 3, "hidden": (8,), "random_state": 0, **parameters})


def bits(estimator):
    """Everything that a prediction depends on."""
    inputs = estimator._inputs
    scaling = [] if inputs is None else [inputs.mean.tobytes(), inputs.variance.tobytes()]
    return [estimator.model_.flat_params.tobytes(), estimator.model_.flat_state.tobytes(), *scaling]


def unchanged(estimator):
    """Return what tells whether an estimator is still as it is now."""
    before = dict(vars(estimator))
    values = copy.deepcopy(before) if "model_" in before else before

    def check():
        assert vars(estimator).keys() == before.keys()
        assert all(vars(estimator)[name] is value for name, value in before.items())
        if "model_" in values:
            assert estimator.model_.flat_params.tobytes() == values["model_"].flat_params.tobytes()
            assert estimator.model_.flat_state.tobytes() == values["model_"].flat_state.tobytes()
            assert estimator.loss_curve_ == values["loss_curve_"]

    return check
