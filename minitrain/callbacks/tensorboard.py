"""The history in TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from minitrain.optional import require
from minitrain.terminal.output import Output
from minitrain.training.callback import Callback
from minitrain.training.step import Learner

__all__ = ["TensorBoard"]


class TensorBoard(Callback):
    """Writes the history for TensorBoard after each epoch: `tensorboard --logdir FOLDER` shows it.

    Curves are called "loss/training", "loss/validation", "accuracy/training" and so on, over the epochs; a pair stands
    together. Needs the package tensorboardX, which writes the files without PyTorch or TensorFlow.

    Parameters
    ----------
    folder : str or path-like
        Where the files go; each training of a trainer gets one. Runs side by side are folders side by side.

    Raises
    ------
    ImportError
        When training begins: tensorboardX is not installed.

    Notes
    -----
    What can no longer be written, on a full disk for example, is a warning; training goes on.
    """

    writes: ClassVar[bool] = True

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.fspath(folder)
        self._output = Output(f"TensorBoard's files in {self.folder}")
        self._writer: Any = None

    def check(self, trainer: Learner, expected: Mapping[str, Any]) -> None:
        """Raise ImportError, before anything is trained, where the package is missing."""
        require("tensorboardX", "writing for TensorBoard")

    def on_train_begin(self, trainer: Learner) -> None:
        make = require("tensorboardX", "writing for TensorBoard").SummaryWriter
        self._output.failed = False
        self._writer = make(os.path.expanduser(self.folder))

    def on_epoch_end(self, trainer: Learner, epoch: int, values: Mapping[str, float]) -> None:
        self._output.attempt(lambda: self._write(epoch, values))

    def _write(self, epoch: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(tag_of(name, values), value, epoch)
        self._writer.flush()

    def on_train_end(self, trainer: Learner) -> None:
        if self._writer is not None:
            self._output.attempt(self._writer.close)
            self._writer = None


def tag_of(name: str, values: Mapping[str, float]) -> str:
    """Return "loss/training" for "loss" and "loss/validation" for "val_loss"; other names as they are."""
    if name.startswith("val_"):
        return f"{name.removeprefix('val_')}/validation"
    measured = name not in ("learning_rate", "seconds", "images_per_second")
    return f"{name}/training" if measured or f"val_{name}" in values else name
