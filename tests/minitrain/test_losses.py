"""Losses against PyTorch and against NumPy twins; their errors; what is not finite stays so."""

import json
from dataclasses import asdict

import numba
import numpy as np
import pytest
import reference_layers as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.losses import LOSSES, BinaryCrossEntropy, Loss, MeanSquaredError, SoftmaxCrossEntropy
from minitrain.testing.drawing import same_bits
from minitrain.testing.promises import peak_of, serial_below

SIZES = st.tuples(st.integers(1, 70), st.integers(2, 12))


def evaluate(loss, outputs, targets):
    """Loss and gradient, the latter into an array of NaN."""
    gradient = np.full_like(outputs, np.nan)
    return loss(outputs, loss.targets(targets, outputs.shape), gradient), gradient


def agrees_with_torch(loss, function, outputs, targets, torch_targets=None):
    torch = pytest.importorskip("torch")
    value, gradient = evaluate(loss, outputs, targets)
    x = torch.tensor(outputs, requires_grad=True)
    expected = function(x, torch.tensor(targets if torch_targets is None else torch_targets))
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=1e-12, abs=1e-15)
    np.testing.assert_allclose(gradient, x.grad, rtol=1e-12, atol=1e-15)
    assert loss(outputs, loss.targets(targets, outputs.shape)) == value


@settings(max_examples=40, deadline=None)
@given(SIZES, st.sampled_from([0.0, 0.1, 1.0]), st.sampled_from([1e-3, 1.0, 300.0]))
def test_softmax_cross_entropy_agrees_with_torch(shape, smoothing, scale):
    functional = pytest.importorskip("torch").nn.functional
    rng = np.random.default_rng(0)
    outputs = scale * rng.standard_normal(shape)
    loss = SoftmaxCrossEntropy(label_smoothing=smoothing)

    def function(x, targets):
        return functional.cross_entropy(x, targets, label_smoothing=smoothing)

    agrees_with_torch(loss, function, outputs, rng.integers(0, shape[1], shape[0]))
    agrees_with_torch(loss, function, outputs, rng.dirichlet(np.ones(shape[1]), shape[0]))


@settings(max_examples=30, deadline=None)
@given(SIZES, st.sampled_from([1e-3, 1.0, 300.0]))
def test_the_others_agree_with_torch(shape, scale):
    functional = pytest.importorskip("torch").nn.functional
    rng = np.random.default_rng(0)
    logits, targets = scale * rng.standard_normal(shape), rng.random(shape)
    agrees_with_torch(MeanSquaredError(), functional.mse_loss, logits, targets)
    agrees_with_torch(
        BinaryCrossEntropy(from_logits=True), functional.binary_cross_entropy_with_logits, logits, targets
    )
    probabilities = rng.random(shape)
    probabilities.flat[:2] = 0.0, 1.0
    agrees_with_torch(BinaryCrossEntropy(), functional.binary_cross_entropy, probabilities, targets)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(40, 7), (1, 2), (5, 150), (500, 13)], ids=str)
def test_softmax_cross_entropy_agrees_with_its_twin(shape, smoothing):
    rng = np.random.default_rng(0)
    rows, classes = shape
    outputs, labels = rng.standard_normal(shape), rng.integers(0, classes, rows)
    expected = reference.softmax_cross_entropy(outputs, reference.smooth(labels, classes, smoothing))
    one_hot = np.eye(classes)[labels]
    for targets in (labels, labels.astype(np.uint8), one_hot, one_hot.astype(int)):
        value, gradient = evaluate(SoftmaxCrossEntropy(smoothing), outputs, targets)
        assert value == pytest.approx(expected[0], rel=1e-13)
        np.testing.assert_allclose(gradient, expected[1], atol=1e-15)


