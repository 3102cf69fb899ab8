"""Batch normalization whose scale and shift are those of each sample's class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np

from minitrain.initializers import Constant, Initializer
from minitrain.layer import Buffer, Declaration, Example, Layer, Spec, Tensors, array, describe, ones, zeros
from minitrain.layers._arguments import initializer
from minitrain.layers._arrays import as_3d
from minitrain.layers._running import DEFAULT_MOMENTUM, momentum_of, weight_of_batch
from nbnorm.jit.arrays import Array, nothing
from nbnorm.jit.checks import expect_integer, expect_number, mismatch, set_checked
from nbnorm.kernels import batch_norm
from nbnorm.kernels.rows import by_class


@dataclass(frozen=True)
class ConditionalBatchNorm(Layer):
    """Batch normalization of x (N, C, *spatial) with a scale and a shift for each class; inputs: x, label.

    y[n] = gamma[label[n]] (x[n] - mean) / sqrt(var + eps) + beta[label[n]], with statistics of the whole batch, or the
    running ones in inference. label: (N,) of integers from 0 up to `classes`; gamma and beta: (classes, C).
    de Vries et al., "Modulating early visual processing by language", 2017 (arXiv:1707.00683); as generators of
    class-conditional GANs have it.

    Parameters
    ----------
    classes : int
    momentum : float or None
        As of `BatchNorm`.
    eps : float
    gamma_init, beta_init : Initializer

    Raises
    ------
    ValueError
        Labels that are no class. In training, fewer than two values per channel.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.ConditionalBatchNorm(10)(Input((8, 4, 4)), Input((), "int64")).shape
    (8, 4, 4)
    """

    classes: int
    momentum: float | None = DEFAULT_MOMENTUM
    eps: float = 1e-5
    gamma_init: Initializer = field(default_factory=partial(Constant, 1.0))
    beta_init: Initializer = field(default_factory=Constant)

    prefix: ClassVar[str] = "cond_bn"
    statistics: ClassVar[tuple[str, ...]] = ("running_mean", "running_var", "num_batches")
    examples: ClassVar[list[Example]] = [
        Example((4, 3, 5, 5), Spec((4,), "int64"), high=6, classes=6),
        Example((8, 4), Spec((8,), "int64"), high=3, classes=3, momentum=None),
        Example((5, 20, 7), Spec((5,), "int64"), high=2, classes=4, eps=0.1),
    ]

    def __post_init__(self) -> None:
        set_checked(
            self,
            classes=expect_integer("classes", self.classes),
            momentum=momentum_of(self.momentum, None, False),
            eps=expect_number("eps", self.eps, 0.0),
        )
        initializer("gamma_init", self.gamma_init)
        initializer("beta_init", self.beta_init)

    def declare(self, *inputs: Spec) -> Declaration:
        if len(inputs) != 2:
            raise ValueError(f"ConditionalBatchNorm: expected two inputs, x and the label, got {len(inputs)}")
        x, label = inputs
        if not x.is_float or len(x.shape) < 2:
            raise ValueError(
                f"ConditionalBatchNorm: expected an x of shape (N, C, ...), got {describe(x.shape)} of {x.dtype}"
            )
        if label.dtype is None or np.dtype(label.dtype).kind not in "iu" or label.shape != x.shape[:1]:
            got = f"{describe(label.shape)} of {label.dtype or 'floats'}"
            raise ValueError(f"ConditionalBatchNorm: expected a label of shape (N,) of integers, got {got}")
        samples, channels = x.shape[:2]
        state = {"running_mean": zeros((channels,)), "running_var": ones((channels,))}
        if self.momentum is None:
            state["num_batches"] = Buffer((1,), "int64", Constant(0.0))
        tables = array((self.classes, channels), "float64")
        return Declaration(
            outputs={"y": Spec(x.shape)},
            params={
                "gamma": Buffer((self.classes, channels), fill=self.gamma_init),
                "beta": Buffer((self.classes, channels), fill=self.beta_init),
            },
            state=state,
            saved={"mean": array((channels,), "float64"), "inv_std": array((channels,), "float64")},
            backward_scratch={
                "sums": array((samples * channels * by_class.SUMS,), "float64"),
                "lines": array((channels * by_class.SUMS,), "float64"),
                "dgammas": tables,
                "dbetas": tables,
            },
            backward_reads=("x",),
            may_share={"dx0": ("dy",)},
        )

    def bind_forward(self, t: Tensors) -> None:
        x, y, label = as_3d(t.xs[0]), as_3d(t.y), t.xs[1]
        count, momentum, eps = x.size // x.shape[1], self.bind_momentum(t), self.eps
        if count < 2:
            raise ValueError(
                "ConditionalBatchNorm: training needs two or more values per channel, "
                f"got an input of shape {t.xs[0].shape}"
            )
        unused = np.zeros(x.shape[1], x.dtype)
        normalize = by_class.forward.for_work(x.size)

        def run() -> None:
            self._expect_classes(label)
            batch_norm.statistics(
                x, unused, unused, t.running_mean, t.running_var, momentum(), eps, t.mean, t.inv_std
            )  # fmt: skip
            normalize(x, label, t.gamma, t.beta, t.mean, t.inv_std**-2.0 - eps, eps, y)

        t.run_forward = run

    def bind_momentum(self, t: Tensors) -> Callable[[], float]:
        """Return the call that gives the weight of the batch that comes."""
        return weight_of_batch(self.momentum, False, t)

    def bind_infer(self, t: Tensors) -> None:
        x, y, label = as_3d(t.xs[0]), as_3d(t.y), t.xs[1]
        normalize = by_class.forward.for_work(x.size)

        def run() -> None:
            self._expect_classes(label)
            normalize(x, label, t.gamma, t.beta, t.running_mean, t.running_var, self.eps, y)

        t.run_infer = run

    def _expect_classes(self, label: Array) -> None:
        if label.size and not 0 <= label.min() <= label.max() < self.classes:
            got = f"{label.min()} to {label.max()}"
            raise ValueError(mismatch("ConditionalBatchNorm: label", f"classes from 0 to {self.classes - 1}", got))

    def bind_backward(self, t: Tensors) -> None:
        x, dy, label = as_3d(t.xs[0]), as_3d(t.dy), t.xs[1]
        dx = nothing(t.y.dtype, 3) if t.dxs[0] is None else as_3d(t.dxs[0])
        differentiate = by_class.backward.for_work(x.size)
        stats = t.mean, t.inv_std
        wanted = [(to, found) for to, found in ((t.dgamma, t.dgammas), (t.dbeta, t.dbetas)) if to is not None]

        def run() -> None:
            differentiate(dy, x, label, t.gamma, stats, t.sums, t.lines, dx, (t.dgammas, t.dbetas))
            for to, found in wanted:
                np.copyto(to, found)

        t.run_backward = run

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def infer(self, t: Tensors) -> None:
        t.run_infer()

    def backward(self, t: Tensors) -> None:
        t.run_backward()
