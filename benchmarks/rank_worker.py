"""What a rank of `benchmarks.ranks` does."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np
from mpi4py import MPI

from benchmarks.nets import NETS, Net
from benchmarks.timing import PERCENTILE, installed
from minitrain import Trainer, losses, optimizers
from minitrain.layers.fused import SynchronizedBatchNorm
from nbnorm.jit.sharing import sharing

__all__ = ["main"]

COMM = MPI.COMM_WORLD
CORES = numba.config.NUMBA_NUM_THREADS
BLOCK = 0.4  # seconds of one way at a time
ROUNDS = 6
STEPS = 20  # whose computing between meetings is written down
NAP = 1e-3  # seconds between two looks of a rank that waits asleep: MPICH's own waiting takes a core
SIZES = (64, 1024, 16 * 1024, 256 * 1024, 1024 * 1024, 4 * 1024 * 1024, 45 * 1024 * 1024)  # bytes

Step = Callable[[], object]


def main() -> None:
    """`python -m benchmarks.rank_worker FILE NETS NETS`: of some nets (a,b) all ways, of others the parts alone."""
    path, *names = sys.argv[1:]
    whole, in_parts = (each.split(",") if each else [] for each in names)
    sharing.enable(False)
    found: dict[str, Any] = {"ranks": COMM.size, "cores": CORES, "steps": [], "parts": []}
    found["collectives"] = [_collectives(size) for size in SIZES]
    for name in (*whole, *in_parts):
        if name in whole:
            found["steps"].append({"key": name, **_steps_of(NETS[name])})
            _say(name, found["steps"][-1]["ms"])
        found["parts"].append({"key": name, **_parts_of(NETS[name])})
    if COMM.rank == 0:
        Path(path).write_text(json.dumps(found), encoding="utf-8")


def _say(name: str, times: dict[str, float]) -> None:
    if COMM.rank == 0:
        print(name, {key: round(value, 3) for key, value in times.items()}, flush=True)


def _together() -> str:
    return f"{COMM.size} ranks"


def _steps_of(net: Net) -> dict[str, Any]:
    """Time all ways of one net in turn; milliseconds by way."""
    x, labels = net.data()
    threads = CORES // COMM.size or 1

    def ours(comm: Any, **options: Any) -> Step:
        trainer = _trainer(net, comm, **options)
        return lambda: trainer.step(x, labels)

    many = _together()
    alone: dict[str, Step] = {
        "1 process": ours(None),
        "1 rank": ours(MPI.COMM_SELF),
        "1 process, deterministic": ours(None, deterministic=True),
    }
    together: dict[str, Step] = {
        many: ours(COMM),
        f"{many}, unsynchronized": ours(COMM, sync_batch_norm=False),
        f"{many}, deterministic": ours(COMM, deterministic=True),
    }
    if installed("torch"):
        alone["PyTorch"] = _torch_step(net, x, labels, CORES, False)
        together[f"PyTorch DDP, {many}"] = _torch_step(net, x, labels, threads, True)
    order = list({**alone, **together})
    times: dict[str, list[float]] = {name: [] for name in order}
    for turn in range(-1, ROUNDS):  # the first turn compiles
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            if name in together:
                numba.set_num_threads(threads)
                times[name] += _block(together[name], turn, COMM)
            else:
                with _others_asleep():
                    if COMM.rank == 0:
                        numba.set_num_threads(CORES)
                        times[name] += _block(alone[name], turn, MPI.COMM_SELF)
    return {
        "net": net.name,
        "ms": {name: float(np.percentile(each, PERCENTILE)) for name, each in times.items() if each},
    }


def _trainer(net: Net, comm: Any, **options: Any) -> Trainer:
    optimizer = optimizers.Adam(1e-3) if net.adam else optimizers.SGD(0.01, momentum=0.9)
    return Trainer(net.make(), losses.SoftmaxCrossEntropy(), optimizer, comm=comm, **options)


def _block(step: Step, turn: int, ranks: MPI.Intracomm) -> list[float]:
    """Milliseconds of each step of a block; how many they are is the same on all ranks that make them."""
    step()
    start = time.perf_counter()
    step()
    once = time.perf_counter() - start
    count = ranks.bcast(max(int(BLOCK / once), 2))
    times = []
    for _ in range(count):
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    return times if turn >= 0 else []


@contextmanager
def _others_asleep() -> Any:
    """Only the first rank runs the block; the others leave their cores."""
    yield
    done = COMM.Ibarrier()
    while not done.Test():
        time.sleep(NAP)


def _torch_step(net: Net, x: np.ndarray, labels: np.ndarray, threads: int, distributed: bool) -> Step:
    import torch

    from benchmarks.torch_net import TorchNet

    module: Any = TorchNet(net.make()).train()
    count, ranks, rank = len(x), COMM.size, COMM.rank
    own = slice(count * rank // ranks, count * (rank + 1) // ranks) if distributed else slice(None)
    if distributed:
        _join_gloo()
        module = torch.nn.parallel.DistributedDataParallel(module)
    parameters = list(module.parameters())
    optimizer: Any = torch.optim.Adam(parameters, 1e-3) if net.adam else torch.optim.SGD(parameters, 0.01, momentum=0.9)
    tx, ty = torch.from_numpy(x[own]), torch.from_numpy(labels[own])

    def step() -> float:
        torch.set_num_threads(threads)
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(module(tx), ty)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def _join_gloo() -> None:
    import torch

    if torch.distributed.is_initialized():
        return
    port = None
    if COMM.rank == 0:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{COMM.bcast(port)}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=COMM.rank, world_size=COMM.size)


def _parts_of(net: Net) -> dict[str, Any]:
    """What a step of all ranks is made of, each part timed by itself beside a whole step; milliseconds."""
    x, labels = net.data()
    count = -(-len(x) // COMM.size)
    trainer, together = _trainer(net, None), _trainer(net, COMM)
    model = trainer.model
    numba.set_num_threads(CORES // COMM.size or 1)
    graph = model.graph_of_part(0, True)
    norms = [node for node in graph.nodes if isinstance(node.layer, SynchronizedBatchNorm)]
    channels = [model.params[node.variable("gamma")].size for node in norms]
    own = [(np.zeros((1, 2 * each + 1)), np.zeros((COMM.size, 2 * each + 1))) for each in channels]

    def statistics() -> None:
        for _ in range(2):  # forward and backward
            for send, receive in own:
                COMM.Allgather(send, receive)

    gradients, total = np.zeros((2, model.flat_gradients.size), np.float32)

    def overlapped() -> None:
        """Sums that are under way while the part is computed: the most that could be gained by starting early."""
        request = COMM.Iallreduce(gradients, total)
        trainer.step(x[:count], labels[:count])
        request.Wait()

    outputs = {"outputs": np.zeros((count, 10), np.float32)}
    calls = {
        "part": lambda: trainer.step(x[:count], labels[:count]),  # on all ranks at once, as in a step
        "outputs": lambda: COMM.allgather([outputs, labels[:count]]),
        "statistics": statistics,
        "gradients": lambda: COMM.Allreduce(gradients, total),
    }
    row = _typical({**calls, "overlapped": overlapped, "step": lambda: together.step(x, labels)})
    hidden = row["part"] + row["gradients"] - row.pop("overlapped")
    sizes = {"norms": len(norms), "values": int(model.flat_gradients.size)}
    whole = sum(row[name] for name in calls)
    return {
        "net": net.name,
        "ranks": COMM.size,
        "alone": _alone(net),
        **row,
        "model": whole,
        "waits": row["step"] - whole,
        "hidden": hidden,
        "segments": _segments_of(net),
        **sizes,
    }


def _alone(net: Net) -> float:
    """Milliseconds of a step of the whole batch in one process with all threads, while the other ranks sleep."""
    times: list[float] = []
    with _others_asleep():
        if COMM.rank == 0:
            numba.set_num_threads(CORES)
            (x, labels), trainer = net.data(), _trainer(net, None)
            for turn in range(-2, STEPS):
                start = time.perf_counter()
                trainer.step(x, labels)
                times += [(time.perf_counter() - start) * 1e3] * (turn >= 0)
            numba.set_num_threads(CORES // COMM.size or 1)
    return float(np.percentile(times, PERCENTILE)) if times else 0.0


class _Watched:
    """A group that takes the times at which its rank arrives where all ranks meet, and goes on from there."""

    def __init__(self, group: Any) -> None:
        self._group = group
        self.times: list[tuple[float, float]] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._group, name)
        if name not in ("rows", "gathered", "add_up"):
            return found

        def meet(*given: Any) -> Any:
            arrived = time.perf_counter()
            result = found(*given)
            self.times.append((arrived, time.perf_counter()))
            return result

        return meet


def _segments_of(net: Net) -> list[list[list[float]]]:
    """Milliseconds that each rank computes between two meetings, for each step: what a simulation draws from."""
    (x, labels), trainer = net.data(), _trainer(net, COMM)
    watched = _Watched(trainer.spread.group)
    trainer.spread.group = watched
    steps = []
    for turn in range(-2, STEPS):
        COMM.Barrier()
        watched.times.clear()
        begin = time.perf_counter()
        trainer.step(x, labels)
        arrived, left = (list(each) for each in zip(*watched.times, strict=True))
        ends = [*arrived, time.perf_counter()]
        if turn >= 0:
            steps.append([(end - start) * 1e3 for start, end in zip([begin, *left], ends, strict=True)])
    return COMM.allgather(steps)


def _collectives(size: int) -> dict[str, float]:
    """Microseconds of one collective over so many bytes of each rank."""
    own, total = np.zeros((2, size // 4), np.float32)
    every = np.zeros(COMM.size * (size // 4), np.float32)
    calls = {
        "allreduce": lambda: COMM.Allreduce(own, total),
        "allgather": lambda: COMM.Allgather(own, every),
    }
    return {"bytes": size, **{name: 1e3 * each for name, each in _typical(calls).items()}}


def _typical(calls: dict[str, Step]) -> dict[str, float]:
    """Milliseconds of calls that all ranks make in turn, as often as the first says; of the slowest rank."""
    for call in calls.values():
        call()
        call()
    COMM.Barrier()
    start = time.perf_counter()
    for call in calls.values():
        call()
    rounds = COMM.bcast(max(min(int(ROUNDS * BLOCK / max(time.perf_counter() - start, 1e-7)), 2000), 12))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            COMM.Barrier()
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: max(COMM.allgather(float(np.percentile(each, PERCENTILE)))) for name, each in times.items()}


if __name__ == "__main__":
    main()
