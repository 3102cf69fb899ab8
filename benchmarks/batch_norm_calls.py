"""Batch norm as nbnorm, PyTorch (NCHW, channels last, compiled, oneDNN's tensors), JAX and a parallel copy call it."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import nbnorm
from nbnorm.jit import kernel, prange
from nbnorm.layout import ALIGNMENT
from nbnorm.simd.memory import flat, stream
from nbnorm.simd.vectors import add, lanes_of, load, store

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]
try:
    import jax
except ImportError:
    jax = None

Calls = dict[str, Callable[[], Any]]


class Data:
    """Arrays of one shape, and the peers' views of them."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(0)
        self.shape = shape
        self.x, self.dy, self.residual, self.out = (_aligned(shape) for _ in range(4))
        for part in (self.x, self.dy, self.residual):
            part[...] = rng.standard_normal(shape, dtype=np.float32)
        self.gamma, self.beta = np.ones(shape[1], "f4"), np.zeros(shape[1], "f4")
        self.mean, self.var = np.zeros(shape[1], "f4"), np.ones(shape[1], "f4")
        self.y, self.stats = nbnorm.batch_norm_forward(self.x, self.gamma, self.beta)

    @property
    def vectors(self) -> tuple[Any, ...]:
        return self.gamma, self.beta, self.mean, self.var


def _aligned(shape: tuple[int, ...]) -> Any:
    """New memory that begins at a cache line, as PyTorch's does: streaming stores need it."""
    size = int(np.prod(shape)) * 4
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(shape)


