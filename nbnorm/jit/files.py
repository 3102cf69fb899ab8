"""Files that are either whole or not there: written under a temporary name beside them, and renamed."""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where what a killed process leaves stays
    fcntl = None  # type: ignore[assignment]

__all__ = ["replacing", "replacing_path"]

DIGITS = 16  # of a temporary name, hexadecimal
YOUNG = 10.0  # seconds after its last change for which a temporary file is left alone: it may not be locked yet


@contextlib.contextmanager
def replacing_path(path: Path, mode: int = 0o666, durable: bool = False) -> Iterator[Path]:
    """Give a temporary path; what is written there takes the place of `path` when the block ends well.

    Whoever looks at `path` meanwhile sees the former file or the new one, never a part. After an exception the
    temporary file is removed and `path` is as it was. What a killed process left is removed by the next one that
    writes the same file.

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
    _collect_abandoned(path)
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(DIGITS // 2)}{path.suffix}")
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)  # `tempfile` takes 0o600 whatever the mask
    _lock(handle)  # until this process closes it, or ends
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
    finally:
        os.close(handle)
    if durable:
        _flush_folder(path.parent)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file, for its owner alone, that takes the place of the one at `path`; see `replacing_path`."""
    with replacing_path(path, mode=0o600) as temporary, open(temporary, "wb") as file:
        yield file


def _lock(handle: int) -> bool:
    """Lock a file as one that is being written; False where another process, which lives, has done that."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _collect_abandoned(path: Path) -> None:
    """Remove what processes that were killed in the middle have left of a file."""
    names = re.compile(f"{re.escape(f'.{path.stem}-')}[0-9a-f]{{{DIGITS}}}{re.escape(path.suffix)}")
    with contextlib.suppress(OSError), os.scandir(path.parent) as folder:
        for each in folder:
            if names.fullmatch(each.name):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(Path(each.path))


def _remove_if_abandoned(temporary: Path) -> None:
    if time.time() - temporary.stat().st_mtime < YOUNG:
        return
    handle = os.open(temporary, os.O_WRONLY)
    try:
        if _lock(handle):
            temporary.unlink()
    finally:
        os.close(handle)


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
