"""A layer as a user would write it: integers in, two outputs, plain NumPy."""

from dataclasses import dataclass

import numpy as np

from minitrain.initializers import Normal
from minitrain.layer import Declaration, Example, Layer, Spec, weight


@dataclass(frozen=True)
class Lookup(Layer):
    """Rows of a learned table: y (N, size), those of x (N,) times the boolean input, and `total` (N,), their sums."""

    count: int
    size: int

    prefix = "lookup"
    examples = (
        Example(Spec((5,), "int64"), Spec((5,), "bool"), high=7, count=7, size=3),
        Example(Spec((40,), "int32"), Spec((40,), "bool"), high=2, count=2, size=1),
    )

    def declare(self, *inputs):
        x, keep = inputs
        if x.is_float or len(x.shape) != 1 or keep.dtype != "bool":
            raise ValueError(f"Lookup: expected integers (N,) and booleans (N,), got {x} and {keep}")
        return Declaration(
            outputs={"y": Spec((x.shape[0], self.size)), "total": Spec((x.shape[0],))},
            params={"table": weight((self.count, self.size), self.count, self.size, Normal(1.0))},
            backward_reads=("x",),
        )

    def forward(self, t):
        rows, keep = t.xs
        np.take(t.table, rows, axis=0, out=t.y)
        np.sum(t.y, axis=1, out=t.total)
        np.multiply(t.y, keep[:, None], out=t.y)

    def backward(self, t):
        if t.dtable is not None:
            rows, keep = t.xs
            t.dtable.fill(0)
            np.add.at(t.dtable, rows, t.dy * keep[:, None] + t.dtotal[:, None])
