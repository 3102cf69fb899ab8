"""Sum of several inputs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from minitrain.kernels.add import add
from minitrain.kernels.calls import in_order
from minitrain.layer import Declaration, Example, Layer, Spec, Tensors, describe, float_shapes


@dataclass(frozen=True)
class Add(Layer):
    """Sum of two or more inputs of one shape, in the order in which they are given: a skip connection.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> x = Input((8, 4, 4))
    >>> layers.Add()(x, layers.ReLU()(x)).shape
    (8, 4, 4)
    """

    prefix: ClassVar[str] = "add"
    examples: ClassVar[list[Example]] = [
        Example((4, 3, 5, 5), (4, 3, 5, 5)),
        Example((2, 7), (2, 7), (2, 7)),
        Example((3, 40, 9, 17), (3, 40, 9, 17)),
    ]

    def declare(self, *inputs: Spec) -> Declaration:
        shapes = float_shapes(self, inputs)
        if len(shapes) < 2:
            raise ValueError(f"Add: expected two or more inputs, got {len(shapes)}")
        for shape in shapes[1:]:
            if shape != shapes[0]:
                raise ValueError(f"Add: expected inputs of one shape, got {', '.join(map(describe, shapes))}")
        return Declaration(outputs={"y": Spec(shapes[0])}, same={f"dx{index}": "dy" for index in range(len(shapes))})

    def bind_forward(self, t: Tensors) -> None:
        run, y = add.for_work(t.y.size), t.y.reshape(-1)
        first, second, *others = (x.reshape(-1) for x in t.xs)
        t.run_forward = in_order(partial(run, first, second, y), *(partial(run, y, other, y) for other in others))

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def backward(self, t: Tensors) -> None:
        """Do nothing: each dx is dy."""
