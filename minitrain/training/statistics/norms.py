"""The batch norms of a model whose running statistics follow the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from minitrain import layers
from minitrain.graph.graph import Graph, GraphNode
from nbnorm.jit.arrays import Array

__all__ = ["Norm", "norms_of"]

NORMS = (layers.BatchNorm, layers.ConditionalBatchNorm)


@dataclass(frozen=True)
class Norm:
    """Running statistics, and the calls of the layer that they belong to."""

    name: str
    mean: str  #: the model's names
    var: str
    calls: tuple[GraphNode, ...]

    def state(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """Return what of a model's state is theirs, by the layer's names."""
        node = self.calls[0]
        own = {name: node.variable(name) for name in node.layer.statistics}
        return {name: given[variable] for name, variable in own.items() if variable in given}


def norms_of(graph: Graph) -> dict[str, Norm]:
    """Find them by the name of their running mean; what is frozen is left out."""
    found: dict[str, Norm] = {}
    for node in graph.nodes:
        if not isinstance(node.layer, NORMS) or "running_mean" not in node.layer.statistics:
            continue
        mean, var = node.variable("running_mean"), node.variable("running_var")
        if mean in graph.frozen:
            continue
        calls = (*found[mean].calls, node) if mean in found else (node,)
        found[mean] = Norm(calls[0].name, mean, var, calls)
    return found
