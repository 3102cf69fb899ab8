"""Inference of trained nets against PyTorch (eager, compiled, both without gradients) and ONNX Runtime.

python -m benchmarks.peers inference
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.timing import installed, interleave, markdown
from minitrain import Model, models

__all__ = ["run"]

NETS: dict[str, Callable[[], Model]] = {
    "ResNet-20": lambda: models.resnet20((3, 32, 32), 10),
    "MNIST net (b)": lambda: models.article_b((1, 28, 28), 10),
}
BATCHES = (1, 128)


def run(compiled: bool = True) -> dict[str, Any]:
    """Measure every net and batch size; returns rows for the JSON and prints the table."""
    results = []
    for name, make in NETS.items():
        for batch in BATCHES:
            calls = _candidates(make(), batch, compiled)
            timings = {key: timing.milliseconds for key, timing in interleave(calls, seconds=4).items()}
            results.append({"net": f"{name}, batch {batch}", **timings})
    names = ["minitrain", "PyTorch", "PyTorch channels_last", "torch.compile", "ONNX Runtime"]
    rows = []
    for row in results:
        eager = [row[each] for each in names[1:3] if each in row]
        best = [row[each] for each in names[1:] if each in row]
        ratios = [min(times) / row["minitrain"] if times else None for times in (eager, best)]
        rows.append([row["net"], *(row.get(each) for each in names), *ratios])
    print(markdown(["inference", *(f"{each} ms" for each in names), "eager / ours", "best / ours"], rows))
    return {"inference": results}


def _candidates(model: Model, batch: int, compiled: bool) -> dict[str, Callable[[], object]]:
    (shape,) = model.input_shapes.values()
    x = np.random.default_rng(0).standard_normal((batch, *shape)).astype(np.float32)
    calls: dict[str, Callable[[], object]] = {"minitrain": lambda: model.predict(x)}
    if installed("torch"):
        calls |= _torch_candidates(model, x, compiled)
    return calls


def _torch_candidates(model: Model, x: np.ndarray, compiled: bool) -> dict[str, Callable[[], object]]:
    import torch

    from benchmarks.torch_net import TorchNet

    calls: dict[str, Callable[[], object]] = {}
    for name in ("PyTorch", "PyTorch channels_last", *(("torch.compile",) if compiled else ())):
        net: Any = TorchNet(model).eval()
        tx = torch.from_numpy(x)
        if name != "PyTorch":
            net, tx = net.to(memory_format=torch.channels_last), tx.contiguous(memory_format=torch.channels_last)
        run_net = torch.compile(net) if name == "torch.compile" else net
        calls[name] = _without_gradients(run_net, tx)
    if installed("onnxruntime") and installed("onnx"):
        calls["ONNX Runtime"] = _onnx_candidate(TorchNet(model).eval(), x)
    return calls


def _without_gradients(net: Any, x: Any) -> Callable[[], object]:
    import torch

    def call() -> object:
        with torch.inference_mode():
            return net(x)

    return call


def _onnx_candidate(net: Any, x: np.ndarray) -> Callable[[], object]:
    import onnxruntime
    import torch

    file = io.BytesIO()
    torch.onnx.export(net, (torch.from_numpy(x),), file, input_names=["x"], dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # its threads would otherwise go on spinning on the cores of whoever comes next
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})
