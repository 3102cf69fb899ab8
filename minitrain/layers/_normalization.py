"""Batch normalization with everything that can be fused to its end; the layers say which parts they have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np

from minitrain.initializers import Constant, Initializer
from minitrain.kernels.calls import Call
from minitrain.layer import Buffer, Declaration, Layer, Shape, Spec, Tensors, array, describe, float_shapes, ones, zeros
from minitrain.layers import _forms as forms
from minitrain.layers._arguments import initializer
from minitrain.layers._arrays import as_3d
from minitrain.layers._renorm import Renorm, renorm_of
from minitrain.layers._running import DEFAULT_MOMENTUM, momentum_of, weight_of_batch
from nbnorm.jit.arrays import nothing
from nbnorm.jit.checks import expect_boolean, expect_integer, expect_number, mismatch, set_checked
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
    ghost_size: int | None = None
    renorm: Renorm | None = None
    threshold: float | None = None
    gamma_init: Initializer = field(default_factory=partial(Constant, 1.0))
    beta_init: Initializer = field(default_factory=Constant)

    prefix: ClassVar[str] = "bn"
    relu: ClassVar[bool] = False
    adds_residual: ClassVar[bool] = False
    takes_mask: ClassVar[bool] = False

    def __post_init__(self) -> None:
        switches = ("affine", "bias", "track_running_stats", "debias")
        set_checked(self, **{name: expect_boolean(name, getattr(self, name)) for name in switches})
        set_checked(self, momentum=momentum_of(self.momentum, self.period, self.debias))
        set_checked(self, eps=expect_number("eps", self.eps, 0.0))
        self._check_forms()
        initializer("gamma_init", self.gamma_init)
        initializer("beta_init", self.beta_init)

    def _check_forms(self) -> None:
        """Check ghost_size, renorm and threshold, each alone and with the others."""
        if self.ghost_size is not None:
            set_checked(self, ghost_size=expect_integer("ghost_size", self.ghost_size, 1))
        set_checked(self, renorm=renorm_of(self.renorm))
        if self.threshold is not None:
            set_checked(self, threshold=expect_number("threshold", self.threshold, 0.0))
        given = [name for name in ("ghost_size", "renorm", "threshold") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(mismatch("ghost_size, renorm, threshold", "one of these at most", " and ".join(given)))
        if not self.track_running_stats and (self.renorm is not None or self.threshold is not None):
            raise ValueError(mismatch("track_running_stats", f"True with {given[0]}", "False"))

    @property
    def statistics(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the state that follows the data."""
        return tuple(self._state(1))

    @property
    def is_plain(self) -> bool:
        """Whether mean and variance of the whole batch are all that it needs of it, and inference has its own."""
        return self.track_running_stats and self.ghost_size is None and self.renorm is None and self.threshold is None

    @property
    def folds(self) -> bool:
        """Whether it is one factor and one summand for each channel in inference."""
        return self.track_running_stats

    def _state(self, channels: int) -> dict[str, Buffer]:
        if not self.track_running_stats:
            return {}
        state = {"running_mean": zeros((channels,)), "running_var": ones((channels,))}
        if self.counts:
            state["num_batches"] = Buffer((1,), "int64", Constant(0.0))
        if self.threshold is not None:
            state["moved_share"] = Buffer((1,), "float64", Constant(0.0))
        return state

    @property
    def counts(self) -> bool:
        """Whether it counts the batches of training."""
        return self.momentum is None or self.debias or self.renorm is not None or self.threshold is not None

    def _params(self, channels: int) -> dict[str, Buffer]:
        params = {"gamma": Buffer((channels,), fill=self.gamma_init), "beta": Buffer((channels,), fill=self.beta_init)}
        return {name: params[name] for name in self._learned}

    @property
    def _learned(self) -> tuple[str, ...]:
        return ("gamma", "beta")[: self.affine * (1 + self.bias)]

    def affine_of(self, t: Tensors, channels: int | None = None, prefix: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Return gamma and beta, or ones and zeros in the places of what the layer does not learn.

        Where the norm is a part of another layer, its channels may be others than those of x, its names have a prefix.
        """
        learned, size = self._learned, t.xs[0].shape[1] if channels is None else channels
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
        is_masked = len(inputs) > 1 and not self.adds_residual
        shape = forms.stats_shape(self, x)
        return Declaration(
            outputs={"y": Spec(x)},
            params=self._params(x[1]),
            state=self._state(x[1]),
            saved={
                "mean": array(shape, "float64"),
                "inv_std": array(shape, "float64"),
                **forms.saved_of(self, x, is_masked),
            },
            backward_reads=("x0", "y") if self.relu and self.adds_residual else ("x0",),
            may_share={"dx1": ("dy",), "dx0": ("x0",)} if self.adds_residual else {"dx0": ("dy", "x0")},
        )

    def _input_shape(self, inputs: tuple[Spec, ...]) -> Shape:
        name, expected = type(self).__name__, 2 if self.adds_residual else 1
        is_masked = self.takes_mask and len(inputs) == 2
        shapes = float_shapes(self, inputs[:1] if is_masked else inputs)
        if len(shapes) != expected:
            if self.takes_mask:
                raise ValueError(f"{name}: expected one input, or x and a mask or lengths, got {len(shapes)}")
            raise ValueError(f"{name}: expected {expected} input{'s' * (expected > 1)}, got {len(shapes)}")
        if len(shapes[0]) < 2:
            raise ValueError(f"{name}: expected an input of shape (N, C, ...), got {describe(shapes[0])}")
        if is_masked:
            if self.ghost_size is not None or self.renorm is not None:
                raise ValueError(
                    f"{name}: {mismatch('ghost_size, renorm', 'None with a mask or lengths', 'one of them')}"
                )
            forms.expect_mask(name, shapes[0], inputs[1])
        if shapes[-1] != shapes[0]:
            raise ValueError(f"{name}: expected a residual of shape {describe(shapes[0])}, got {describe(shapes[-1])}")
        return shapes[0]

    def is_masked(self, t: Tensors) -> bool:
        """Whether the second input says which values are valid; floats are a residual, or moments of x."""
        return len(t.xs) > 1 and t.xs[1].dtype.kind != "f"

    def bind_forward(self, t: Tensors) -> None:
        self.expect_statistics(t)
        if self.is_masked(t) or (not self.is_plain and self.track_running_stats) or self.ghost_size is not None:
            t.run_forward = forms.bind_forward(self, t, self.bind_momentum(t))
            return
        x, residual, y, momentum = as_3d(t.xs[0]), self.residual_of(t), as_3d(t.y), self.bind_momentum(t)
        (gamma, beta), (running_mean, running_var), eps, relu = (
            self.affine_of(t),
            self.running_of(t),
            self.eps,
            self.relu,
        )

        def run() -> None:
            batch_norm.forward(
                x, residual, gamma, beta, running_mean, running_var, momentum(), eps, relu, t.mean, t.inv_std, y
            )  # fmt: skip

        t.run_forward = run

    def expect_statistics(self, t: Tensors) -> None:
        """Raise ValueError where a batch is too small for training."""
        x, samples = t.xs[0], len(t.xs[0])
        if x.size // x.shape[1] < 2:
            raise ValueError(
                f"BatchNorm: training needs two or more values per channel, got an input of shape {x.shape}"
            )
        if self.ghost_size is not None and x.size // samples // x.shape[1] * min(self.ghost_size, samples) < 2:
            raise ValueError(
                f"BatchNorm: training needs two or more values per channel in each ghost of {self.ghost_size}, got an "
                f"input of shape {x.shape}"
            )

    def bind_momentum(self, t: Tensors) -> Callable[[], float]:
        """Return the call that gives the weight of the batch that comes."""
        if not self.track_running_stats:
            return lambda: 0.0
        if self.counts and self.momentum is not None and not self.debias:
            return self._counted(t, self.momentum)
        return weight_of_batch(self.momentum, self.debias, t)

    def _counted(self, t: Tensors, momentum: float) -> Callable[[], float]:
        """Return the call that counts the batches; significant moves begin with the first batch as it is."""
        first = momentum if self.threshold is None else 1.0

        def count() -> float:
            t.num_batches[0] += 1
            return first if t.num_batches[0] == 1 else momentum

        return count

    def residual_of(self, t: Tensors) -> np.ndarray:
        return as_3d(t.xs[1]) if self.adds_residual else nothing(t.y.dtype, 3)

    def bind_infer(self, t: Tensors) -> None:
        by_running = self.bound_to(t, t.running_mean, t.running_var) if self.track_running_stats else None
        if self.is_masked(t):
            t.run_infer = forms.bind_valid_infer(self, t, by_running)
        else:
            t.run_infer = self._bound_to_batch(t) if by_running is None else by_running

    def _bound_to_batch(self, t: Tensors) -> Call:
        """Return the call that writes y by the batch's own statistics, in inference."""
        self.expect_statistics(t)
        x, (gamma, beta), none = as_3d(t.xs[0]), self.affine_of(t), nothing(t.y.dtype)
        mean, inv_std = np.empty((2, x.shape[1]))
        return partial(
            batch_norm.forward, x, self.residual_of(t), gamma, beta, none, none, 0.0, self.eps, self.relu, mean,
            inv_std, as_3d(t.y),
        )  # fmt: skip

    def bound_to(self, t: Tensors, mean: np.ndarray, var: np.ndarray) -> Call:
        """Return the call that writes y by these statistics, whosever they are."""
        gamma, beta = self.affine_of(t)
        return partial(
            batch_norm.infer,
            as_3d(t.xs[0]),
            self.residual_of(t),
            gamma,
            beta,
            mean,
            var,
            self.eps,
            self.relu,
            as_3d(t.y),
        )

    def bind_backward(self, t: Tensors) -> None:
        absent = nothing(t.y.dtype, 3)
        dx, dresidual, *_ = (absent if dx is None else as_3d(dx) for dx in (*t.dxs, None))
        gamma, beta = self.affine_of(t)
        dgamma, dbeta = self.bind_sums(t)
        if self.is_masked(t) or self.ghost_size is not None or self.renorm is not None:
            written = dx, dgamma, dbeta, dresidual if self.adds_residual else absent
            t.run_backward = forms.bind_backward(self, t, written)
            return
        t.run_backward = partial(
            batch_norm.backward, as_3d(t.dy), as_3d(t.xs[0]), as_3d(t.y), t.mean, t.inv_std, gamma, beta,
            self.relu, self.adds_residual, dx, dgamma, dbeta, dresidual if self.adds_residual else absent,
        )  # fmt: skip

    def bind_sums(self, t: Tensors) -> tuple[np.ndarray, np.ndarray]:
        """Return dgamma and dbeta, or memory in their places where nobody wants them: dx needs both in any case."""
        dgamma, dbeta = (
            np.empty(t.mean.shape[-1], t.y.dtype) if each is None else each for each in self.gradients_of(t)
        )
        return dgamma, dbeta

    def gradients_of(self, t: Tensors) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return dgamma and dbeta, None for what nobody wants or the layer does not learn."""
        learned = self._learned
        return t.dgamma if "gamma" in learned else None, t.dbeta if "beta" in learned else None

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def infer(self, t: Tensors) -> None:
        t.run_infer()

    def backward(self, t: Tensors) -> None:
        t.run_backward()
