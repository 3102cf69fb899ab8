"""Last layer, loss and metrics, held against each other."""

from dataclasses import dataclass

import pytest

from minitrain import Input, Model, layers, models
from minitrain.graph.graph import SINGLE
from minitrain.losses import BinaryCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy
from minitrain.metrics import BinaryAccuracy, TopK, accuracy, accuracy_of, top_k_accuracy
from minitrain.objective.heads import check_heads

CE, MSE, PROBABILITIES, LOGITS = (
    SoftmaxCrossEntropy(), MeanSquaredError(), BinaryCrossEntropy(), BinaryCrossEntropy(from_logits=True)
)  # fmt: skip


@dataclass(frozen=True)
class Mine(layers.Sigmoid):
    """A user's own last layer."""


@dataclass(frozen=True)
class Own(SoftmaxCrossEntropy):
    """A user's own loss."""


def net(*ends, units=3, shape=(4,)):
    x = node = Input(shape)
    node = layers.Dense(units, name="head")(node) if len(shape) == 1 else layers.Conv2d(units, 1, name="head")(node)
    for layer in ends:
        node = layer(node)
    return Model(x, node)


def check(model, loss, *given):
    check_heads(model.graph, {SINGLE: loss}, {SINGLE: {metric.__name__: metric for metric in given}})


SIGMOID = layers.Sigmoid(name="squash")
ENDS = {
    "dense": (),
    "sigmoid": (SIGMOID,),
    "sigmoid, flatten": (SIGMOID, layers.Flatten()),
    "own sigmoid": (Mine(),),
    "relu": (layers.ReLU(),),
    "tanh": (layers.Tanh(),),
    "dropout": (layers.Dropout(0.5),),
}
OUR_LOSSES = {"classes": CE, "squares": MSE, "probabilities": PROBABILITIES, "logits": LOGITS, "own": Own()}
REFUSED = {
    (loss, end, units)
    for loss in OUR_LOSSES
    for end in ENDS
    for units in (1, 3)
    if (loss in ("classes", "logits") and end in ("sigmoid", "sigmoid, flatten"))
    or (loss == "classes" and units == 1)
}  # fmt: skip


@pytest.mark.parametrize("units", [1, 3])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("loss", OUR_LOSSES)
def test_every_loss_with_every_end(loss, end, units):
    model = net(*ENDS[end], units=units)
    if (loss, end, units) in REFUSED:
        with pytest.raises(ValueError, match=r"loss: .*(squash|head|relu1|tanh1|dropout1|mine1|sigmoid1)"):
            check(model, OUR_LOSSES[loss])
    else:
        check(model, OUR_LOSSES[loss])
        given = accuracy_of(OUR_LOSSES[loss])
        if given is not None and loss != "own":
            check(model, OUR_LOSSES[loss], given)


def test_a_loss_of_logits_after_probabilities_says_what_to_do():
    with pytest.raises(
        ValueError, match=r"ends with squash \(Sigmoid\), which gives prob.*remove that layer, or use Bin"
    ):
        check(net(SIGMOID, units=1), LOGITS)
    with pytest.raises(
        ValueError, match=r"SoftmaxCrossEntropy\(\) takes logits.*squash \(Sigmoid\).*remove that layer$"
    ):
        check(net(SIGMOID), CE)


def test_a_softmax_is_known_by_its_name(monkeypatch):
    @dataclass(frozen=True)
    class Softmax(layers.Sigmoid):
        pass

    model = net(Softmax(name="softmax"))
    check(model, CE)  # a user's own
    monkeypatch.setitem(layers.LAYERS, "Softmax", Softmax)
    with pytest.raises(ValueError, match=r"softmax \(Softmax\), which gives probabilities already"):
        check(model, CE)


@pytest.mark.parametrize(
    ("model", "loss", "message"),
    [
        (net(units=1), CE, r"after head \(Dense\): outputs: expected logits .* got \(N, 1\); one output for two"),
        (net(units=3, shape=(2, 5, 5)), CE, r"after head \(Conv2d\): .* got \(N, 3, 5, 5\); put Flatten"),
    ],
)
def test_outputs_that_a_loss_of_classes_cannot_take(model, loss, message):
    with pytest.raises(ValueError, match=message):
        check(model, loss)


