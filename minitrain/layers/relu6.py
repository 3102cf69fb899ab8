"""Rectified linear unit that ends at 6."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.kernels import elementwise
from minitrain.layers._activation import Activation


@dataclass(frozen=True)
class ReLU6(Activation):
    """y = min(max(x, 0), 6), for x of any shape. NaN stays NaN; the gradient at 0 and at 6 is 0.

    Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010; the activation of MobileNetV2.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.ReLU6()(Input((8, 4, 4))).shape
    (8, 4, 4)
    """

    prefix: ClassVar[str] = "relu6"
    kernel = elementwise.capped_relu
    kernel_backward = elementwise.capped_relu_backward

    def numbers(self) -> tuple[float, ...]:
        return (6.0,)  # where it ends
