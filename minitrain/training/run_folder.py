"""Run folders: what `minitrain train` writes and the other subcommands read."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numba
import numpy as np

from minitrain.callbacks import Callback, Checkpoint, CSVLog, LambdaCallback
from minitrain.callbacks._paths import check_writable
from minitrain.callbacks.csv_log import read_rows
from minitrain.files import reading, write_text
from minitrain.model import Model
from minitrain.optional import require
from minitrain.terminal.liveness import is_alive, this_process
from minitrain.training.checkpoint_file import save_checkpoint
from minitrain.training.history import History
from minitrain.training.step import Learner
from minitrain.training.trainer import Trainer
from minitrain.version import __version__

__all__ = ["WEIGHTS", "RunFolder", "load_model", "read_config"]

WEIGHTS, HISTORY, CURVES, CONFIG = "weights.safetensors", "history.csv", "curves.png", "config.json"
FORMER = ".former-"  # of a folder within a run's, where a former run's files wait to be deleted
UNRECORDED = ("run", "debug", "force", "out", "resume", "given")


class RunFolder:
    """The folder of one run; every file in it is whole at any time.

    Parameters
    ----------
    path : Path
    resume : bool
        Whether the run that is there goes on; else its files are cleared when the new one begins.
    """

    def __init__(self, path: Path, resume: bool = False) -> None:
        self.path = path
        self._resume = resume
        self._config: dict[str, Any] = {}

    def check(self, force: bool) -> None:
        """Raise ValueError where the folder holds something already, unless `force`. Nothing is changed yet."""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"--out: expected a folder, {self.path} is a file")
        if self.path.is_dir() and any(self.path.iterdir()) and not force and not self._resume:
            raise ValueError(f"--out: {self.path} is not empty; choose another folder, or add --force to overwrite it")
        config = _read_config_leniently(self.path)
        if config.get("status") == "running" and is_alive(config.get("process")):
            raise ValueError(f"{self.path}: process {config['process']['pid']} is writing this run; wait for its end")
        require("safetensors", "saving a run")
        require("matplotlib", "drawing training curves")
        check_writable(self.path / CONFIG)

    def begin(self, trainer: Learner, arguments: argparse.Namespace) -> None:
        """Make the folder, clear it of a former run, and write down what is about to run."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self._resume:
            self._clear()
        given = {name: value for name, value in vars(arguments).items() if name not in UNRECORDED}
        folder = given["data_folder"]
        given["data_folder"] = None if folder is None else str(Path(folder).resolve())
        self._config = {
            **given,
            "threads": numba.get_num_threads(),
            "optimizer": trainer.optimizer.config(),
            "parameters": trainer.model.count_parameters(),
            "inputs": [each.config() for each in trainer.scales],
            "versions": {
                "minitrain": __version__,
                "numba": numba.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "status": "running",
            "process": this_process(),
        }
        self._write_config()

    def _clear(self) -> None:
        """Take a former run's files away, nothing of which may pass for this one's, then delete them.

        One renaming each, the configuration first: without it, what is left is no run.
        """
        for former in self.path.glob(f"{FORMER}*"):  # of a process that was killed here
            shutil.rmtree(former, ignore_errors=True)
        names = [name for name in (CONFIG, WEIGHTS, HISTORY, CURVES) if (self.path / name).exists()]
        if names:
            former = Path(tempfile.mkdtemp(prefix=FORMER, dir=self.path))
            for name in names:
                os.replace(self.path / name, former / name)
            shutil.rmtree(former)

    def callbacks(self, arguments: argparse.Namespace) -> list[Callback]:
        """Return what begins the run once everything was checked, and keeps each whole epoch in the folder.

        A row of the history is written before the checkpoint: killed in between, the row is that of an epoch which is
        trained again, and is removed then.
        """
        begin = LambdaCallback(on_train_begin=lambda trainer: self.begin(trainer, arguments))
        log = CSVLog(self.path / HISTORY, append=self._resume)
        steps = arguments.save_every_steps
        return [begin, log, Checkpoint(escaped(self.path / WEIGHTS), every_steps=steps)]

    @property
    def has_begun(self) -> bool:
        """Whether this run has written anything."""
        return bool(self._config)

    def finish(self, trainer: Trainer) -> None:
        """Write weights, history and curves of a run that ended, or that a signal ended."""
        assert trainer.history is not None
        save_checkpoint(trainer, self.path / WEIGHTS)
        self._conclude(trainer, "interrupted" if trainer.history.interrupted else "finished")

    def finish_failed(self, trainer: Trainer, status: str) -> None:
        """Write history and curves of a run that an error ended; the last good weights stay."""
        self._conclude(trainer, status)

    def _conclude(self, trainer: Trainer, status: str) -> None:
        fitted = trainer.history
        assert fitted is not None
        history = read_history(self.path / HISTORY)
        if fitted.partial_epoch is not None:
            history.append(fitted.partial_epoch, fitted.last())
        history.to_csv(self.path / HISTORY)
        if len(history):
            history.plot(self.path / CURVES)
        last = (
            {name: (value if np.isfinite(value) else None) for name, value in history.last().items()}
            if len(history)
            else {}
        )
        self._config |= {"status": status, "epochs_trained": trainer.epoch, "result": last}
        del self._config["process"]
        self._write_config()

    def _write_config(self) -> None:
        write_text(self.path / CONFIG, json.dumps(self._config, indent=2) + "\n")


def read_history(path: Path) -> History:
    """Return the table of a run; an empty history where there is none."""
    history = History()
    names, *rows = (read_rows(path) if path.exists() else []) or [["epoch"]]
    for row in rows:
        values = {name: float(cell) for name, cell in zip(names[1:], row[1:], strict=True) if cell}
        history.append(int(row[0]), values)
    return history


def escaped(path: Path) -> str:
    """Return a path as a pattern of `str.format` without fields."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _read_config_leniently(path: Path) -> dict[str, Any]:
    """Return the configuration of a run that may be overwritten; nothing where it is damaged."""
    try:
        return read_config(path)
    except ValueError:
        return {}


def read_config(path: Path) -> dict[str, Any]:
    """Return config.json of a run folder; nothing for a file of weights."""
    file = path / CONFIG
    if not path.is_dir() or not file.exists():
        return {}
    with reading(file, "configuration"):
        config = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ValueError(f"{file}: expected a JSON object")
    if config.get("status") == "running" and not is_alive(config.get("process")):
        config["status"] = "killed"  # nobody was left to write it
    return config


def load_model(path: Path) -> Model:
    """Return the model of a run folder or of a file of weights."""
    file = path / WEIGHTS if path.is_dir() else path
    if not file.exists():
        raise ValueError(f"{path}: expected a run folder with {WEIGHTS}, or a file of weights; found neither")
    return Model.load(file)
