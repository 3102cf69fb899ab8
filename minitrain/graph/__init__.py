"""Names and edges: what a user builds from nodes, and the graph that everything else works on."""

from minitrain.graph.graph import Graph, GraphNode, Input, trace
from minitrain.layer import Node

__all__ = ["Graph", "GraphNode", "Input", "Node", "trace"]
