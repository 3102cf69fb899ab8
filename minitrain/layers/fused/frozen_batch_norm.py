"""Batch normalization by running statistics, in training too."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from minitrain.layer import Declaration, Example, Layer, Spec, Tensors, array
from minitrain.layers import _forms as forms
from minitrain.layers._arrays import as_3d
from minitrain.layers._normalization import Normalization
from minitrain.layers.batch_norm import BatchNorm
from minitrain.layers.fused.batch_norm_add_relu import BatchNormAddReLU
from minitrain.layers.fused.batch_norm_relu import BatchNormReLU
from nbnorm.jit.arrays import nothing
from nbnorm.kernels import batch_norm


@dataclass(frozen=True)
class FrozenBatchNorm(Layer):
    """A BatchNorm, BatchNormReLU or BatchNormAddReLU whose statistics are frozen: it normalizes by the running ones.

    y = [ReLU](gamma (x - running_mean) / sqrt(running_var + eps) + beta [+ residual]), in training as in inference, in
    the same bits. Parameters and state are those of the norm; the state is never written. A batch of one value per
    channel will do.

    The statistics do not follow x: dx = gamma / sqrt(running_var + eps) dy. Backward reads x for the gradient of gamma
    alone, and dy once where neither that nor beta's is wanted. What the ReLU cut off is read from y.

    Parameters
    ----------
    norm : BatchNorm, BatchNormReLU or BatchNormAddReLU
    """

    norm: Normalization

    prefix: ClassVar[str] = "bn"
    examples: ClassVar[list[Example]] = [
        Example((4, 3, 5, 5), norm=BatchNorm()),
        Example((1, 3), norm=BatchNorm(eps=0.1)),
        Example((8, 40), norm=BatchNorm(momentum=None)),
        Example((4, 3, 5), norm=BatchNorm(affine=False)),
        Example((4, 3, 5), Spec((4, 5), "bool"), norm=BatchNorm()),
        Example((8, 40), Spec((8,), "bool"), norm=BatchNorm(threshold=2.0)),
        Example((4, 3, 5), norm=BatchNormReLU(bias=False, debias=True)),
        Example((4, 3, 5), norm=BatchNormReLU()),
        Example((3, 40, 9, 17), norm=BatchNormReLU(momentum=None)),
        Example((8, 4), (8, 4), norm=BatchNormAddReLU(eps=0.1)),
        Example((3, 40, 9, 17), (3, 40, 9, 17), norm=BatchNormAddReLU()),
    ]

    def declare(self, *inputs: Spec) -> Declaration:
        norm = self.norm.declare(*inputs)
        return Declaration(
            outputs=norm.outputs,
            params=norm.params,
            state=norm.state,
            backward_reads=("x0", "y") if self.norm.relu else ("x0",),
            may_share=norm.may_share,
            **self._masked(*inputs),
        )

    def _masked(self, *inputs: Spec) -> dict[str, Any]:
        """Return what a mask takes: its marks, and x and dy with zeros where nothing is valid."""
        if len(inputs) == 1 or self.norm.adds_residual:
            return {}
        x = inputs[0].shape
        scratch = {"valid_x": array(x), "valid_dy": array(x)}
        return {"saved": forms.saved_of(self.norm, x, True), "backward_scratch": scratch}

    def bind_forward(self, t: Tensors) -> None:
        by_running = self.norm.bound_to(t, t.running_mean, t.running_var)
        t.run_forward = forms.bind_valid(t, by_running) if self.norm.is_masked(t) else by_running

    def bind_backward(self, t: Tensors) -> None:
        absent, unwanted = nothing(t.y.dtype, 3), nothing(t.y.dtype)
        dx, dresidual, *_ = (absent if dx is None else as_3d(dx) for dx in (*t.dxs, None))
        dgamma, dbeta = (unwanted if each is None else each for each in self.norm.gradients_of(t))
        gamma, beta = self.norm.affine_of(t)
        dy, x = as_3d(t.dy), as_3d(t.xs[0])
        if self.norm.is_masked(t):
            dy, x = as_3d(t.valid_dy), as_3d(t.valid_x)
        backward = partial(
            batch_norm.frozen_backward, dy, x, as_3d(t.y), t.running_mean, t.running_var, gamma,
            beta, self.norm.eps, self.norm.relu, self.norm.relu, dx, dgamma, dbeta, dresidual,
        )  # fmt: skip
        t.run_backward = forms.valid_copies_before(t, backward) if self.norm.is_masked(t) else backward

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def backward(self, t: Tensors) -> None:
        t.run_backward()
