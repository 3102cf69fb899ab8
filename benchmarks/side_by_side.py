"""What the tables of whole nets share: who takes part, one row of times, and the table of all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np

from benchmarks.remote import PeerError, other_peers
from benchmarks.timing import geometric_mean, installed, interleave, markdown
from minitrain import Model

__all__ = ["EAGER", "TORCH", "Calls", "measure", "table", "torch_variants"]

Calls = dict[str, Callable[[], object]]
Wanted = Callable[[str], bool]

EAGER = ("PyTorch", "PyTorch channels_last")
TORCH = (*EAGER, "torch.compile")


def wanted_peers(names: Sequence[str] | None) -> Wanted:
    """Whether a peer takes part: one whose name a given one is, whatever the case; all for None."""
    return lambda peer: names is None or peer.lower() in [name.lower() for name in names]


def torch_variants(model: Model, x: np.ndarray, wanted: Wanted, compiled: bool) -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield for each variant of PyTorch its name, a module of its own, what is called, and the batch in its layout."""
    import torch

    from benchmarks.torch_net import TorchNet

    images = x.ndim == 4
    for name in TORCH:
        if not wanted(name) or (name == EAGER[1] and not images) or (name == "torch.compile" and not compiled):
            continue
        net: Any = TorchNet(model)
        tx = torch.from_numpy(x)
        if images and name != "PyTorch":
            net, tx = net.to(memory_format=torch.channels_last), tx.contiguous(memory_format=torch.channels_last)
        yield name, net, torch.compile(net) if name == "torch.compile" else net, tx


def measure(
    net: str,
    title: str,
    task: str,
    batch: int,
    ours: Callable[[], object],
    peers: Calls,
    wanted: Wanted,
    seconds: float,
) -> dict[str, Any]:
    """Time ours and the peers in turn; a row of milliseconds by name, with the peers that are missing and why."""
    calls: Calls = {"minitrain": ours}
    missing = {} if installed("torch") else {"PyTorch": "torch not installed"}
    for name, call in peers.items():
        try:
            call()
        except Exception as error:  # whatever a peer fails with: it is named, and the others are measured
            missing[name] = (str(error).strip() or repr(error)).splitlines()[0][:200]
        else:
            calls[name] = call
    with _others(net, task, batch, wanted) as (running, absent):
        missing |= absent
        times = _times({**calls, **running}, seconds, missing)
    row = {"net": title, **times, "missing": missing}
    print(", ".join(f"{key}: {time:.3f} ms" for key, time in times.items()), "|", title, flush=True)
    for name, reason in missing.items():
        print(f"  without {name}: {reason}", flush=True)
    return row


@contextmanager
def _others(net: str, task: str, batch: int, wanted: Wanted) -> Iterator[tuple[Calls, dict[str, str]]]:
    running, missing = other_peers(net, task, batch, numba.get_num_threads(), wanted)
    try:
        yield dict(running), missing
    finally:
        for remote in running.values():
            remote.close()


def _times(calls: Calls, seconds: float, missing: dict[str, str]) -> dict[str, float]:
    """Time the calls in turn, again without a peer that ends meanwhile."""
    while True:
        try:
            return {name: timing.milliseconds for name, timing in interleave(calls, seconds=seconds).items()}
        except PeerError as error:
            missing[error.peer] = error.reason
            calls = {name: call for name, call in calls.items() if name != error.peer}


def table(what: str, rows: list[dict[str, Any]]) -> str:
    """Return the Markdown table of all rows: milliseconds, then each peer's in units of ours, and geometric means."""
    known = (*TORCH, "ONNX Runtime", "OpenVINO", "Keras on JAX", "Keras on TensorFlow", "MLX", "scikit-learn")
    names = [name for name in known if any(name in row for row in rows)]
    groups = {"eager": [name for name in names if name in EAGER]}
    groups |= {{"torch.compile": "compiled"}.get(name, name): [name] for name in names if name not in EAGER}

    def ratio(row: dict[str, Any], group: str) -> float | None:
        best = [row[name] for name in groups[group] if name in row]
        return min(best) / row["minitrain"] if best else None

    cells = [
        [row["net"], row["minitrain"], *map(row.get, names), *(ratio(row, each) for each in groups)] for row in rows
    ]
    means = [geometric_mean([found for row in rows if (found := ratio(row, group)) is not None]) for group in groups]
    cells.append(["geometric mean", *[None] * (len(names) + 1), *means])
    return markdown([what, "minitrain ms", *(f"{n} ms" for n in names), *(f"{g} / ours" for g in groups)], cells)
