"""Metrics against scikit-learn, and on ties, NaN and bad shapes."""

import pickle

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
    assert set(metrics.__all__) == {
        "BinaryAccuracy", "F1", "RocAuc", "TopK", "accuracy", "accuracy_of", "top_k_accuracy",
    }  # fmt: skip


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


@pytest.mark.parametrize("make", [lambda k: TopK(k), lambda k: top_k_accuracy(OUTPUTS, [0, 1], k)])
def test_k_is_a_count(make):
    for k in (np.int64(3), np.uint8(3), 3):
        made = make(k)
        assert isinstance(made, float) or (made.k == 3 and type(made.k) is int and made.__name__ == "top_3")
    for k in (2.5, True, np.True_, np.float32(2), "2", None):
        with pytest.raises(TypeError, match="k: expected an integer"):
            make(k)
    for k in (0, -1, np.int64(-5)):
        with pytest.raises(ValueError, match="k: expected an integer >= 1"):
            make(k)


def test_threshold_is_a_number():
    assert BinaryAccuracy(np.float32(0.5)).threshold == 0.5
    assert BinaryAccuracy(1).threshold == 1.0
    for threshold in (True, "0.5", None, [0.5]):
        with pytest.raises(TypeError, match="threshold: expected a number"):
            BinaryAccuracy(threshold)
    for threshold in (np.nan, np.inf):
        with pytest.raises(ValueError, match="threshold: expected a finite number"):
            BinaryAccuracy(threshold)


@pytest.mark.parametrize("metric", [accuracy, TopK(1), BinaryAccuracy()])
@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (np.zeros((4, 3)), np.zeros(5, int)),
        (np.zeros((4, 3)), np.zeros((4, 2))),
        (np.zeros((4, 3)), np.zeros((3, 4))),
        (np.zeros((4, 3)), np.zeros((1, 3))),
        (np.zeros((4, 1)), np.zeros((4, 4))),
        (np.zeros(4), np.zeros(())),
        (np.zeros(()), np.zeros(())),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.zeros((0, 1)), np.zeros(0)),
        (np.zeros((4, 0)), np.zeros(4)),
        (np.zeros((4, 3, 2)), np.zeros((4, 3, 2))),
        ([[0, 1], [1]], [0, 1]),
        (np.ma.masked_array(np.zeros((2, 3)), mask=np.eye(2, 3)), [0, 1]),
    ],
)
def test_shapes_that_do_not_fit_are_never_broadcast(metric, outputs, targets):
    with pytest.raises(ValueError, match=r"(outputs|targets): expected"):
        metric(outputs, targets)


def test_rows_of_targets_are_one_class_each():
    outputs = np.eye(3)
    for rows in ([[1, 1, 0], [0, 1, 0], [0, 0, 1]], np.zeros((3, 3)), np.full((3, 3), np.nan)):
        for metric in (accuracy, TopK(2)):
            with pytest.raises(ValueError, match="targets: expected one-hot rows or probabilities that sum to 1"):
                metric(outputs, np.asarray(rows))
    with pytest.raises(ValueError, match="targets: expected labels 0 to 2, got nan"):
        accuracy(outputs, np.array([0, 1, np.nan]))
    with pytest.raises(ValueError, match=r"outputs: expected shape \(N, K\) for two or more classes"):
        top_k_accuracy(np.zeros((2, 1)), [0, 1], 1)


def test_lists_tensors_and_words():
    assert accuracy([[0.1, 0.9], [0.8, 0.2]], [1, 1]) == 0.5
    with pytest.raises(TypeError, match="targets: expected labels, or rows of probabilities, got dtype <U1"):
        accuracy(OUTPUTS, ["a", "b"])
    with pytest.raises(TypeError, match="outputs: expected numbers, got a generator"):
        accuracy((row for row in OUTPUTS), [0, 1])
    torch = pytest.importorskip("torch")
    assert accuracy(torch.eye(3), torch.tensor([0, 1, 1])) == pytest.approx(2 / 3)


def test_the_accuracy_of_a_loss_can_be_pickled():
    for loss in (SoftmaxCrossEntropy(), BinaryCrossEntropy(), BinaryCrossEntropy(True)):
        metric = pickle.loads(pickle.dumps(accuracy_of(loss)))
        assert metric.__name__ == "accuracy"
        assert metric(np.array([[0.6, 0.4]]), np.array([[1, 0]])) >= 0.5
    with pytest.raises(ValueError, match="targets: expected shape"):
        accuracy_of(BinaryCrossEntropy())(np.zeros((3, 1)), np.zeros(4))
