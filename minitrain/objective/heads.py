"""What a net ends with, its loss and its metrics, held against each other before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from minitrain.graph.graph import SINGLE, Graph, GraphNode
from minitrain.layer import FreeShape, describe
from minitrain.layers import LAYERS
from minitrain.losses import LOSSES, BinaryCrossEntropy, Loss, MeanSquaredError
from minitrain.metrics import BinaryAccuracy, TopK, accuracy, top_k_accuracy
from nbnorm.jit.arrays import Array

__all__ = ["check_heads", "gives_probabilities"]

Metric = Callable[[Array, Array], float]

# By the names in LAYERS. Layers that give probabilities, those that give their input in another shape, and those that
# mix values without leaving the range of them.
PROBABILITIES = ("Sigmoid", "Softmax")
RESHAPING = ("Flatten", "Reshape")
MIXING = (*RESHAPING, "AvgPool2d", "MaxPool2d", "GlobalAvgPool", "Concat", "Upsample")


def check_heads(graph: Graph, losses: Mapping[str, Loss], metrics: Mapping[str, Mapping[str, Metric]]) -> None:
    """Raise where the last layer, the loss and the metrics of an output cannot go together.

    Losses, metrics and layers that are not minitrain's own are not judged.

    Parameters
    ----------
    graph : Graph
        As the user wrote it, before it is fused.
    losses : mapping of the outputs' names to Loss
        SINGLE where the only output has no name.
    metrics : mapping of the outputs' names to metrics by their names

    Raises
    ------
    ValueError
        A loss of logits behind a Sigmoid or Softmax; outputs of a shape that the loss or a metric cannot take; a metric
        that reads logits where there are probabilities, or the other way round. Says what to do.
    """
    shapes = graph.free_shapes()
    for output, loss in losses.items():
        head = _Head(graph, graph.outputs[output], shapes[graph.outputs[output]])
        try:
            _check_loss(head, loss)
            for name, metric in metrics.get(output, {}).items():
                _check_metric(head, loss, name, metric)
        except ValueError as error:
            where = "" if output == SINGLE else f"output {output!r}: "
            raise ValueError(f"{where}{error}") from None


def gives_probabilities(graph: Graph, value: str, layers: Sequence[str] = PROBABILITIES) -> bool:
    """Whether the last layer that computes a value, whatever its shape, is one of these, by their names in LAYERS."""
    last = _Head(graph, value, ()).last
    return last is not None and _is_one_of(last, tuple(layers))


class _Head:
    """What an output of a graph is.

    Attributes
    ----------
    shape : tuple of int or None
        Batch axis first.
    last : GraphNode or None
        The layer that computes it, whatever its shape.
    """

    def __init__(self, graph: Graph, value: str, shape: FreeShape) -> None:
        self._nodes = {node.name: node for node in graph.nodes}
        self._value = value
        self.shape = (None, *shape)
        node = self._nodes.get(value)
        while node is not None and _is_one_of(node, RESHAPING):
            node = self._nodes.get(node.inputs[0])
        self.last = node

    @property
    def ends_with_probabilities(self) -> bool:
        """Whether the last layer that computes makes probabilities of what may be anything."""
        return self.last is not None and _is_one_of(self.last, PROBABILITIES)

    @property
    def is_probability(self) -> bool:
        """Whether all values are from 0 to 1 for certain."""
        return self._in_range(self._value)

    @property
    def layer(self) -> str:
        """The last layer, in the words of the user."""
        return "an input" if self.last is None else f"{self.last.name} ({type(self.last.layer).__name__})"

    def _in_range(self, value: str) -> bool:
        node = self._nodes.get(value)
        if node is None:
            return False
        mixes = _is_one_of(node, MIXING)
        return _is_one_of(node, PROBABILITIES) or (mixes and all(self._in_range(each) for each in node.inputs))


def _is_one_of(node: GraphNode, names: tuple[str, ...]) -> bool:
    kind = type(node.layer)
    return kind.__name__ in names and LAYERS.get(kind.__name__) is kind


def _check_loss(head: _Head, loss: Loss) -> None:
    if LOSSES.get(type(loss).__name__) is not type(loss):
        return
    if loss.domain == "logits" and head.ends_with_probabilities:
        without = ", or use BinaryCrossEntropy(), which takes them" if isinstance(loss, BinaryCrossEntropy) else ""
        raise ValueError(
            f"loss: {_named(loss)} takes logits, and makes probabilities of them itself, but the net ends with "
            f"{head.layer}, which gives probabilities already; remove that layer{without}"
        )
    try:
        loss.expect_outputs(head.shape)
    except ValueError as error:
        raise ValueError(f"loss: {_named(loss)} after {head.layer}: {error}") from None


def _check_metric(head: _Head, loss: Loss, name: str, metric: Metric) -> None:
    """Raise for one of our metrics that would refuse these outputs, or measure something else."""
    if metric is accuracy or type(metric) is BinaryAccuracy:
        single = head.shape[1:] in ((), (1,))
        if metric is accuracy and not single:
            _expect_classes(head, name)
            return
        if not single:
            raise ValueError(
                f"metrics: {name!r} ({metric!r}) takes one output a sample, of shape (N, 1), but {head.layer} gives "
                f"{describe(head.shape)}; use metrics.accuracy for classes"
            )
        _check_threshold(head, loss, name, metric)
    elif metric is top_k_accuracy or type(metric) is TopK:
        _expect_classes(head, name)
        k = metric.k if isinstance(metric, TopK) else 5
        classes = head.shape[1]
        if classes is not None and (k > classes or classes == 1):
            raise ValueError(
                f"metrics: {name!r} is among the {k} largest of the classes, but {head.layer} gives {classes}"
            )


def _expect_classes(head: _Head, name: str) -> None:
    if len(head.shape) != 2:
        raise ValueError(
            f"metrics: {name!r} takes outputs of shape (N, K), one for each class, but {head.layer} gives "
            f"{describe(head.shape)}"
        )


def _check_threshold(head: _Head, loss: Loss, name: str, metric: Metric) -> None:
    """Raise where one output a sample is held against a threshold that is for another kind of output."""
    threshold = metric.threshold if isinstance(metric, BinaryAccuracy) else 0.0
    said = f"metrics: {name!r} predicts class 1 for outputs above {threshold:g}"
    ours = LOSSES.get(type(loss).__name__) is type(loss)
    if head.is_probability or (ours and loss.domain == "probabilities"):
        if not 0.0 < threshold < 1.0:
            raise ValueError(
                f"{said}, which is for logits, but after {head.layer} they are probabilities; use "
                "metrics.BinaryAccuracy(threshold=0.5)"
            )
    elif ours and loss.domain == "logits" and threshold == 0.5:
        raise ValueError(
            f"{said}, which is for probabilities, but {_named(loss)} takes logits; use metrics.accuracy, which "
            "predicts class 1 above 0"
        )
    elif ours and isinstance(loss, MeanSquaredError) and metric is accuracy:
        raise ValueError(
            f"{said}, which is for logits, but {_named(loss)} brings outputs to the targets 0 and 1 themselves; use "
            "metrics.BinaryAccuracy(threshold=0.5)"
        )


def _named(loss: Loss) -> str:
    from_logits = "from_logits=True" if isinstance(loss, BinaryCrossEntropy) and loss.from_logits else ""
    return f"{type(loss).__name__}({from_logits})"
