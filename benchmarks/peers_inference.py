"""Inference of nets, a batch and one sample, against PyTorch (without gradients), ONNX Runtime, OpenVINO and others.

python -m benchmarks.peers inference [--net resnet18] [--peer OpenVINO]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.nets import Net, chosen
from benchmarks.side_by_side import Calls, Wanted, measure, table, torch_variants, wanted_peers
from benchmarks.timing import installed
from minitrain import Model

__all__ = ["run"]


def run(compiled: bool = True, nets: Sequence[str] | None = None, peers: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure every net and batch size; returns rows for the JSON and prints the table."""
    wanted = wanted_peers(peers)
    rows = []
    for key, net, batch in _cases(chosen(nets)):
        x, _ = net.data(batch)
        model = net.make()
        torch_calls = _torch_calls(model, x, wanted, compiled) if installed("torch") else {}
        ours = partial(model.predict, x)
        rows.append(
            measure(key, f"{net.title}, batch {batch}", "inference", batch, ours, torch_calls, wanted, seconds=4)
        )
    print("\n" + table("inference", rows) + "\n")
    return {"inference": rows}


def _cases(nets: dict[str, Net]) -> Iterator[tuple[str, Net, int]]:
    """Yield every net with the batch that it trains with, and with one sample; what is the same once."""
    seen = set()
    for key, net in nets.items():
        for batch in (net.batch, 1):
            if (net.title, batch) not in seen:
                seen.add((net.title, batch))
                yield key, net, batch


def _torch_calls(model: Model, x: np.ndarray, wanted: Wanted, compiled: bool) -> Calls:
    calls: Calls = {}
    for name, module, called, tx in torch_variants(model, x, wanted, compiled):
        module.eval()
        calls[name] = _without_gradients(called, tx)
    return calls


def _without_gradients(net: Any, x: Any) -> Callable[[], object]:
    import torch

    def call() -> object:
        with torch.inference_mode():
            return net(x)

    return call
