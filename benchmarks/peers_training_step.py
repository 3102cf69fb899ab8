"""Whole training steps (forward, loss, backward, optimizer) against PyTorch, eager and compiled.

python -m benchmarks.peers training-step
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from benchmarks import processes
from benchmarks.timing import geometric_mean, installed, interleave, markdown
from minitrain import Input, Model, Trainer, layers, losses, models, optimizers

__all__ = ["NETS", "run"]


def digits_net() -> Model:
    """Two convolutions of 16 and 32 channels with batch norm, for 8 x 8 images."""
    h = x = Input((1, 8, 8))
    for channels in (16, 32):
        h = layers.Conv2d(channels, 3, padding=1, bias=False)(h)
        h = layers.MaxPool2d(2)(layers.ReLU()(layers.BatchNorm()(h)))
    return Model(x, layers.Dense(10)(layers.Flatten()(h)), seed=0)


def sigmoid_mlp() -> Model:
    """The net of Ioffe and Szegedy 2015, figure 1, with batch norm before the sigmoids."""
    h = x = Input((784,))
    for _ in range(3):
        h = layers.Sigmoid()(layers.BatchNorm()(layers.Dense(100, bias=False)(h)))
    return Model(x, layers.Dense(10)(h), seed=0)


# name: model, batch, whether Adam (else SGD with momentum)
NETS: dict[str, tuple[Callable[[], Model], int, bool]] = {
    "ResNet-20, batch 128, SGD": (lambda: models.resnet20((3, 32, 32), 10), 128, False),
    "ResNet-20, batch 32, SGD": (lambda: models.resnet20((3, 32, 32), 10), 32, False),
    "MNIST net (b), batch 64, Adam": (lambda: models.article_b((1, 28, 28), 10), 64, True),
    "MLP 784-100-100-100-10, batch 60, SGD": (sigmoid_mlp, 60, False),
    "digits net, batch 32, SGD": (digits_net, 32, False),
}


def run(compiled: bool = True, nets: list[str] | None = None) -> dict[str, Any]:
    """Measure every net; returns rows for the JSON and prints the table."""
    results = []
    for name, (make, batch, adam) in NETS.items():
        if nets and not any(each in name for each in nets):
            continue
        calls = _candidates(make, batch, adam, compiled)
        timings = {key: timing.milliseconds for key, timing in interleave(calls, seconds=8).items()}
        results.append({"net": name, **timings})
        print(_row_text(results[-1]), flush=True)
    print("\n" + _table(results))
    return {"training-step": results, "processes": processes.run(numba.get_num_threads())}


def _candidates(make: Callable[[], Model], batch: int, adam: bool, compiled: bool) -> dict[str, Callable[[], object]]:
    model = make()
    rng = np.random.default_rng(0)
    (shape,) = model.input_shapes.values()
    x = rng.standard_normal((batch, *shape)).astype(np.float32)
    labels = rng.integers(0, 10, batch)
    optimizer = optimizers.Adam(1e-3) if adam else optimizers.SGD(0.01, momentum=0.9)
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizer)
    calls: dict[str, Callable[[], object]] = {"minitrain": lambda: trainer.step(x, labels)}
    if installed("torch"):
        calls |= _torch_candidates(make(), x, labels, adam, compiled)
    return calls


def _torch_candidates(
    model: Model, x: np.ndarray, labels: np.ndarray, adam: bool, compiled: bool
) -> dict[str, Callable[[], object]]:
    import torch

    from benchmarks.torch_net import TorchNet

    variants = {"PyTorch": False, "PyTorch channels_last": True} if x.ndim == 4 else {"PyTorch": False}
    if compiled:
        variants["torch.compile"] = x.ndim == 4
    calls = {}
    for name, channels_last in variants.items():
        net: Any = TorchNet(model).train()
        tx, ty = torch.from_numpy(x), torch.from_numpy(labels)
        if channels_last:
            net, tx = net.to(memory_format=torch.channels_last), tx.contiguous(memory_format=torch.channels_last)
        parameters = list(net.parameters())
        optimizer = torch.optim.Adam(parameters, 1e-3) if adam else torch.optim.SGD(parameters, 0.01, momentum=0.9)
        run_net = torch.compile(net) if name == "torch.compile" else net
        calls[name] = _torch_step(run_net, tx, ty, optimizer)
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


def _eager(row: dict[str, Any]) -> float | None:
    times = [row[name] for name in ("PyTorch", "PyTorch channels_last") if name in row]
    return min(times) if times else None


def _ratios(row: dict[str, Any]) -> tuple[float | None, float | None]:
    eager, compiled = _eager(row), row.get("torch.compile")
    return eager and eager / row["minitrain"], compiled and compiled / row["minitrain"]


def _row_text(row: dict[str, Any]) -> str:
    return ", ".join(f"{key}: {value:.3f} ms" if key != "net" else value for key, value in row.items())


def _table(results: list[dict[str, Any]]) -> str:
    names = ("minitrain", "PyTorch", "PyTorch channels_last", "torch.compile")
    rows = [[row["net"], *(row.get(name) for name in names), *_ratios(row)] for row in results]
    means = [
        geometric_mean([ratio for row in results if (ratio := _ratios(row)[index]) is not None]) for index in (0, 1)
    ]
    rows.append(["geometric mean", *(None,) * len(names), *means])
    header = ["training step", *(f"{name} ms" for name in names), "eager / ours", "compiled / ours"]
    return markdown(header, rows)
