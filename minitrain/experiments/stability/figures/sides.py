"""How the two sides look in all figures."""

from __future__ import annotations

from typing import Any

from minitrain.experiments.stability.records.sides import Side
from minitrain.experiments.style import line

__all__ = ["LOOKS", "side_handles"]

# Colours of Okabe & Ito, told apart by people with any common colour vision and in grey; lines and marks differ too.
LOOKS: dict[Side, dict[str, Any]] = {
    "without": {"color": "#D55E00", "linestyle": "--", "marker": "s", "label": "without batch norm"},
    "with": {"color": "#0072B2", "linestyle": "-", "marker": "o", "label": "with batch norm"},
}


def side_handles(marks: bool = True) -> list[Any]:
    """Return both sides for a legend."""
    return [line(**(look if marks else {**look, "marker": None})) for look in LOOKS.values()]
