"""`minitrain train`: a net, a data set, a run folder."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numba
import numpy as np

from minitrain import datasets, losses, models, optimizers, schedules
from minitrain.cli import arguments as shared
from minitrain.cli.ranks import Crew
from minitrain.cli.resume import resume_settings
from minitrain.model import Model
from minitrain.training.checkpoint_file import restore
from minitrain.training.run_folder import WEIGHTS, RunFolder
from minitrain.training.trainer import Trainer

__all__ = ["add_commands"]

OPTIMIZERS = {
    "sgd": optimizers.SGD,
    "adam": optimizers.Adam,
    "adamw": optimizers.AdamW,
    "rmsprop": optimizers.RMSprop,
}
LEARNING_RATES = {"sgd": 0.05, "adam": 0.001, "adamw": 0.001, "rmsprop": 0.001}
EXAMPLES = """\
  minitrain train digits --model lenet --epochs 15 --out run
  minitrain train digits --model plain --depth 40 --norm none --out deep   (does not learn; try --norm before)
  minitrain train mnist --model article_b --data-folder ~/mnist --batch-size 64 --out mnist-run
  minitrain train --resume mnist-run                       (goes on where Ctrl-C or a crash has ended it)
  mpiexec -n 2 python -m mpi4py -m minitrain train digits --model resnet20 --batch-size 64 --out spread-run
  minitrain train cifar10 --model resnet20 --optimizer sgd --lr 0.1 --l2 1e-4 --epochs 30 --out cifar-run
