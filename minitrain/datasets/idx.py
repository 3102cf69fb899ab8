"""The IDX format of the MNIST family: big-endian arrays behind a small header, as they are or compressed by gzip.

Header: two zero bytes, a code of the dtype, the number of axes, then the length of each axis as a 32-bit integer
(described at the end of the original MNIST page). Files are not trusted: never more is read than the header's shape
says, and that is bounded first.
"""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from minitrain.files import reading
from nbnorm.jit.checks import mismatch

__all__ = ["CHUNK", "read_exactly", "read_idx"]

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str], *, max_bytes: int = 1 << 30) -> NDArray[Any]:
    """Read an IDX file, compressed by gzip or not, into a writable array in the byte order of the machine.

    Parameters
    ----------
    path : path
        The file.
    max_bytes : int
        A header that announces more data than this is refused before any is read.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a complete IDX file: bad magic number, unknown dtype, more or less data than announced, more than
        `max_bytes`, a truncated or damaged gzip stream. The message names the file.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
    >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    >>> read_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"path: expected an IDX file, but {path} does not exist")
    with reading(path, "IDX file"), path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not compressed:
            return _read(file, path, max_bytes)
        try:
            with gzip.open(file) as stream:
                return _read(cast(IO[bytes], stream), path, max_bytes)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(mismatch(str(path), "a complete gzip file", error)) from error


def _read(file: IO[bytes], path: Path, max_bytes: int) -> NDArray[Any]:
    zeros, code, axes = struct.unpack(">HBB", read_exactly(file, 4, f"{path}: header"))
    if zeros != 0 or code not in DTYPES or axes == 0:
        got = f"{zeros << 16 | code << 8 | axes:#010x}"
        raise ValueError(mismatch(str(path), "an IDX magic number (0, 0, dtype 8 to 14, 1 or more axes)", got))
    shape = struct.unpack(f">{axes}I", read_exactly(file, 4 * axes, f"{path}: header"))
    dtype = np.dtype(DTYPES[code])
    size = math.prod(shape) * dtype.itemsize
    if size > max_bytes or axes > 32:
        raise ValueError(mismatch(str(path), f"at most {max_bytes} bytes of data and 32 axes", f"shape {shape}"))
    values = np.frombuffer(read_exactly(file, size, f"{path}: data of shape {shape}"), dtype).reshape(shape)
    if file.read(1):  # at the end of a gzip stream this also checks its CRC
        raise ValueError(mismatch(str(path), f"{size} bytes of data for shape {shape}", "more"))
    return values.astype(dtype.newbyteorder("="), copy=False)


def read_exactly(file: IO[bytes], size: int, what: str) -> bytearray:
    """Read `size` bytes, in pieces so that a false size costs no memory; ValueError if there are fewer."""
    content = bytearray()
    while len(content) < size:
        piece = file.read(min(CHUNK, size - len(content)))
        if not piece:
            raise ValueError(mismatch(what, f"{size} bytes", len(content)))
        content += piece
    return content
