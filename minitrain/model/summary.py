"""The table that `Model.summary` prints, and that a notebook shows of a model."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from minitrain.graph.graph import Graph
from minitrain.layer import FreeShape
from minitrain.terminal.notebook import table_html
from minitrain.terminal.tables import format_table

__all__ = ["Summary", "summarize"]

BATCH = 2
ALIGN = "<<<<<>"


@dataclass(frozen=True, repr=False)
class Summary:
    """A table of the layers, and what is to be said of all of them.

    `str` and `repr` are the table as text; a notebook shows one of its own.

    Attributes
    ----------
    rows : sequence of rows of str
        The headings, and one row for each input and layer.
    remarks : list of str
    """

    rows: Sequence[tuple[str, ...]]
    remarks: list[str]

    def __str__(self) -> str:
        return "\n".join([format_table(self.rows, align=ALIGN), *self.remarks])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        remarks = "<br>".join(map(html.escape, self.remarks))
        return f"{table_html(self.rows, align=ALIGN)}<p>{remarks}</p>"


def summarize(graph: Graph, dtype: np.dtype, batch: int, arenas: Mapping[str, int]) -> Summary:
    """Return a table of the layers: name, kind, inputs, output shape, algorithm, operations, parameters.

    The algorithm is that of the forward pass of `batch` samples; the operations are those of one. `arenas` maps what
    the memory is for to bytes.
    """
    declarations, shapes, whole = graph.declarations(BATCH), graph.shapes(BATCH), graph.shapes(batch)
    rows = [("layer", "kind", "inputs", "output", "algorithm", "Mflop", "parameters")]
    free = graph.free_shapes()
    rows += [(name, "Input", "", _shape(free[name]), "", "", "") for name in graph.inputs]
    learned = kept = work = 0
    seen: set[str] = set()
    for node in graph.nodes:
        declaration = declarations[node.name]
        params = {node.variable(name): buffer for name, buffer in declaration.params.items()}
        state = {node.variable(name): buffer for name, buffer in declaration.state.items()}
        count = sum(int(np.prod(buffer.shape)) for name, buffer in params.items() if name not in seen)
        learned += count
        kept += sum(int(np.prod(buffer.shape)) for name, buffer in state.items() if name not in seen)
        shared = next((name.rpartition(".")[0] for name in params if name in seen), "")
        seen |= {*params, *state}
        kind, inputs = type(node.layer).__name__, ", ".join(node.inputs)
        flops = node.layer.flops(*(shapes[value] for value in node.inputs)) // BATCH
        work += flops
        million = f"{flops / 1e6:.3f}" if flops else ""
        algorithms = node.layer.algorithms(*(whole[value] for value in node.inputs), dtype=np.dtype(dtype))
        output, parameters = _shape(free[node.name]), f"{count:,}" if count else shared and f"of {shared}"
        rows.append((node.name, kind, inputs, output, algorithms.get("forward", ""), million, parameters))
    size = learned * np.dtype(dtype).itemsize / 1e6
    lines = [f"{learned:,} parameters ({size:.2f} MB as {dtype}), {kept:,} values of state"]
    lines.append(f"{work / 1e6:.3f} Mflop (multiplications and additions) for one sample forward")
    lines.extend(f"{size / 1e6:.2f} MB of memory {purpose}" for purpose, size in arenas.items())
    return Summary(rows, lines)


def _shape(shape: FreeShape) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"
