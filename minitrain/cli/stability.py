"""`minitrain stability`: what batch normalization does for the training of deep nets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from minitrain.cli import arguments as shared

__all__ = ["add_commands"]

DETAILS = (
    "With and without batch norm: nets from 5 to 40 layers, learning rates from 0.001 to 10, scales of the first "
    "weights from 0.1 to 10, and figure 1 of Ioffe & Szegedy 2015. Writes report.html, results.json and figures."
)
EXAMPLES = """\
  minitrain stability --out report              about three minutes on two cores, kernels compiled on the way
  minitrain stability --out report --quick      the same with fewer runs and steps
"""


def add_commands(commands: Any) -> None:
    """Add `stability`."""
    summary = "measure what batch norm does for training, and write a report"
    parser = shared.add_parser(commands, "stability", summary, DETAILS, EXAMPLES)
    parser.set_defaults(run=run)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the report")
    parser.add_argument("--data", choices=("digits", "mnist"), default="digits", help="data set")
    parser.add_argument("--quick", action="store_true", help="fewer runs and steps")
    parser.add_argument("--seed", type=int, default=0, help="of first weights, order of samples, split")
    shared.add_data(parser)
    shared.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the experiment."""
    from minitrain.experiments import stability  # loads all that trains

    shared.use_threads(arguments.threads)
    stability.run(
        out=arguments.out,
        seed=arguments.seed,
        threads=arguments.threads,
        quick=arguments.quick,
        data=arguments.data,
        data_folder=arguments.data_folder,
    )
    return 0
