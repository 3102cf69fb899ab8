"""Batch normalization of a batch that lies in parts: statistics are pooled between measuring and normalizing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from minitrain.layer import Declaration, Example, Layer, Spec, Tensors, array
from minitrain.layers import _forms as forms
from minitrain.layers._arrays import as_3d
from minitrain.layers._normalization import Normalization
from minitrain.layers._renorm import Renorm
from minitrain.layers._running import move_by
from minitrain.layers.batch_norm import BatchNorm
from minitrain.layers.fused.batch_norm_add_relu import BatchNormAddReLU
from minitrain.layers.fused.batch_norm_relu import BatchNormReLU
from nbnorm.jit.arrays import Array, nothing
from nbnorm.jit.checks import mismatch
from nbnorm.kernels import batch_norm
from nbnorm.kernels.batch_norm import masked, renorm

__all__ = ["PooledStatistics", "SynchronizedBatchNorm"]

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PooledStatistics:
    """Count, mean and biased variance of each channel over all parts of a batch, in float64."""

    count: int
    mean: Doubles
    var: Doubles

    @classmethod
    def of(cls, rows: Sequence[Doubles] | Doubles) -> PooledStatistics:
        """Pool rows (1 + 2 C): count, means, sums of squared deviations, in the order in which they are given.

        Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983. A part without values changes
        nothing.
        """
        channels = (len(rows[0]) - 1) // 2
        count, mean, squares = 0, np.zeros(channels), np.zeros(channels)
        for row in rows:
            more, its_mean, its_squares = int(row[0]), row[1 : channels + 1], row[channels + 1 :]
            if not more:
                continue
            share, step = more / (count + more), its_mean - mean
            squares += its_squares + (step * (count * share) * step if count else 0.0)
            mean = mean + step * share if count else its_mean.copy()
            count += more
        return cls(count, mean, squares / max(count, 1))


@dataclass(frozen=True)
class SynchronizedBatchNorm(Layer):
    """A BatchNorm, BatchNormReLU or BatchNormAddReLU of one part of a batch, by the statistics of all parts.

    Whoever runs the parts pools what is found for each of them between the two halves of a pass::

        forward:  measure -> t.own: count, means, sums of squared deviations        normalize(t, pooled)
        backward: sum_gradients -> t.own_sums: sum g, sum g x_hat                   differentiate(t, sums of all parts)

    so that y and dx are those of one batch, whatever its parts. The gradients of gamma and beta are this part's alone:
    those of all parts are added up like any other parameter's. The running statistics are moved once, by whoever pools.

    `forward` and `backward` take the part for the whole batch.

    Parameters
    ----------
    norm : BatchNorm, BatchNormReLU or BatchNormAddReLU
        Without ghosts: each of these is normalized by itself, and parts need not know of each other.
    """

    norm: Normalization

    prefix: ClassVar[str] = "bn"
    examples: ClassVar[list[Example]] = [
        Example((4, 3, 5, 5), norm=BatchNorm()),
        Example((8, 4), norm=BatchNorm(momentum=None)),
        Example((4, 3, 5), norm=BatchNorm(affine=False)),
        Example((8, 4), norm=BatchNorm(bias=False, track_running_stats=False)),
        Example((4, 3, 5), Spec((4, 5), "bool"), norm=BatchNorm()),
        Example((5, 3, 9), Spec((5,), "int64"), high=10, norm=BatchNorm(threshold=2.0)),
        Example((9, 5), Spec((9,), "bool"), norm=BatchNorm(debias=True)),
        Example((6, 5, 3), norm=BatchNorm(renorm=Renorm(1.0, 0.0))),
        Example((6, 5, 3), norm=BatchNormReLU(renorm=Renorm(1.5, 0.5))),
        Example((3, 40, 9, 17), norm=BatchNormReLU(eps=0.1)),
        Example((8, 4), (8, 4), norm=BatchNormAddReLU(eps=0.1)),
        Example((3, 5, 4, 4), (3, 5, 4, 4), norm=BatchNormAddReLU()),
    ]

    def declare(self, *inputs: Spec) -> Declaration:
        norm = self.norm
        if norm.ghost_size is not None:
            raise ValueError(mismatch("SynchronizedBatchNorm: ghost_size", "None", str(norm.ghost_size)))
        declared = norm.declare(*inputs)
        x = inputs[0].shape
        is_masked = len(inputs) > 1 and not norm.adds_residual
        return Declaration(
            outputs=declared.outputs,
            params=declared.params,
            state=declared.state,
            saved={
                **declared.saved,
                "var": array((x[1],), "float64"),
                "count": array((1,), "int64"),  # of values of a channel in all parts
                "own": array((1 + 2 * x[1],), "float64"),
            },
            backward_scratch={
                "own_sums": array((2 * x[1],), "float64"),
                **({"valid_x": array(x), "valid_dy": array(x)} if is_masked else {}),
            },
            backward_reads=declared.backward_reads,
            may_share={"dx1": ("dy",)} if norm.adds_residual else {"dx0": ("dy",)},  # x is read after dx is written
        )

    # ---------------------------------------------------------------------------------------------------- forward

    def bind_forward(self, t: Tensors) -> None:
        t.marked = forms.Marks(t.xs[1], t.xs[0], t.marks, t.rows, t.valid_count) if self.norm.is_masked(t) else None
        t.x_rows, t.y_rows, t.residual_rows = as_3d(t.xs[0]), as_3d(t.y), self.norm.residual_of(t)
        t.affine, t.channels = self.norm.affine_of(t), t.xs[0].shape[1]

    def measure(self, t: Tensors) -> None:
        """Write `t.own`: count, means and sums of squared deviations of this part's values (1 + 2 C)."""
        x, y, none, channels, own = t.x_rows, t.y_rows, nothing(t.y.dtype), t.channels, t.own
        affine: tuple[Array, Array] = t.affine
        own[0] = count = x.size // channels if t.marked is None else self._mark(t)
        if not count:
            own[1:] = 0.0
            return
        if t.marked is None:
            batch_norm.statistics(x, *affine, none, none, 0.0, 0.0, t.mean, t.inv_std)
        else:
            absent, rule = nothing(t.y.dtype, 3), (0.0, 0.0)  # y is written, too, and written again by `normalize`
            masked.forward(x, absent, t.marked.valid(), affine, (none, none), rule, False, (t.mean, t.inv_std), y)
        own[1 : channels + 1] = t.mean
        own[channels + 1 :] = t.inv_std**-2.0 * count

    @staticmethod
    def _mark(t: Tensors) -> int:
        t.marked.write()
        return int(t.valid_count[0])

    def normalize(self, t: Tensors, pooled: PooledStatistics) -> None:
        """Write the output by the statistics of all parts."""
        norm = self.norm
        t.mean[...], t.var[...], t.count[0] = pooled.mean, pooled.var, pooled.count
        t.inv_std[...] = 1.0 / np.sqrt(pooled.var + norm.eps)
        if norm.renorm is not None:
            limits = norm.renorm.limits(int(t.num_batches[0]))
            t.r[...], t.d[...] = renorm.corrections((t.mean, t.inv_std), norm.running_of(t), norm.eps, limits)
        affine = self._affine(t)
        batch_norm.infer(t.x_rows, t.residual_rows, *affine, t.mean, t.var, norm.eps, norm.relu, t.y_rows)
        if t.marked is not None:
            masked.clear(t.y_rows, t.marked.valid())

    def _affine(self, t: Tensors) -> tuple[Array, Array]:
        """Return gamma and beta, those of the batch norm that does the same where it is renormalized."""
        return t.affine if self.norm.renorm is None else renorm.corrected(t.affine, t.r, t.d)

    def expect_two(self, pooled: PooledStatistics) -> None:
        """Raise ValueError where a whole batch is too small for statistics."""
        if pooled.count < 2:
            raise ValueError(
                f"BatchNorm: training needs two or more (valid) values per channel, got {pooled.count} in all parts of "
                "the batch together"
            )

    def forward(self, t: Tensors) -> None:
        self.measure(t)
        pooled = PooledStatistics.of([t.own])
        self.expect_two(pooled)
        self.normalize(t, pooled)
        if self.norm.track_running_stats:
            move_by(self.norm, t, pooled.count, (pooled.mean, pooled.var))

    def bind_infer(self, t: Tensors) -> None:
        self.norm.bind_infer(t)

    def infer(self, t: Tensors) -> None:
        self.norm.infer(t)

    # --------------------------------------------------------------------------------------------------- backward

    def bind_backward(self, t: Tensors) -> None:
        absent = nothing(t.y.dtype, 3)
        t.dx_rows, dresidual, *_ = (absent if each is None else as_3d(each) for each in (*t.dxs, None))
        t.dresidual_rows = dresidual if self.norm.adds_residual else absent

    def sum_gradients(self, t: Tensors) -> None:
        """Write `t.own_sums`, sum g and sum g x_hat of this part (2 C), dx as if the statistics were fixed, dresidual.

        g is dy where the ReLU did not cut the output off, else 0.
        """
        norm, channels = self.norm, t.channels
        total, product = t.own_sums[:channels], t.own_sums[channels:]
        batch_norm.frozen_backward(
            self._valid_dy(t), self._valid_x(t), t.y_rows, t.mean, t.var, *self._affine(t), norm.eps, norm.relu,
            norm.relu and norm.adds_residual, t.dx_rows, product, total, t.dresidual_rows,
        )  # fmt: skip

    def _valid_dy(self, t: Tensors) -> Any:
        if t.marked is None:
            return as_3d(t.dy)
        for source, valid in ((t.dy, t.valid_dy), (t.xs[0], t.valid_x)):
            np.copyto(valid, source)
            masked.clear(as_3d(valid), t.marked.valid())
        return as_3d(t.valid_dy)

    @staticmethod
    def _valid_x(t: Tensors) -> Any:
        return t.x_rows if t.marked is None else as_3d(t.valid_x)

    def differentiate(self, t: Tensors, sums: Doubles) -> None:
        """Write dx by the sums of all parts, and the gradients of gamma and beta by those of this one."""
        channels = t.channels
        total, product = t.own_sums[:channels], t.own_sums[channels:]
        if t.dx_rows.size:
            self._take_mean_away(t, t.dx_rows, sums[:channels], sums[channels:])
        dgamma, dbeta = self.norm.gradients_of(t)
        if dgamma is not None:
            dgamma[...] = product if self.norm.renorm is None else t.r * product + t.d * total
        if dbeta is not None:
            dbeta[...] = total

    def _take_mean_away(self, t: Tensors, dx: Array, total: Doubles, product: Doubles) -> None:
        """dx -= gamma inv_std (total + x_hat product) / count: what dx owes to mean and variance following x."""
        factor = self._affine(t)[0] * t.inv_std / -float(t.count[0])
        slope, offset = ((factor * each).astype(t.y.dtype) for each in (product, total))
        batch_norm.infer(self._valid_x(t), dx, slope, offset, t.mean, t.var, self.norm.eps, False, dx)
        if t.marked is not None:
            masked.clear(dx, t.marked.valid())

    def backward(self, t: Tensors) -> None:
        self.sum_gradients(t)
        self.differentiate(t, t.own_sums)
