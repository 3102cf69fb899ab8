"""Convolutions and their gradients against PyTorch (NCHW and channels last), and against the processor's limit.

python -m benchmarks.peers conv
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.timing import Timing, geometric_mean, interleave, markdown
from minitrain.kernels import conv2d
from minitrain.kernels.conv2d import Geometry, Product
from nbnorm.jit import kernel, prange
from nbnorm.layout import ALIGNMENT
from nbnorm.simd.memory import flat
from nbnorm.simd.vectors import LANES_FLOAT32, fma, lanes_of, load, splat, store

# images, channels, outputs, height and width, kernel, stride, groups
SHAPES = [
    (128, 3, 16, 32, 3, 1, 1), (128, 16, 16, 32, 3, 1, 1), (128, 16, 32, 32, 3, 2, 1), (128, 32, 32, 16, 3, 1, 1),
    (128, 32, 64, 16, 3, 2, 1), (128, 64, 64, 8, 3, 1, 1), (64, 1, 32, 28, 3, 1, 1), (64, 32, 64, 14, 3, 1, 1),
    (128, 1, 6, 28, 5, 1, 1), (32, 64, 64, 56, 3, 1, 1), (32, 256, 64, 14, 1, 1, 1), (128, 16, 32, 32, 1, 2, 1),
    (32, 64, 64, 28, 3, 1, 64), (1, 16, 16, 32, 3, 1, 1),
]  # fmt: skip
PASSES = ("forward", "input gradient", "weight gradient")
RUNS, SECONDS = 40, 6.0  # timed runs of each call for a shape, fewer when that takes longer
# of the loop that measures the limit: half a millisecond, since the first tens of microseconds after other
# code are slower, and enough products in flight for any processor
STEPS, CHAINS = 200_000, 12
SHARE_CHANNELS = 16  # 3x3 kernels with as many channels and more have a target for their share of the limit

Calls = dict[str, Callable[[], Any]]


@kernel
def multiply_add(x, workers, steps):
    """`steps` products and sums on each of 12 vectors in registers, in every worker: no memory is touched."""
    values = flat(x)
    for worker in prange(workers):
        lanes = lanes_of(values)
        at = worker * 14 * lanes
        u, v = load(values, at + 12 * lanes), load(values, at + 13 * lanes)
        a = b = c = d = e = f = g = h = i = j = k = m = splat(x.dtype.type(1))
        for _ in range(steps):
            a, b, c, d = fma(a, u, v), fma(b, u, v), fma(c, u, v), fma(d, u, v)
            e, f, g, h = fma(e, u, v), fma(f, u, v), fma(g, u, v), fma(h, u, v)
            i, j, k, m = fma(i, u, v), fma(j, u, v), fma(k, u, v), fma(m, u, v)
        for n, value in enumerate((a, b, c, d, e, f, g, h, i, j, k, m)):
            store(values, at + n * lanes, value)


def limit(threads: int) -> tuple[Callable[[], Any], float]:
    """Return a call that keeps the multipliers of all threads busy, and how many flops it does."""
    lanes = LANES_FLOAT32
    x = np.full(threads * 14 * lanes, 0.5, np.float32)
    return lambda: multiply_add(x, threads, STEPS), 2.0 * CHAINS * STEPS * lanes * threads


def calls(shape: tuple[int, ...]) -> tuple[Geometry, dict[str, Calls]]:
    """Return the geometry and for each pass the calls to compare."""
    images, channels, outs, size, taps, stride, groups = shape
    pair = (taps // 2, taps // 2)
    geometry = Geometry((images, channels, size, size), outs, (taps, taps), (stride, stride), pair, (1, 1), groups)
    x, dx = _random(geometry.input_shape), _random(geometry.input_shape)
    weight, dweight = _random(geometry.weight_shape), _random(geometry.weight_shape)
    dy, y = _random(geometry.output_shape), _random(geometry.output_shape)
    scratch = _random((max(conv2d.scratch_size(geometry, product) for product in Product),))
    ours: list[Callable[[], Any]] = [
        conv2d.forward(geometry, x, weight, None, scratch, y),
        conv2d.input_gradient(geometry, dy, weight, scratch, dx),
        conv2d.weight_gradient(geometry, dy, x, scratch, dweight, None),
    ]
    result: dict[str, Calls] = {name: {"minitrain": call} for name, call in zip(PASSES, ours, strict=True)}
    for peer, theirs in _torch_calls(geometry, x, weight, dy).items():
        for name, call in zip(PASSES, theirs, strict=True):
            result[name][peer] = call
    return geometry, result


def _torch_calls(g: Geometry, x: Any, weight: Any, dy: Any) -> dict[str, list[Callable[[], Any]]]:
    try:
        import torch
    except ImportError:
        return {}
    options = (g.stride, g.padding, g.dilation, False, (0, 0), g.groups)
    backward = torch.ops.aten.convolution_backward
    result: dict[str, list[Callable[[], Any]]] = {}
    for name, layout in (("NCHW", torch.contiguous_format), ("channels last", torch.channels_last)):
        a, w, d = (torch.from_numpy(array).contiguous(memory_format=layout) for array in (x, weight, dy))
        result[f"torch {name}"] = [
            lambda a=a, w=w: torch.ops.aten.convolution(a, w, None, *options),
            lambda a=a, w=w, d=d: backward(d, a, w, None, *options, [True, False, False]),
            lambda a=a, w=w, d=d: backward(d, a, w, None, *options, [False, True, False]),
        ]
    return result


def _random(shape: tuple[int, ...]) -> Any:
    """Random numbers in memory that begins at a cache line."""
    size = int(np.prod(shape)) * 4
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    array = memory[start : start + size].view(np.float32).reshape(shape)
    array[...] = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return array


def run(compiled: bool = True) -> dict[str, Any]:
    """Print a table for each pass; torch.compile hands convolutions on unchanged, so `compiled` changes nothing."""
    import numba

    busy, flops = limit(numba.get_num_threads())
    rows: dict[str, list[list[Any]]] = {name: [] for name in PASSES}
    ratios: dict[str, list[float]] = {name: [] for name in PASSES}
    shares: list[float] = []
    peers: list[str] = []
    for shape in SHAPES:
        geometry, passes = calls(shape)
        for name, candidates in passes.items():
            times = interleave({**candidates, "limit": busy}, runs=RUNS, seconds=SECONDS)
            peak = flops / times.pop("limit").p20
            peers = [peer for peer in times if peer != "minitrain"]
            share = geometry.flops / times["minitrain"].p20 / peak
            if shape[4] == 3 and shape[1] >= SHARE_CHANNELS and shape[6] == 1:
                shares.append(share)
            rows[name].append(_row(shape, geometry, times, peers, share))
            if peers:
                ratios[name].append(min(times[peer].p20 for peer in peers) / times["minitrain"].p20)
    header = ["N,C,K,HxW,k,stride,groups", "minitrain ms", *[f"{peer} ms" for peer in peers], "best / ours", "GFLOP/s",
              "share of limit"]  # fmt: skip
    for name in PASSES:
        print(f"**conv2d {name}** (float32)\n\n{markdown(header, rows[name])}\n")
    everything = [ratio for name in PASSES for ratio in ratios[name]]
    means = {name: geometric_mean(values) for name, values in [*ratios.items(), ("all", everything)]}
    print("geometric mean of best / ours: " + ", ".join(f"{name} {mean:.2f}" for name, mean in means.items()))
    print(f"slowest against the best: {min(everything, default=float('nan')):.2f}")
    print(f"share of the limit, 3x3 of {SHARE_CHANNELS} channels and more: {min(shares):.0%} to {max(shares):.0%}")
    print("(by the operations of a direct convolution: Winograd's needs a quarter of them, and can exceed the limit)\n")
    return {"conv": {"rows": rows, "geometric_mean": means if everything else {}, "shares": shares}}


def _row(shape: tuple[int, ...], geometry: Geometry, times: dict[str, Timing], peers: list[str], share: float):
    ours = times["minitrain"]
    best = min((times[peer].p20 for peer in peers), default=None)
    return [
        ",".join(map(str, shape)), ours.milliseconds, *[times[peer].milliseconds for peer in peers],
        best / ours.p20 if best else None, geometry.flops / ours.p20 * 1e-9, f"{share:.0%}",
    ]  # fmt: skip
