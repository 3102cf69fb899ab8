"""Objective: what training makes small, the weighted sum of the losses of a model's outputs.

Where a model has several outputs, losses, targets and metrics come by their names::

    loss = loss_weights["class"] * class_loss + loss_weights["box"] * box_loss

Each loss writes the gradient of its own output, which is then multiplied by the weight; from there the plan goes back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from minitrain.compile.poison import is_poisoned, poison
from minitrain.graph.graph import SINGLE
from minitrain.layer import TYPICAL_BATCH, Shape
from minitrain.losses import LOSSES, Loss
from minitrain.model import Model
from minitrain.objective.lending import as_number, lent, read_only
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_number, mismatch

__all__ = ["Objective", "Term"]

OURS = frozenset(LOSSES.values())  # exactly these classes: what is derived from them is a user's


class Term:
    """One loss in the sum.

    Attributes
    ----------
    output : str
        The name of the output it is of.
    loss : Loss
    weight : float
        At least 0; of 0, the loss is measured and nothing is trained by it.
    label : str
        What messages call it.
    is_plain : bool
        Whether to call the loss is all there is to do.
    """

    def __init__(self, output: str, loss: Loss, weight: float, label: str) -> None:
        self.output = output
        self.loss = loss
        self.weight = weight
        self.label = label
        self._is_ours = type(loss) in OURS
        self.is_plain = self._is_ours and weight == 1.0
        self._checked: set[Shape] = set()  # shapes of outputs for which the gradient was seen to be written

    def targets(self, given: Any, output_shape: Shape) -> Array:
        """Return targets as the loss computes with them: an array with a row for each of the output's."""
        if self._is_ours:
            return self.loss.targets(given, output_shape)
        targets = self.loss.targets(read_only(given), output_shape)
        if not isinstance(targets, np.ndarray) or not targets.ndim or len(targets) != output_shape[0]:
            came = f"shape {targets.shape}" if isinstance(targets, np.ndarray) else type(targets).__name__
            expected = f"an array of {output_shape[0]} rows, one for each sample"
            raise TypeError(mismatch(f"{self.label} ({type(self.loss).__name__}).targets", expected, came))
        return targets

    def __call__(self, outputs: Array, targets: Array, gradient: Array | None) -> float:
        """Return the mean loss of a batch and overwrite the gradient of the outputs, times the weight."""
        if self._is_ours:
            loss = self.loss(outputs, targets, gradient)
        else:
            loss = self._call_with_care(outputs, targets, gradient)
        if gradient is not None and self.weight != 1.0:
            with np.errstate(over="ignore", invalid="ignore"):
                np.multiply(gradient, self.weight, out=gradient)
        return loss

    def weighted(self, outputs: Array, targets: Array, weights: Array, gradient: Array | None) -> float:
        """Return sum_i w_i l_i / n of a batch of n and overwrite the gradient of the outputs, times the term's weight.

        The losses must be means over samples: the gradient of the mean is weighted row by row.
        """
        present = weights > 0.0
        if gradient is not None:
            self(outputs, targets, gradient)
            rows = (len(weights), *(1,) * (gradient.ndim - 1))
            with np.errstate(over="ignore", invalid="ignore"):
                np.multiply(gradient, weights.reshape(rows).astype(gradient.dtype), out=gradient)
            gradient[~present] = 0.0  # whatever it was there
        if not present.any():
            return 0.0
        return float(weights[present] @ self._per_sample(outputs[present], targets[present])) / len(weights)

    def _per_sample(self, outputs: Array, targets: Array) -> Array:
        if self._is_ours:
            return self.loss.per_sample(outputs, targets)
        name = f"{self.label} ({type(self.loss).__name__})"
        outputs, targets = lent(outputs), lent(targets)
        losses = np.asarray(self.loss.per_sample(outputs, targets), np.float64)
        if losses.shape != outputs.shape[:1]:
            raise TypeError(mismatch(f"{name}.per_sample", f"shape {outputs.shape[:1]}", f"shape {losses.shape}"))
        mean, whole = float(losses.mean()), as_number(name, self.loss(outputs, targets))
        if math.isfinite(whole) and not abs(mean - whole) <= 1e-3 * max(abs(whole), 1e-3):
            raise ValueError(
                f"{name}: weights of samples need a loss that is the mean of the samples' losses, but that is "
                f"{mean:g}, and the loss of the batch {whole:g}; train it without weights"
            )
        return losses

    def _call_with_care(self, outputs: Array, targets: Array, gradient: Array | None) -> float:
        """Call a loss that is not ours: with arrays of its own, and with an eye on whether it writes the gradient."""
        name = f"{self.label} ({type(self.loss).__name__})"
        unchecked = None if gradient is None or gradient.shape in self._checked else gradient
        if unchecked is not None:
            poison(unchecked)
        loss = as_number(name, self.loss(lent(outputs), lent(targets), gradient))
        if unchecked is not None and math.isfinite(loss):  # else the step ends here, with a message of its own
            if is_poisoned(unchecked):
                raise ValueError(
                    f"{name}: left the gradient as it was, at least in part; write all of it into the array "
                    "(gradient[...] = ...), do not give the name anew"
                )
            self._checked.add(unchecked.shape)
        return loss


