"""A graph as JSON and back. Only classes of two fixed tables are made, only from their own fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from minitrain.graph.graph import Graph, GraphNode
from minitrain.initializers import INITIALIZERS, Initializer
from minitrain.layer import Layer
from minitrain.layers import LAYERS

__all__ = ["graph_from_json", "graph_to_json"]


def graph_to_json(graph: Graph) -> dict[str, Any]:
    """Describe a graph by dictionaries, lists, strings and numbers."""
    return {
        "inputs": {name: list(shape) for name, shape in graph.inputs.items()},
        "nodes": [
            {"name": node.name, "layer": _to_json(node.layer), "inputs": list(node.inputs)} for node in graph.nodes
        ],
        "output": graph.output,
    }


def graph_from_json(data: Any) -> Graph:
    """Build a graph from what `graph_to_json` gave. Raises ValueError that says what is wrong with it."""
    try:
        inputs = {str(name): tuple(int(size) for size in shape) for name, shape in data["inputs"].items()}
        nodes = [
            GraphNode(str(each["name"]), _layer(each["layer"]), tuple(map(str, each["inputs"])))
            for each in data["nodes"]
        ]
        output = str(data["output"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"graph: malformed description ({type(error).__name__}: {error})") from None
    _check_order(inputs, nodes, output)
    graph = Graph(inputs, tuple(nodes), output)
    graph.declarations(2)  # shapes that do not fit are errors now, not at the first batch
    return graph


def _check_order(inputs: Mapping[str, Any], nodes: list[GraphNode], output: str) -> None:
    known = set(inputs)
    for node in nodes:
        for value in node.inputs:
            if value not in known:
                raise ValueError(f"graph: {node.name} reads {value!r}, which no earlier layer gives")
        if node.name in known:
            raise ValueError(f"graph: {node.name!r} stands for more than one layer")
        known.add(node.name)
    if output not in known:
        raise ValueError(f"graph: no layer gives the output {output!r}")


def _to_json(value: Any) -> Any:
    if isinstance(value, (Layer, Initializer)):
        fields = {field.name: _to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__, **fields}
    if isinstance(value, (list, tuple)):
        return [_to_json(each) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"cannot be saved: {value!r}")


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return _make(value, INITIALIZERS, "initializer")
    return tuple(_from_json(each) for each in value) if isinstance(value, list) else value


def _layer(data: Any) -> Layer:
    layer = _make(data, LAYERS, "layer")
    assert isinstance(layer, Layer)
    return layer


def _make(data: Mapping[str, Any], classes: Mapping[str, type[Any]], kind: str) -> Any:
    name = data["class"]
    if name not in classes:
        raise ValueError(f"graph: unknown {kind} {name!r}; expected one of {', '.join(classes)}")
    known = {field.name for field in dataclasses.fields(classes[name])}
    arguments = {key: _from_json(value) for key, value in data.items() if key != "class"}
    unknown = sorted(set(arguments) - known)
    if unknown:
        raise ValueError(f"graph: {name} has no argument {', '.join(unknown)}")
    return classes[name](**arguments)
