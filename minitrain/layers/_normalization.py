"""Batch normalization with everything that can be fused to its end; the layers say which parts they have."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np

from minitrain.initializers import Constant, Initializer
from minitrain.kernels.calls import Call
from minitrain.layer import Buffer, Declaration, Layer, Shape, Spec, Tensors, array, describe, float_shapes, ones, zeros
from minitrain.layers._arguments import initializer
from nbnorm.jit.arrays import nothing
from nbnorm.jit.checks import expect_number, set_checked
from nbnorm.kernels import batch_norm


@dataclass(frozen=True)
class Normalization(Layer):
    """Base of BatchNorm and its fused forms: x, and a residual of the same shape where the layer adds one."""

    momentum: float | None = 0.1
    eps: float = 1e-5
    gamma_init: Initializer = field(default_factory=partial(Constant, 1.0))
    beta_init: Initializer = field(default_factory=Constant)

    prefix: ClassVar[str] = "bn"
    statistics: ClassVar[tuple[str, ...]] = ("running_mean", "running_var", "num_batches")
    relu: ClassVar[bool] = False
    adds_residual: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.momentum is not None:
            set_checked(self, momentum=expect_number("momentum", self.momentum, 0.0, 1.0))
        set_checked(self, eps=expect_number("eps", self.eps, 0.0))
        initializer("gamma_init", self.gamma_init)
        initializer("beta_init", self.beta_init)

    def declare(self, *inputs: Spec) -> Declaration:
        x = self._input_shape(inputs)
        channels = (x[1],)
        state = {"running_mean": zeros(channels), "running_var": ones(channels)}
        if self.momentum is None:
            state["num_batches"] = Buffer((1,), "int64", Constant(0.0))
        return Declaration(
            outputs={"y": Spec(x)},
            params={
                "gamma": Buffer(channels, fill=self.gamma_init),
                "beta": Buffer(channels, fill=self.beta_init),
            },
            state=state,
            saved={"mean": array(channels, "float64"), "inv_std": array(channels, "float64")},
            backward_reads=("x0", "y") if self.relu and self.adds_residual else ("x0",),
            may_share={"dx1": ("dy",), "dx0": ("x0",)} if self.adds_residual else {"dx0": ("dy", "x0")},
        )

    def _input_shape(self, inputs: tuple[Spec, ...]) -> Shape:
        shapes = float_shapes(self, inputs)
        name, expected = type(self).__name__, 2 if self.adds_residual else 1
        if len(shapes) != expected:
            raise ValueError(f"{name}: expected {expected} input{'s' * (expected > 1)}, got {len(shapes)}")
        if len(shapes[0]) < 2:
            raise ValueError(f"{name}: expected an input of shape (N, C, ...), got {describe(shapes[0])}")
        if shapes[-1] != shapes[0]:
            raise ValueError(f"{name}: expected a residual of shape {describe(shapes[0])}, got {describe(shapes[-1])}")
        return shapes[0]

    def bind_forward(self, t: Tensors) -> None:
        self.expect_statistics(t)
        x, residual, y, momentum = as_3d(t.xs[0]), self._residual(t), as_3d(t.y), self.bind_momentum(t)

        def run() -> None:
            batch_norm.forward(
                x, residual, t.gamma, t.beta, t.running_mean, t.running_var, momentum(), self.eps, self.relu,
                t.mean, t.inv_std, y,
            )  # fmt: skip

        t.run_forward = run

    def expect_statistics(self, t: Tensors) -> None:
        """Raise ValueError where a batch is too small for training."""
        x = t.xs[0]
        if x.size // x.shape[1] < 2:
            raise ValueError(
                f"{type(self).__name__}: training needs two or more values per channel, got an input of shape {x.shape}"
            )

    def bind_momentum(self, t: Tensors) -> Callable[[], float]:
        """Return the call that gives the weight of the batch that comes.

        It counts the batches where all of them have the same weight.
        """
        momentum = self.momentum
        if momentum is not None:
            return lambda: momentum

        def count() -> float:
            t.num_batches[0] += 1
            return 1.0 / float(t.num_batches[0])

        return count

    def _residual(self, t: Tensors) -> np.ndarray:
        return as_3d(t.xs[1]) if self.adds_residual else nothing(t.y.dtype, 3)

    def bind_infer(self, t: Tensors) -> None:
        t.run_infer = self.bound_to(t, t.running_mean, t.running_var)

    def bound_to(self, t: Tensors, mean: np.ndarray, var: np.ndarray) -> Call:
        """Return the call that writes y by these statistics, whosever they are."""
        return partial(
            batch_norm.infer, as_3d(t.xs[0]), self._residual(t), t.gamma, t.beta, mean, var, self.eps, self.relu,
            as_3d(t.y),
        )  # fmt: skip

    def bind_backward(self, t: Tensors) -> None:
        absent = nothing(t.y.dtype, 3)
        dx, dresidual, *_ = (absent if dx is None else as_3d(dx) for dx in (*t.dxs, None))
        dgamma, dbeta = self.bind_sums(t)
        t.run_backward = partial(
            batch_norm.backward, as_3d(t.dy), as_3d(t.xs[0]), as_3d(t.y), t.mean, t.inv_std, t.gamma, t.beta,
            self.relu, self.adds_residual, dx, dgamma, dbeta, dresidual if self.adds_residual else absent,
        )  # fmt: skip

    def bind_sums(self, t: Tensors) -> tuple[np.ndarray, np.ndarray]:
        """Return dgamma and dbeta, or memory in their places where nobody wants them: dx needs both in any case."""
        dgamma, dbeta = (np.empty_like(t.gamma) if each is None else each for each in (t.dgamma, t.dbeta))
        return dgamma, dbeta

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def infer(self, t: Tensors) -> None:
        t.run_infer()

    def backward(self, t: Tensors) -> None:
        t.run_backward()


def as_3d(a: np.ndarray) -> np.ndarray:
    """View (N, C, *spatial) as (N, C, L)."""
    return a.reshape(a.shape[0], a.shape[1], math.prod(a.shape[2:]))
