"""Layer, RMS, group and instance norm as nbnorm and PyTorch (contiguous, channels last, compiled) call them."""

from collections.abc import Callable
from typing import Any

import numpy as np

import nbnorm

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

Calls = dict[str, Callable[[], Any]]
Pair = tuple[Calls, Calls]  # forward, backward


class Data:
    """Arrays of one shape, `own` of them for each element of gamma."""

    def __init__(self, shape: tuple[int, ...], own: tuple[int, ...]) -> None:
        rng = np.random.default_rng(0)
        self.shape = shape
        self.x, self.dy = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
        self.out = np.empty_like(self.x)
        self.gamma, self.beta = (rng.standard_normal(own, dtype=np.float32) for _ in range(2))


def layer_norm(shape: tuple[int, ...]) -> Pair:
    data = Data(shape, shape[-1:])
    x, gamma, beta = data.x, data.gamma, data.beta
    _, stats = nbnorm.layer_norm_forward(x, gamma, beta)
    forward: Calls = {
        "nbnorm": lambda: nbnorm.layer_norm_forward(x, gamma, beta),
        "nbnorm out=": lambda: nbnorm.layer_norm_forward(x, gamma, beta, out=data.out),
    }
    backward: Calls = {
        "nbnorm": lambda: nbnorm.layer_norm_backward(data.dy, x, stats, gamma, beta),
        "nbnorm out=": lambda: nbnorm.layer_norm_backward(data.dy, x, stats, gamma, beta, out=data.out),
    }
    if torch is not None:
        tx, tdy, tgamma, tbeta = map(torch.from_numpy, (x, data.dy, gamma, beta))
        own = list(shape[-1:])
        forward["PyTorch"] = lambda: torch.nn.functional.layer_norm(tx, own, tgamma, tbeta)
        _, mean, rstd = torch.ops.aten.native_layer_norm(tx, own, tgamma, tbeta, 1e-5)
        backward["PyTorch"] = lambda: torch.ops.aten.native_layer_norm_backward(
            tdy, tx, own, mean, rstd, tgamma, tbeta, [True] * 3
        )
    return forward, backward


