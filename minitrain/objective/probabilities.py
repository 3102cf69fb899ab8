"""Probabilities of classes from what a net gives: the loss or the last layer says which function that takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from minitrain.graph.graph import SINGLE, Graph
from minitrain.layer import describe
from minitrain.losses import BinaryCrossEntropy, Loss
from minitrain.objective.heads import gives_probabilities
from nbnorm.jit.arrays import Array

__all__ = ["classes", "probabilities"]

Rule = Literal["as they are", "softmax", "sigmoid"]
Probabilities = npt.NDArray[np.float64]
HALF = 0.5  # a yes-or-no output is class 1 above it


def probabilities(graph: Graph, outputs: Any, losses: Mapping[str, Loss] | None = None) -> Any:
    """Return the probability of each class from the outputs of a net, float64.

    Parameters
    ----------
    graph : Graph
    outputs : array (N, K), (N, 1) or (N,), or mapping of such by name
        As `Model.predict` returns them.
    losses : mapping of output name to Loss, optional
        What the net was trained with (SINGLE: the only output). Without it the net is taken for one of classes.

    Returns
    -------
    array
        Of outputs that softmax or a Softmax layer makes probabilities of, (N, K): rows sum to 1. Of one output for a
        sample, with a sigmoid, (N, 2): the probabilities of the classes 0 and 1. Of several yes-or-no outputs (N, K):
        each its own. A dictionary of these for outputs with names.

    Raises
    ------
    ValueError
        Outputs that are no classes: of another shape, or numbers to the loss.

    Examples
    --------
    >>> import numpy as np
    >>> from minitrain import models
    >>> graph = models.mlp((4,), 2, hidden=()).graph
    >>> probabilities(graph, np.array([[0.0, 0.0]]))
    array([[0.5, 0.5]])
    """
    if not graph.is_single:
        wanted = outputs.keys() if losses is None else losses.keys()
        return {name: _of(graph, name, outputs[name], (losses or {}).get(name)) for name in wanted}
    return _of(graph, SINGLE, outputs, (losses or {}).get(SINGLE))


def classes(graph: Graph, outputs: Any, losses: Mapping[str, Loss] | None = None) -> Any:
    """Return the most likely class of each sample (N,), or 0 and 1 for each of several yes-or-no outputs (N, K).

    The same arguments and errors as those of `probabilities`.
    """
    found = probabilities(graph, outputs, losses)
    if graph.is_single:
        return _classes(graph, SINGLE, found, (losses or {}).get(SINGLE))
    return {name: _classes(graph, name, each, (losses or {}).get(name)) for name, each in found.items()}


def _classes(graph: Graph, output: str, found: Probabilities, loss: Loss | None) -> npt.NDArray[np.int64]:
    value = graph.outputs[output]
    yes_or_no = isinstance(loss, BinaryCrossEntropy) or gives_probabilities(graph, value, ("Sigmoid",))
    if yes_or_no and graph.free_shapes()[value] not in ((), (1,)):
        return (found > HALF).astype(np.int64)
    result: npt.NDArray[np.int64] = found.argmax(axis=1)
    return result


def _of(graph: Graph, output: str, values: Array, loss: Loss | None) -> Probabilities:
    label = "outputs" if output == SINGLE else f"output {output!r}"
    if values.ndim not in (1, 2):
        raise ValueError(
            f"{label}: expected one number, or one for each class, of each sample, got {describe(values.shape)}"
        )
    outputs = (values if values.ndim == 2 else values[:, np.newaxis]).astype(np.float64)
    single = outputs.shape[1] == 1
    rule = _rule(graph, output, loss, single)
    if rule is None:
        raise ValueError(
            f"{label}: no classes: {type(loss).__name__} trains numbers, and the net does not end with a Sigmoid or "
            "Softmax; predict returns them"
        )
    if rule == "softmax":
        return _softmax(outputs)
    if single:  # the classes 0 and 1
        return np.hstack([1.0 - outputs, outputs] if rule == "as they are" else [_sigmoid(-outputs), _sigmoid(outputs)])
    return outputs if rule == "as they are" else _sigmoid(outputs)


def _rule(graph: Graph, output: str, loss: Loss | None, single: bool) -> Rule | None:
    if gives_probabilities(graph, graph.outputs[output]) or (loss is not None and loss.domain == "probabilities"):
        return "as they are"
    if loss is not None and loss.domain == "numbers":
        return None
    return "sigmoid" if single or isinstance(loss, BinaryCrossEntropy) else "softmax"


def _softmax(logits: Probabilities) -> Probabilities:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result


def _sigmoid(logits: Probabilities) -> Probabilities:
    result: Probabilities = np.exp(-np.logaddexp(0.0, -logits))
    return result
