"""`minitrain info` and `minitrain warmup`: the installation, a saved net, the kernels."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import nbnorm
from minitrain import __version__, losses, models, optimizers
from minitrain.cli import arguments as shared
from minitrain.training.run_folder import load_model, read_config
from minitrain.training.trainer import Trainer

__all__ = ["add_commands"]

INFO_EXAMPLES = """\
  minitrain info                       versions, threads, width of vectors, folder of compiled kernels
  minitrain info run                   layers and settings of a trained net
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
    warmup = shared.add_parser(commands, "warmup", "compile all kernels ahead of time", WARMUP_DETAILS)
    warmup.set_defaults(run=run_warmup)
    warmup.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="of the arrays")
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
    """Run a step of every kind of net once, so that all kernels are compiled and on disk."""
    shared.use_threads(arguments.threads)
    nbnorm.warmup((arguments.dtype,))
    for name, build in models.MODELS.items():
        start = time.perf_counter()
        for size in (8, 32):  # small work and large work run in different forms of a kernel
            model = build(input_shape=(1, size, size), classes=10, dtype=arguments.dtype)
            _run_once(model)
        print(f"minitrain: {name} ready in {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    return 0


def _run_once(model: Any) -> None:
    samples = 8
    shape = next(iter(model.input_shapes.values()))
    x = np.random.default_rng(0).standard_normal((samples, *shape)).astype(model.dtype)
    y = np.arange(samples) % 10
    for optimizer in (optimizers.Adam(1e-3), optimizers.SGD(1e-3, momentum=0.9)):
        Trainer(model, losses.SoftmaxCrossEntropy(), optimizer).step(x, y)
    model.predict(x)
