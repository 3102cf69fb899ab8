"""Batch normalization whose scale and shift are those of each sample's class."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np

from minitrain.initializers import Constant, Initializer
from minitrain.kernels.calls import Call, in_order
from minitrain.layer import Buffer, Declaration, Example, Layer, Spec, Tensors, array, describe, ones, zeros
from minitrain.layers._arguments import initializer
from minitrain.layers._arrays import as_3d
from minitrain.layers._running import DEFAULT_MOMENTUM, momentum_of, weight_of_batch
from nbnorm.jit.arrays import Array, nothing
from nbnorm.jit.checks import expect_integer, expect_number, mismatch, set_checked
from nbnorm.kernels import batch_norm


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
        each = array((samples * channels,))
        wide = array((samples * channels,), "float64")
        return Declaration(
            outputs={"y": Spec(x.shape)},
            params={
                "gamma": Buffer((self.classes, channels), fill=self.gamma_init),
                "beta": Buffer((self.classes, channels), fill=self.beta_init),
            },
            state=state,
            saved={"mean": array((channels,), "float64"), "inv_std": array((channels,), "float64")},
            scratch={"gammas": each, "betas": each, "means": wide, "variances": wide},
            backward_scratch={
                "own_gammas": each, "own_means": wide, "own_variances": wide, "own_dgammas": each, "own_dbetas": each
            },
            backward_reads=("x",),
            may_share={"dx0": ("dy",)},
        )  # fmt: skip

    def bind_forward(self, t: Tensors) -> None:
        x = as_3d(t.xs[0])
        count, momentum, eps = x.size // x.shape[1], weight_of_batch(self.momentum, False, t), self.eps
        if count < 2:
            raise ValueError(
                "ConditionalBatchNorm: training needs two or more values per channel, "
                f"got an input of shape {t.xs[0].shape}"
            )
        unused = np.zeros(x.shape[1], x.dtype)

        def find() -> None:
            batch_norm.statistics(
                x, unused, unused, t.running_mean, t.running_var, momentum(), eps, t.mean, t.inv_std
            )  # fmt: skip
            _repeat(t.means, t.mean)
            _repeat(t.variances, t.inv_std**-2.0 - eps)

        t.run_forward = in_order(partial(self._expect_classes, t.xs[1]), find, self._normalization(t))

    def bind_infer(self, t: Tensors) -> None:
        def find() -> None:
            _repeat(t.means, t.running_mean)
            _repeat(t.variances, t.running_var)

        t.run_infer = in_order(partial(self._expect_classes, t.xs[1]), find, self._normalization(t))

    def _normalization(self, t: Tensors) -> Call:
        """Return the call that normalizes: a batch norm of N x C channels of one sample each."""
        flat_x, flat_y, label = _channel_each(t.xs[0]), _channel_each(t.y), t.xs[1]
        shape = len(label), t.gamma.shape[1]
        gammas, betas, absent = t.gammas.reshape(shape), t.betas.reshape(shape), nothing(t.y.dtype, 3)

        def run() -> None:
            np.take(t.gamma, label, axis=0, out=gammas, mode="clip")
            np.take(t.beta, label, axis=0, out=betas, mode="clip")
            batch_norm.infer(flat_x, absent, t.gammas, t.betas, t.means, t.variances, self.eps, False, flat_y)

        return run

    def _expect_classes(self, label: Array) -> None:
        if label.size and not 0 <= label.min() <= label.max() < self.classes:
            got = f"{label.min()} to {label.max()}"
            raise ValueError(mismatch("ConditionalBatchNorm: label", f"classes from 0 to {self.classes - 1}", got))

    def bind_backward(self, t: Tensors) -> None:
        t.run_backward = in_order(self._gradients_by_sample(t), self._gradients_of_tables(t), self._gradient_of_x(t))

    def _gradients_by_sample(self, t: Tensors) -> Call:
        """Return the call that writes the gradients of each sample's scale and shift, and dx but for the statistics."""
        dy, x, absent = _channel_each(t.dy), _channel_each(t.xs[0]), nothing(t.y.dtype, 3)
        dx = absent if t.dxs[0] is None else _channel_each(t.dxs[0])
        gammas = t.own_gammas.reshape(len(t.xs[1]), -1)

        def run() -> None:
            np.take(t.gamma, t.xs[1], axis=0, out=gammas, mode="clip")
            _repeat(t.own_means, t.mean)
            _repeat(t.own_variances, t.inv_std**-2.0 - self.eps)
            batch_norm.frozen_backward(
                dy, x, absent, t.own_means, t.own_variances, t.own_gammas, t.own_gammas, self.eps, False, False,
                dx, t.own_dgammas, t.own_dbetas, absent,
            )  # fmt: skip

        return run

    def _gradients_of_tables(self, t: Tensors) -> Call:
        """Return the call that adds them up by class."""
        label, shape = t.xs[1], (len(t.xs[1]), -1)
        pairs = ((t.dgamma, t.own_dgammas.reshape(shape)), (t.dbeta, t.own_dbetas.reshape(shape)))

        def run() -> None:
            for total, parts in pairs:
                if total is not None:
                    total.fill(0)
                    np.add.at(total, label, parts)

        return run

    def _gradient_of_x(self, t: Tensors) -> Call | None:
        """Return the call that adds to dx what goes through the statistics: a batch norm of x with dx as residual."""
        if t.dxs[0] is None:
            return None
        x, dx, shape, eps = as_3d(t.xs[0]), as_3d(t.dxs[0]), (len(t.xs[1]), -1), self.eps
        gammas, dgammas, dbetas = (a.reshape(shape) for a in (t.own_gammas, t.own_dgammas, t.own_dbetas))
        count = x.size // x.shape[1]

        def run() -> None:
            factor = -t.inv_std / count
            scale = (np.einsum("nc,nc->c", gammas, dgammas, dtype=np.float64) * factor).astype(x.dtype)
            shift = (np.einsum("nc,nc->c", gammas, dbetas, dtype=np.float64) * factor).astype(x.dtype)
            batch_norm.infer(x, dx, scale, shift, t.mean, t.inv_std**-2.0 - eps, eps, False, dx)

        return run

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def infer(self, t: Tensors) -> None:
        t.run_infer()

    def backward(self, t: Tensors) -> None:
        t.run_backward()


def _repeat(target: Array, values: Array) -> None:
    """Overwrite `target` with the values (C,) again and again."""
    np.copyto(target.reshape(-1, values.size), values)


def _channel_each(a: Array) -> Array:
    """View (N, C, *spatial) as one sample of N x C channels."""
    return a.reshape(1, a.shape[0] * a.shape[1], -1)
