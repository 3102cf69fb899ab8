"""One peer in a process of its own: `python -m benchmarks.peer_worker PEER NET TASK BATCH THREADS`.

Prints the seconds of a second call (the first one compiles), then for each line with a number the seconds of so many
calls. What a library prints goes to the error stream.
"""

from __future__ import annotations

import io
import os
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np

Call = Callable[[], object]


def keras_call(backend: str, net: str, task: str, batch: int, threads: int) -> Call:
    """A compiled Keras model: `train_on_batch`, or `predict_on_batch`."""
    os.environ["KERAS_BACKEND"] = backend
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if backend == "tensorflow":
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    import keras

    from benchmarks.keras_net import keras_net
    from benchmarks.nets import NETS

    x, labels = NETS[net].data(batch)
    model = keras_net(NETS[net].make())
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if x.ndim == 4 else x
    if task == "inference":
        return lambda: model.predict_on_batch(x)
    optimizer = keras.optimizers.Adam(1e-3) if NETS[net].adam else keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return lambda: model.train_on_batch(x, labels)


def mlx_call(net: str, task: str, batch: int, threads: int) -> Call:
    """An MLX module on the processor, compiled: step and inference."""
    del threads  # MLX has no such setting; the process has so many cores
    from benchmarks.mlx_net import mlx_inference, mlx_step
    from benchmarks.nets import NETS

    x, labels = NETS[net].data(batch)
    model = NETS[net].make()
    return mlx_inference(model, x) if task == "inference" else mlx_step(model, x, labels, NETS[net].adam)


def sklearn_call(net: str, task: str, batch: int, threads: int) -> Call:
    """`MLPClassifier` with one hidden layer of 100: a step by `partial_fit` of one batch, or `predict_proba`."""
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    from benchmarks.nets import NETS

    threadpool_limits(threads)
    x, labels = NETS[net].data(max(batch, 10))
    model = MLPClassifier((100,), solver="adam", alpha=0.0, batch_size=len(x))
    labels[:10] = np.arange(10)
    model.partial_fit(x, labels, classes=np.arange(10))
    x = x[:batch]
    return (lambda: model.predict_proba(x)) if task == "inference" else (lambda: model.partial_fit(x, labels))


def _exported(net: str, batch: int) -> tuple[bytes, np.ndarray]:
    """Return the ONNX graph that PyTorch exports (batch norms folded), and the batch."""
    import torch

    from benchmarks.nets import NETS
    from benchmarks.torch_net import TorchNet

    x, _ = NETS[net].data(batch)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = TorchNet(NETS[net].make()).eval()
        torch.onnx.export(module, (torch.from_numpy(x),), file, input_names=["x"], dynamo=False)
    return file.getvalue(), x


def onnx_runtime_call(net: str, task: str, batch: int, threads: int) -> Call:
    """An ONNX Runtime session on the processor."""
    import onnxruntime

    graph, x = _exported(net, batch)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # its threads would otherwise go on spinning on the cores of whoever comes next
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


def openvino_call(net: str, task: str, batch: int, threads: int) -> Call:
    """An OpenVINO model on the processor, in float32 as all others are, with the hint that asks for short calls."""
    import openvino

    graph, x = _exported(net, batch)
    core = openvino.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()
    return lambda: request.infer([x])


PEERS: dict[str, Callable[[str, str, int, int], Call]] = {
    "Keras on JAX": lambda *given: keras_call("jax", *given),
    "Keras on TensorFlow": lambda *given: keras_call("tensorflow", *given),
    "MLX": mlx_call,
    "scikit-learn": sklearn_call,
    "ONNX Runtime": onnx_runtime_call,
    "OpenVINO": openvino_call,
}


def timed(call: Call, repeat: int) -> float:
    """Seconds of so many calls."""
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return time.perf_counter() - start


def main() -> None:
    peer, net, task, batch, threads = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[: int(threads)])  # those that take the number of threads from the number of cores
    call = PEERS[peer](net, task, int(batch), int(threads))
    call()
    print(timed(call, 1), file=answers, flush=True)
    for line in sys.stdin:
        print(timed(call, int(line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
