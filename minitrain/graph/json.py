"""A graph as JSON and back.

Only classes of fixed tables are made, only from their own fields: minitrain's layers and initializers, and the layers
that whoever reads a file passes by name. Nothing that a file names is imported.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from minitrain.graph.graph import SINGLE, Graph, GraphNode, Input
from minitrain.initializers import INITIALIZERS, Initializer
from minitrain.layer import Layer, Spec
from minitrain.layers import LAYERS
from nbnorm.jit.checks import mismatch

__all__ = ["Classes", "graph_from_json", "graph_to_json", "known_classes"]

Classes = Mapping[str, type[Any]]
OWN: Classes = {**LAYERS, **INITIALIZERS}
VALUES = "None, booleans, numbers, strings, layers, initializers of minitrain, or tuples of these"


def graph_to_json(graph: Graph) -> dict[str, Any]:
    """Describe a graph by dictionaries, lists, strings and numbers.

    Raises
    ------
    TypeError, ValueError
        What could not be read again: fields of a layer that JSON has no words for, classes of one name, a fused graph.
        The message names the node and the field.
    """
    classes = dict(OWN)
    nodes = {node.name: node for node in graph.nodes}
    return {
        "inputs": {name: _input_to_json(spec) for name, spec in graph.inputs.items()},
        "nodes": [_node_to_json(node, classes, nodes) for node in graph.nodes],
        **({"output": graph.outputs[SINGLE]} if graph.is_single else {"outputs": dict(graph.outputs)}),
    }


def _input_to_json(spec: Spec) -> Any:
    """The sizes alone for floats; with the dtype for others."""
    return list(spec.shape) if spec.dtype is None else {"shape": list(spec.shape), "dtype": spec.dtype}


def _node_to_json(node: GraphNode, classes: dict[str, type[Any]], nodes: Mapping[str, GraphNode]) -> dict[str, Any]:
    described = {"name": node.name, "layer": _layer_to_json(node, classes), "inputs": list(node.inputs)}
    return {**described, "variables": _owner(node, nodes)} if node.names else described


def _owner(node: GraphNode, nodes: Mapping[str, GraphNode]) -> str:
    """Return the name of the node whose parameters and state this one shares."""
    owners = {name.rpartition(".")[0] for name in node.names.values()}
    own = all(name.rpartition(".")[2] == local for local, name in node.names.items())
    owner = nodes.get(owners.pop()) if len(owners) == 1 else None
    if not own or owner is None or owner is node or owner.layer != node.layer:
        raise ValueError(f"{node.name}: a {type(node.layer).__name__} stands for other layers; save the unfused graph")
    return owner.name


def known_classes(layers: Iterable[type[Layer]]) -> Classes:
    """Return what a graph may name: minitrain's classes and a user's layers, which must not hide any other."""
    classes = dict(OWN)
    for layer in layers:
        if not (isinstance(layer, type) and issubclass(layer, Layer)):
            raise TypeError(mismatch("layers", "classes of layers", repr(layer)))
        if classes.setdefault(layer.__name__, layer) is not layer:
            raise ValueError(f"layers: two classes are called {layer.__name__}; give yours a name of its own")
    return classes


def graph_from_json(data: Any, classes: Classes = OWN) -> Graph:
    """Build a graph of these classes from what `graph_to_json` gave; ValueError says what is wrong with it."""
    try:
        inputs = {str(name): _input_from_json(each) for name, each in data["inputs"].items()}
        nodes = [
            GraphNode(str(each["name"]), _layer(each["layer"], classes), tuple(map(str, each["inputs"])))
            for each in data["nodes"]
        ]
        owners = {str(each["name"]): str(each["variables"]) for each in data["nodes"] if "variables" in each}
        if "outputs" in data:
            outputs = {str(name): str(value) for name, value in data["outputs"].items()}
        else:
            outputs = {SINGLE: str(data["output"])}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"graph: malformed description ({type(error).__name__}: {error})") from None
    return _checked(Graph(inputs, tuple(nodes), outputs), owners)


def _input_from_json(data: Any) -> Spec:
    if not isinstance(data, dict):
        return Input(tuple(data)).spec
    return Input(tuple(data["shape"]), dtype=data["dtype"]).spec


def _checked(graph: Graph, owners: Mapping[str, str]) -> Graph:
    """Return the graph with the names of shared variables; ValueError where it could not run."""
    _check_order(graph)
    declared, values = graph.declare(2)
    nodes = {node.name: node for node in graph.nodes}
    shared = []
    for node in graph.nodes:
        owner = owners.get(node.name)
        if owner is None:
            shared.append(node)
            continue
        if owner not in nodes or owner in owners or type(nodes[owner].layer) is not type(node.layer):
            raise ValueError(f"graph: {node.name} shares the variables of {owner!r}, which is no such layer")
        locals_ = (*declared[node.name].params, *declared[node.name].state)
        shared.append(replace(node, names={local: f"{owner}.{local}" for local in locals_}))
    for value in graph.outputs.values():
        if value not in values:
            raise ValueError(f"graph: no layer gives the output {value!r}")
    if not graph.outputs:
        raise ValueError("graph: expected one or more outputs, got none")
    return replace(graph, nodes=tuple(shared))


def _check_order(graph: Graph) -> None:
    """Raise ValueError where a layer reads what no earlier layer gives, or two layers have one name."""
    known = set(graph.inputs)
    for node in graph.nodes:
        for value in node.inputs:
            if value.partition(".")[0] not in known:
                raise ValueError(f"graph: {node.name} reads {value!r}, which no earlier layer gives")
        if node.name in known:
            raise ValueError(f"graph: {node.name!r} stands for more than one layer")
        known.add(node.name)


# ------------------------------------------------------------------------------------------------------------- writing


def _layer_to_json(node: GraphNode, classes: dict[str, type[Any]]) -> Any:
    """Describe a node's layer; `classes` collects what was met, by name."""
    description = _to_json(node.layer, node.name, classes)
    try:
        again = _to_json(_from_json(description, classes), node.name, classes)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{node.name}: cannot be made again from its fields: {error}") from None
    if json.dumps(again) != json.dumps(description):
        raise ValueError(f"{node.name}: expected a layer that is made again from its fields, got {node.layer!r}")
    return description


