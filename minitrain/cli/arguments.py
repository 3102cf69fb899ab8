"""What the subcommands' arguments share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numba

__all__ = [
    "Flag",
    "HelpFormatter",
    "add_common",
    "add_data",
    "add_parser",
    "as_typed",
    "positive",
    "record_given",
    "use_threads",
]


# What options are called in the library: the rate of an optimizer, and what schedules make of it.
ALIASES = {
    "learning_rate": "lr",
    "start": "lr",
    "peak": "lr",
    "value": "lr",
    "folder": "data_folder",
    "processes": "jobs",
}
POSITIONAL = ("dataset", "path", "inputs", "run")  # they have no option, and are named by what they hold


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, and leaves the examples as they are written."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help  # "(default: None)" says nothing
        return super()._get_help_string(action)


def add_parser(commands: Any, name: str, summary: str, details: str = "", examples: str = "") -> Any:
    """Add a subcommand with its help: a summary, more of it, examples."""
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}. {details}".strip(),
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=HelpFormatter,
    )


class _Recorded(argparse.Action):
    """Stores an argument as argparse does by itself, and its name in `given`: a default leaves no trace there."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        setattr(namespace, self.dest, values)
        if option is not None or values is not None:
            namespace.given = (*vars(namespace).get("given", ()), self.dest)


class Flag(argparse.BooleanOptionalAction):
    """--name and --no-name, of which `given` tells, too."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        super().__call__(parser, namespace, values, option)
        namespace.given = (*vars(namespace).get("given", ()), self.dest)


def record_given(parser: argparse.ArgumentParser) -> None:
    """Let the arguments that are added from now on tell in `given` that they were typed."""
    parser.register("action", None, _Recorded)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add what every subcommand has."""
    parser.add_argument("--threads", type=positive, metavar="N", help="threads of the kernels (default: all cores)")
    parser.add_argument("--debug", action="store_true", help="show where an error came from")


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add where data sets come from."""
    parser.add_argument(
        "--data-folder",
        type=Path,
        metavar="DIR",
        help="folder with the data set's files; without it they are downloaded once and kept",
    )


def positive(text: str) -> int:
    """Read an integer of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text!r}")
    return number


def use_threads(threads: int | None) -> None:
    """Run kernels on this many threads; ValueError where there are fewer."""
    if threads is None:
        return
    most = int(numba.config.NUMBA_NUM_THREADS)
    if threads > most:
        raise ValueError(f"--threads: expected at most {most} (set NUMBA_NUM_THREADS for more), got {threads}")
    numba.set_num_threads(threads)


def as_typed(message: str, arguments: argparse.Namespace) -> str:
    """Return a message about an argument of the library with the name of the option that was typed instead.

    Examples
    --------
    >>> as_typed("batch_size: expected an integer >= 1, got 0", argparse.Namespace(batch_size=0))
    '--batch-size: expected an integer >= 1, got 0'
    >>> as_typed("start: expected a finite number >= 0, got -1.0", argparse.Namespace(lr=-1.0))
    '--lr: expected a finite number >= 0, got -1.0'
    """
    name, colon, rest = message.partition(":")
    option = ALIASES.get(name, name)
    if not colon or option not in vars(arguments) or option in POSITIONAL:
        return message
    return f"--{option.replace('_', '-')}:{rest}"
