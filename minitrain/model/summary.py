"""The table that `Model.summary` prints."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from minitrain.graph.graph import Graph

__all__ = ["summarize"]

BATCH = 2


def summarize(graph: Graph, dtype: np.dtype, arenas: Mapping[str, int]) -> str:
    """Return a table of the layers: name, kind, inputs, output shape, operations of one sample, parameters.

    `arenas` maps what the memory is for to bytes.
    """
    declarations, shapes = graph.declarations(BATCH), graph.shapes(BATCH)
    rows = [("layer", "kind", "inputs", "output", "Mflop", "parameters")]
    rows += [(name, "Input", "", _shape(shapes[name]), "", "") for name in graph.inputs]
    learned = kept = work = 0
    for node in graph.nodes:
        declaration = declarations[node.name]
        count = sum(int(np.prod(buffer.shape)) for buffer in declaration.params.values())
        learned += count
        kept += sum(int(np.prod(buffer.shape)) for buffer in declaration.state.values())
        kind, inputs = type(node.layer).__name__, ", ".join(node.inputs)
        flops = node.layer.flops(*(shapes[value] for value in node.inputs)) // BATCH
        work += flops
        million = f"{flops / 1e6:.3f}" if flops else ""
        rows.append((node.name, kind, inputs, _shape(shapes[node.name]), million, f"{count:,}" if count else ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    size = learned * np.dtype(dtype).itemsize / 1e6
    lines.append("-" * len(lines[0]))
    lines.append(f"{learned:,} parameters ({size:.2f} MB as {dtype}), {kept:,} values of state")
    lines.append(f"{work / 1e6:.3f} Mflop (multiplications and additions) for one sample forward")
    lines.extend(f"{size / 1e6:.2f} MB of memory {purpose}" for purpose, size in arenas.items())
    return "\n".join(lines)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = zip(row, widths, strict=True)
    return "  ".join(cell.ljust(width) if i < 4 else cell.rjust(width) for i, (cell, width) in enumerate(cells))


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape[1:]))})"
