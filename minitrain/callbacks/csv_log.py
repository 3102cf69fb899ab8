"""The history as a CSV file that grows with the training."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, TextIO

from minitrain.callbacks._paths import check_writable
from minitrain.files import write_text
from minitrain.terminal.output import Output
from minitrain.training.callback import Callback
from minitrain.training.step import Learner
from nbnorm.jit.checks import expect_boolean

__all__ = ["CSVLog"]


class CSVLog(Callback):
    """Writes a row to a CSV file after each epoch, at once: the file can be followed, and survives a crash.

    Parameters
    ----------
    path : str or path-like
    append : bool
        Whether rows are added to what is there; otherwise the file begins anew with each training. Of a last row that a
        killed process left unfinished the whole cells are kept. Rows of epochs that are trained again, those after the
        trainer's, are removed. What has columns that are not in the file's first row goes without them.
    """

    writes: ClassVar[bool] = True

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        self.path = Path(path).expanduser()
        self.append = expect_boolean("append", append)
        self._file: TextIO | None = None
        self._columns: list[str] = []
        self._output = Output(str(self.path))

    def check(self, trainer: Learner, expected: Mapping[str, bool | None]) -> None:
        check_writable(self.path)
        if self.append and self.path.exists():
            read_rows(self.path)

    def on_train_begin(self, trainer: Learner) -> None:
        self._output.failed = False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = read_rows(self.path) if self.append and self.path.exists() else []
        self._columns = rows[0] if rows else []
        text = format_rows([row for row in rows if not _is_after(row, trainer.epoch)])
        if not self.path.exists() or self.path.read_bytes() != text.encode():
            write_text(self.path, text)
        self._file = open(self.path, "a", newline="", encoding="utf-8")  # noqa: SIM115

    def on_epoch_end(self, trainer: Learner, epoch: int, values: Mapping[str, float]) -> None:
        self._output.attempt(lambda: self._write(epoch, values))

    def _write(self, epoch: int, values: Mapping[str, float]) -> None:
        assert self._file is not None
        rows: list[list[object]] = []
        if not self._columns:
            self._columns = ["epoch", *values]
            rows.append(list(self._columns))
        row = {"epoch": epoch, **values}
        rows.append([row.get(name, "") for name in self._columns])
        self._file.write(format_rows(rows))
        self._file.flush()

    def on_train_end(self, trainer: Learner) -> None:
        if self._file is not None:
            self._output.attempt(self._file.flush)
            with contextlib.suppress(OSError):  # it tries to write what could not be written before
                self._file.close()
            self._file = None


def read_rows(path: Path) -> list[list[str]]:
    """Return the rows of a log, the names first; of an unfinished last one only the whole cells, the others empty."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected a table of an earlier training, got something that is no text") from None
    end = text.rfind("\n") + 1
    torn = text[end:]  # what has no line end was being written
    whole = text[:end] + torn[: torn.rfind(",") + 1]
    try:
        rows = [row for row in csv.reader(io.StringIO(whole, newline=""), strict=True) if row]
    except csv.Error as error:
        raise ValueError(f"{path}: not a readable table ({error})") from None
    if rows and rows[0][0] != "epoch" and end:
        raise ValueError(f"{path}: expected a table of an earlier training, its first column 'epoch', got {rows[0]}")
    if not end:
        return []  # not even the names are whole
    return [[*row, *[""] * (len(rows[0]) - len(row))] for row in rows]


def format_rows(rows: list[list[object]] | list[list[str]]) -> str:
    """Return rows as the text of a table."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _is_after(row: list[str], epoch: int) -> bool:
    return row[0].isdigit() and int(row[0]) > epoch