def test_float32_agrees_with_float64():
    rng = np.random.default_rng(0)
    outputs = rng.standard_normal((64, 10)).astype(np.float32)
    for loss, targets in (
        (SoftmaxCrossEntropy(0.1), rng.integers(0, 10, 64)),
        (SoftmaxCrossEntropy(), rng.dirichlet(np.ones(10), 64).astype(np.float32)),
        (MeanSquaredError(), rng.standard_normal((64, 10)).astype(np.float32)),
        (BinaryCrossEntropy(from_logits=True), rng.integers(0, 2, (64, 10))),
    ):
        value, gradient = evaluate(loss, outputs, targets)
        expected = evaluate(loss, outputs.astype(np.float64), targets)
        assert value == pytest.approx(expected[0], rel=1e-14)
        assert gradient.dtype == np.float32
        np.testing.assert_allclose(gradient, expected[1], rtol=1e-6, atol=1e-9)


LARGE = [
    (SoftmaxCrossEntropy(0.1), np.random.default_rng(1).integers(0, 20, 1000)),
    (MeanSquaredError(), np.random.default_rng(1).random((1000, 20), np.float32)),
    (BinaryCrossEntropy(from_logits=True), np.random.default_rng(1).random((1000, 20), np.float32)),
]


@pytest.mark.parametrize(("loss", "targets"), LARGE, ids=lambda value: type(value).__name__)
def test_same_bits_for_any_number_of_threads(loss, targets):
    outputs = np.random.default_rng(0).standard_normal((1000, 20)).astype(np.float32)
    with serial_below(2**62):
        expected, gradient = evaluate(loss, outputs, targets)
    threads = numba.get_num_threads()
    try:
        for count in {1, threads}:
            numba.set_num_threads(count)
            with serial_below(0):
                value, again = evaluate(loss, outputs, targets)
            assert value == expected
            assert same_bits(again, gradient)
    finally:
        numba.set_num_threads(threads)


@pytest.mark.parametrize(("loss", "targets"), LARGE, ids=lambda value: type(value).__name__)
def test_allocates_nothing(loss, targets):
    outputs = np.zeros((1000, 20), np.float32)
    gradient, ready = np.empty_like(outputs), loss.targets(targets, outputs.shape)
    assert peak_of(lambda _: loss(outputs, ready, gradient), None) < 6000


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("loss", [*(loss() for loss in LOSSES.values()), BinaryCrossEntropy(True)])
def test_what_is_not_finite_is_not_hidden(loss, bad):
    outputs = np.full((4, 3), 0.5)
    outputs[2, 1] = bad
    targets = np.array([0, 1, 2, 0]) if isinstance(loss, SoftmaxCrossEntropy) else np.zeros((4, 3))
    value, gradient = evaluate(loss, outputs, targets)
    assert not np.isfinite(value)
    if isinstance(loss, SoftmaxCrossEntropy) or np.isnan(bad):
        assert not np.isfinite(gradient).all()


def test_targets_of_mean_squared_error_may_be_infinite():
    assert MeanSquaredError()(np.zeros((1, 1)), np.array([[np.inf]])) == np.inf


def test_extreme_logits_do_not_overflow():
    outputs = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    assert SoftmaxCrossEntropy()(outputs, np.array([0, 1])) == 0.0
    assert SoftmaxCrossEntropy()(outputs, np.array([1, 0])) == 2e4
    assert BinaryCrossEntropy(True)(outputs, np.array([[1, 0], [0, 1]])) == 0.0
    assert BinaryCrossEntropy(True)(outputs, np.array([[0, 1], [1, 0]])) == 1e4
    masked = np.array([[0.0, -np.inf, 0.0]])
    assert SoftmaxCrossEntropy()(masked, np.array([0])) == pytest.approx(np.log(2))


def test_unchecked_labels_out_of_range_give_nan():
    assert np.isnan(SoftmaxCrossEntropy()(np.zeros((2, 3)), np.array([0, 3])))
    assert np.isnan(SoftmaxCrossEntropy()(np.zeros((2, 3)), np.array([0, -1])))


def test_a_last_axis_of_one_may_be_left_out():
    outputs = np.array([[0.2], [0.7]])
    for loss in (MeanSquaredError(), BinaryCrossEntropy()):
        assert loss.targets([0, 1], outputs.shape).shape == (2, 1)
        assert loss(outputs, np.array([0, 1])) == loss(outputs, np.array([[0], [1]]))


