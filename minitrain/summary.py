"""The table that `Model.summary` prints."""

from __future__ import annotations

import numpy as np

from minitrain.graph import Graph

__all__ = ["summarize"]


def summarize(graph: Graph, dtype: np.dtype) -> str:
    """Return a table of the layers: name, kind, inputs, output shape, parameters."""
    declarations, shapes = graph.declarations(2), graph.shapes(2)
    rows = [("layer", "kind", "inputs", "output", "parameters")]
    rows += [(name, "Input", "", _shape(shapes[name]), "") for name in graph.inputs]
    learned = kept = 0
    for node in graph.nodes:
        declaration = declarations[node.name]
        count = sum(int(np.prod(buffer.shape)) for buffer in declaration.params.values())
        learned += count
        kept += sum(int(np.prod(buffer.shape)) for buffer in declaration.state.values())
        kind, inputs = type(node.layer).__name__, ", ".join(node.inputs)
        rows.append((node.name, kind, inputs, _shape(shapes[node.name]), f"{count:,}" if count else ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    size = learned * np.dtype(dtype).itemsize / 1e6
    lines.append("-" * len(lines[0]))
    lines.append(f"{learned:,} parameters ({size:.2f} MB as {dtype}), {kept:,} values of state")
    return "\n".join(lines)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    left = "  ".join(cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True))
    return f"{left}  {row[-1].rjust(widths[-1])}"


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape[1:]))})"
