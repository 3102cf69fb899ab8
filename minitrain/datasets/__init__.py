"""Data sets of labelled images: `load(name)` gives ((x_train, y_train), (x_test, y_test)).

Images are (N, C, H, W) in [0, 1], float32 unless another dtype is asked for; labels are int64 (N,), from 0.
One's own files: `image_folder(path)` and `read_csv(path, target)`.
"""

import os
from collections.abc import Callable
from typing import Any

from minitrain.datasets.cifar10 import cifar10
from minitrain.datasets.digits import digits
from minitrain.datasets.idx import read_idx
from minitrain.datasets.image_folder import image_folder
from minitrain.datasets.images import Split
from minitrain.datasets.labelled import Labelled
from minitrain.datasets.mnist import fashion_mnist, mnist
from minitrain.datasets.synthetic import synthetic
from minitrain.datasets.table import read_csv
from nbnorm.jit.checks import expect_one_of, mismatch

__all__ = [
    "NAMES", "Labelled", "Split", "cifar10", "digits", "fashion_mnist", "image_folder", "load", "mnist", "read_csv",
    "read_idx", "synthetic",
]  # fmt: skip

_MADE: dict[str, Callable[..., Split]] = {"digits": digits, "synthetic": synthetic}
_FROM_FILES: dict[str, Callable[..., Split]] = {"mnist": mnist, "fashion_mnist": fashion_mnist, "cifar10": cifar10}
NAMES = (*_MADE, *_FROM_FILES)


def load(name: str, folder: str | os.PathLike[str] | None = None, **options: Any) -> Split:
    """Load a data set by its name: "digits", "synthetic", "mnist", "fashion_mnist" or "cifar10".

    Parameters
    ----------
    name : str
        One of `NAMES`. The function of that name in this package says what its options are.
    folder : path, optional
        Where the files of mnist, fashion_mnist or cifar10 are. Without it they are kept in the user's cache folder,
        and downloaded and checked when they are not there (`download=False` forbids it).
    **options
        All take `dtype` ("float32" or "float64"). digits: `test_fraction`, `seed`. synthetic: `shape`, `classes`,
        `train`, `test`, `noise`, `seed`.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        x (N, C, H, W) in [0, 1]; y int64 (N,).

    Raises
    ------
    ValueError
        For an unknown name, or a file that is not what it should be.
    FileNotFoundError
        If the folder does not hold the files.
    OSError
        If a download fails.
    ImportError
        If a package of the "app" extra is needed and missing.

    Examples
    --------
    >>> (x_train, y_train), (x_test, y_test) = load("synthetic", shape=(3, 8, 8), train=100, test=20)
    >>> x_train.shape, y_train.dtype
    ((100, 3, 8, 8), dtype('int64'))
    """
    expect_one_of("name", name, NAMES)
    if name in _FROM_FILES:
        return _FROM_FILES[name](folder, **options)
    if folder is not None:
        raise ValueError(mismatch("folder", f"None for {name}, which has no files", repr(str(folder))))
    return _MADE[name](**options)
