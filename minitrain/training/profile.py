"""Where the time of a training step goes, layer by layer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from minitrain.compile.plan import Plan
from minitrain.graph import Graph
from minitrain.layer import Tensors
from minitrain.terminal.tables import format_table

__all__ = ["LayerProfile", "format_profile", "profile_plan"]

ALGORITHMS = "algorithm (forward / input / weight gradient)"
PERCENTILE = 20  # of the runs: other programs take a core for milliseconds at a time


@dataclass(frozen=True)
class LayerProfile:
    """Times in seconds of one layer; flops and bytes of the calls (what they must read and write at least).

    `algorithms` names what was chosen, where there is a choice: "forward", "input gradient", "weight gradient".
    """

    name: str
    kind: str
    forward: float
    backward: float
    flops: int
    forward_bytes: int
    backward_bytes: int
    algorithms: Mapping[str, str] = field(default_factory=dict)

    @property
    def gflops(self) -> float:
        """Rate in 1e9 operations a second; a backward pass takes twice the operations of a forward pass."""
        return _rate(self.flops * (3 if self.backward else 1), self.forward + self.backward)

    @property
    def gbytes(self) -> float:
        """Rate in 1e9 bytes a second of arrays read and written."""
        return _rate(self.forward_bytes + self.backward_bytes, self.forward + self.backward)


def profile_plan(plan: Plan, run_loss: Callable[[], object], runs: int = 10) -> list[LayerProfile]:
    """Time every call of a plan whose inputs are loaded; `run_loss` writes the gradient of the output."""
    times: dict[tuple[str, str], list[float]] = {}
    for run in range(runs + 1):
        once: dict[tuple[str, str], float] = {}
        forward_done = False
        for name, direction, call in plan.calls():
            if direction != "forward" and not forward_done:
                run_loss()
                forward_done = True
            start = time.perf_counter()
            call()
            key = (name, "backward" if direction == "sum" else direction)
            once[key] = once.get(key, 0.0) + time.perf_counter() - start
        if run:  # the first run warms up
            for key, seconds in once.items():
                times.setdefault(key, []).append(seconds)
    measured = {key: float(np.percentile(each, PERCENTILE)) for key, each in times.items()}
    return [_profile_layer(plan, node.name, measured) for node in plan.graph.nodes]


def _profile_layer(plan: Plan, name: str, measured: dict[tuple[str, str], float]) -> LayerProfile:
    node = next(each for each in plan.graph.nodes if each.name == name)
    tensors = plan.tensors[name]
    shapes = [x.shape for x in tensors.xs]
    flops, algorithms = node.layer.flops(*shapes), node.layer.algorithms(*shapes, dtype=tensors.ys[0].dtype)
    forward, backward = measured.get((name, "forward"), 0.0), measured.get((name, "backward"), 0.0)
    forward_bytes, backward_bytes = _touched(tensors)
    return LayerProfile(
        name, type(node.layer).__name__, forward, backward, flops, forward_bytes if forward else 0,
        backward_bytes if backward else 0, algorithms,
    )  # fmt: skip


def _touched(tensors: Tensors) -> tuple[int, int]:
    """Bytes that forward moves, inputs and outputs; and backward: both again, and the gradients of the inputs."""
    inputs = sum(x.nbytes for x in tensors.xs)
    outputs = sum(y.nbytes for y in tensors.ys)
    gradients = sum(dx.nbytes for dx in tensors.dxs if dx is not None)
    return inputs + outputs, inputs + outputs + gradients


def format_profile(layers: list[LayerProfile], graph: Graph, batch: int) -> str:
    """Return the table that `Trainer.profile` prints."""
    header = ("layer", "kind", ALGORITHMS, "forward ms", "backward ms", "share", "GFLOP/s", "GB/s")
    total = math.fsum(each.forward + each.backward for each in layers)
    rows = [header]
    for each in layers:
        share = _rate(each.forward + each.backward, total) * 1e9
        rows.append(
            (
                each.name,
                each.kind,
                _algorithms(each),
                f"{each.forward * 1e3:.3f}",
                f"{each.backward * 1e3:.3f}",
                f"{share:.0%}",
                f"{each.gflops:.0f}" if each.flops else "",
                f"{each.gbytes:.1f}",
            )
        )
    end = f"{total * 1e3:.2f} ms in {len(graph.nodes)} layers, batch {batch}"
    return "\n".join([format_table(rows, align="<<<>"), end])


def _algorithms(layer: LayerProfile) -> str:
    """The algorithms in the order of the heading, or the only one."""
    names = list(layer.algorithms.values())
    return " / ".join(names[:1] if len(set(names)) == 1 else names)


def _rate(amount: float, seconds: float) -> float:
    return amount / seconds / 1e9 if seconds else 0.0
