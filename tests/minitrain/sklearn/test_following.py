"""scikit-learn's callbacks: they hear of each epoch, get a net that predicts, and may end the training."""

import numpy as np
import pytest

pytest.importorskip("sklearn.callback")

from sklearn.callback import ScoringMonitor
from sklearn.model_selection import GridSearchCV
from small_estimators import LABELS, TARGETS, X, bits, classifier, regressor

BOTH = pytest.mark.parametrize(("make", "y"), [(classifier, LABELS), (regressor, TARGETS)], ids=["classes", "numbers"])


class Noting:
    """Writes down what it is told; ends a fit after so many epochs."""

    def __init__(self, last=None):
        self.told, self.scores, self.last = [], [], last

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X, y, fitted_estimator):
        self.told.append(f"begin {context.task_name} {context.task_id}")

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.told.append(f"end {context.task_name} {context.task_id}")
        self.scores.append(fitted_estimator.score(X, y, **(metadata or {})))
        return context.task_name == "epoch" and context.task_id == self.last


@BOTH
def test_they_hear_of_every_epoch(make, y):
    noting = Noting()
    estimator = make().set_callbacks(noting).fit(X, y, sample_weight=1.0 + (np.arange(60) % 3))
    epochs = [f"{kind} epoch {number}" for number in range(3) for kind in ("begin", "end")]
    assert noting.told == ["setup", "begin fit 0", *epochs, "end fit 0", "teardown"]
    assert len(set(noting.scores)) > 1  # of one net after the other
    assert noting.scores[-1] == estimator.score(X, y, sample_weight=1.0 + (np.arange(60) % 3))
    assert bits(estimator) == bits(make().fit(X, y, sample_weight=1.0 + (np.arange(60) % 3)))
    estimator.set_callbacks().fit(X, y)
    assert noting.told[-1] == "teardown"
    assert noting.told.count("setup") == 1


@BOTH
def test_they_end_a_training(make, y):
    estimator = make(epochs=50).set_callbacks(Noting(last=1)).fit(X, y)
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 2


@BOTH
@pytest.mark.parametrize("wrong", [{"alpha": -1}, {"hidden": 0}, {"optimizer": "sgd", "learning_rate": 1e30}])
def test_they_are_always_torn_down(make, y, wrong):
    noting = Noting()
    estimator = make(**wrong).set_callbacks(noting)
    before = set(vars(estimator))
    with pytest.raises((ValueError, ArithmeticError)):
        estimator.fit(X, y)
    assert set(vars(estimator)) == before
    assert noting.told.count("setup") == noting.told.count("teardown")


@BOTH
def test_an_error_of_a_callback_leaves_the_former_net(make, y):
    class Failing(Noting):
        def on_fit_task_begin(self, estimator, context, *, X, y, fitted_estimator):
            raise OSError("no space")

    estimator = make().fit(X, y)
    before = bits(estimator)
    with pytest.raises(OSError, match="no space"):
        estimator.set_callbacks(Failing()).fit(X * 2.0, y)
    assert bits(estimator) == before


@pytest.mark.parametrize(
    ("make", "y", "scoring"), [(classifier, LABELS, "accuracy"), (regressor, TARGETS, "r2")], ids=["classes", "numbers"]
)
def test_scores_of_every_epoch_alone_and_in_a_search(make, y, scoring):
    monitor = ScoringMonitor(scoring=scoring)
    estimator = make(early_stopping=True, n_iter_no_change=9).set_callbacks(monitor).fit(X, y)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(rows) == estimator.n_iter_ == 3
    search = GridSearchCV(make().set_callbacks(ScoringMonitor(scoring=scoring)), {"hidden": [(3,), (4,)]}, cv=2)
    assert search.fit(X, y).best_params_["hidden"] in ((3,), (4,))
