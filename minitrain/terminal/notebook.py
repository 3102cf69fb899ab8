"""What a notebook shows of an object: HTML made of text and of pictures."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import Any

__all__ = ["figure_html", "table_html"]


def figure_html(figure: Any) -> str:
    """Return a matplotlib figure as an inline SVG picture, whatever backend a session draws with."""
    picture = io.StringIO()
    figure.savefig(picture, format="svg")
    text = picture.getvalue()
    return text[text.index("<svg") :]


def table_html(rows: Sequence[Sequence[str]], align: str = "<") -> str:
    """Return rows of cells, the headings first, as a table; `align` is that of `format_table`."""
    sides = ["right" if side == ">" else "left" for side in align.ljust(max(map(len, rows)), align[-1])]
    heading, *lines = (
        [f'style="text-align: {side}">{html.escape(cell)}' for cell, side in zip(row, sides, strict=False)]
        for row in rows
    )
    head = "".join(f"<th {cell}</th>" for cell in heading)
    body = "".join(f"<tr>{''.join(f'<td {cell}</td>' for cell in line)}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