@kernel
def copy(x, dy, y, streaming):
    """y = x [+ dy]: a task copies 4096 elements."""
    xs, dys, ys = flat(x), flat(dy), flat(y)
    for task in prange(-(-xs.size // 4096)):
        i = task * 4096
        end = min(i + 4096, xs.size)
        if dys.size > 0:
            while i + lanes_of(x) <= end:
                v = add(load(xs, i), load(dys, i))
                if streaming:
                    stream(ys, i, v)
                else:
                    store(ys, i, v)
                i += lanes_of(x)
        else:
            while i + lanes_of(x) <= end:
                if streaming:
                    stream(ys, i, load(xs, i))
                else:
                    store(ys, i, load(xs, i))
                i += lanes_of(x)
        while i < end:
            ys[i] = xs[i]
            i += 1


def forward_calls(data: Data, compiled: bool) -> Calls:
    none = np.empty((0,), np.float32)
    run = copy.for_work(data.x.size)
    calls: Calls = {
        "nbnorm": lambda: nbnorm.batch_norm_forward(data.x, *data.vectors),
        "nbnorm out=": lambda: nbnorm.batch_norm_forward(data.x, *data.vectors, out=data.out),
        "copy": lambda: run(data.x, none, data.out, False),
        "copy, streaming": lambda: run(data.x, none, data.out, True),
    }
    if torch is not None:
        calls |= torch_forward(data, compiled)
    if jax is not None:
        calls |= jax_calls(data, backward=False)
    return calls


def backward_calls(data: Data, compiled: bool) -> Calls:
    arguments = (data.dy, data.x, data.stats, data.gamma, data.beta)
    run = copy.for_work(data.x.size)
    calls: Calls = {
        "nbnorm": lambda: nbnorm.batch_norm_backward(*arguments),
        "nbnorm out=": lambda: nbnorm.batch_norm_backward(*arguments, out=data.out),
        "copy": lambda: run(data.x, data.dy, data.out, False),
        "copy, streaming": lambda: run(data.x, data.dy, data.out, True),
    }
    if torch is not None:
        calls |= torch_backward(data, compiled)
    if jax is not None:
        calls |= jax_calls(data, backward=True)
    return calls


def _layouts(data: Data) -> Iterator[tuple[str, Any]]:
    """PyTorch's layouts in memory, as functions from an array to a tensor."""
    yield "PyTorch", torch.from_numpy
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if len(data.shape) in formats:
        chosen = formats[len(data.shape)]
        yield "channels_last", lambda array: torch.from_numpy(array).contiguous(memory_format=chosen)


def torch_forward(data: Data, compiled: bool) -> Calls:
    calls: Calls = {}
    batch_norm = torch.nn.functional.batch_norm
    gamma, beta, mean, var = (torch.from_numpy(part.copy()) for part in data.vectors)
    for name, tensor in _layouts(data):
        x = tensor(data.x)
        calls[name] = lambda x=x: batch_norm(x, mean, var, gamma, beta, True)
    x = torch.from_numpy(data.x)
    if compiled:
        torch._dynamo.reset()
        function = torch.compile(lambda x: batch_norm(x, mean, var, gamma, beta, True), dynamic=False)
        calls["compiled"] = _if_it_works(lambda: function(x))
    if len(data.shape) == 4:
        blocked = x.to_mkldnn()
        calls["mkldnn"] = _if_it_works(lambda: batch_norm(blocked, mean, var, gamma, beta, True))
    return {name: call for name, call in calls.items() if call is not None}


def torch_backward(data: Data, compiled: bool) -> Calls:
    calls: Calls = {}
    gamma, _, mean, var = (torch.from_numpy(part.copy()) for part in data.vectors)
    saved = [torch.from_numpy(part.astype("f4")) for part in data.stats]

    def run(dy: Any, x: Any) -> Any:
        return torch.ops.aten.native_batch_norm_backward(dy, x, gamma, mean, var, *saved, True, 1e-5, [True] * 3)

    for name, tensor in _layouts(data):
        dy, x = tensor(data.dy), tensor(data.x)
        calls[name] = lambda dy=dy, x=x: run(dy, x)
    if compiled:
        torch._dynamo.reset()
        function = torch.compile(run, dynamic=False)
        dy, x = torch.from_numpy(data.dy), torch.from_numpy(data.x)
        calls["compiled"] = _if_it_works(lambda: function(dy, x))
    return {name: call for name, call in calls.items() if call is not None}


def _if_it_works(call: Callable[[], Any]) -> Any:
    try:
        call()
    except Exception:  # no compiler, no kernel for this shape: then there is nothing to compare with
        return None
    return call


def jax_calls(data: Data, backward: bool) -> Calls:
    axes = (0, *range(2, len(data.shape)))
    wide = (1, -1, *[1] * (len(data.shape) - 2))
    count = data.x.size // data.shape[1]
    numpy = jax.numpy
    x, dy, gamma, beta, mean, var = map(numpy.asarray, (data.x, data.dy, *data.vectors))
    m, inv_std = (numpy.asarray(part.astype("f4")) for part in data.stats)

    def forward(x, gamma, beta, mean, var):  # type: ignore[no-untyped-def]
        mu, v = x.mean(axes), x.var(axes)
        scale = gamma / numpy.sqrt(v + 1e-5)
        y = (x - mu.reshape(wide)) * scale.reshape(wide) + beta.reshape(wide)
        return y, 0.9 * mean + 0.1 * mu, 0.9 * var + 0.1 * v * count / (count - 1)

    def gradient(dy, x, m, inv_std, gamma):  # type: ignore[no-untyped-def]
        x_hat = (x - m.reshape(wide)) * inv_std.reshape(wide)
        dbeta, dgamma = dy.sum(axes), (dy * x_hat).sum(axes)
        means = (dbeta.reshape(wide) + x_hat * dgamma.reshape(wide)) / count
        return (gamma * inv_std).reshape(wide) * (dy - means), dgamma, dbeta

    function, arguments = (gradient, (dy, x, m, inv_std, gamma)) if backward else (forward, (x, gamma, beta, mean, var))
    jitted = jax.jit(function)
    return {"JAX": lambda: jax.block_until_ready(jitted(*arguments))}


def fused_calls(data: Data) -> Calls:
    gamma, beta, mean, var = data.vectors

    def relu() -> None:
        _, stats = nbnorm.batch_norm_forward(data.x, gamma, beta, mean, var, activation="relu")
        nbnorm.batch_norm_backward(data.dy, data.x, stats, gamma, beta, activation="relu")

    def add_relu() -> None:
        y, stats = nbnorm.batch_norm_forward(data.x, gamma, beta, mean, var, activation="relu", residual=data.residual)
        nbnorm.batch_norm_backward(data.dy, data.x, stats, gamma, beta, activation="relu", y=y)

    return {
        "BN+ReLU forward and backward": relu,
        "BN+Add+ReLU forward and backward": add_relu,
        "inference with ReLU": lambda: nbnorm.batch_norm_infer(data.x, mean, var, gamma, beta, activation="relu"),
    }


def torch_fused(data: Data) -> Calls:
    batch_norm, relu_of = torch.nn.functional.batch_norm, torch.nn.functional.relu
    aten = torch.ops.aten
    x, dy, residual = (torch.from_numpy(part) for part in (data.x, data.dy, data.residual))
    gamma, beta, mean, var = (torch.from_numpy(part.copy()) for part in data.vectors)

    def both(added: Any) -> None:
        y, *saved = aten.native_batch_norm(x, gamma, beta, mean, var, True, 0.1, 1e-5)
        y = relu_of(y if added is None else y + added)
        g = aten.threshold_backward(dy, y, 0)
        aten.native_batch_norm_backward(g, x, gamma, mean, var, *saved, True, 1e-5, [True] * 3)

    return {
        "PyTorch BN+ReLU forward and backward": lambda: both(None),
        "PyTorch BN+Add+ReLU forward and backward": lambda: both(residual),
        "PyTorch inference with ReLU": lambda: relu_of(batch_norm(x, mean, var, gamma, beta)),
    }
