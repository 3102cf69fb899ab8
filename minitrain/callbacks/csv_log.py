"""The history as a CSV file that grows with the training."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from minitrain.terminal.output import Output
from minitrain.training.callback import Callback
from minitrain.training.step import Learner

__all__ = ["CSVLog"]


class CSVLog(Callback):
    """Writes a row to a CSV file after each epoch, at once: the file can be followed, and survives a crash.

    Parameters
    ----------
    path : str or path-like
    append : bool
        Whether rows are added to what is there; otherwise the file begins anew with each training.
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        self.path = Path(path)
        self.append = append
        self._file: TextIO | None = None
        self._output = Output(str(self.path))

    def on_train_begin(self, trainer: Learner) -> None:
        self._output.failed = False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._columns: list[str] = []
        if self.append and self.path.exists():
            with open(self.path, newline="", encoding="utf-8") as file:
                self._columns = next(csv.reader(file), [])
        self._file = open(self.path, "a" if self.append else "w", newline="", encoding="utf-8")  # noqa: SIM115

    def on_epoch_end(self, trainer: Learner, epoch: int, values: Mapping[str, float]) -> None:
        self._output.attempt(lambda: self._write(epoch, values))

    def _write(self, epoch: int, values: Mapping[str, float]) -> None:
        assert self._file is not None
        table = csv.writer(self._file, lineterminator="\n")
        if not self._columns:
            self._columns = ["epoch", *values]
            table.writerow(self._columns)
        row = {"epoch": epoch, **values}
        table.writerow([row.get(name, "") for name in self._columns])
        self._file.flush()

    def on_train_end(self, trainer: Learner) -> None:
        if self._file is not None:
            self._output.attempt(self._file.flush)
            with contextlib.suppress(OSError):  # it tries to write what could not be written before
                self._file.close()
            self._file = None