def _to_json(value: Any, where: str, classes: dict[str, type[Any]]) -> Any:
    if isinstance(value, (Layer, Initializer)):
        kind = type(value)
        if isinstance(value, Initializer) and kind.__name__ not in INITIALIZERS:
            raise TypeError(mismatch(where, VALUES, repr(value)))
        if classes.setdefault(kind.__name__, kind) is not kind:
            raise ValueError(f"{where}: two classes are called {kind.__name__}; give yours a name of its own")
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        return {
            "class": kind.__name__,
            **{name: _to_json(getattr(value, name), f"{where}: {name}", classes) for name in fields},
        }
    if isinstance(value, (list, tuple)):
        return [_to_json(each, where, classes) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(mismatch(where, VALUES, repr(value)))


# ------------------------------------------------------------------------------------------------------------- reading


def _layer(data: Any, classes: Classes) -> Layer:
    layer = _make(data, classes, "layer")
    if not isinstance(layer, Layer):
        raise ValueError(f"graph: expected a layer, got {data['class']}")
    return layer


def _from_json(value: Any, classes: Classes) -> Any:
    if isinstance(value, dict):
        return _make(value, classes, "layer or initializer")
    return tuple(_from_json(each, classes) for each in value) if isinstance(value, list) else value


def _make(data: Mapping[str, Any], classes: Classes, kind: str) -> Any:
    name = data["class"]
    if name not in classes:
        raise ValueError(f"graph: unknown {kind} {name!r}; pass its class: Model.load(path, layers=[{name}])")
    known = {field.name for field in dataclasses.fields(classes[name]) if field.init}
    arguments = {key: _from_json(value, classes) for key, value in data.items() if key != "class"}
    unknown = sorted(set(arguments) - known)
    if unknown:
        raise ValueError(f"graph: {name} has no argument {', '.join(unknown)}")
    return classes[name](**arguments)
