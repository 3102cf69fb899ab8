"""Losses: the mean over a batch and its gradient with respect to the outputs of the net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from minitrain.arrays import as_numbers, described
from minitrain.kernels import losses as kernels
from minitrain.layer import describe
from nbnorm.jit.arrays import Array, nothing
from nbnorm.jit.checks import FLOATS, expect_boolean, expect_number, mismatch, set_checked

__all__ = ["LOSSES", "BinaryCrossEntropy", "Loss", "MeanSquaredError", "SoftmaxCrossEntropy"]

INT64 = np.dtype(np.int64)
LABELS = "integer labels, or probabilities with an axis of classes"
Domain = Literal["numbers", "logits", "probabilities"]


@dataclass(frozen=True)
class Loss:
    """Base of all losses: frozen dataclasses of hyperparameters."""

    @property
    def domain(self) -> Domain:
        """What the outputs of the net are to the loss: any "numbers", "logits", or "probabilities" from 0 to 1."""
        return "numbers"

    def expect_outputs(self, shape: Sequence[int | None]) -> None:
        """Raise ValueError for outputs of a shape, batch axis first, that the loss cannot take; None fits anything."""

    def targets(self, targets: npt.ArrayLike, output_shape: tuple[int, ...]) -> Array:
        """Check targets against the shape of the outputs, batch axis first, and return them as the loss computes.

        Done once for a whole data set; rows of the result are targets of batches.
        """
        raise TypeError(f"{type(self).__name__} does not define targets")

    def __call__(self, outputs: Array, targets: Array, gradient: Array | None = None) -> float:
        """Return the mean loss of a batch; a loss that is not finite is returned as it is.

        Parameters
        ----------
        outputs : array of the net, C-contiguous, float32 or float64
        targets : array
            As `targets()` returns them; anything else is passed through it first.
        gradient : array of the shape and dtype of outputs, optional
            Overwritten with the derivative of the loss with respect to the outputs.
        """
        raise TypeError(f"{type(self).__name__} does not define __call__")

    def of_checked(self, outputs: Array, targets: Array, gradient: Array | None = None) -> float:
        """Do what `__call__` does with arrays that are known to fit: in each step of our own losses."""
        return self(outputs, targets, gradient)

    def per_sample(self, outputs: Array, targets: Array) -> Array:
        """Return the loss of each sample, (N,) float64, whose mean is the loss of the batch: what weights are put on.

        Takes what `__call__` takes, targets as `targets()` returns them. Unless a loss says it faster, each sample is
        called as a batch of one.
        """
        rows = range(len(outputs))
        return np.array([self(outputs[n : n + 1], targets[n : n + 1]) for n in rows], np.float64)


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """Cross-entropy of softmax(outputs) against classes; outputs are logits (N, C). Mean over the batch.

    Targets are integer labels (N,) in [0, C), or probabilities (N, C) of which one-hot rows are a special case.
    The same as PyTorch's `CrossEntropyLoss`; Szegedy et al., "Rethinking the Inception architecture", 2016
    (arXiv:1512.00567), section 7, for the smoothing.

    Parameters
    ----------
    label_smoothing : float
        Share of each target, in [0, 1], that is divided equally among all classes.

    Examples
    --------
    >>> import numpy as np
    >>> loss = SoftmaxCrossEntropy()
    >>> round(loss(np.zeros((2, 10)), np.array([3, 7])), 6) == round(float(np.log(10)), 6)
    True
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        set_checked(self, label_smoothing=expect_number("label_smoothing", self.label_smoothing, 0.0, 1.0))

    @property
    def domain(self) -> Domain:
        return "logits"

    def expect_outputs(self, shape: Sequence[int | None]) -> None:
        if len(shape) == 2 and shape[1] == 1:
            raise ValueError(
                "outputs: expected logits of shape (N, C) for two or more classes, got (N, 1); one output for two "
                "classes is for BinaryCrossEntropy(from_logits=True)"
            )
        if len(shape) != 2:
            raise ValueError(
                f"outputs: expected logits of shape (N, C) for two or more classes, got {describe(shape)}; put "
                "Flatten() or GlobalAvgPool() in front of the last layer"
            )

    def targets(self, targets: npt.ArrayLike, output_shape: tuple[int, ...]) -> Array:
        """Return labels (N,) as int64 or probabilities (N, C).

        Raises
        ------
        ValueError
            Outputs that are not (N, C > 1), another shape, labels outside [0, C), rows that do not sum to 1.
        TypeError
            Labels that are not integers.
        """
        if len(output_shape) != 2 or output_shape[1] == 1:
            self.expect_outputs(output_shape)
        given: Array = targets  # type: ignore[assignment]
        if type(targets) is not np.ndarray or targets.dtype != INT64:
            given = as_numbers("targets", targets, LABELS)
        rows, classes = output_shape
        if not rows:
            raise ValueError(mismatch("outputs", "at least one sample", f"shape {output_shape}"))
        if given.shape == (rows,):
            return _labels(given, classes)
        if given.shape == (rows, classes):
            return _probabilities(given, rows_sum_to_one=True)
        expected = f"labels of shape ({rows},) or probabilities of shape {(rows, classes)}"
        raise ValueError(mismatch("targets", expected, f"shape {given.shape}"))

    def __call__(self, outputs: Array, targets: Array, gradient: Array | None = None) -> float:
        _expect_arrays(outputs, gradient)
        if not _is_ready(targets, INT64, outputs.shape[:1]) and not _is_ready(targets, None, outputs.shape):
            targets = self.targets(targets, outputs.shape)
        return self.of_checked(outputs, targets, gradient)

    def of_checked(self, outputs: Array, targets: Array, gradient: Array | None = None) -> float:
        none = nothing(outputs.dtype, 2)
        labels, probabilities = (targets, none) if targets.ndim == 1 else (nothing(INT64), targets)
        gradient = none if gradient is None else gradient
        run = kernels.softmax_cross_entropy.for_work(16 * outputs.size)
        return float(run(outputs, labels, probabilities, self.label_smoothing, gradient))

    def per_sample(self, outputs: Array, targets: Array) -> Array:
        rows, classes = outputs.shape
        logits = outputs.astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        log_sums = np.log(np.exp(logits).sum(axis=1))
        if targets.ndim == 1 and self.label_smoothing == 0.0:
            return np.asarray(log_sums - logits[np.arange(rows), targets])
        shares = np.eye(classes)[targets] if targets.ndim == 1 else targets.astype(np.float64)
        shares = (1.0 - self.label_smoothing) * shares + self.label_smoothing / classes
        return np.asarray((shares * (log_sums[:, None] - logits)).sum(axis=1))


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Mean over all elements of (outputs - targets)^2. Targets have the shape of the outputs; (N,) stands for (N, 1).

    Examples
    --------
    >>> import numpy as np
    >>> MeanSquaredError()(np.array([[1.0], [2.0]]), np.array([1.0, 4.0]))
    2.0
    """

    def targets(self, targets: npt.ArrayLike, output_shape: tuple[int, ...]) -> Array:
        """Return targets of the shape of the outputs, float32 or float64.

        Raises
        ------
        ValueError
            Another shape.
        TypeError
            Targets that are not real numbers.
        """
        return _real(_as_outputs(targets, output_shape))

    def __call__(self, outputs: Array, targets: Array, gradient: Array | None = None) -> float:
        _expect_arrays(outputs, gradient)
        if not _is_ready(targets, None, outputs.shape):
            targets = self.targets(targets, outputs.shape)
        return self.of_checked(outputs, targets, gradient)

    def of_checked(self, outputs: Array, targets: Array, gradient: Array | None = None) -> float:
        run = kernels.mean_squared_error.for_work(outputs.size)
        return float(run(outputs.reshape(-1), targets.reshape(-1), _flat(gradient, outputs)))

    def per_sample(self, outputs: Array, targets: Array) -> Array:
        return _mean_of_rows((outputs.astype(np.float64) - targets) ** 2)


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Cross-entropy of yes-or-no outputs, each on its own; mean over all elements.

    Targets are 0 and 1, or probabilities, in the shape of the outputs; (N,) stands for (N, 1). The same as PyTorch's
    `BCELoss` (logarithms of probabilities are at least -100) and, from logits, its `BCEWithLogitsLoss`.

    Parameters
    ----------
    from_logits : bool
        Whether the outputs are logits, to which the loss applies the sigmoid, rather than probabilities. Prefer it to a
        Sigmoid at the end of the net: the gradient of a confident mistake does not vanish.

    Examples
    --------
    >>> import numpy as np
    >>> loss = BinaryCrossEntropy(from_logits=True)
    >>> round(loss(np.array([[0.0], [0.0]]), np.array([0, 1])), 6) == round(float(np.log(2)), 6)
    True
    """

    from_logits: bool = False

    def __post_init__(self) -> None:
        set_checked(self, from_logits=expect_boolean("from_logits", self.from_logits))

    @property
    def domain(self) -> Domain:
        return "logits" if self.from_logits else "probabilities"

    def targets(self, targets: npt.ArrayLike, output_shape: tuple[int, ...]) -> Array:
        """Return targets of the shape of the outputs, float32 or float64.

        Raises
        ------
        ValueError
            Another shape, or values outside [0, 1].
        TypeError
            Targets that are not real numbers.
        """
        return _probabilities(_as_outputs(targets, output_shape))

    def __call__(self, outputs: Array, targets: Array, gradient: Array | None = None) -> float:
        _expect_arrays(outputs, gradient)
        if not _is_ready(targets, None, outputs.shape):
            targets = self.targets(targets, outputs.shape)
        return self.of_checked(outputs, targets, gradient)

    def of_checked(self, outputs: Array, targets: Array, gradient: Array | None = None) -> float:
        run = kernels.binary_cross_entropy.for_work(16 * outputs.size)
        return float(run(outputs.reshape(-1), targets.reshape(-1), self.from_logits, _flat(gradient, outputs)))

    def per_sample(self, outputs: Array, targets: Array) -> Array:
        values = outputs.astype(np.float64)
        if self.from_logits:
            return _mean_of_rows(np.maximum(values, 0.0) - values * targets + np.log1p(np.exp(-abs(values))))
        with np.errstate(divide="ignore", invalid="ignore"):  # log(0) is bounded, outside [0, 1] is a NaN
            log_p, log_rest = np.log(values), np.log1p(-values)
        floor = kernels.LOG_FLOOR
        return _mean_of_rows(-targets * np.maximum(log_p, floor) - (1.0 - targets) * np.maximum(log_rest, floor))


