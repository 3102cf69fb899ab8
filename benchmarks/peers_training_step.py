"""Whole training steps (forward, loss, backward, optimizer) against PyTorch and all others that train.

python -m benchmarks.peers training-step [--net resnet18] [--peer PyTorch]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np

from benchmarks import processes
from benchmarks.nets import Net, chosen
from benchmarks.side_by_side import Calls, Wanted, measure, table, torch_variants, wanted_peers
from benchmarks.timing import installed
from minitrain import Trainer, losses, optimizers

__all__ = ["run", "step_of", "torch_steps"]


def run(compiled: bool = True, nets: Sequence[str] | None = None, peers: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure every net; returns rows for the JSON and prints the table. Without names what a process costs, too."""
    wanted = wanted_peers(peers)
    rows = []
    for key, net in chosen(nets).items():
        x, labels = net.data()
        torch_calls = torch_steps(net, x, labels, wanted, compiled) if installed("torch") else {}
        ours = step_of(net, x, labels)
        rows.append(measure(key, net.name, "training-step", net.batch, ours, torch_calls, wanted, seconds=8))
    print("\n" + table("training step", rows) + "\n")
    results: dict[str, Any] = {"training-step": rows}
    if nets is None:
        results["processes"] = processes.run(numba.get_num_threads())
    return results


def step_of(net: Net, x: np.ndarray, labels: np.ndarray) -> Callable[[], object]:
    """Return our training step on this batch."""
    optimizer = optimizers.Adam(1e-3) if net.adam else optimizers.SGD(0.01, momentum=0.9)
    trainer = Trainer(net.make(), losses.SoftmaxCrossEntropy(), optimizer)
    return lambda: trainer.step(x, labels)


def torch_steps(net: Net, x: np.ndarray, labels: np.ndarray, wanted: Wanted, compiled: bool) -> Calls:
    """Return PyTorch's training steps on this batch, by the name of the variant."""
    import torch

    calls: Calls = {}
    for name, module, called, tx in torch_variants(net.make(), x, wanted, compiled):
        parameters = list(module.train().parameters())
        optimizer = torch.optim.Adam(parameters, 1e-3) if net.adam else torch.optim.SGD(parameters, 0.01, momentum=0.9)
        calls[name] = _torch_step(called, tx, torch.from_numpy(labels), optimizer)
    return calls


def _torch_step(net: Any, x: Any, labels: Any, optimizer: Any) -> Callable[[], float]:
    import torch

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step
