"""The tables of layers: what a package imports is what it lists."""

from __future__ import annotations

from collections.abc import Mapping

from minitrain.layer import Layer


def layers_of(names: Mapping[str, object]) -> dict[str, type[Layer]]:
    """Return the layers among the names of a module, by name."""
    found = {name: each for name, each in names.items() if isinstance(each, type) and issubclass(each, Layer)}
    return {name: layer for name, layer in found.items() if layer is not Layer}