def test_targets_are_converted_once():
    labels = np.array([1, 0])
    assert SoftmaxCrossEntropy().targets(labels, (2, 3)) is labels
    for received, dtype in ((np.uint8, "float32"), (np.float32, "float32"), (np.float64, "float64"), (bool, "float32")):
        assert MeanSquaredError().targets(np.zeros((2, 3), received), (2, 3)).dtype == dtype
    strided = np.zeros((3, 2)).T
    assert MeanSquaredError().targets(strided, (2, 3)).flags.c_contiguous


@pytest.mark.parametrize(
    ("loss", "targets", "error", "message"),
    [
        (SoftmaxCrossEntropy(), [0, 3], ValueError, "targets: expected labels from 0 to 2, got 3"),
        (SoftmaxCrossEntropy(), [0, -1], ValueError, "targets: expected labels from 0 to 2, got -1"),
        (SoftmaxCrossEntropy(), [0.0, 1.0], TypeError, "targets: expected integer labels"),
        (SoftmaxCrossEntropy(), [True, False], TypeError, "targets: expected integer labels"),
        (SoftmaxCrossEntropy(), ["a", "b"], TypeError, "targets: expected integer labels"),
        (SoftmaxCrossEntropy(), [[0], [1]], ValueError, "targets: expected labels of shape (2,) or probabilities"),
        (SoftmaxCrossEntropy(), [0, 1, 2], ValueError, "targets: expected labels of shape (2,) or probabilities"),
        (SoftmaxCrossEntropy(), [[1, 0, 1], [1, 0, 0]], ValueError, "targets: expected rows of probabilities"),
        (SoftmaxCrossEntropy(), [[2, -1, 0], [1, 0, 0]], ValueError, "targets: expected probabilities from 0 to 1"),
        (MeanSquaredError(), [0, 1], ValueError, "targets: expected shape (2, 3), got (2,)"),
        (MeanSquaredError(), [["a"] * 3] * 2, TypeError, "targets: expected real numbers, got dtype"),
        (MeanSquaredError(), [[1j] * 3] * 2, TypeError, "targets: expected real numbers, got dtype"),
        (
            BinaryCrossEntropy(),
            [[0, 1, 2], [0, 0, 0]],
            ValueError,
            "targets: expected probabilities from 0 to 1",
        ),
        (BinaryCrossEntropy(), [[np.nan] * 3] * 2, ValueError, "targets: expected probabilities from 0 to 1, got nan"),
        (BinaryCrossEntropy(), [0, 1], ValueError, "targets: expected shape (2, 3), got (2,)"),
    ],
)
def test_bad_targets(loss, targets, error, message):
    with pytest.raises(error) as caught:
        loss.targets(targets, (2, 3))
    assert message in str(caught.value)


def test_bad_arguments_and_outputs():
    for make, error in (
        (lambda: SoftmaxCrossEntropy(1.5), ValueError),
        (lambda: SoftmaxCrossEntropy("0.1"), TypeError),
        (lambda: BinaryCrossEntropy(1), TypeError),
        (lambda: SoftmaxCrossEntropy().targets([0, 0], (2, 1)), ValueError),
        (lambda: SoftmaxCrossEntropy().targets([0, 0], (2, 3, 4)), ValueError),
        (lambda: Loss().targets([0], (1, 2)), TypeError),
        (lambda: Loss()(np.zeros((1, 2)), np.zeros((1, 2))), TypeError),
    ):
        with pytest.raises(error):
            make()


def test_the_table_names_every_loss_and_arguments_are_json():
    ours = [loss for loss in Loss.__subclasses__() if loss.__module__ == Loss.__module__]  # those that are for users
    assert {loss.__name__: loss for loss in ours} == LOSSES
    for loss in (SoftmaxCrossEntropy(0.1), MeanSquaredError(), BinaryCrossEntropy(True)):
        assert LOSSES[type(loss).__name__](**json.loads(json.dumps(asdict(loss)))) == loss


