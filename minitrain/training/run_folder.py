"""Run folders: what `minitrain train` writes and the other subcommands read."""

from __future__ import annotations

import argparse
import json
import platform
import warnings
from pathlib import Path
from typing import Any

import numba
import numpy as np

from minitrain.callbacks import Callback, Checkpoint
from minitrain.files import write_text
from minitrain.model import Model
from minitrain.training.trainer import Trainer
from minitrain.version import __version__

__all__ = ["RunFolder", "load_model", "read_config"]

WEIGHTS, HISTORY, CURVES, CONFIG = "weights.safetensors", "history.csv", "curves.png", "config.json"


class RunFolder:
    """The folder of one run; every file in it is whole at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._config: dict[str, Any] = {}

    def check(self, force: bool) -> None:
        """Raise ValueError where the folder holds something already, unless `force`. Nothing is changed yet."""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"--out: expected a folder, {self.path} is a file")
        if self.path.is_dir() and any(self.path.iterdir()) and not force:
            raise ValueError(f"--out: {self.path} is not empty; choose another folder, or add --force to overwrite it")

    def begin(self, trainer: Trainer, arguments: argparse.Namespace) -> None:
        """Make the folder, clear it of a former run, and write down what is about to run."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, HISTORY, CURVES, CONFIG):  # nothing of a former run may pass for this one's
            (self.path / name).unlink(missing_ok=True)
        given = {name: value for name, value in vars(arguments).items() if name not in ("run", "debug", "force", "out")}
        folder = given["data_folder"]
        given["data_folder"] = None if folder is None else str(folder.resolve())
        self._config = {
            **given,
            "threads": numba.get_num_threads(),
            "optimizer": trainer.optimizer.config(),
            "parameters": trainer.model.count_parameters(),
            "versions": {
                "minitrain": __version__,
                "numba": numba.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "status": "running",
        }
        self._write_config()

    def callbacks(self) -> list[Callback]:
        """Return what keeps the last whole epoch in the folder, should the run end in an unforeseen way."""
        return [Checkpoint(self.path / WEIGHTS)]

    def finish(self, trainer: Trainer) -> None:
        """Write weights, history and curves of a run that ended, or that Ctrl-C ended."""
        assert trainer.history is not None
        trainer.model.save(self.path / WEIGHTS)
        self._conclude(trainer, "interrupted" if trainer.history.interrupted else "finished")

    def finish_failed(self, trainer: Trainer) -> None:
        """Write history and curves of a run that a loss which is not finite ended; the last good weights stay."""
        self._conclude(trainer, "diverged")

    def _conclude(self, trainer: Trainer, status: str) -> None:
        history = trainer.history
        assert history is not None
        history.to_csv(self.path / HISTORY)
        if len(history):
            try:
                history.plot(self.path / CURVES)
            except ImportError as error:  # a missing package is no reason to fail after hours of training
                warnings.warn(str(error), stacklevel=2)
        last = {name: (value if np.isfinite(value) else None) for name, value in history.last().items()}
        self._config |= {"status": status, "epochs_trained": trainer.epoch, "result": last}
        self._write_config()

    def _write_config(self) -> None:
        write_text(self.path / CONFIG, json.dumps(self._config, indent=2) + "\n")


def read_config(path: Path) -> dict[str, Any]:
    """Return config.json of a run folder; nothing for a file of weights."""
    file = path / CONFIG
    if not path.is_dir() or not file.exists():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not a readable configuration ({error})") from None
    if not isinstance(config, dict):
        raise ValueError(f"{file}: expected a JSON object")
    return config


def load_model(path: Path) -> Model:
    """Return the model of a run folder or of a file of weights."""
    file = path / WEIGHTS if path.is_dir() else path
    if not file.exists():
        raise ValueError(f"{path}: expected a run folder with {WEIGHTS}, or a file of weights; found neither")
    return Model.load(file)