class Objective:
    """The losses of a model's outputs, and their weights.

    Parameters
    ----------
    model : Model
    loss : Loss, or mapping of output name to Loss
    loss_weights : mapping of output name to float, optional
        1 for outputs that are not named.

    Attributes
    ----------
    terms : tuple of Term
    trained : tuple of str, or None
        The outputs whose gradients are computed; None for all.
    is_named : bool
        Whether targets and metrics come by the names of outputs, as the losses do.
    names : tuple of str
        What is reported: "loss", and where they have names, "class_loss" and so on.
    only : Term or None
        The loss of a model's only output, where it is given without a name.
    """

    def __init__(
        self,
        model: Model,
        loss: Loss | Mapping[str, Loss],
        loss_weights: Mapping[str, float] | None = None,
    ) -> None:
        outputs = tuple(model.graph.outputs)
        self.is_named = isinstance(loss, Mapping)
        losses = _losses_by_name(loss, model.output_names)
        _check_differentiable(model, losses)
        weights = _weights_by_name(loss_weights, losses, self.is_named)
        self.terms = tuple(
            Term(name, each, weights[name], f"loss[{name!r}]" if self.is_named else "loss")
            for name, each in losses.items()
        )
        trained = tuple(term.output for term in self.terms if term.weight)
        self.trained = None if len(trained) == len(outputs) else trained
        self.names = ("loss", *(f"{name}_loss" for name in losses if self.is_named))
        # A loss as ever, of the model's only output: a step of a small net takes so little that a loop here would show.
        (only, *others) = self.terms
        self.only = only if not others and not self.is_named and only.weight else None

    def __call__(
        self,
        outputs: Mapping[str, Array],
        targets: tuple[Array, ...],
        gradients: Mapping[str, Array] | None = None,
        weights: tuple[Array, ...] | None = None,
    ) -> tuple[float, ...]:
        """Return what `names` names, and overwrite the gradients of the outputs that are trained.

        `weights` are those of the samples, for each loss, with a mean of 1 over all samples that there are.
        """
        if weights is not None:
            return self._weighted(outputs, targets, gradients, weights)
        only = self.only
        if only is not None:
            name, call = only.output, only.loss.of_checked if only.is_plain else only
            return (call(outputs[name], targets[0], None if gradients is None else gradients[name]),)
        losses = [
            term(outputs[term.output], each, None if gradients is None else gradients.get(term.output))
            for term, each in zip(self.terms, targets, strict=True)
        ]
        return self._summed(losses)

    def _weighted(
        self,
        outputs: Mapping[str, Array],
        targets: tuple[Array, ...],
        gradients: Mapping[str, Array] | None,
        weights: tuple[Array, ...],
    ) -> tuple[float, ...]:
        written: Mapping[str, Array] = {} if gradients is None else gradients
        pairs = zip(self.terms, targets, weights, strict=True)
        losses = [term.weighted(outputs[term.output], y, w, written.get(term.output)) for term, y, w in pairs]
        return self._summed(losses)

    def _summed(self, losses: list[float]) -> tuple[float, ...]:
        """Put the sum of the losses, times their weights, in front of them."""
        total = 0.0
        for term, loss in zip(self.terms, losses, strict=True):
            if term.weight:
                total += term.weight * loss
        return (total, *losses) if self.is_named else (total,)

    def targets(self, y: Any, output_shapes: Mapping[str, Shape]) -> tuple[Array, ...]:
        """Return the targets of all losses, checked, from what a user gave for outputs of these shapes."""
        if not self.is_named:
            (term,) = self.terms
            return (term.targets(self._unpacked(y, term.output), output_shapes[term.output]),)
        given = self.split(y)
        checked = []
        for term in self.terms:
            try:
                checked.append(term.targets(given[term.output], output_shapes[term.output]))
            except (ValueError, TypeError) as error:
                raise type(error)(f"y[{term.output!r}]: {error}") from None
        return tuple(checked)

    def split(self, y: Any) -> dict[str, Any]:
        """Return what was given as targets by the names of outputs, with nothing missing and nothing too much."""
        if not self.is_named:
            (term,) = self.terms
            return {term.output: self._unpacked(y, term.output)}
        names = ", ".join(term.output for term in self.terms)
        if not isinstance(y, Mapping):
            raise TypeError(f"y: expected a dictionary of targets by output ({names}), got {type(y).__name__}")
        _check_names("y", y, [term.output for term in self.terms], "outputs that have a loss")
        for term in self.terms:
            if term.output not in y:
                raise ValueError(f"y: expected targets for {names}, which have a loss, got none for {term.output!r}")
        return dict(y)

    def _unpacked(self, y: Any, name: str) -> Any:
        """Targets of the only loss: an array, or a dictionary with nothing but that."""
        if not isinstance(y, Mapping):
            return y
        if name == SINGLE or list(y) != [name]:
            expected = "one array of targets, as the model returns one array" if name == SINGLE else f"{name!r} alone"
            raise ValueError(f"y: expected {expected}, got a dictionary with {', '.join(map(repr, y)) or 'nothing'}")
        return y[name]


