"""Freezing: which variables a user means by names of nodes, and the graph that leaves them as they are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase

from minitrain.compile.fusions import freeze, fuse_for_training, spread
from minitrain.compile.fusions import fuse as fuse_graph
from minitrain.graph.graph import Graph
from minitrain.model.kept import Kept
from minitrain.model.variables import parameter_runs
from nbnorm.jit.checks import expect_boolean

__all__ = ["PARAMETERS", "STATISTICS", "Freezing", "frozen_nodes", "selected"]

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


class Freezing(Kept, sealed=True):
    """A model of which something can be frozen; see `Model`."""

    _training_graph: Graph

    @property
    def frozen(self) -> dict[str, tuple[str, ...]]:
        """What training leaves as it is: names of nodes to "parameters", "statistics" or both."""
        return frozen_nodes(self.graph, self.graph.frozen)

    def freeze(self, *nodes: str, parameters: bool = True, statistics: bool = True) -> None:
        """Keep nodes as they are in training, for example those of a trained net under a new head.

        Gradients that nobody needs then are not computed. Optimizers leave frozen parameters alone, and what they
        keep of them. A file does not know what was frozen.

        Parameters
        ----------
        nodes : str
            Names or globs of nodes, "conv*". Nodes that share a layer share what is frozen of it.
        parameters : bool
            Whether to freeze their parameters: weights, gamma and beta.
        statistics : bool
            Whether to freeze their running statistics. A batch norm normalizes by these then, in training too, and its
            gradient is that of a fixed function: dx = gamma / sqrt(running_var + eps) dy.

        Raises
        ------
        TypeError, ValueError
            No name, or one that no node has; a layer whose statistics move and that has no frozen form.
        RuntimeError
            The model is in the middle of a call.
        """
        self._set_frozen(self.graph.frozen | selected(self.graph, nodes, parameters, statistics))

    def unfreeze(self, *nodes: str, parameters: bool = True, statistics: bool = True) -> None:
        """Undo `freeze` for these nodes, with the arguments of that."""
        self._set_frozen(self.graph.frozen - selected(self.graph, nodes, parameters, statistics))

    def _set_frozen(self, frozen: frozenset[str]) -> None:
        if frozen == self.graph.frozen:
            return
        self._plans.clear()
        before = self.graph
        self._graph = replace(before, frozen=frozen)
        try:
            self._training_graph = self._rewritten_for_training()
        except ValueError:
            self._graph = before
            raise
        self._parameter_runs = parameter_runs(self._param_buffers, frozen)
        for name in frozen:
            if name in self.params and self._flat_gradients is not None:
                self.gradients[name][...] = 0

    def _rewritten_for_training(self) -> Graph:
        """Return the graph that training plans run."""
        return self._fused_further(self._frozen_graph())

    def graph_of_part(self, first_sample: int, synchronize: bool) -> Graph:
        """Return the graph that trains on the part of a batch that begins with this sample; see `fusions.spread`."""
        return self._fused_further(spread(self._frozen_graph(), first_sample, synchronize))

    def _frozen_graph(self) -> Graph:
        return freeze(fuse_graph(self.graph) if self.fuse else self.graph)

    def _fused_further(self, graph: Graph) -> Graph:
        return fuse_for_training(graph, self.dtype) if self.fuse else graph
