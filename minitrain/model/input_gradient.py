"""The gradient of a trained net with respect to its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from minitrain.compile.inference_gradient import differentiable, infers_its_own_way, leading_to
from minitrain.compile.plan import Plan
from minitrain.graph.graph import SINGLE, Graph
from minitrain.layer import Shape
from minitrain.model.activations import activations, batches, unknown_value, values_of
from minitrain.model.plans import Arena, Wanted
from minitrain.model.run import Runnable
from nbnorm.jit.arrays import Array

__all__ = ["Differentiated", "differentiating_plan", "input_gradient"]

Values = tuple[tuple[str, str], ...]  # of a name and the value that it stands for


class Differentiated(Runnable, Protocol):
    @property
    def fuse(self) -> bool: ...
    @property
    def params(self) -> Mapping[str, Array]: ...
    @property
    def state(self) -> Mapping[str, Array]: ...
    @property
    def flat_state(self) -> npt.NDArray[np.uint8]: ...


def differentiating_plan(model: Differentiated, wanted: Wanted, arena: Arena) -> Plan:
    """Bind the plan that differentiates `wanted.differentiated`: no parameter has a gradient, no state moves."""
    graph = differentiable(leading_to(model.graph, dict(wanted.differentiated)), model.fuse, model.dtype)
    shapes = dict(zip(graph.inputs, wanted.shapes, strict=True))
    return Plan(graph, shapes, model.dtype, model.params, model.state, {}, arena=arena, input_gradients=True)


def input_gradient(
    model: Differentiated,
    x: Array | Sequence[Array],
    output_gradient: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None,
    output: str | None,
    batch_size: int,
) -> Any:
    """Do what `Model.input_gradient` does."""
    arrays = model.check_inputs(x)
    shapes = dict(zip(model.graph.inputs, (each.shape for each in arrays), strict=True))
    inputs = [name for name, spec in model.graph.inputs.items() if spec.gradient]
    if not inputs:
        raise ValueError("input_gradient: expected an input of floats, got integers and booleans alone")
    values, given = _wanted_values(model.graph, output_gradient, output)
    results = {name: np.empty(shapes[name], model.dtype) for name in inputs}
    if len(arrays[0]):
        dys = _checked_gradients(model.graph, shapes, values, given)
        _refuse_other_inference(model, values, [each[:batch_size] for each in arrays])
        for start, part in batches(arrays, batch_size):
            stop = start + len(part[0])
            with model._plans.hold(Wanted(tuple(each.shape for each in part), differentiated=values)) as plan:
                plan.load(part)
                plan.forward()
                for name, dy in dys.items():
                    plan.output_gradients[name][...] = 1 if dy is None else dy[start:stop]
                plan.backward()
                for name, result in results.items():
                    result[start:stop] = plan.dinputs[name]
    if len(arrays) == 1:
        return results[inputs[0]]
    return {name: results.get(name) for name in shapes}


def _wanted_values(graph: Graph, output_gradient: Any, output: str | None) -> tuple[Values, dict[str, Any]]:
    """Return what is differentiated, (name, value) each, and the gradients that were given, by these names."""
    named = {} if graph.is_single else dict(graph.outputs)
    if output is not None:
        known = values_of(graph)
        if output not in named and output not in known:
            raise unknown_value("output", output, [*named, *known])
        return ((output, named.get(output, output)),), {output: output_gradient}
    if graph.is_single:
        return ((SINGLE, graph.outputs[SINGLE]),), {SINGLE: output_gradient}
    if not isinstance(output_gradient, Mapping) or not output_gradient or not set(output_gradient) <= set(named):
        names = ", ".join(map(repr, named))
        raise ValueError(
            f"output: expected one of {names}, or a mapping of such names to gradients as output_gradient, got neither"
        )
    return tuple((name, named[name]) for name in output_gradient), dict(output_gradient)


def _checked_gradients(
    graph: Graph, shapes: Mapping[str, Shape], values: Values, given: Mapping[str, Any]
) -> dict[str, Array | None]:
    """Return the gradients as arrays of the shapes of the values, by their names; None stands for ones."""
    _, specs = graph.declare(shapes)
    dys: dict[str, Array | None] = {}
    for name, value in values:
        spec, dy = specs[value], given[name]
        if not spec.gradient:
            raise ValueError(f"output: expected one that has a gradient, got {name or value}, of {spec.dtype}")
        if dy is not None:
            label, dy = f"output_gradient ({name})" if name else "output_gradient", np.asarray(dy)
            if dy.dtype.kind not in "fiu":
                raise TypeError(f"{label}: expected an array of numbers, got dtype {dy.dtype}")
            if dy.shape != spec.shape:
                raise ValueError(f"{label}: expected shape {spec.shape} like the output, got {dy.shape}")
        dys[name] = dy
    return dys


def _refuse_other_inference(model: Differentiated, values: Values, part: list[Array]) -> None:
    """Raise ValueError where a user's layer infers something else than it differentiates."""
    graph = leading_to(model.graph, dict(values))
    own = [node for node in graph.nodes if infers_its_own_way(node.layer)]
    if not own:
        return
    expected = activations(model, part, [value for _, value in values], len(part[0]), False)
    with model._plans.hold(Wanted(tuple(each.shape for each in part), differentiated=values)) as plan:
        plan.load(part)
        plan.forward()
        for name, value in values:
            if not np.allclose(plan.outputs[name], expected[value], 1e-3, 1e-4, equal_nan=True):
                raise ValueError(
                    f"input_gradient: {' or '.join(node.name for node in own)} gives other values in inference than in "
                    f"training, and only the latter has a gradient; differentiate by model.bind(batch, "
                    "input_gradients=True), as in training"
                )
