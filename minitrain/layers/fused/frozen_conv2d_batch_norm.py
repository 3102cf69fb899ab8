"""A convolution and the batch norm behind it, both frozen, as one convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from minitrain.kernels import conv2d
from minitrain.kernels.calls import Call, in_order
from minitrain.kernels.conv2d import epilogue
from minitrain.kernels.conv2d.algorithm import FLOAT64
from minitrain.layer import Declaration, Example, Layer, Shape, Spec, Tensors, array
from minitrain.layers._normalization import Normalization
from minitrain.layers.batch_norm import BatchNorm
from minitrain.layers.conv2d import Conv2d
from minitrain.layers.fused.batch_norm_add_relu import BatchNormAddReLU
from minitrain.layers.fused.batch_norm_relu import BatchNormReLU
from minitrain.layers.fused.inference_conv2d import InferenceConv2d
from nbnorm.jit.arrays import Array, nothing
from nbnorm.kernels.batch_norm.fold import fold_weight


@dataclass(frozen=True)
class FrozenConv2dBatchNorm(Layer):
    """A Conv2d, then a BatchNorm, BatchNormReLU or BatchNormAddReLU: all of their parameters and statistics are frozen.

    The norm is folded into the weights, in training as in inference (`InferenceConv2d`), in the same bits. Only the
    gradients of the inputs are found: its parameters have none. Backward reads y where there is a ReLU, and no input.

    Parameters
    ----------
    conv : Conv2d
    norm : BatchNorm, BatchNormReLU or BatchNormAddReLU
        The last takes a second input, the residual.
    """

    conv: Conv2d
    norm: Normalization

    prefix: ClassVar[str] = "conv"
    learns: ClassVar[bool] = False
    derives_in_training: ClassVar[bool] = True
    examples: ClassVar[list[Example]] = [
        Example((2, 3, 6, 5), conv=Conv2d(4, 3, padding=1, bias=False), norm=BatchNorm()),
        Example((2, 3, 6, 5), conv=Conv2d(4, 3, stride=2), norm=BatchNormReLU(eps=0.1)),
        Example((3, 4, 5, 4), (3, 4, 5, 4), conv=Conv2d(4, 3, padding=1, groups=2), norm=BatchNormAddReLU()),
        Example((5, 16, 8, 8), conv=Conv2d(17, 3, padding=1, bias=False), norm=BatchNormReLU(momentum=None)),
        Example((1, 6, 1, 1), conv=Conv2d(4, 1), norm=BatchNorm()),
        Example((2, 3, 6, 5), conv=Conv2d(4, 3), norm=BatchNormReLU(affine=False, debias=True)),
        Example((5, 16, 8, 8), (5, 17, 8, 8), conv=Conv2d(17, 3, padding=1), norm=BatchNormAddReLU()),
    ]

    @property
    def _inference(self) -> InferenceConv2d:
        return InferenceConv2d(self.conv, self.norm)

    def declare(self, *inputs: Spec) -> Declaration:
        folded, geometry = self._inference.declare(*inputs), self.conv.geometry(inputs[0].shape)
        gradient_scratch = array((conv2d.scratch_size(geometry, conv2d.Product.INPUT_GRADIENT),))
        backward_scratch = {"backward_scratch": gradient_scratch}
        if self.norm.relu:
            backward_scratch["dz"] = array(folded.outputs["y"].shape)
        return Declaration(
            outputs=folded.outputs,
            params=folded.params,
            state=folded.state,
            scratch=folded.scratch,
            derived={**folded.derived, "folded_weight": array(geometry.weight_shape)},
            backward_scratch=backward_scratch,
            backward_reads=("y",) if self.norm.relu else (),
            adds_gradient=len(inputs) == 1,
            may_share={"dx1": ("dy",)} if len(inputs) == 2 else {},
        )

    def flops(self, *shapes: Shape) -> int:
        return self.conv.flops(shapes[0])

    def algorithms(self, *shapes: Shape, dtype: np.dtype) -> Mapping[str, str]:
        names = dict(self.conv.algorithms(shapes[0], dtype=dtype))
        del names[conv2d.Product.WEIGHT_GRADIENT.value]
        return names

    def bind_forward(self, t: Tensors) -> None:
        self._inference.bind_infer(t)
        t.run_derive_all = in_order(
            t.run_derive, partial(fold_weight.for_work(t.weight.size), t.weight, t.scale, t.folded_weight)
        )

    def bind_backward(self, t: Tensors) -> None:
        dx, dresidual = (*t.dxs, None)[:2]
        if not self.norm.relu:
            t.run_backward = in_order(self._input_gradient(t, t.dy))
        elif dx is None and dresidual is None:
            t.run_backward = in_order()
        else:
            dz = t.dz if dresidual is None else dresidual  # that of the residual is the one before the ReLU
            no_sums, no_bias = nothing(FLOAT64, 2), nothing(t.y.dtype)
            through_relu = partial(
                epilogue.backward_of_relu.for_work(t.dy.size), t.dy, t.y, no_sums, dz, no_bias
            )  # fmt: skip
            t.run_backward = in_order(through_relu, self._input_gradient(t, dz))

    def _input_gradient(self, t: Tensors, dz: Array) -> Call | None:
        """Return the call that writes the gradient of x from that of the norm's output, None where nobody wants it."""
        dx, geometry = t.dxs[0], self.conv.geometry(t.xs[0].shape)
        if dx is None:
            return None
        return conv2d.input_gradient(geometry, dz, t.folded_weight, t.backward_scratch, dx, t.dx_before)

    def forward(self, t: Tensors) -> None:
        t.run_infer()

    def derive(self, t: Tensors) -> None:
        t.run_derive_all()

    def infer(self, t: Tensors) -> None:
        t.run_infer()

    def backward(self, t: Tensors) -> None:
        t.run_backward()
