"""MNIST and Fashion-MNIST: 28 x 28 grey images of ten classes, in four IDX files each."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minitrain.datasets.download import fetch
from minitrain.datasets.idx import read_idx
from minitrain.datasets.images import Split, check_labels, existing_folder, float_dtype, scaled
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import mismatch

__all__ = ["fashion_mnist", "mnist"]

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
FASHION_MNIST_MIRRORS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
)
FASHION_MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}

SIDE, CLASSES, MOST_IMAGES = 28, 10, 60_000


def mnist(
    folder: str | os.PathLike[str] | None = None, *, download: bool = True, dtype: DTypeLike = "float32"
) -> Split:
    """Handwritten digits: 60,000 to train, 10,000 to test. LeCun, Cortes & Burges 1998.

    Parameters
    ----------
    folder : path, optional
        Folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
        `t10k-labels-idx1-ubyte`, each with or without `.gz`, or with a dot (`train-images.idx3-ubyte`). Where only the
        two t10k files are there, the first 80 %
        of them (8,000) are for training and the rest (2,000) for testing. Default: the user's cache.
    download : bool
        Fetch the files (11 MB) into the cache if they are not there.
    dtype : dtype
        Of the images: float32 or float64.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        x (N, 1, 28, 28) in [0, 1]; y int64 (N,), 0 to 9.

    Raises
    ------
    ValueError, FileNotFoundError, OSError, ImportError
        As for `load`.
    """
    chosen = float_dtype(dtype)
    if folder is None:
        folder = fetch("mnist", MNIST_FILES, MNIST_MIRRORS, download)
    return _load(existing_folder(folder), chosen)


def fashion_mnist(
    folder: str | os.PathLike[str] | None = None, *, download: bool = True, dtype: DTypeLike = "float32"
) -> Split:
    """Photographs of clothing in the form of MNIST: 60,000 to train, 10,000 to test. Arguments as for `mnist`.

    Xiao, Rasul & Vollgraf 2017 (arXiv:1708.07747).
    """
    chosen = float_dtype(dtype)
    if folder is None:
        folder = fetch("fashion_mnist", FASHION_MNIST_FILES, FASHION_MNIST_MIRRORS, download)
    return _load(existing_folder(folder), chosen)


def _load(folder: Path, dtype: np.dtype[Any]) -> Split:
    test = _images_and_labels(folder, "t10k", dtype)
    if _find(folder, "train-images-idx3-ubyte") or _find(folder, "train-labels-idx1-ubyte"):
        return _images_and_labels(folder, "train", dtype), test
    images, labels = test
    cut = len(labels) * 4 // 5
    return (images[:cut], labels[:cut]), (images[cut:], labels[cut:])


def _images_and_labels(folder: Path, part: str, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    images_path = _require(folder, f"{part}-images-idx3-ubyte")
    labels_path = _require(folder, f"{part}-labels-idx1-ubyte")
    images = read_idx(images_path, max_bytes=MOST_IMAGES * SIDE * SIDE)
    if images.dtype != "uint8" or images.ndim != 3 or images.shape[1:] != (SIDE, SIDE) or len(images) == 0:
        raise ValueError(mismatch(str(images_path), "uint8 images (N, 28, 28)", f"{images.dtype} {images.shape}"))
    labels = read_idx(labels_path, max_bytes=MOST_IMAGES)
    if labels.dtype != "uint8" or labels.shape != images.shape[:1]:
        expected = f"one uint8 label for each of {len(images)} images"
        raise ValueError(mismatch(str(labels_path), expected, f"{labels.dtype} {labels.shape}"))
    return scaled(images[:, None], 255, dtype), check_labels(labels, CLASSES, labels_path)


def _find(folder: Path, name: str) -> Path | None:
    dotted = name.replace("-idx", ".idx")  # as some archives unpack
    names = (f"{name}.gz", name, f"{dotted}.gz", dotted)
    return next((folder / each for each in names if (folder / each).is_file()), None)


def _require(folder: Path, name: str) -> Path:
    path = _find(folder, name)
    if path is None:
        raise FileNotFoundError(f"folder: expected {name} or {name}.gz in {folder}")
    return path
