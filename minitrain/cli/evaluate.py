"""`minitrain evaluate`: how well a trained net does on a data set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from minitrain import datasets, losses, optimizers
from minitrain.cli import arguments as shared
from minitrain.optional import require
from minitrain.training.run_folder import load_model, read_config
from minitrain.training.trainer import Trainer

__all__ = ["add_commands"]

EXAMPLES = """\
  minitrain evaluate run                                   on the held-out part of the data set it was trained on
  minitrain evaluate run --split train --json
  minitrain evaluate net.safetensors --data mnist --data-folder ~/mnist
"""


def add_commands(commands: Any) -> None:
    """Add `evaluate`."""
    summary = "measure a trained net: loss, accuracy, each class, confusion matrix"
    parser = shared.add_parser(commands, "evaluate", summary, examples=EXAMPLES)
    parser.set_defaults(run=run)
    parser.add_argument("path", type=Path, metavar="RUN_DIR|WEIGHTS", help="run folder or file of weights")
    parser.add_argument("--data", choices=datasets.NAMES, help="data set (default: the one of the run)")
    parser.add_argument("--split", choices=("test", "train"), default="test", help="which part of it")
    parser.add_argument("--json", action="store_true", help="print numbers as JSON")
    shared.add_data(parser)
    shared.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print loss, accuracy and, for each class, what the net took it for."""
    shared.use_threads(arguments.threads)
    metrics = require("sklearn.metrics", "the report on each class")
    model, config = load_model(arguments.path), read_config(arguments.path)
    name = arguments.data or config.get("dataset")
    if name not in datasets.NAMES:
        raise ValueError(f"--data: expected one of {', '.join(datasets.NAMES)}, got {name!r}")
    folder = arguments.data_folder or (config.get("data_folder") if name == config.get("dataset") else None)
    train, test = datasets.load(name, folder=folder)
    x, y = test if arguments.split == "test" else train
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD())
    measured = trainer.evaluate(x, y)
    predicted = model.predict(x).argmax(axis=1)
    labels = list(range(model.output_shape[0]))
    confusion = metrics.confusion_matrix(y, predicted, labels=labels)
    if arguments.json:
        print(json.dumps({"data": name, "split": arguments.split, **measured, "confusion": confusion.tolist()}))
        return 0
    print(f"{name}, {arguments.split}: {len(x):,} samples")
    print(f"loss {measured['loss']:.4f}   accuracy {measured['accuracy']:.2%}\n")
    print(metrics.classification_report(y, predicted, labels=labels, digits=3, zero_division=0))
    print("confusion matrix: a row for each class, a column for what it was taken for")
    width = max(5, len(str(np.max(confusion))) + 1)
    print(" " * 5 + "".join(f"{label:>{width}}" for label in labels))
    for label, row in zip(labels, confusion, strict=True):
        print(f"{label:>5}" + "".join(f"{count if count else '.':>{width}}" for count in row))
    return 0
