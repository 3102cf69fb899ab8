"""When what happens: the forward calls, the losses, the backward calls, and the arrays of each.

Time runs over the forward calls 0 .. L - 1, the losses at L, then two ticks for each backward call, last layer first:
one for the sum of its outputs' gradients, one for the call. Where the gradients of the inputs are wanted, one tick more
sums these, after all calls.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from minitrain.compile import backward
from minitrain.compile.requests import Builder, Request, Schedule, Step
from minitrain.graph.graph import Graph
from minitrain.layer import Shape

__all__ = ["Request", "Schedule", "Step", "schedule_inference", "schedule_training"]


def schedule_inference(graph: Graph, inputs: int | Mapping[str, Shape], dtype: np.dtype) -> Schedule:
    """Schedule the forward calls alone; saved arrays live as long as scratch does.

    `inputs` is a batch size, or the shapes of all inputs by name, batch axis first.
    """
    builder = Builder(graph, inputs, dtype)
    builder.forward()
    return builder.finish(len(builder.steps))


def schedule_training(
    graph: Graph,
    inputs: int | Mapping[str, Shape],
    dtype: np.dtype,
    *,
    input_gradients: bool = False,
    share_memory: bool = True,
    losses: Collection[str] | None = None,
) -> Schedule:
    """Schedule forward, losses and backward.

    `input_gradients` asks for the gradients of the model's inputs too, which training does without. Without
    `share_memory` every gradient has an array of its own. `losses` names the outputs whose gradients are given; all
    that can have one unless given. What does not lead to one of them is not computed backward.

    Raises
    ------
    ValueError
        A loss of an output that is not there, or that no gradient flows back from.
    """
    builder = Builder(graph, inputs, dtype)
    builder.forward()
    loss_time = len(builder.steps)
    last_call = loss_time + 2 * len(builder.steps)
    end = last_call + input_gradients
    walk = backward.Backward(builder, input_gradients)
    output_gradients = {}
    for name in _outputs_with_losses(builder, losses):
        value = graph.outputs[name]
        output_gradients[name] = builder.request(builder.specs[value], loss_time)
        walk.parts.setdefault(value, []).append(output_gradients[name])
    steps_back = [(step, last_call - 2 * position) for position, step in reversed(list(enumerate(builder.steps)))]
    for step, time in steps_back:
        walk.schedule(step, time)
    schedule = builder.finish(end)
    schedule.output_gradients = output_gradients
    schedule.unreached = walk.unreached()
    if input_gradients:
        schedule.input_gradients = walk.input_gradients(end)
    if share_memory:
        for step, time in steps_back:
            backward.share_memory(step, time, schedule.inputs.values())
    return schedule


def _outputs_with_losses(builder: Builder, losses: Collection[str] | None) -> list[str]:
    """The names of the outputs whose gradients are given, in the graph's order."""
    outputs = builder.graph.outputs
    possible = [name for name, value in outputs.items() if builder.specs[value].gradient]
    for name in losses or ():
        if name not in possible:
            known = ", ".join(map(repr, possible)) or "none"
            raise ValueError(f"losses: expected outputs that a gradient flows back from ({known}), got {name!r}")
    return [name for name in possible if losses is None or name in losses]
