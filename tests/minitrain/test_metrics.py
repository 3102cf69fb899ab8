"""Metrics against scikit-learn, and on ties, NaN and bad shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain import metrics
from minitrain.losses import BinaryCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy
from minitrain.metrics import BinaryAccuracy, TopK, accuracy, accuracy_of, top_k_accuracy


def batch(seed, examples, classes):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((examples, classes)).astype(np.float32), rng.integers(0, classes, examples)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 999), st.integers(1, 40), st.integers(3, 12), st.data())
def test_against_scikit_learn(seed, examples, classes, data):
    peer = pytest.importorskip("sklearn.metrics")
    outputs, labels = batch(seed, examples, classes)
    k = data.draw(st.integers(1, classes - 1))
    one_hot = np.eye(classes)[labels]
    for targets in (labels, labels[:, None], one_hot, 0.6 * one_hot + 0.4 / classes, labels.astype(np.float32)):
        assert accuracy(outputs, targets) == pytest.approx(peer.accuracy_score(labels, outputs.argmax(1)))
        expected = peer.top_k_accuracy_score(labels, outputs, k=k, labels=np.arange(classes))
        assert top_k_accuracy(outputs, targets, k) == pytest.approx(expected)
        assert TopK(k)(outputs, targets) == pytest.approx(expected)
    assert top_k_accuracy(outputs, labels, classes) == 1.0


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 999), st.integers(1, 40))
def test_binary_against_scikit_learn(seed, examples):
    peer = pytest.importorskip("sklearn.metrics")
    outputs, labels = batch(seed, examples, 2)
    logits = outputs[:, :1]
    expected = peer.accuracy_score(labels, logits[:, 0] > 0)
    for shape in ((examples,), (examples, 1)):
        assert accuracy(logits.reshape(shape), labels.reshape(shape)) == pytest.approx(expected)
        probabilities = 1 / (1 + np.exp(-logits.reshape(shape)))
        assert BinaryAccuracy(threshold=0.5)(probabilities, labels) == pytest.approx(expected)


def test_ties_and_nan_win_nothing():
    equal = np.zeros((4, 3))
    assert accuracy(equal, np.array([0, 1, 2, 2])) == 0.25
    assert top_k_accuracy(equal, np.array([0, 1, 2, 2]), k=2) == 0.5
    broken = np.full((2, 3), np.nan)
    assert accuracy(broken, np.array([0, 1])) == 0
    assert top_k_accuracy(broken, np.array([0, 1]), k=3) == 0
    assert accuracy(np.array([np.nan, -1.0]), np.array([0, 0])) == 0.5


def test_names():
    assert [metric.__name__ for metric in (accuracy, TopK(3), BinaryAccuracy())] == ["accuracy", "top_3", "accuracy"]
    assert set(metrics.__all__) == {"BinaryAccuracy", "TopK", "accuracy", "accuracy_of", "top_k_accuracy"}


OUTPUTS = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: accuracy(OUTPUTS, np.array([0, 3])), "targets: expected labels 0 to 2, got 3"),
        (lambda: accuracy(OUTPUTS, np.array([0, -1])), "targets: expected labels 0 to 2, got -1"),
        (lambda: accuracy(OUTPUTS, np.array([0, 0.5])), "targets: expected labels 0 to 2, got 0.5"),
        (lambda: accuracy(OUTPUTS, np.zeros(3, int)), r"targets: expected shape \(2,\) or \(2, 3\), got \(3,\)"),
        (lambda: accuracy(OUTPUTS[:0], np.zeros(0, int)), "outputs: expected at least one example"),
        (lambda: accuracy(np.zeros((2, 3, 1)), np.zeros(2, int)), r"outputs: expected shape \(N, K\)"),
        (lambda: accuracy(np.zeros(2), np.array([0, 2])), "targets: expected labels 0 to 1, got 2"),
        (lambda: top_k_accuracy(OUTPUTS, np.zeros(2, int), 4), "k: expected 1 to 3 classes, got 4"),
        (lambda: TopK(0), "k: expected an integer >= 1, got 0"),
        (lambda: BinaryAccuracy()(OUTPUTS, np.zeros(2, int)), r"outputs: expected shape \(N,\) or \(N, 1\)"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_accuracy_that_goes_with_a_loss():
    logits = np.array([[-1.0], [0.3], [2.0]])
    assert accuracy_of(MeanSquaredError()) is None
    assert accuracy_of(BinaryCrossEntropy(True))(logits, np.array([[0], [1], [0]])) == pytest.approx(2 / 3)
    assert accuracy_of(BinaryCrossEntropy())(logits, np.array([[0], [1], [1]])) == pytest.approx(2 / 3)
    assert accuracy_of(SoftmaxCrossEntropy())(np.eye(3), np.array([0, 1, 1])) == pytest.approx(2 / 3)
    several = np.array([[-1.0, 1.0], [1.0, 1.0]])
    assert accuracy_of(BinaryCrossEntropy(True))(several, np.array([[0, 1], [1, 0]])) == 0.75