# The fixed set that a saved run may name.
LOSSES: dict[str, type[Loss]] = {
    loss.__name__: loss for loss in (SoftmaxCrossEntropy, MeanSquaredError, BinaryCrossEntropy)
}


def _expect_arrays(outputs: Any, gradient: Any) -> None:
    """Raise for what a kernel would misread, or write past the end of."""
    if not isinstance(outputs, np.ndarray):
        raise TypeError(mismatch("outputs", "an array of float32 or float64", described(outputs)))
    if outputs.dtype not in FLOATS:
        raise TypeError(mismatch("outputs", "an array of float32 or float64", f"dtype {outputs.dtype}"))
    if not outputs.flags.c_contiguous:
        raise ValueError(mismatch("outputs", "a C-contiguous array", "another layout; np.ascontiguousarray(outputs)"))
    if not outputs.size:
        raise ValueError(mismatch("outputs", "at least one sample", f"shape {outputs.shape}"))
    if gradient is None:
        return
    if not isinstance(gradient, np.ndarray) or gradient.shape != outputs.shape or gradient.dtype != outputs.dtype:
        got = f"{gradient.shape} {gradient.dtype}" if isinstance(gradient, np.ndarray) else described(gradient)
        raise ValueError(mismatch("gradient", f"an array like the outputs: {outputs.shape} {outputs.dtype}", got))
    if not (gradient.flags.c_contiguous and gradient.flags.writeable):
        raise ValueError(mismatch("gradient", "a C-contiguous array that can be written", "another one"))


