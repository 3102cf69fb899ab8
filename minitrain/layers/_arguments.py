"""The check of an argument that only layers have; `nbnorm.jit.checks` has all others."""

from __future__ import annotations

from typing import Any

from minitrain.initializers import Initializer
from nbnorm.jit.checks import mismatch


def initializer(name: str, value: Any) -> Initializer:
    """Return `value`, which must be an Initializer."""
    if not isinstance(value, Initializer):
        raise TypeError(mismatch(name, "an initializer such as He() or Constant(0.0)", repr(value)))
    return value
