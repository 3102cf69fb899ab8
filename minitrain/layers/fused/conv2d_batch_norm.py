"""Convolution and batch norm, with what follows it, as one layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minitrain.kernels import conv2d
from minitrain.kernels.fold import fold
from minitrain.layer import Declaration, Example, Layer, Shape, Tensors, array
from minitrain.layers._normalization import Normalization
from minitrain.layers.batch_norm import BatchNorm
from minitrain.layers.conv2d import Conv2d
from minitrain.layers.fused.batch_norm_add_relu import BatchNormAddReLU
from minitrain.layers.fused.batch_norm_relu import BatchNormReLU


@dataclass(frozen=True)
class Conv2dBatchNorm(Layer):
    """A convolution, then a batch norm without or with ReLU, or with a residual and ReLU.

    Inference folds the batch norm into the weights, anew in every call since weights may change, and adds the residual
    and applies the ReLU while the convolution's output is in the cache. Training runs the two layers one by one.
    Parameters and state are those of the two layers.

    Parameters
    ----------
    conv : Conv2d
    norm : BatchNorm, BatchNormReLU or BatchNormAddReLU
        The last takes a second input, the residual.
    """

    conv: Conv2d
    norm: Normalization

    prefix: ClassVar[str] = "conv_bn"
    examples: ClassVar[list[Example]] = [
        Example((2, 3, 6, 5), conv=Conv2d(4, 3, padding=1, bias=False), norm=BatchNorm()),
        Example((2, 3, 6, 5), conv=Conv2d(4, 3, stride=2), norm=BatchNormReLU(eps=0.1)),
        Example((3, 4, 5, 4), (3, 4, 5, 4), conv=Conv2d(4, 3, padding=1, groups=2), norm=BatchNormAddReLU()),
        Example((5, 16, 8, 8), conv=Conv2d(17, 1, bias=False), norm=BatchNormReLU(momentum=None)),
    ]

    def declare(self, *shapes: Shape) -> Declaration:
        conv = self.conv.declare(shapes[0])
        z = conv.outputs["y"]
        norm = self.norm.declare(z, *shapes[1:])
        folded = {"folded_weight": array(conv.params["weight"].shape), "folded_bias": array((z[1],))}
        return Declaration(
            outputs={"y": z},
            params={**conv.params, **norm.params},
            state=norm.state,
            saved={"z": array(z), **norm.saved},
            scratch={**conv.scratch, **folded},
            backward_scratch={"dz": array(z), **conv.backward_scratch},
            backward_reads=("x0", "y") if "y" in norm.backward_reads else ("x0",),
            infer_reads_saved=False,
        )

    def flops(self, *shapes: Shape) -> int:
        return self.conv.flops(shapes[0])

    def prepare(self, t: Tensors) -> None:
        t.conv_tensors, t.norm_tensors = Tensors(), Tensors()
        t.residual = t.xs[1] if len(t.xs) > 1 else None
        training = hasattr(t, "dy")
        convolution = {name: getattr(t, name) for name in ("weight", "forward_scratch")}
        if self.conv.bias:
            convolution["bias"] = t.bias
        if training:
            convolution |= {"y": t.z, "dy": t.dz, "dweight": t.dweight, "backward_scratch": t.backward_scratch}
            if self.conv.bias:
                convolution["dbias"] = t.dbias
            self._prepare_norm(t)
        _bind(self.conv, t.conv_tensors, t.xs[:1], t.dxs[:1], convolution)
        t.bias_or_none = t.bias if self.conv.bias else np.empty(0, t.y.dtype)

    def _prepare_norm(self, t: Tensors) -> None:
        declared = self.norm.declare(*(x.shape for x in (t.z, *t.xs[1:])))
        names = [*declared.params, *(f"d{name}" for name in declared.params), *declared.state, *declared.saved]
        arrays = {name: getattr(t, name) for name in ("y", "dy", *names)}
        _bind(self.norm, t.norm_tensors, (t.z, *t.xs[1:]), (t.dz, *t.dxs[1:]), arrays)

    def forward(self, t: Tensors) -> None:
        self.conv.forward(t.conv_tensors)
        self.norm.forward(t.norm_tensors)

    def infer(self, t: Tensors) -> None:
        fold.serial(
            t.weight, t.bias_or_none, t.gamma, t.beta, t.running_mean, t.running_var, self.norm.eps,
            t.folded_weight, t.folded_bias,
        )  # fmt: skip
        conv2d.forward(
            t.conv_tensors.geometry, t.xs[0], t.folded_weight, t.folded_bias, t.forward_scratch, t.y, t.residual,
            self.norm.relu,
        )  # fmt: skip

    def backward(self, t: Tensors) -> None:
        self.norm.backward(t.norm_tensors)
        self.conv.backward(t.conv_tensors)


def _bind(layer: Layer, tensors: Tensors, xs: Any, dxs: Any, arrays: dict[str, Any]) -> None:
    tensors.bind_inputs(xs, dxs)
    for name, each in arrays.items():
        setattr(tensors, name, each)
    layer.prepare(tensors)