def _mean_of_rows(values: Array) -> Array:
    """The mean of all elements of each sample."""
    return np.asarray(values.reshape(len(values), -1).mean(axis=1))


def _is_ready(targets: Any, dtype: Any, shape: tuple[int, ...]) -> bool:
    """Whether targets are as `Loss.targets` returns them; a dtype of None stands for float32 and float64."""
    if not isinstance(targets, np.ndarray) or targets.shape != shape or not targets.flags.c_contiguous:
        return False
    return targets.dtype in FLOATS if dtype is None else targets.dtype == dtype


def _flat(gradient: Array | None, outputs: Array) -> Array:
    """View the gradient as one axis; an empty array stands for None."""
    return nothing(outputs.dtype) if gradient is None else gradient.reshape(-1)


def _as_outputs(targets: npt.ArrayLike, output_shape: tuple[int, ...]) -> Array:
    """Targets in the shape of the outputs, of which a last axis of size 1 may have been left out."""
    given = as_numbers("targets", targets, "real numbers")
    if not given.size:
        raise ValueError(mismatch("targets", "at least one sample", f"shape {given.shape}"))
    if given.shape != output_shape and (output_shape[-1] != 1 or given.shape != output_shape[:-1]):
        raise ValueError(mismatch("targets", f"shape {output_shape}", given.shape))
    return given.reshape(output_shape)


def _real(given: Array) -> Array:
    """Real numbers as float32 where that is exact by type, else as float64; contiguous, copied only if they must be."""
    exact = given.dtype.itemsize <= (4 if given.dtype.kind == "f" else 2)
    return np.ascontiguousarray(given, np.float32 if exact else np.float64)


def _labels(given: Array, classes: int) -> Array:
    if given.dtype.kind not in "iu":
        raise TypeError(mismatch("targets", LABELS, f"dtype {given.dtype}; where they are whole: .astype(int)"))
    labels = np.ascontiguousarray(given, np.int64)
    if not kernels.labels_fit.serial(labels, classes):
        wrong = given[(given < 0) | (given >= classes)]
        raise ValueError(mismatch("targets", f"labels from 0 to {classes - 1}", wrong[0]))
    return labels


def _probabilities(given: Array, rows_sum_to_one: bool = False) -> Array:
    values = _real(given)
    inside = (values >= 0) & (values <= 1)
    if not inside.all():
        raise ValueError(mismatch("targets", "probabilities from 0 to 1", values[~inside][0]))
    if rows_sum_to_one:
        sums = values.sum(axis=1, dtype=np.float64)
        wrong = ~(abs(sums - 1.0) <= 1e-3)
        if wrong.any():
            expected = "rows of probabilities that sum to 1"
            raise ValueError(mismatch("targets", expected, f"a sum of {sums[wrong][0]:g} in row {wrong.argmax()}"))
    return values
