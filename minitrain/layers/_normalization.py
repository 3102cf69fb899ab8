"""Batch normalization with everything that can be fused to its end; the layers say which parts they have."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np

from minitrain.initializers import Constant, Initializer
from minitrain.layer import Buffer, Declaration, Layer, Shape, Tensors, array, describe, ones, zeros
from minitrain.layers._arguments import initializer
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
    relu: ClassVar[bool] = False
    adds_residual: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.momentum is not None:
            set_checked(self, momentum=expect_number("momentum", self.momentum, 0.0, 1.0))
        set_checked(self, eps=expect_number("eps", self.eps, 0.0))
        initializer("gamma_init", self.gamma_init)
        initializer("beta_init", self.beta_init)

    def declare(self, *shapes: Shape) -> Declaration:
        x = self._input_shape(shapes)
        channels = (x[1],)
        state = {"running_mean": zeros(channels), "running_var": ones(channels)}
        if self.momentum is None:
            state["num_batches"] = Buffer((1,), "int64", Constant(0.0))
        return Declaration(
            outputs={"y": x},
            params={
                "gamma": Buffer(channels, fill=self.gamma_init),
                "beta": Buffer(channels, fill=self.beta_init),
            },
            state=state,
            saved={"mean": array(channels, "float64"), "inv_std": array(channels, "float64")},
            backward_reads=("x0", "y") if self.relu and self.adds_residual else ("x0",),
            in_place={"dx1": ("dy",), "dx0": ("x0",)} if self.adds_residual else {"dx0": ("dy", "x0")},
        )

    def _input_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        name, expected = type(self).__name__, 2 if self.adds_residual else 1
        if len(shapes) != expected:
            raise ValueError(f"{name}: expected {expected} input{'s' * (expected > 1)}, got {len(shapes)}")
        if len(shapes[0]) < 2:
            raise ValueError(f"{name}: expected an input of shape (N, C, ...), got {describe(shapes[0])}")
        if shapes[-1] != shapes[0]:
            raise ValueError(f"{name}: expected a residual of shape {describe(shapes[0])}, got {describe(shapes[-1])}")
        return shapes[0]

    def prepare(self, t: Tensors) -> None:
        x = t.xs[0]
        if hasattr(t, "dy") and x.size // x.shape[1] < 2:
            raise ValueError(
                f"{type(self).__name__}: training needs two or more values per channel, got an input of shape {x.shape}"
            )
        absent = np.empty((0, 0, 0), x.dtype)
        t.x3, t.y3 = as_3d(x), as_3d(t.y)
        t.residual3 = as_3d(t.xs[1]) if self.adds_residual else absent
        if hasattr(t, "dy"):
            t.dy3 = as_3d(t.dy)
            gradients = [absent if dx is None else as_3d(dx) for dx in t.dxs]
            t.dx3, t.dresidual3 = (gradients[0], gradients[1] if self.adds_residual else absent)

    def forward(self, t: Tensors) -> None:
        batch_norm.forward(
            t.x3, t.residual3, t.gamma, t.beta, t.running_mean, t.running_var, self.momentum_of(t), self.eps, self.relu,
            t.mean, t.inv_std, t.y3,
        )  # fmt: skip

    def momentum_of(self, t: Tensors) -> float:
        """The weight of the batch that comes, which is counted where all batches have the same weight."""
        if self.momentum is not None:
            return self.momentum
        t.num_batches[0] += 1
        return 1.0 / float(t.num_batches[0])

    def infer(self, t: Tensors) -> None:
        batch_norm.infer(
            t.x3, t.residual3, t.gamma, t.beta, t.running_mean, t.running_var, self.eps, self.relu, t.y3
        )  # fmt: skip

    def backward(self, t: Tensors) -> None:
        batch_norm.backward(
            t.dy3, t.x3, t.y3, t.mean, t.inv_std, t.gamma, t.beta, self.relu, self.adds_residual,
            t.dx3, t.dgamma, t.dbeta, t.dresidual3,
        )  # fmt: skip


def as_3d(a: np.ndarray) -> np.ndarray:
    """View (N, C, *spatial) as (N, C, L)."""
    return a.reshape(a.shape[0], a.shape[1], math.prod(a.shape[2:]))
