"""CIFAR-10 in its binary version: records of one label byte and 3 x 32 x 32 pixel bytes, red plane first.

Krizhevsky, "Learning multiple layers of features from tiny images", 2009. The archive is read as a stream, nothing is
unpacked to disk, and no more than the size of the real one is decompressed.
"""

import gzip
import os
import tarfile
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minitrain.datasets.download import fetch
from minitrain.datasets.idx import CHUNK, read_exactly
from minitrain.datasets.images import Split, check_labels, existing_folder, float_dtype, scaled
from minitrain.files import reading
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import mismatch

__all__ = ["cifar10"]

MIRRORS = ("https://www.cs.toronto.edu/~kriz",)
ARCHIVE = "cifar-10-binary.tar.gz"
FILES = {ARCHIVE: "c32a1d4ab5d03f1284b67883e8d87530"}
INNER_FOLDER = "cifar-10-batches-bin"
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST = "test_batch.bin"

SHAPE, CLASSES = (3, 32, 32), 10
RECORD = 1 + 3 * 32 * 32
MOST_BYTES = 10_000 * RECORD  # of one batch
MOST_ARCHIVE_BYTES = 6 * MOST_BYTES + (1 << 20)  # with headers and the small files beside the batches


def cifar10(
    folder: str | os.PathLike[str] | None = None, *, download: bool = True, dtype: DTypeLike = "float32"
) -> Split:
    """Colour photographs of ten classes: 50,000 to train, 10,000 to test.

    Parameters
    ----------
    folder : path, optional
        Folder with `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, or with these in a folder
        `cifar-10-batches-bin`, or with `cifar-10-binary.tar.gz`. Default: the user's cache.
    download : bool
        Fetch the archive (170 MB) into the cache if it is not there.
    dtype : dtype
        Of the images: float32 or float64.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        x (N, 3, 32, 32), red, green, blue in [0, 1]; y int64 (N,), 0 to 9.

    Raises
    ------
    ValueError, FileNotFoundError, OSError, ImportError
        As for `load`.
    """
    chosen = float_dtype(dtype)
    if folder is None:
        folder = fetch("cifar10", FILES, MIRRORS, download)
    folder = existing_folder(folder)
    unpacked = next((f for f in (folder, folder / INNER_FOLDER) if (f / TEST).is_file()), None)
    if unpacked is not None:
        batches = {name: _read_file(unpacked / name) for name in (*TRAIN, TEST)}
    elif (folder / ARCHIVE).is_file():
        batches = _read_archive(folder / ARCHIVE)
    else:
        raise FileNotFoundError(f"folder: expected {TEST} and {TRAIN[0]} to 5, or {ARCHIVE}, in {folder}")
    train = np.concatenate([batches.pop(name) for name in TRAIN])
    return _images_and_labels(train, chosen), _images_and_labels(batches.pop(TEST), chosen)


def _images_and_labels(records: NDArray[np.uint8], dtype: np.dtype[Any]) -> tuple[Array, Array]:
    return scaled(records[:, 1:].reshape(-1, *SHAPE), 255, dtype), records[:, 0].astype(np.int64)


def _read_file(path: Path) -> NDArray[np.uint8]:
    if not path.is_file():
        raise FileNotFoundError(f"folder: expected {path.name} in {path.parent}")
    with path.open("rb") as file:
        return _read_records(file, path.stat().st_size, str(path))


def _read_records(file: IO[bytes], size: int, source: str) -> NDArray[np.uint8]:
    if size == 0 or size % RECORD or size > MOST_BYTES:
        raise ValueError(mismatch(source, f"1 to 10,000 records of {RECORD} bytes", f"{size} bytes"))
    records = np.frombuffer(read_exactly(file, size, source), np.uint8).reshape(-1, RECORD)
    check_labels(records[:, 0], CLASSES, source)
    return records


class _Bounded:
    """The beginning of a stream: reading beyond `limit` bytes is an error."""

    def __init__(self, stream: Any, limit: int, source: str) -> None:
        self._stream, self._left, self._source = stream, limit, source

    def read(self, size: int) -> bytes:
        content: bytes = self._stream.read(min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise ValueError(mismatch(self._source, f"at most {MOST_ARCHIVE_BYTES} bytes in all", "more"))
        return content


def _read_archive(path: Path) -> dict[str, NDArray[np.uint8]]:
    batches: dict[str, NDArray[np.uint8]] = {}
    try:
        with reading(path, "tar.gz archive"), gzip.open(path) as stream:
            bounded = cast(IO[bytes], _Bounded(stream, MOST_ARCHIVE_BYTES, str(path)))
            with tarfile.open(fileobj=bounded, mode="r|") as archive:
                for member in archive:
                    name = Path(member.name).name
                    if member.isreg() and name in (*TRAIN, TEST) and name not in batches:
                        content = cast(IO[bytes], archive.extractfile(member))
                        batches[name] = _read_records(content, member.size, f"{path}: {name}")
            while bounded.read(CHUNK):  # to the end, where the checksum is
                pass
    except ValueError as error:
        raise ValueError(mismatch(str(path), "a complete tar.gz archive", error)) from error
    missing = [name for name in (*TRAIN, TEST) if name not in batches]
    if missing:
        raise ValueError(mismatch(str(path), "six batches", f"none named {', '.join(missing)}"))
    return batches