ACCEPTED_METRICS = [
    (net(), CE, (accuracy, TopK(3), TopK(1))),
    (net(units=5), CE, (top_k_accuracy,)),
    (net(units=1), LOGITS, (accuracy, BinaryAccuracy(), BinaryAccuracy(0.3), BinaryAccuracy(-1))),
    (net(SIGMOID, units=1), PROBABILITIES, (BinaryAccuracy(0.5), BinaryAccuracy(0.9))),
    (net(units=1), PROBABILITIES, (BinaryAccuracy(0.5),)),
    (net(SIGMOID), PROBABILITIES, (accuracy, TopK(2))),
    (net(), LOGITS, (accuracy,)),
    (net(), MSE, (accuracy, TopK(2))),
    (net(units=1), MSE, (BinaryAccuracy(0.5), BinaryAccuracy())),
    (net(units=1), Own(), (accuracy, BinaryAccuracy(0.5))),
    (net(Mine(), units=1), MSE, (BinaryAccuracy(),)),
]


@pytest.mark.parametrize(("model", "loss", "given"), ACCEPTED_METRICS)
def test_metrics_that_are_right(model, loss, given):
    for metric in given:
        check(model, loss, metric)


@pytest.mark.parametrize(
    ("model", "loss", "metric", "message"),
    [
        (net(SIGMOID, units=1), PROBABILITIES, accuracy, r"'accuracy' predicts class 1 .* above 0, .*threshold=0.5"),
        (net(SIGMOID, units=1), MSE, accuracy, r"squash \(Sigmoid\) they are probabilities"),
        (net(SIGMOID, layers.Flatten(), units=1), MSE, accuracy, r"squash \(Sigmoid\) they are probabilities"),
        (net(SIGMOID, layers.GlobalAvgPool(), units=1, shape=(2, 4, 4)), MSE, accuracy, "they are probabilities"),
        (net(SIGMOID, units=1), PROBABILITIES, BinaryAccuracy(), "they are probabilities"),
        (net(SIGMOID, units=1), PROBABILITIES, BinaryAccuracy(1.0), "they are probabilities"),
        (net(units=1), PROBABILITIES, accuracy, "they are probabilities"),
        (net(units=1), LOGITS, BinaryAccuracy(0.5), "takes logits; use metrics.accuracy"),
        (net(units=1), MSE, accuracy, "brings outputs to the targets 0 and 1 themselves"),
        (net(units=2), LOGITS, BinaryAccuracy(), r"takes one output a sample, .* head \(Dense\) gives \(N, 2\)"),
        (net(), CE, TopK(4), r"'top_4' is among the 4 largest .* head \(Dense\) gives 3"),
        (net(), CE, top_k_accuracy, r"among the 5 largest of the classes"),
        (net(units=1), LOGITS, TopK(1), r"head \(Dense\) gives 1"),
        (net(shape=(2, 5, 5)), MSE, accuracy, r"'accuracy' takes outputs of shape \(N, K\).* gives \(N, 3, 5, 5\)"),
        (net(shape=(2, 5, 5)), MSE, TopK(1), r"takes outputs of shape \(N, K\)"),
    ],
)
def test_metrics_that_would_measure_something_else(model, loss, metric, message):
    with pytest.raises(ValueError, match=message):
        check(model, loss, metric)


def test_a_metric_of_the_users_own_is_not_judged():
    def mine(outputs, targets):
        return 0.0

    for model in (net(SIGMOID, units=1), net(shape=(2, 5, 5)), net()):
        check(model, MSE, mine)


def test_the_output_is_named_where_there_are_several():
    x = Input((4,))
    hidden = layers.Dense(5)(x)
    model = Model(x, {"class": layers.Dense(3)(hidden), "sure": layers.Sigmoid()(layers.Dense(1, name="d")(hidden))})
    check_heads(model.graph, {"class": CE, "sure": PROBABILITIES}, {"class": {"accuracy": accuracy}})
    with pytest.raises(ValueError, match=r"output 'sure': loss: .*sigmoid1 \(Sigmoid\)"):
        check_heads(model.graph, {"class": CE, "sure": LOGITS}, {})
    with pytest.raises(ValueError, match="output 'sure': metrics: 'right'"):
        check_heads(model.graph, {"sure": PROBABILITIES}, {"sure": {"right": accuracy}})


def test_free_axes_and_the_models_of_the_library():
    x = Input((3, None, None))
    pooled = layers.GlobalAvgPool()(layers.Conv2d(4, 3)(x))
    model = Model(x, layers.Dense(2)(pooled))
    check(model, CE, accuracy)
    with pytest.raises(ValueError, match=r"got \(N, 4, None, None\)"):
        check(Model(x, layers.Conv2d(4, 3)(x)), CE)
    for build in models.MODELS.values():
        model = build() if build is not models.plain else build(depth=3)
        check(model, CE, accuracy, TopK(5))
    check(models.mlp((4,), 3, activation="sigmoid"), CE, accuracy)
