"""Dropout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from minitrain.initializers import Constant
from minitrain.kernels import dropout
from minitrain.kernels.calls import in_order
from minitrain.layer import Buffer, Declaration, Example, Layer, Shape, Spec, Tensors, array, only_input
from nbnorm.jit.checks import expect_number, set_checked


def _draw_key(rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int) -> NDArray[Any]:
    return rng.integers(0, 2**64, size=shape, dtype=np.uint64)


@dataclass(frozen=True)
class Dropout(Layer):
    """Set each element to zero with probability p and scale the others by 1 / (1 - p); inference changes nothing.

    The masks follow from the seed of the model: `key` is drawn with the parameters, `calls` counts the masks. Both are
    state, so that a run resumed from a checkpoint goes on as if it had not been interrupted.
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.

    Parameters
    ----------
    p : float
        Probability of dropping an element, in [0, 1].

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.Dropout(0.2)(Input((128,))).shape
    (128,)
    """

    p: float = 0.5

    first_sample: ClassVar[int] = 0  # position of x's first sample in the batch that it is a part of
    prefix: ClassVar[str] = "dropout"
    examples: ClassVar[list[Example]] = [
        Example((4, 3, 5, 5)),
        Example((8, 7), p=0.1),
        Example((2, 3), p=0.0),
        Example((2, 3), p=1.0),
        Example((3, 40, 9, 17), p=0.3),
    ]

    def __post_init__(self) -> None:
        set_checked(self, p=expect_number("p", self.p, 0.0, 1.0))

    def declare(self, *inputs: Spec) -> Declaration:
        return Declaration(
            outputs={"y": Spec(only_input(self, inputs))},
            state={"key": Buffer((1,), "uint64", _draw_key), "calls": Buffer((1,), "uint64", Constant(0.0))},
            saved={"call": array((2,), "uint64")},
        )

    def bind_forward(self, t: Tensors) -> None:
        run = dropout.dropout.for_work(4 * t.x.size)
        t.drop = partial(run, t.x.reshape(-1), t.key, t.call, self.p, t.y.reshape(-1))

    def bind_backward(self, t: Tensors) -> None:
        if t.dx is None:
            t.run_backward = in_order()
            return
        run = dropout.dropout.for_work(4 * t.x.size)
        t.run_backward = partial(run, t.dy.reshape(-1), t.key, t.call, self.p, t.dx.reshape(-1))

    def bind_infer(self, t: Tensors) -> None:
        """There is nothing to choose."""

    def forward(self, t: Tensors) -> None:
        t.call[:] = t.calls[0], self.first_sample * (t.x.size // len(t.x))
        t.calls[0] += np.uint64(1)
        t.drop()

    def infer(self, t: Tensors) -> None:
        np.copyto(t.y, t.x)

    def backward(self, t: Tensors) -> None:
        t.run_backward()
