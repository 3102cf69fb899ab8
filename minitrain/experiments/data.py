"""The data of the experiments: a data set's split, standardized by the training images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain import datasets
from minitrain.experiments.record import Record

__all__ = ["MOST_TEST", "MOST_TRAINING", "Data", "DataSummary", "load_data", "standardize"]

Array = npt.NDArray[Any]
MOST_TRAINING, MOST_TEST = 8000, 2000  # of a large data set: the demonstration is about training, not about records


@dataclass(frozen=True)
class DataSummary(Record):
    """What a page and its figures say of the data; see `Data`."""

    name: str
    training_images: int
    test_images: int
    image_shape: list[int]
    classes: int
    chance_loss: float
    chance_accuracy: float


@dataclass(frozen=True)
class Data:
    """Images (N, C, H, W) with mean 0 and standard deviation 1 over the training set, labels (N,) from 0."""

    name: str
    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1

    @property
    def chance_loss(self) -> float:
        """Cross entropy of a net that gives every class the same probability: the logarithm of their number."""
        return float(np.log(self.classes))

    @property
    def chance_accuracy(self) -> float:
        """Accuracy of a net that always names the same class, for classes of one size."""
        return 1.0 / self.classes

    def describe(self) -> DataSummary:
        """Return what the results record of the data."""
        return DataSummary(
            self.name,
            training_images=len(self.x_train),
            test_images=len(self.x_test),
            image_shape=list(self.x_train.shape[1:]),
            classes=self.classes,
            chance_loss=self.chance_loss,
            chance_accuracy=self.chance_accuracy,
        )


def load_data(name: str, folder: str | os.PathLike[str] | None, seed: int) -> Data:
    """Load a data set; of digits the split is stratified and drawn from `seed`.

    Of a larger set, the first 8,000 training and 2,000 test images are used.
    """
    options = {"seed": seed} if name in ("digits", "synthetic") else {}
    (x_train, y_train), (x_test, y_test) = datasets.load(name, folder, **options)
    return standardize(name, x_train[:MOST_TRAINING], y_train[:MOST_TRAINING], x_test[:MOST_TEST], y_test[:MOST_TEST])


def standardize(name: str, x_train: Array, y_train: Array, x_test: Array, y_test: Array) -> Data:
    """Shift and scale all images by one mean and one standard deviation, those of the training images."""
    mean = float(x_train.mean(dtype=np.float64))
    std = float(x_train.std(dtype=np.float64)) or 1.0
    shifted = [((x - mean) / std).astype(np.float32) for x in (x_train, x_test)]
    return Data(name, shifted[0], y_train, shifted[1], y_test)