def _losses_by_name(loss: Any, output_names: tuple[str, ...]) -> dict[str, Loss]:
    """Return losses by the names of outputs, SINGLE for that of a model that returns one array."""
    if not isinstance(loss, Mapping):
        if not isinstance(loss, Loss):
            raise TypeError(f"loss: expected a Loss, got {loss!r}")
        if len(output_names) > 1:
            names = ", ".join(f"{name!r}: ..." for name in output_names)
            raise ValueError(
                f"loss: expected losses by output, as the model has {len(output_names)}, such as loss={{{names}}}; an "
                f"output that is left out is not trained; got {loss!r} alone"
            )
        return {output_names[0] if output_names else SINGLE: loss}
    if not output_names:
        raise ValueError(
            "loss: expected one Loss, as the model returns one array without a name, got a dictionary; "
            "Model(x, {'name': node}) gives outputs names"
        )
    _check_names("loss", loss, output_names, "outputs")
    if not loss:
        raise ValueError(f"loss: expected a loss for one or more of the outputs ({', '.join(output_names)}), got none")
    for name, each in loss.items():
        if not isinstance(each, Loss):
            raise TypeError(f"loss[{name!r}]: expected a Loss, got {each!r}")
    return {name: loss[name] for name in output_names if name in loss}


def _weights_by_name(weights: Any, losses: Mapping[str, Loss], is_named: bool) -> dict[str, float]:
    every = dict.fromkeys(losses, 1.0)
    if weights is None:
        return every
    if not is_named:
        raise ValueError(f"loss_weights: expected None with one loss without a name, got {weights!r}")
    if not isinstance(weights, Mapping):
        raise TypeError(f"loss_weights: expected a dictionary of numbers by output, got {weights!r}")
    _check_names("loss_weights", weights, losses, "outputs that have a loss")
    return every | {name: expect_number(f"loss_weights[{name!r}]", each, 0.0) for name, each in weights.items()}


def _check_names(argument: str, given: Iterable[Any], known: Iterable[str], what: str) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            raise ValueError(f"{argument}: expected names of {what} ({', '.join(names)}), got {name!r}")


def _check_differentiable(model: Model, losses: Iterable[str]) -> None:
    """Raise ValueError for a loss of integers: nothing can be trained by it."""
    specs: Mapping[str, Any] = model.graph.declare(TYPICAL_BATCH)[1]
    for name in losses:
        spec = specs[model.graph.outputs[name]]
        if not spec.gradient:
            label = f"loss[{name!r}]" if name else "loss"
            raise ValueError(f"{label}: expected an output with a gradient, got one of {spec.dtype}")
