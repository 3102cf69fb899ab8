"""`minitrain info` and `minitrain warmup`: the installation, a saved net, the kernels."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import nbnorm
from minitrain import losses, models, optimizers
from minitrain.cli import arguments as shared
from minitrain.graph.graph import SINGLE
from minitrain.model import Model
from minitrain.objective.objective import Objective
from minitrain.training.ahead import calls_of_a_step, forms
from minitrain.training.run_folder import load_model, read_config
from minitrain.training.trainer import Trainer
from minitrain.version import __version__
from nbnorm.jit.helpers import offered

__all__ = ["add_commands"]

SAMPLES = 8  # in the batches of `warmup`

INFO_EXAMPLES = """\
  minitrain info                       versions, threads, width of vectors, folder of compiled kernels
  minitrain info run                   layers and settings of a trained net
"""
WARMUP_EXAMPLES = """\
  minitrain warmup --jobs 4            by four processes at the same time
  minitrain warmup --dtype float64
"""
WARMUP_DETAILS = (
    "Kernels are compiled when they are first used, which takes seconds, and kept on disk. This does it now."
)


def add_commands(commands: Any) -> None:
    """Add `info` and `warmup`."""
    info = shared.add_parser(commands, "info", "show the installation, or a saved net", examples=INFO_EXAMPLES)
    info.set_defaults(run=run_info)
    info.add_argument("path", type=Path, nargs="?", metavar="RUN_DIR|WEIGHTS", help="run folder or file of weights")
    shared.add_common(info)
    warmup = shared.add_parser(commands, "warmup", "compile all kernels ahead of time", WARMUP_DETAILS, WARMUP_EXAMPLES)
    warmup.set_defaults(run=run_warmup)
    warmup.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="of the arrays")
    warmup.add_argument(
        "--jobs",
        type=shared.positive,
        metavar="N",
        help="processes that compile at the same time (default: NBNORM_COMPILE_PROCESSES and this one, or else one for "
        "each core, at most 4)",
    )
    shared.add_common(warmup)


def run_info(arguments: argparse.Namespace) -> int:
    """Print what is installed and how it runs, and a net if one is named."""
    shared.use_threads(arguments.threads)
    if arguments.path is None:
        print(f"{'minitrain':<10} {__version__}")
        nbnorm.show_config()
        return 0
    load_model(arguments.path).summary()
    config = read_config(arguments.path)
    if config:
        print("\n" + json.dumps(config, indent=2))
    return 0


def run_warmup(arguments: argparse.Namespace) -> int:
    """Run a step of every small net once, so that its kernels are compiled and on disk."""
    shared.use_threads(arguments.threads)
    helpers = None if arguments.jobs is None else arguments.jobs - 1
    with offered(calls_of_warmup, arguments.dtype, processes=helpers):
        nbnorm.warmup((arguments.dtype,))
        for name in models.SMALL_MODELS:
            start = time.perf_counter()
            for model in _models(name, arguments.dtype):
                x, y = _batch(model)
                for optimizer in _optimizers():
                    Trainer(model, losses.SoftmaxCrossEntropy(), optimizer).step(x, y)
                model.predict(x)
            print(f"minitrain: {name} ready in {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    return 0


def calls_of_warmup(dtype: str) -> list[Callable[[], Any]]:
    """Return the calls of what `run_warmup` runs, in order, for processes that compile the same kernels meanwhile."""
    calls: list[Callable[[], Any]] = []
    for name in models.SMALL_MODELS:
        for model in _models(name, dtype):
            x, y = _batch(model)
            objective = Objective(model, losses.SoftmaxCrossEntropy())
            targets = forms(objective.targets(y, {SINGLE: (SAMPLES, *model.output_shape)}))
            for optimizer in _optimizers():
                calls += calls_of_a_step(model.graph, dtype, model.fuse, (x.shape,), objective, optimizer, targets)
            calls.append(partial(model.predict, x))
    return calls


def _models(name: str, dtype: str) -> list[Model]:
    """Return a net for each form of a kernel: small work and large work run in different ones."""
    return [models.SMALL_MODELS[name](input_shape=(1, size, size), classes=10, dtype=dtype) for size in (8, 32)]


def _optimizers() -> tuple[optimizers.Optimizer, ...]:
    return optimizers.Adam(1e-3), optimizers.SGD(1e-3, momentum=0.9)


def _batch(model: Model) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    shape = next(iter(model.input_shapes.values()))
    x = np.random.default_rng(0).standard_normal((SAMPLES, *shape)).astype(model.dtype)
    return x, np.arange(SAMPLES) % 10
