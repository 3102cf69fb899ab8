"""Files that are either whole or not there: written under a temporary name, flushed to disk, renamed."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from nbnorm.jit.files import replacing_path

__all__ = ["replacing", "write_bytes", "write_text"]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there takes the place of `path` at the end.

    Whoever looks at `path` meanwhile, or after a crash or a full disk, sees the former file or the new one, never a
    part. The folder is made where it is missing. After an exception the temporary file is removed and `path` is as it
    was. A `path` that is a symbolic link stays one: the file it points to is replaced.

    Parameters
    ----------
    path : str or path-like
        The file to write. The temporary name ends like it, for writers that look at the ending.

    Raises
    ------
    OSError
        The folder cannot be made or written, the disk is full, or `path` is a folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "notes.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     (Path(folder) / "notes.txt").read_text()
    'whole'
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"path: expected a file to write, got the folder {str(path)!r}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing_path(target, durable=True) as temporary:
        yield temporary


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file as a whole or not at all; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write a text file (UTF-8, line ends as they are) as a whole or not at all; see `replacing`."""
    write_bytes(path, content.encode("utf-8"))
