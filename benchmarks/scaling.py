"""From what `benchmarks.ranks --json` measured on a few ranks to what many take: the model of docs/scaling.md.

python -m benchmarks.scaling FILE [FILE ...]

    step(p) = computing of one rank + waits(p) + statistics(p) + outputs(p) + gradients(p)

Computing is what a rank does between the meetings of all ranks, in steps of all of them; `waits` draws for each rank
one of these measured steps and adds up the slowest of all ranks, meeting by meeting. A rank that is a machine by itself
has a batch of its own and all threads: computing is what that takes one process, times what a part took in such steps
more than by itself (norms take two passes, parts have plans of their own, the cores share the memory). Messages take a
latency for each of their rounds and a time for each byte that goes over the wire or is added, fitted to the machine of
the file; of networks latency and wire are assumed (`NETWORKS`). All times are 20th percentiles.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from benchmarks.nets import NETS
from benchmarks.ranks import IN_PARTS
from benchmarks.timing import PERCENTILE, markdown
from minitrain.layers.fused import SynchronizedBatchNorm

__all__ = ["NETWORKS", "Network", "Work", "fit", "step", "waits"]

RANKS = (2, 8, 64, 512)
DRAWS = 200  # simulated steps
CLASSES = 10  # values of an output of each sample, float32
DOUBLE, FLOAT = 8, 4  # bytes
PICKLED = 300  # bytes around an array that is sent as an object


@dataclass(frozen=True)
class Network:
    """Microseconds of latency for each round of messages, and nanoseconds for each byte, of one rank."""

    name: str
    latency: float
    wire: float
    adding: float

    def allreduce(self, size: int, ranks: int) -> float:
        """Milliseconds of a sum of so many bytes: scattered and gathered by halves (Rabenseifner 2004)."""
        part = size * (ranks - 1) / ranks
        return self._time(2 * math.log2(ranks), 2 * part) + part * self.adding * 1e-6

    def allgather(self, size: int, ranks: int) -> float:
        """Milliseconds until everybody has the `size` bytes of everybody (recursive doubling)."""
        return self._time(math.log2(ranks), size * (ranks - 1))

    def _time(self, rounds: float, size: float) -> float:
        return rounds * self.latency * 1e-3 + size * self.wire * 1e-6


# Latency and bandwidth that MPI reaches between two nodes as a rule: assumptions, not measured here.
NETWORKS = {"10 Gb/s Ethernet": (20.0, 1 / 1.1), "100 Gb/s InfiniBand": (2.0, 1 / 11.0)}


@dataclass(frozen=True)
class Work:
    """What a step of one rank is.

    Attributes
    ----------
    alone, computing : float
        Milliseconds of a step of one process for the same samples, and as it is spread.
    shares : array (steps, meetings)
        How long it took up to each meeting, as shares of the typical step.
    channels : tuple of int
        Of each synchronized batch norm.
    values, samples : int
        Parameters; samples of a rank.
    """

    alone: float
    computing: float
    shares: npt.NDArray[np.float64]
    channels: tuple[int, ...]
    values: int
    samples: int


def fit(collectives: list[dict[str, float]], ranks: int) -> Network:
    """Return the latency and the times of a byte by which messages take what they took; relative errors are small."""
    units = [Network("", *row) for row in np.eye(3)]
    rows, ones = [], []
    for each in collectives:
        for kind in ("allreduce", "allgather"):
            measured = each[kind] * 1e-3
            rows.append([getattr(unit, kind)(each["bytes"], ranks) / measured for unit in units])
            ones.append(1.0)
    found, _ = nnls(np.array(rows), np.array(ones))
    return Network("this machine", *map(float, found))


def waits(work: Work, ranks: int, seed: int = 0) -> float:
    """Milliseconds that a step takes longer as ranks wait for the slowest of them wherever they meet: simulated."""
    rng = np.random.default_rng(seed)
    drawn = work.shares[rng.integers(0, len(work.shares), (DRAWS, ranks))]
    return work.computing * (float(np.percentile(drawn.max(axis=1).sum(axis=1), PERCENTILE)) - 1.0)


def step(work: Work, network: Network, ranks: int) -> dict[str, float]:
    """Return the milliseconds of a step on so many ranks, and of what it is made of."""
    parts = {"computing": work.computing}
    if ranks > 1:
        parts["waits"] = waits(work, ranks)
        rows = [DOUBLE * (2 * channels + 1) for channels in work.channels]
        parts["statistics"] = 2 * math.fsum(network.allgather(size, ranks) for size in rows)
        parts["outputs"] = network.allgather(FLOAT * CLASSES * work.samples + PICKLED, ranks)
        parts["gradients"] = network.allreduce(FLOAT * work.values, ranks)
    return {"step": math.fsum(parts.values()), **parts}


def work_of(row: dict[str, Any], whole: bool) -> Work:
    """Return the work of a rank: its part of the batch of a row, or a batch of its own on all cores (`whole`)."""
    net = NETS[row["key"]]
    model = net.make()
    graph = model.graph_of_part(0, True)
    channels = tuple(
        model.params[node.variable("gamma")].size
        for node in graph.nodes
        if isinstance(node.layer, SynchronizedBatchNorm)
    )
    segments = np.concatenate([np.array(each) for each in row["segments"]])
    typical = float(np.percentile(segments.sum(axis=1), PERCENTILE))
    samples = net.batch if whole else -(-net.batch // row["ranks"])
    alone = row["alone" if whole else "part"]
    return Work(alone, alone * max(typical / row["part"], 1.0), segments / typical, channels, row["values"], samples)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description="Model the time of a step.")
    parser.add_argument("files", nargs="+", type=Path)
    found = [json.loads(path.read_text(encoding="utf-8")) for path in parser.parse_args().files]
    checked = []
    for each in found:
        network = fit(each["collectives"], each["ranks"])
        byte = f"{network.wire:.2f} ns a byte, {network.adding:.2f} ns a byte that is added"
        print(f"{each['ranks']} ranks: {network.latency:.1f} us a round, {byte}")
        checked += [_checked(row, network) for row in each["parts"]]
    print("\n" + markdown([*CHECKED, *PARTS], checked) + "\n")
    adding = fit(found[0]["collectives"], found[0]["ranks"]).adding
    networks = [Network(name, *of, adding) for name, of in NETWORKS.items()]
    rows = [
        _carried(row, network, ranks)
        for row in found[0]["parts"]
        if row["key"] in IN_PARTS
        for network in networks
        for ranks in RANKS
    ]
    print(markdown([*CARRIED, *PARTS], rows))


PARTS = ("computing", "waits", "statistics", "outputs", "gradients")
CHECKED = ("net", "ranks", "measured ms", "model ms", "model / measured", "part alone")
CARRIED = ("net, on each rank", "network", "ranks", "one process ms", "step ms", "images/s", "efficiency")


def _checked(row: dict[str, Any], network: Network) -> list[Any]:
    work, ranks = work_of(row, False), row["ranks"]
    modelled = step(work, network, ranks)
    ratio = modelled["step"] / row["step"]
    return [row["net"], ranks, row["step"], modelled["step"], ratio, work.alone, *(modelled[name] for name in PARTS)]


def _carried(row: dict[str, Any], network: Network, ranks: int) -> list[Any]:
    work = work_of(row, True)
    parts = step(work, network, ranks)
    speed, efficiency = 1e3 * ranks * work.samples / parts["step"], work.alone / parts["step"]
    about = [row["net"], network.name, ranks, work.alone, parts["step"], speed, efficiency]
    return [*about, *(parts[name] for name in PARTS)]


if __name__ == "__main__":
    main()
