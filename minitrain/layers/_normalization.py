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
from minitrain.layers._running import DEFAULT_MOMENTUM, momentum_of, weight_of_batch
from nbnorm.jit.arrays import nothing
from nbnorm.jit.checks import expect_boolean, expect_number, set_checked
from nbnorm.kernels import batch_norm


@dataclass(frozen=True)
class Normalization(Layer):
    """Base of BatchNorm and its fused forms: x, and a residual of the same shape where the layer adds one."""

    momentum: float | None = DEFAULT_MOMENTUM
    eps: float = 1e-5
    affine: bool = True
    bias: bool = True
    track_running_stats: bool = True
    period: float | None = None
    debias: bool = False
    gamma_init: Initializer = field(default_factory=partial(Constant, 1.0))
    beta_init: Initializer = field(default_factory=Constant)

    prefix: ClassVar[str] = "bn"
    relu: ClassVar[bool] = False
    adds_residual: ClassVar[bool] = False

    def __post_init__(self) -> None:
        switches = ("affine", "bias", "track_running_stats", "debias")
        set_checked(self, **{name: expect_boolean(name, getattr(self, name)) for name in switches})
        set_checked(self, momentum=momentum_of(self.momentum, self.period, self.debias))
        set_checked(self, eps=expect_number("eps", self.eps, 0.0))
        initializer("gamma_init", self.gamma_init)
        initializer("beta_init", self.beta_init)

    @property
    def statistics(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the state that follows the data."""
        return tuple(self._state(1))

    @property
    def is_plain(self) -> bool:
        """Whether mean and variance of the whole batch are all that it needs of it, and inference has its own."""
        return self.track_running_stats

    @property
    def folds(self) -> bool:
        """Whether it is one factor and one summand for each channel in inference."""
        return self.track_running_stats

    def _state(self, channels: int) -> dict[str, Buffer]:
        if not self.track_running_stats:
            return {}
        state = {"running_mean": zeros((channels,)), "running_var": ones((channels,))}
        if self.momentum is None or self.debias:
            state["num_batches"] = Buffer((1,), "int64", Constant(0.0))
        return state

    def _params(self, channels: int) -> dict[str, Buffer]:
        params = {"gamma": Buffer((channels,), fill=self.gamma_init), "beta": Buffer((channels,), fill=self.beta_init)}
        return {name: params[name] for name in ("gamma", "beta")[: self.affine * (1 + self.bias)]}

    def affine_of(self, t: Tensors, channels: int | None = None, prefix: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Return gamma and beta, or ones and zeros in the places of what the layer does not learn.

        Where the norm is a part of another layer, its channels may be others than those of x, its names have a prefix.
        """
        learned, size = self._params(1), t.xs[0].shape[1] if channels is None else channels
        gamma, beta = (
            getattr(t, prefix + name) if name in learned else np.full(size, value, t.y.dtype)
            for name, value in (("gamma", 1.0), ("beta", 0.0))
        )
        return gamma, beta

    def running_of(self, t: Tensors) -> tuple[np.ndarray, np.ndarray]:
        """Return the running statistics, empty ones where there are none."""
        none = nothing(t.y.dtype)
        return (t.running_mean, t.running_var) if self.track_running_stats else (none, none)

    def declare(self, *inputs: Spec) -> Declaration:
        x = self._input_shape(inputs)
        channels = (x[1],)
        return Declaration(
            outputs={"y": Spec(x)},
            params=self._params(x[1]),
            state=self._state(x[1]),
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
        (gamma, beta), (running_mean, running_var), eps, relu = self.affine_of(t), self.running_of(t), self.eps, self.relu

        def run() -> None:
            batch_norm.forward(
                x, residual, gamma, beta, running_mean, running_var, momentum(), eps, relu, t.mean, t.inv_std, y
            )  # fmt: skip

        t.run_forward = run

    def expect_statistics(self, t: Tensors) -> None:
        """Raise ValueError where a batch is too small for training."""
        x = t.xs[0]
        if x.size // x.shape[1] < 2:
            raise ValueError(
                f"BatchNorm: training needs two or more values per channel, got an input of shape {x.shape}"
            )

    def bind_momentum(self, t: Tensors) -> Callable[[], float]:
        """Return the call that gives the weight of the batch that comes."""
        if not self.track_running_stats:
            return lambda: 0.0
        return weight_of_batch(self.momentum, self.debias, t)

    def _residual(self, t: Tensors) -> np.ndarray:
        return as_3d(t.xs[1]) if self.adds_residual else nothing(t.y.dtype, 3)

    def bind_infer(self, t: Tensors) -> None:
        t.run_infer = (
            self.bound_to(t, t.running_mean, t.running_var) if self.track_running_stats else self._bound_to_batch(t)
        )

    def _bound_to_batch(self, t: Tensors) -> Call:
        """Return the call that writes y by the batch's own statistics, in inference."""
        self.expect_statistics(t)
        x, (gamma, beta), none = as_3d(t.xs[0]), self.affine_of(t), nothing(t.y.dtype)
        mean, inv_std = np.empty((2, x.shape[1]))
        return partial(
            batch_norm.forward, x, self._residual(t), gamma, beta, none, none, 0.0, self.eps, self.relu, mean, inv_std,
            as_3d(t.y),
        )  # fmt: skip

    def bound_to(self, t: Tensors, mean: np.ndarray, var: np.ndarray) -> Call:
        """Return the call that writes y by these statistics, whosever they are."""
        gamma, beta = self.affine_of(t)
        return partial(
            batch_norm.infer, as_3d(t.xs[0]), self._residual(t), gamma, beta, mean, var, self.eps, self.relu, as_3d(t.y)
        )

    def bind_backward(self, t: Tensors) -> None:
        absent = nothing(t.y.dtype, 3)
        dx, dresidual, *_ = (absent if dx is None else as_3d(dx) for dx in (*t.dxs, None))
        gamma, beta = self.affine_of(t)
        dgamma, dbeta = self.bind_sums(t)
        t.run_backward = partial(
            batch_norm.backward, as_3d(t.dy), as_3d(t.xs[0]), as_3d(t.y), t.mean, t.inv_std, gamma, beta,
            self.relu, self.adds_residual, dx, dgamma, dbeta, dresidual if self.adds_residual else absent,
        )  # fmt: skip

    def bind_sums(self, t: Tensors) -> tuple[np.ndarray, np.ndarray]:
        """Return dgamma and dbeta, or memory in their places where nobody wants them: dx needs both in any case."""
        dgamma, dbeta = (np.empty(t.mean.size, t.y.dtype) if each is None else each for each in self.gradients_of(t))
        return dgamma, dbeta

    def gradients_of(self, t: Tensors) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return dgamma and dbeta, None for what nobody wants or the layer does not learn."""
        learned = self._params(1)
        return t.dgamma if "gamma" in learned else None, t.dbeta if "beta" in learned else None

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def infer(self, t: Tensors) -> None:
        t.run_infer()

    def backward(self, t: Tensors) -> None:
        t.run_backward()


def as_3d(a: np.ndarray) -> np.ndarray:
    """View (N, C, *spatial) as (N, C, L)."""
    return a.reshape(a.shape[0], a.shape[1], math.prod(a.shape[2:]))
