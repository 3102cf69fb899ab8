"""A convolution and what follows it, as one layer for inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from minitrain.kernels import conv2d
from minitrain.kernels.calls import Call, in_order
from minitrain.layer import Buffer, Declaration, Example, Layer, Shape, Spec, Tensors, array
from minitrain.layers._normalization import Normalization
from minitrain.layers.batch_norm import BatchNorm
from minitrain.layers.conv2d import Conv2d
from minitrain.layers.fused.batch_norm_add_relu import BatchNormAddReLU
from minitrain.layers.fused.batch_norm_relu import BatchNormReLU
from nbnorm.jit.arrays import nothing
from nbnorm.kernels.batch_norm.fold import fold

LAST = "last_"  # begins the names of the last norm's parameters and state


@dataclass(frozen=True)
class InferenceConv2d(Layer):
    """A convolution, then a batch norm, a residual, a ReLU and one more batch norm, each of them or not.

    The first batch norm is folded into the weights. The rest is done to the convolution's output while that is in the
    cache. Parameters and state are those of the layers it stands for.

    Parameters
    ----------
    conv : Conv2d
    norm : BatchNorm, BatchNormReLU or BatchNormAddReLU, optional
        The last takes a second input, the residual.
    relu : bool
        Whether a ReLU follows that is not part of `norm`.
    last_norm : BatchNorm, optional
    """

    conv: Conv2d
    norm: Normalization | None = None
    relu: bool = False
    last_norm: BatchNorm | None = None

    prefix: ClassVar[str] = "conv"
    trains: ClassVar[bool] = False
    examples: ClassVar[list[Example]] = [
        Example((2, 3, 6, 5), conv=Conv2d(4, 3, padding=1, bias=False), norm=BatchNorm()),
        Example((2, 3, 6, 5), conv=Conv2d(4, 3, stride=2), norm=BatchNormReLU(eps=0.1)),
        Example((3, 4, 5, 4), (3, 4, 5, 4), conv=Conv2d(4, 3, padding=1, groups=2), norm=BatchNormAddReLU()),
        Example((5, 16, 8, 8), conv=Conv2d(17, 1, bias=False), norm=BatchNormReLU(momentum=None)),
        Example((2, 3, 6, 5), conv=Conv2d(4, 3), norm=BatchNorm(affine=False), last_norm=BatchNorm(affine=False)),
        Example((2, 3, 6, 5), conv=Conv2d(4, 3, bias=False), norm=BatchNormReLU(bias=False, debias=True)),
        Example((2, 3, 6, 5), conv=Conv2d(9, 3), relu=True),
        Example((2, 3, 6, 5), conv=Conv2d(9, 3), relu=True, last_norm=BatchNorm()),
        Example((1, 2, 9, 9), conv=Conv2d(20, 3, groups=2), norm=BatchNorm(), last_norm=BatchNorm(eps=0.1)),
    ]

    def declare(self, *inputs: Spec) -> Declaration:
        conv = self.conv.declare(inputs[0])
        y = conv.outputs["y"].shape
        params, derived = dict(conv.params), dict(conv.derived)
        state: dict[str, Buffer] = {}
        if self.norm is not None:
            norm = self.norm.declare(Spec(y), *inputs[1:])
            params |= norm.params
            state |= norm.state
            derived |= {"scale": array((y[1],), "float64"), "shift": array((y[1],))}
        if self.last_norm is not None:
            norm = self.last_norm.declare(Spec(y))
            params |= {LAST + name: buffer for name, buffer in norm.params.items()}
            state |= {LAST + name: buffer for name, buffer in norm.state.items()}
            derived["affine"] = array((2, y[1]))
        return Declaration(outputs={"y": Spec(y)}, params=params, state=state, scratch=conv.scratch, derived=derived)

    def flops(self, *shapes: Shape) -> int:
        return self.conv.flops(shapes[0])

    def algorithms(self, *shapes: Shape, dtype: np.dtype) -> Mapping[str, str]:
        product = conv2d.Product.FORWARD.value
        return {product: self.conv.algorithms(shapes[0], dtype=dtype)[product]}

    def bind_infer(self, t: Tensors) -> None:
        geometry, x = self.conv.geometry(t.xs[0].shape), t.xs[0]
        residual = t.xs[1] if len(t.xs) > 1 else None
        affine = None if self.last_norm is None else t.affine
        relu = self.relu or (self.norm is not None and self.norm.relu)
        t.run_derive = in_order(self._prepared_weight(t, geometry), self._folded_last_norm(t))
        t.run_infer = conv2d.convolution(geometry, x, t.packed_weight, residual, affine, relu, t.forward_scratch, t.y)

    def _prepared_weight(self, t: Tensors, geometry: conv2d.Geometry) -> Call:
        bias = self.conv.bias_of(t)
        if self.norm is None:
            return conv2d.prepare_weight(geometry, t.weight, bias, t.packed_weight)
        return in_order(
            partial(
                fold.serial, nothing(t.y.dtype) if bias is None else bias, *self.norm.affine_of(t, t.y.shape[1]),
                t.running_mean, t.running_var, self.norm.eps, t.scale, t.shift,
            ),
            conv2d.prepare_weight(geometry, t.weight, t.shift, t.packed_weight, t.scale),
        )  # fmt: skip

    def _folded_last_norm(self, t: Tensors) -> Call | None:
        if self.last_norm is None:
            return None
        return partial(
            fold.serial, nothing(t.y.dtype), *self.last_norm.affine_of(t, t.y.shape[1], LAST), t.last_running_mean,
            t.last_running_var, self.last_norm.eps, t.affine[0], t.affine[1],
        )  # fmt: skip

    def derive(self, t: Tensors) -> None:
        t.run_derive()

    def infer(self, t: Tensors) -> None:
        t.run_infer()
