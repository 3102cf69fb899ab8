"""Aligned columns of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

__all__ = ["format_table"]

GAP = "  "


def format_table(
    rows: Sequence[Sequence[str]], align: str = "<", rules: Literal["lines", "columns", "none"] = "lines"
) -> str:
    """Return rows of cells as lines of columns that are as wide as their widest cell.

    Parameters
    ----------
    rows : sequence of rows of one length
        The first one holds the headings.
    align : str
        A character for each column, "<" left or ">" right; the last one stands for all columns after it.
    rules : "lines", "columns" or "none"
        A line under the headings and one at the end; dashes under the heading of each column; nothing.

    Examples
    --------
    >>> print(format_table([("layer", "parameters"), ("dense1", "12"), ("relu1", "")], align="<>"))
    layer   parameters
    ------------------
    dense1          12
    relu1
    ------------------
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = align.ljust(len(widths), align[-1])
    heading, *lines = (_line(row, widths, sides) for row in rows)
    if rules == "lines":
        rule = "-" * (sum(widths) + len(GAP) * (len(widths) - 1))
        return "\n".join([heading, rule, *lines, rule])
    under = [GAP.join("-" * width for width in widths)] if rules == "columns" else []
    return "\n".join([heading, *under, *lines])


def _line(row: Sequence[str], widths: Sequence[int], sides: str) -> str:
    cells = zip(row, widths, sides, strict=True)
    return GAP.join(f"{cell:{side}{width}}" for cell, width, side in cells).rstrip()
