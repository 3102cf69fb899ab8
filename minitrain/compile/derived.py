"""What layers derive from parameters and state for inference, and whether that is up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from minitrain.graph import Graph
from minitrain.kernels.compare import BLOCK, same_bits
from nbnorm.jit.arrays import Array

__all__ = ["DerivedArrays"]

GAP = 64  # bytes between two variables that are compared rather than skipped


class DerivedArrays:
    """The derived arrays of all layers of a graph, for plans of any batch size.

    Parameters and state are live views that anybody may write into at any time. So the bytes of those that something is
    derived from are compared with a copy, which costs about as much as reading them twice.

    Parameters
    ----------
    graph : Graph
    dtype : numpy dtype
    params, state : name to array
        The model's variables.
    training : bool
        Whether they are for training: only the layers that derive something there have any.

    Attributes
    ----------
    arrays : name of a node to its derived arrays by the layer's names
    """

    def __init__(
        self,
        graph: Graph,
        dtype: np.dtype,
        params: Mapping[str, Array],
        state: Mapping[str, Array],
        training: bool = False,
    ) -> None:
        self.arrays: dict[str, dict[str, Array]] = {}
        sources: list[Array] = []
        declarations = graph.declarations(1)
        for node in graph.nodes:
            declared = declarations[node.name]
            if declared.derived and (not training or node.layer.derives_in_training):
                self.arrays[node.name] = {
                    name: np.empty(spec.shape, spec.dtype or dtype) for name, spec in declared.derived.items()
                }
                sources += [params[node.variable(name)] for name in declared.params]
                sources += [state[node.variable(name)] for name in declared.state]
        self._spans = [(span, np.empty_like(span), np.empty(-(-span.size // BLOCK), np.uint8))
                       for span in _joined(sources)]  # fmt: skip
        self._derived = False

    def update(self, derive: Callable[[], None]) -> None:
        """Call `derive`, which writes all of `arrays`, unless their sources are what they were the last time."""
        if self._derived and all(same_bits.for_work(a.size)(a, b, differs) for a, b, differs in self._spans):
            return
        self._derived = False  # and stays so, should an exception come in between
        for source, copy, _ in self._spans:  # before they are read: what is written meanwhile is seen the next time
            np.copyto(copy, source)
        derive()
        self._derived = True


def _joined(arrays: Iterable[Array]) -> list[Array]:
    """The memory of contiguous arrays as few rows of int32: neighbours in one and the same array become one row."""
    spans: list[list[Any]] = []  # the first bytes, the array that owns them, where the row begins and ends
    for array in sorted(arrays, key=lambda array: int(array.ctypes.data)):
        start, owner = int(array.ctypes.data), array if array.base is None else array.base
        if spans and spans[-1][1] is owner and start - spans[-1][3] <= GAP:
            spans[-1][3] = max(spans[-1][3], start + array.nbytes)
        elif array.size:
            spans.append([array.reshape(-1).view(np.int32), owner, start, start + array.nbytes])
    return [np.lib.stride_tricks.as_strided(row, ((end - start) // 4,), (4,)) for row, _, start, end in spans]
