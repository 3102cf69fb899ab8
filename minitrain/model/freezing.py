"""Which variables of a graph a user means by names of nodes, and what of a node is frozen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from minitrain.graph.graph import Graph
from nbnorm.jit.checks import expect_boolean

__all__ = ["PARAMETERS", "STATISTICS", "frozen_nodes", "selected"]

PARAMETERS, STATISTICS = "parameters", "statistics"


@dataclass(frozen=True)
class _Variables:
    """Names of what a node learns, and of the statistics that it moves."""

    parameters: frozenset[str]
    statistics: frozenset[str]


def _variables(graph: Graph) -> dict[str, _Variables]:
    declared = graph.declarations(2)
    return {
        node.name: _Variables(
            frozenset(node.variable(name) for name in declared[node.name].params),
            frozenset(node.variable(name) for name in declared[node.name].state if name in node.layer.statistics),
        )
        for node in graph.nodes
    }


def selected(graph: Graph, patterns: Sequence[str], parameters: bool, statistics: bool) -> frozenset[str]:
    """Return the variables of the nodes that names or globs stand for.

    Nodes that share a layer share its variables: naming one of them names these.

    Raises
    ------
    TypeError, ValueError
        No name, what is no string, or a name or glob that no node has.
    """
    parameters = expect_boolean("parameters", parameters)
    statistics = expect_boolean("statistics", statistics)
    variables = _variables(graph)
    if not patterns:
        raise ValueError("nodes: expected one or more names or globs of nodes, got none; '*' stands for all")
    chosen: set[str] = set()
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"nodes: expected names or globs of nodes, got {pattern!r}")
        matched = [name for name in variables if fnmatchcase(name, pattern)]
        if not matched:
            close = get_close_matches(pattern, variables, n=3) or list(variables)
            raise ValueError(f"nodes: no node is called {pattern!r}; there are {', '.join(close)}")
        for name in matched:
            chosen |= variables[name].parameters if parameters else frozenset()
            chosen |= variables[name].statistics if statistics else frozenset()
    return frozenset(chosen)


def frozen_nodes(graph: Graph, frozen: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Map the nodes of which something is frozen to what is: "parameters", "statistics"."""
    found: dict[str, tuple[str, ...]] = {}
    for name, variables in _variables(graph).items():
        kinds = (PARAMETERS, variables.parameters), (STATISTICS, variables.statistics)
        what = tuple(kind for kind, names in kinds if names and names.issubset(frozen))
        if what:
            found[name] = what
    return found