def batch_norm_forms(shape: tuple[int, ...]) -> Pair:
    """Our batch norm, plain and in its forms: of valid values (four fifths), in four ghosts, renormalized."""
    data = Data(shape, shape[1:2])
    x, dy, gamma, beta, out = data.x, data.dy, data.gamma, data.beta, data.out
    mask = np.random.default_rng(1).random((shape[0], *shape[2:])) < 0.8
    forms: dict[str, dict[str, Any]] = {
        "plain": {}, "masked": {"mask": mask}, "ghosts": {"ghost_size": max(shape[0] // 4, 1)},
    }  # fmt: skip
    running = np.zeros(shape[1], np.float32), np.ones(shape[1], np.float32)
    forward: Calls = {}
    backward: Calls = {}
    for name, form in forms.items():
        _, stats = nbnorm.batch_norm_forward(x, gamma, beta, **form)
        forward[name] = lambda f=form: nbnorm.batch_norm_forward(x, gamma, beta, *running, out=out, **f)
        backward[name] = lambda f=form, s=stats: nbnorm.batch_norm_backward(dy, x, s, gamma, beta, out=out, **f)
    _, stats = nbnorm.batch_norm_forward(x, gamma, beta, *running, renorm=(3.0, 5.0))
    forward["renorm"] = lambda: nbnorm.batch_norm_forward(x, gamma, beta, *running, out=out, renorm=(3.0, 5.0))
    backward["renorm"] = lambda: nbnorm.batch_norm_backward(dy, x, stats, gamma, beta, out=out)
    return forward, backward


def half_batch_norm(shape: tuple[int, ...]) -> Pair:
    """Batch norm of bfloat16 arrays, and ours of float32 ones of the same shape."""
    import ml_dtypes

    data = Data(shape, shape[1:2])
    x, dy, gamma, beta = data.x, data.dy, data.gamma, data.beta
    half, dhalf = x.astype(ml_dtypes.bfloat16), dy.astype(ml_dtypes.bfloat16)
    out = np.empty_like(half)
    _, stats = nbnorm.batch_norm_forward(x, gamma, beta)
    forward: Calls = {
        "float32": lambda: nbnorm.batch_norm_forward(x, gamma, beta, out=data.out),
        "bfloat16": lambda: nbnorm.batch_norm_forward(half, gamma, beta, out=out),
    }
    backward: Calls = {
        "float32": lambda: nbnorm.batch_norm_backward(dy, x, stats, gamma, beta, out=data.out),
        "bfloat16": lambda: nbnorm.batch_norm_backward(dhalf, half, stats, gamma, beta, out=out),
    }
    if torch is not None and len(shape) == 4:
        tgamma, tbeta, mean, inv_std, zeros, ones = (
            torch.from_numpy(np.asarray(each, np.float32))
            for each in (gamma, beta, stats.mean, stats.inv_std, np.zeros(shape[1]), np.ones(shape[1]))
        )
        for name, layout in (("PyTorch", torch.contiguous_format), ("channels_last", torch.channels_last)):
            t, g = (torch.from_numpy(each).bfloat16().contiguous(memory_format=layout) for each in (x, dy))
            forward[name] = lambda t=t: torch.nn.functional.batch_norm(t, None, None, tgamma, tbeta, True)
            backward[name] = lambda t=t, g=g: torch.ops.aten.native_batch_norm_backward(
                g, t, tgamma, zeros, ones, mean, inv_std, True, 1e-5, [True] * 3
            )
    return forward, backward


def channel_norm(shape: tuple[int, ...]) -> Pair:
    """Layer norm over the channels of (N, C, H, W), which PyTorch has for channels last alone."""
    data = Data(shape, shape[1:2])
    x, gamma, beta = data.x, data.gamma, data.beta
    _, stats = nbnorm.layer_norm_forward(x, gamma, beta, axes=(1,))
    forward: Calls = {
        "nbnorm": lambda: nbnorm.layer_norm_forward(x, gamma, beta, axes=(1,)),
        "nbnorm out=": lambda: nbnorm.layer_norm_forward(x, gamma, beta, axes=(1,), out=data.out),
    }
    backward: Calls = {
        "nbnorm": lambda: nbnorm.layer_norm_backward(data.dy, x, stats, gamma, beta, axes=(1,)),
        "nbnorm out=": lambda: nbnorm.layer_norm_backward(data.dy, x, stats, gamma, beta, axes=(1,), out=data.out),
    }
    if torch is not None:
        functional, own = torch.nn.functional, list(shape[1:2])
        parameters = [torch.from_numpy(part).requires_grad_() for part in (gamma, beta)]

        def run(x: Any) -> Any:
            return functional.layer_norm(x.permute(0, 2, 3, 1), own, *parameters).permute(0, 3, 1, 2)

        _add_torch(forward, backward, data, run, parameters)
    return forward, backward


def rms_norm(shape: tuple[int, ...]) -> Pair:
    data = Data(shape, shape[-1:])
    x, gamma = data.x, data.gamma
    _, stats = nbnorm.rms_norm_forward(x, gamma)
    forward: Calls = {
        "nbnorm": lambda: nbnorm.rms_norm_forward(x, gamma),
        "nbnorm out=": lambda: nbnorm.rms_norm_forward(x, gamma, out=data.out),
    }
    backward: Calls = {
        "nbnorm": lambda: nbnorm.rms_norm_backward(data.dy, x, stats, gamma),
        "nbnorm out=": lambda: nbnorm.rms_norm_backward(data.dy, x, stats, gamma, out=data.out),
    }
    if torch is not None:
        functional, own = torch.nn.functional, list(shape[-1:])
        parameters = [torch.from_numpy(gamma).requires_grad_()]
        _add_torch(forward, backward, data, lambda x: functional.rms_norm(x, own, *parameters), parameters)
    return forward, backward


def group_norm(shape: tuple[int, ...]) -> Pair:
    groups = 32 if shape[1] % 32 == 0 else 8
    data = Data(shape, shape[1:2])
    x, gamma, beta = data.x, data.gamma, data.beta
    _, stats = nbnorm.group_norm_forward(x, groups, gamma, beta)
    forward: Calls = {
        "nbnorm": lambda: nbnorm.group_norm_forward(x, groups, gamma, beta),
        "nbnorm out=": lambda: nbnorm.group_norm_forward(x, groups, gamma, beta, out=data.out),
    }
    backward: Calls = {
        "nbnorm": lambda: nbnorm.group_norm_backward(data.dy, x, stats, gamma, beta),
        "nbnorm out=": lambda: nbnorm.group_norm_backward(data.dy, x, stats, gamma, beta, out=data.out),
    }
    if torch is not None:
        functional = torch.nn.functional
        parameters = [torch.from_numpy(part).requires_grad_() for part in (gamma, beta)]
        _add_torch(forward, backward, data, lambda x: functional.group_norm(x, groups, *parameters), parameters)
    return forward, backward


def instance_norm(shape: tuple[int, ...]) -> Pair:
    data = Data(shape, shape[1:2])
    x, gamma, beta = data.x, data.gamma, data.beta
    _, stats = nbnorm.instance_norm_forward(x, gamma, beta)
    forward: Calls = {
        "nbnorm": lambda: nbnorm.instance_norm_forward(x, gamma, beta),
        "nbnorm out=": lambda: nbnorm.instance_norm_forward(x, gamma, beta, out=data.out),
    }
    backward: Calls = {
        "nbnorm": lambda: nbnorm.instance_norm_backward(data.dy, x, stats, gamma, beta),
        "nbnorm out=": lambda: nbnorm.instance_norm_backward(data.dy, x, stats, gamma, beta, out=data.out),
    }
    if torch is not None:
        functional = torch.nn.functional
        parameters = [torch.from_numpy(part).requires_grad_() for part in (gamma, beta)]

        def run(x: Any) -> Any:
            return functional.instance_norm(x, weight=parameters[0], bias=parameters[1])

        _add_torch(forward, backward, data, run, parameters)
    return forward, backward


def _add_torch(forward: Calls, backward: Calls, data: Data, run: Callable[[Any], Any], parameters: list[Any]) -> None:
    """PyTorch's calls in each of its layouts; backward by its engine, whose few microseconds every user pays."""
    layouts = {"PyTorch": torch.contiguous_format}
    if len(data.shape) == 4:
        layouts["channels_last"] = torch.channels_last
    for name, layout in layouts.items():
        x = torch.from_numpy(data.x).contiguous(memory_format=layout)
        dy = torch.from_numpy(data.dy).contiguous(memory_format=layout)
        forward[name] = lambda x=x: _without_gradients(run, x)
        leaf = x.detach().requires_grad_()
        y = run(leaf)
        backward[name] = lambda y=y, leaf=leaf, dy=dy: torch.autograd.grad(
            y, [leaf, *parameters], dy, retain_graph=True
        )


def _without_gradients(run: Callable[[Any], Any], x: Any) -> Any:
    with torch.no_grad():
        return run(x)