"""
DETAILS = (
    "The run folder gets weights.safetensors (saved after each epoch), history.csv, curves.png and config.json. "
    "Ctrl-C, SIGTERM and SIGHUP finish the step under way and keep what was learned; --resume goes on from there."
)


def add_commands(commands: Any) -> None:
    """Add `train`."""
    parser = shared.add_parser(commands, "train", "train a net on a data set", DETAILS, EXAMPLES)
    parser.set_defaults(run=run)
    shared.record_given(parser)
    names = ", ".join(datasets.NAMES)
    parser.add_argument("dataset", nargs="?", choices=datasets.NAMES, metavar="DATASET", help=names)
    parser.add_argument("--out", type=Path, metavar="RUN_DIR", help="folder of the run; new or empty")
    parser.add_argument("--resume", type=Path, metavar="RUN_DIR", help="go on with a run that was ended early")
    parser.add_argument("--force", action="store_true", help="write into RUN_DIR even if it holds a run")
    shared.add_data(parser)
    _add_net(parser.add_argument_group("net"))
    _add_training(parser.add_argument_group("training"))
    shared.add_common(parser)


def _add_net(group: Any) -> None:
    group.add_argument("--model", choices=models.MODELS, default="lenet", metavar="NAME", help=", ".join(models.MODELS))
    group.add_argument("--depth", type=shared.positive, metavar="N", help="layers of the model plain (default: 20)")
    group.add_argument(
        "--norm",
        choices=("before", "after", "none", *models.NORMS),
        metavar="NORM",
        help=f"batch norm before or after each activation, none, or another norm: {', '.join(models.NORMS)} "
        "(default: batch norm where the model's authors have it)",
    )
    group.add_argument("--activation", default="relu", metavar="NAME", help="relu, leaky_relu, prelu, sigmoid, tanh")
    group.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="of all arrays of the net")


def _add_training(group: Any) -> None:
    rates = ", ".join(f"{name} {rate:g}" for name, rate in LEARNING_RATES.items())
    group.add_argument("--epochs", type=shared.positive, default=10, metavar="N", help="passes over the data")
    group.add_argument("--batch-size", type=shared.positive, default=32, metavar="N", help="samples in each step")
    group.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help="update rule")
    group.add_argument("--lr", type=float, metavar="RATE", help=f"(highest) learning rate (default: {rates})")
    group.add_argument("--momentum", type=float, help="of sgd (default: 0.9) and rmsprop (default: 0)")
    group.add_argument("--l2", type=float, default=0.0, help="penalty l2 / 2 * sum of squared weights")
    group.add_argument("--weight-decay", type=float, help="of adamw (default: 0.01)")
    group.add_argument("--clip-norm", type=float, metavar="NORM", help="largest norm of the gradient")
    group.add_argument(
        "--schedule",
        choices=("constant", "cosine", "step", "one-cycle"),
        default="cosine",
        help="the rate over the run: constant; along a cosine to 0; divided by 10 at 1/2 and 3/4; up and down",
    )
    group.add_argument("--warmup-epochs", type=float, default=0.0, metavar="N", help="straight rise at the beginning")
    group.add_argument(
        "--save-every-steps", type=shared.positive, metavar="N", help="save within epochs, too, after so many steps"
    )
    group.add_argument("--seed", type=int, default=0, help="of first weights, order of samples, dropout")
    group.add_argument(
        "--sync-batch-norm",
        action=shared.Flag,
        default=True,
        help="on several ranks of an MPI program: statistics of the whole batch, or of each rank's part",
    )
    group.add_argument(
        "--deterministic", action=shared.Flag, default=False, help="the same bits for any number of ranks; slower"
    )


def run(arguments: argparse.Namespace) -> int:
    """Train, and write the run folder; after a signal 128 more than its number, as a shell says it.

    Everything is checked before the folder is touched: the last checks are those of `fit`. Of several ranks, the first
    one writes and talks.
    """
    crew = Crew()
    folder = _folder(arguments, crew)
    shared.use_threads(arguments.threads)
    (x, y), held_out = datasets.load(arguments.dataset, folder=arguments.data_folder)
    model = _model(arguments, x, y)
    steps = math.ceil(len(x) / arguments.batch_size)
    trainer = Trainer(
        model,
        losses.SoftmaxCrossEntropy(),
        _optimizer(arguments, steps),
        comm=crew.comm,
        sync_batch_norm=arguments.sync_batch_norm,
        deterministic=arguments.deterministic,
    )
    if arguments.resume is not None:
        restore(trainer, folder.path / WEIGHTS)
    size = f"{model.count_parameters():,} parameters, {len(x):,} samples"
    crew.say(f"{arguments.model} on {arguments.dataset}: {size}{_ranks(trainer)}")
    try:
        history = trainer.fit(
            x,
            y,
            epochs=max(arguments.epochs - trainer.epoch, 0),
            batch_size=arguments.batch_size,
            validation_data=held_out,
            callbacks=folder.callbacks(arguments) if crew.is_first else [],
        )
    except BaseException as error:
        if folder.has_begun:
            folder.finish_failed(trainer, "diverged" if isinstance(error, ArithmeticError) else "failed")
        if trainer.spread is not None and trainer.spread.is_common(error):
            crew.wait()
            if not crew.is_first:
                raise SystemExit(1 if isinstance(error, ArithmeticError) else 2) from None  # the first one says it
        raise
    if crew.is_first:
        folder.finish(trainer)
    last = {name: series[-1] for name, series in history.metrics.items() if series}
    if "val_accuracy" in last and not math.isnan(last["val_accuracy"]):
        crew.say(f"held-out accuracy {last['val_accuracy']:.2%}, loss {last['val_loss']:.4f}")
    crew.say(f"written to {folder.path}")
    crew.wait()
    return 0 if history.signal is None else 128 + history.signal


def _ranks(trainer: Trainer) -> str:
    """Return what is said of the ranks, where there are some."""
    if trainer.spread is None or trainer.spread.group.size == 1:
        return ""
    return f", {trainer.spread.group.size} ranks of {numba.get_num_threads()} threads"


def _folder(arguments: argparse.Namespace, crew: Crew) -> RunFolder:
    """Return the folder of the run, checked; the settings of one that goes on are put into `arguments`."""
    if arguments.resume is None:
        for name, value in (("DATASET", arguments.dataset), ("--out", arguments.out)):
            if value is None:
                raise ValueError(f"{name}: required, or --resume RUN_DIR")
        folder = RunFolder(arguments.out)
    else:
        resume_settings(arguments)
        folder = RunFolder(arguments.resume, resume=True)
    if crew.is_first:
        folder.check(arguments.force)
    return folder


def _model(arguments: argparse.Namespace, x: Any, y: Any) -> Model:
    options: dict[str, Any] = {}
    if arguments.norm is not None:
        options["norm"] = None if arguments.norm == "none" else arguments.norm
    if arguments.depth is not None:
        if arguments.model != "plain":
            raise ValueError(f"--depth: the model {arguments.model} has a fixed depth; plain has one to choose")
        options["depth"] = arguments.depth
    return models.MODELS[arguments.model](
        input_shape=x.shape[1:],
        classes=int(np.max(y)) + 1,
        activation=arguments.activation,
        seed=arguments.seed,
        dtype=arguments.dtype,
        **options,
    )


def _optimizer(arguments: argparse.Namespace, steps_per_epoch: int) -> optimizers.Optimizer:
    name = arguments.optimizer
    peak = LEARNING_RATES[name] if arguments.lr is None else arguments.lr
    options: dict[str, Any] = {"l2": arguments.l2, "clip_norm": arguments.clip_norm}
    if name == "sgd":
        options["momentum"] = 0.9 if arguments.momentum is None else arguments.momentum
    elif arguments.momentum is not None:
        if name != "rmsprop":
            raise ValueError(f"--momentum: {name} has none; sgd and rmsprop do")
        options["momentum"] = arguments.momentum
    if arguments.weight_decay is not None:
        if name != "adamw":
            raise ValueError(f"--weight-decay: {name} has none; adamw does, and --l2 is for all")
        options["weight_decay"] = arguments.weight_decay
    optimizer: optimizers.Optimizer = OPTIMIZERS[name](_schedule(arguments, peak, steps_per_epoch), **options)
    return optimizer


def _schedule(arguments: argparse.Namespace, peak: float, steps_per_epoch: int) -> schedules.Schedule:
    if arguments.warmup_epochs < 0:
        raise ValueError(f"--warmup-epochs: expected at least 0, got {arguments.warmup_epochs:g}")
    warmup = round(arguments.warmup_epochs * steps_per_epoch)
    steps = max(arguments.epochs * steps_per_epoch - warmup, 1)
    schedule: schedules.Schedule
    if arguments.schedule == "constant":
        schedule = schedules.Constant(peak)
    elif arguments.schedule == "cosine":
        schedule = schedules.Cosine(peak, steps)
    elif arguments.schedule == "one-cycle":
        schedule = schedules.OneCycle(peak, steps)
    else:
        schedule = schedules.Step(peak, milestones=tuple(sorted({max(steps // 2, 1), max(3 * steps // 4, 1)})))
    return schedules.LinearWarmup(warmup, schedule) if warmup else schedule
