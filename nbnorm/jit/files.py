"""Files that are either whole or not there: written under a temporary name beside them, and renamed."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["replacing", "replacing_path"]


@contextlib.contextmanager
def replacing_path(path: Path, mode: int = 0o666, durable: bool = False) -> Iterator[Path]:
    """Give a temporary path; what is written there takes the place of `path` when the block ends well.

    Whoever looks at `path` meanwhile sees the former file or the new one, never a part. After an exception the
    temporary file is removed and `path` is as it was.

    Parameters
    ----------
    path : Path
        In a folder that exists. The temporary name ends like it, for writers that look at the ending.
    mode : int
        Permissions of a new file, less the user's mask; one that replaces another keeps those of that.
    durable : bool
        Whether to wait until content and name are on the disk: what is there after a crash or a power failure is
        whole, too. Not needed for what can be made again.
    """
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(8)}{path.suffix}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))  # `tempfile` takes 0o600 whatever the mask
    try:
        yield temporary
        if durable:
            _flush(temporary)
        with contextlib.suppress(FileNotFoundError):
            temporary.chmod(path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        _flush_folder(path.parent)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file, for its owner alone, that takes the place of the one at `path`; see `replacing_path`."""
    with replacing_path(path, mode=0o600) as temporary, open(temporary, "wb") as file:
        yield file


def _flush(path: Path) -> None:
    """Wait until the content is on the disk: a rename may reach it earlier than the content does."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Wait until the new name is on the disk, where the system can (Windows cannot open folders)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
