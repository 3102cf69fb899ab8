"""The settings of a run that goes on: those in its folder, against which nothing may be said."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from minitrain.training.run_folder import read_config

__all__ = ["resume_settings"]

# What may be another one without another result.
FREE = ("threads", "data_folder", "save_every_steps")
# What earlier versions had no word for, and did.
SINCE = {"save_every_steps": None, "sync_batch_norm": True, "deterministic": False}
ABOUT_THE_COMMAND = ("resume", "debug", "help")


def resume_settings(arguments: argparse.Namespace) -> None:
    """Put the settings of the run `arguments.resume` into `arguments`; ValueError where others were given."""
    path: Path = arguments.resume
    config = read_config(path)
    if not config:
        raise ValueError(f"--resume: expected the folder of a run, got {path}, which has no config.json")
    given = set(vars(arguments).get("given", ()))
    if arguments.out is not None or arguments.force:
        raise ValueError("--resume: goes on in the run's own folder; leave out --out and --force")
    for name, now in list(vars(arguments).items()):
        if name in ("run", "given", "out", "force", *ABOUT_THE_COMMAND):
            continue
        then = _recorded(config, name, path)
        if name not in given:
            setattr(arguments, name, then)
        elif now != then and name not in FREE and not _is_longer(arguments, config, name):
            option = name if name == "dataset" else f"--{name.replace('_', '-')}"
            hint = "; with another number of epochs the schedule would be another" if name == "epochs" else ""
            raise ValueError(f"{option}: the run {path} was begun with {then}, got {now}; leave it out to go on{hint}")


def _is_longer(arguments: argparse.Namespace, config: dict[str, Any], name: str) -> bool:
    """Whether this is another number of epochs, on which nothing else depends."""
    return name == "epochs" and config.get("schedule") == "constant"


def _recorded(config: dict[str, Any], name: str, path: Path) -> Any:
    if name in SINCE:
        return config.get(name, SINCE[name])
    if name not in config:
        raise ValueError(f"--resume: {path} says nothing about {name}: not a run that can go on")
    if name == "optimizer":
        return str(config[name]["class"]).lower()
    if name == "data_folder":
        return None if config[name] is None else Path(config[name])
    return config[name]
