"""The `minitrain` command: one module for each of its subcommands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from minitrain.cli import evaluate, info, predict, stability, train
from minitrain.cli.arguments import HelpFormatter
from minitrain.terminal.interrupts import number_of
from minitrain.version import __version__

__all__ = ["build_parser", "main"]

DESCRIPTION = "Trains small nets on a CPU, and shows what batch normalization does for the training of deep ones."
EXAMPLES = """\
examples:
  minitrain stability --out report                        what batch norm does, on handwritten digits (3 minutes)
  minitrain train digits --model lenet --epochs 15 --out run
  minitrain evaluate run                                  loss, accuracy, confusion matrix of the trained net
  minitrain predict run images.npy                        classes and probabilities as CSV
  minitrain COMMAND --help                                all options of a command

exit codes: 0 done, 1 training or computation failed, 2 wrong arguments, data or files, 130 stopped by Ctrl-C, 143 by
  SIGTERM
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command; each subcommand sets `run`, a function of the parsed arguments."""
    parser = argparse.ArgumentParser(
        prog="minitrain", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=HelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"minitrain {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (stability, train, evaluate, predict, info):
        module.add_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Errors that a user can put right (wrong arguments, files, data, a missing package) end with one line on stderr;
    `--debug` shows where they came from.
    """
    arguments = build_parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as interrupt:
        print("minitrain: interrupted", file=sys.stderr)
        return 128 + number_of(interrupt)
    except BrokenPipeError:  # `minitrain info | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        if arguments.debug:
            raise
        print(f"minitrain: error: {error}", file=sys.stderr)
        return 1 if isinstance(error, ArithmeticError) else 2