def test_what_outputs_are_to_a_loss():
    domains = {loss(): loss().domain for loss in LOSSES.values()}
    assert domains == {
        SoftmaxCrossEntropy(): "logits", MeanSquaredError(): "numbers", BinaryCrossEntropy(): "probabilities"
    }  # fmt: skip
    assert BinaryCrossEntropy(from_logits=True).domain == "logits"
    assert Loss().domain == "numbers"


ROWS = np.zeros((2, 3))


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), MeanSquaredError(), BinaryCrossEntropy()])
@pytest.mark.parametrize(
    ("outputs", "gradient", "error", "message"),
    [
        (ROWS.tolist(), None, TypeError, "outputs: expected an array of float32 or float64, got a list"),
        (ROWS.astype(int), None, TypeError, "outputs: expected an array of float32 or float64, got dtype int64"),
        (ROWS.astype(">f8"), None, TypeError, "outputs: expected an array of float32 or float64, got dtype >f8"),
        (ROWS.T.copy().T, None, ValueError, "outputs: expected a C-contiguous array"),
        (ROWS[:0], None, ValueError, "outputs: expected at least one sample"),
        (ROWS, ROWS.tolist(), ValueError, "gradient: expected an array like the outputs: (2, 3) float64, got a list"),
        (
            ROWS,
            np.zeros((2, 2)),
            ValueError,
            "gradient: expected an array like the outputs: (2, 3) float64, got (2, 2)",
        ),
        (ROWS, np.zeros((2, 3), "f4"), ValueError, "gradient: expected an array like the outputs: (2, 3) float64, got"),
        (ROWS, np.zeros((3, 2)).T, ValueError, "gradient: expected a C-contiguous array that can be written"),
        (ROWS, np.broadcast_to(0.0, (2, 3)), ValueError, "gradient: expected a C-contiguous array that can be written"),
    ],
)
def test_arrays_that_a_kernel_would_misread_are_refused(loss, outputs, gradient, error, message):
    targets = np.zeros(2, int) if isinstance(loss, SoftmaxCrossEntropy) else np.zeros((2, 3))
    with pytest.raises(error) as caught:
        loss(outputs, targets, gradient)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        (SoftmaxCrossEntropy(), (label for label in [0, 1]), "targets: expected integer labels, or probabilities with"),
        (SoftmaxCrossEntropy(), [0.0, 1.0], "where they are whole: .astype(int)"),
        (SoftmaxCrossEntropy(), ["cat", "dog"], "np.unique(..., return_inverse=True)"),
        (MeanSquaredError(), None, "targets: expected real numbers, got None"),
        (MeanSquaredError(), {"y": ROWS}, "got a dict; pass the array under one of its names"),
        (BinaryCrossEntropy(), np.array([[None] * 3] * 2), "among them NoneType"),
        (BinaryCrossEntropy(), [[0, 1, 0], [0, 1]], "targets: expected real numbers, got samples of different shapes"),
        (MeanSquaredError(), np.ma.masked_array(ROWS, mask=ROWS == 0), "got a masked array with 6 masked"),
    ],
)
def test_targets_that_are_no_numbers_are_named(loss, targets, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        loss.targets(targets, (2, 3))
    assert message in str(caught.value)


def test_numpy_scalars_are_arguments_and_look_alikes_are_not():
    assert SoftmaxCrossEntropy(np.float32(0.5)) == SoftmaxCrossEntropy(0.5)
    assert SoftmaxCrossEntropy(np.int64(1)) == SoftmaxCrossEntropy(1.0)
    assert BinaryCrossEntropy(np.True_) == BinaryCrossEntropy(True)
    for make in (
        lambda: SoftmaxCrossEntropy(True),
        lambda: SoftmaxCrossEntropy(None),
        lambda: BinaryCrossEntropy("True"),
        lambda: BinaryCrossEntropy(np.int64(1)),
        lambda: BinaryCrossEntropy(None),
    ):
        with pytest.raises(TypeError):
            make()
    for value in (np.nan, np.inf, -0.1, np.float32(1.5)):
        with pytest.raises(ValueError, match="label_smoothing: expected"):
            SoftmaxCrossEntropy(value)
