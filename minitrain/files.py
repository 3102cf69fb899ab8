"""Files that are either whole or not there: written under a temporary name, flushed to disk, renamed."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

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
    temporary = target.with_name(f".{target.stem}-{secrets.token_hex(8)}{target.suffix}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # less the user's mask; tempfile: 0o600
    try:
        yield temporary
        _flush(temporary)
        with contextlib.suppress(FileNotFoundError):  # a file that replaces another keeps its permissions
            temporary.chmod(target.stat().st_mode & 0o777)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _flush_folder(target.parent)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file as a whole or not at all; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write a text file (UTF-8, line ends as they are) as a whole or not at all; see `replacing`."""
    write_bytes(path, content.encode("utf-8"))


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
