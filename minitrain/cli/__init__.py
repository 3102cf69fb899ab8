"""The `minitrain` command: one module for each of its subcommands."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from minitrain.cli import arguments as shared
from minitrain.cli import evaluate, experiments, info, predict, train
from minitrain.cli.arguments import HelpFormatter
from minitrain.terminal.interrupts import number_of
from minitrain.version import __version__

__all__ = ["build_parser", "main"]

DESCRIPTION = "Trains small nets on a CPU, and shows what batch normalization does for the training of deep ones."
EXAMPLES = """\
examples:
  minitrain stability --out report                        what batch norm does, on handwritten digits (5 minutes)
  minitrain norms --out report                            norms and forms of batch norm beside each other (10 minutes)
  minitrain train digits --model lenet --epochs 15 --out run
  minitrain evaluate run                                  loss, accuracy, confusion matrix of the trained net
  minitrain predict run images.npy                        classes and probabilities as CSV
  minitrain COMMAND --help                                all options of a command

exit codes: 0 done, 1 training or computation failed, 2 wrong arguments, data or files, 130 stopped by Ctrl-C, 143 by
  SIGTERM, 141 whoever read the output has gone before its end
"""

BROKEN_PIPE = 141  # 128 + SIGPIPE: what a shell says of a program that this signal ended


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command; each subcommand sets `run`, a function of the parsed arguments."""
    parser = argparse.ArgumentParser(
        prog="minitrain", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=HelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"minitrain {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (experiments, train, evaluate, predict, info):
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
    except KeyboardInterrupt as interrupt:
        _say("minitrain: interrupted")
        code = 128 + number_of(interrupt)
    except BrokenPipeError:  # `minitrain info | head`: the reader has what it wanted, and did not get all
        code = BROKEN_PIPE
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        if arguments.debug:
            raise
        _say(f"minitrain: error: {shared.as_typed(str(error), arguments)}")
        code = 1 if isinstance(error, ArithmeticError) else 2
    return _flushed(code)


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it
        print(line, file=sys.stderr, flush=True)


def _flushed(code: int) -> int:
    """Write what is still to be written; return the exit code, or that of what could not be."""
    if sys.stdout is None:
        return code
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        # What is left would fail once more when Python ends, and change the exit code to 120.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return code or BROKEN_PIPE
        if code == 0:
            _say(f"minitrain: error: standard output: {error}")
            return 2
    return code
