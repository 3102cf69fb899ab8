"""The table that `Model.summary` prints."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from minitrain.graph.graph import Graph
from minitrain.layer import FreeShape
from minitrain.terminal.tables import format_table

__all__ = ["summarize"]

BATCH = 2


def summarize(graph: Graph, dtype: np.dtype, batch: int, arenas: Mapping[str, int]) -> str:
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
    lines = [format_table(rows, align="<<<<<>")]
    size = learned * np.dtype(dtype).itemsize / 1e6
    lines.append(f"{learned:,} parameters ({size:.2f} MB as {dtype}), {kept:,} values of state")
    lines.append(f"{work / 1e6:.3f} Mflop (multiplications and additions) for one sample forward")
    lines.extend(f"{size / 1e6:.2f} MB of memory {purpose}" for purpose, size in arenas.items())
    return "\n".join(lines)


def _shape(shape: FreeShape) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"
