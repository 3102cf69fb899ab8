"""`minitrain stability` and `minitrain norms`: experiments that write a report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from minitrain.cli import arguments as shared

__all__ = ["add_commands"]


class _Command(NamedTuple):
    name: str
    summary: str
    details: str
    examples: str


COMMANDS = (
    _Command(
        "stability",
        "measure what batch norm does for training, and write a report",
        "With and without batch norm: nets from 5 to 40 layers, learning rates from 0.001 to 10, scales of the first "
        "weights from 0.1 to 10, and figure 1 of Ioffe & Szegedy 2015. Writes report.html, results.json and figures.",
        """\
  minitrain stability --out report              about five minutes on two cores, kernels compiled on the way
  minitrain stability --out report --quick      the same with fewer runs and steps
""",
    ),
    _Command(
        "norms",
        "compare norms and forms of batch norm, and write a report",
        "Batch, layer, group, instance and filter response norm and renormalization at batch sizes from 32 to 2; "
        "batches of few classes; ghosts of large batches; running and precise statistics; how statistics are averaged; "
        "adaptation to corrupted images. Writes report.html, results.json and figures.",
        """\
  minitrain norms --out report                  under ten minutes on two cores, kernels compiled on the way
  minitrain norms --out report --quick          the same with fewer runs and steps
""",
    ),
)


def add_commands(commands: Any) -> None:
    """Add all of them."""
    for command in COMMANDS:
        _add(commands, command)


def _add(commands: Any, command: _Command) -> None:
    parser = shared.add_parser(commands, command.name, command.summary, command.details, command.examples)
    parser.set_defaults(run=run, experiment=command.name)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the report")
    parser.add_argument("--data", choices=("digits", "mnist"), default="digits", help="data set")
    parser.add_argument("--quick", action="store_true", help="fewer runs and steps")
    parser.add_argument("--seed", type=int, default=0, help="of first weights, order of samples, split")
    shared.add_data(parser)
    shared.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the experiments."""
    from minitrain.experiments import norms, stability  # loads all that trains

    shared.use_threads(arguments.threads)
    {"stability": stability, "norms": norms}[arguments.experiment].run(
        out=arguments.out,
        seed=arguments.seed,
        threads=arguments.threads,
        quick=arguments.quick,
        data=arguments.data,
        data_folder=arguments.data_folder,
    )
    return 0
